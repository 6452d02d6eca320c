//! Pictures of the results: bars and lines as SVG, without a library and readable on any background.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 170.0;
const COLOURS: [&str; 4] = ["#8a8f98", "#4c8bd6", "#3fa66b", "#d9642c"];

/// Bars, one below the other.
pub fn bars(title: &str, bars: &[(String, f64, String)]) -> String {
    let height = 60.0 + 44.0 * bars.len() as f64;
    let most = bars.iter().map(|(_, value, _)| *value).fold(1.0, f64::max);
    let mut svg = start(title, height);
    for (n, (name, value, label)) in bars.iter().enumerate() {
        let y = 50.0 + 44.0 * n as f64;
        let length = (WIDTH - LEFT - RIGHT) * value / most;
        let colour = COLOURS[n % COLOURS.len()];
        text(&mut svg, LEFT - 10.0, y + 20.0, "end", name);
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"30\" fill=\"{colour}\"/>"
        );
        text(&mut svg, LEFT + length + 8.0, y + 20.0, "start", label);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line: its name, and points (x, y), in order.
pub type Line = (String, Vec<(f64, f64)>);

/// Lines over logarithmic axes.
pub fn lines(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    let height = 380.0;
    let (top, bottom) = (50.0, height - 60.0);
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let range = |of: fn((f64, f64)) -> f64| {
        let values = || points().map(of).filter(|value| *value > 0.0);
        let low = values().fold(f64::INFINITY, f64::min).log10().floor();
        let high = values().fold(f64::MIN_POSITIVE, f64::max).log10().ceil();
        (low, high.max(low + 1.0))
    };
    let (x_range, y_range) = (range(|p| p.0), range(|p| p.1));
    let share = |value: f64, (low, high): (f64, f64)| (value.log10() - low) / (high - low);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * share(value, x_range);
    let y = |value: f64| bottom - (bottom - top) * share(value, y_range);
    let mut svg = start(title, height);
    for power in x_range.0 as i32..=x_range.1 as i32 {
        let at = x(10_f64.powi(power));
        grid(&mut svg, (at, top), (at, bottom));
        text(&mut svg, at, bottom + 20.0, "middle", &number(10_f64.powi(power)));
    }
    for power in y_range.0 as i32..=y_range.1 as i32 {
        let at = y(10_f64.powi(power));
        grid(&mut svg, (LEFT, at), (WIDTH - RIGHT, at));
        text(&mut svg, LEFT - 8.0, at + 4.0, "end", &number(10_f64.powi(power)));
    }
    text(&mut svg, (LEFT + WIDTH - RIGHT) / 2.0, height - 14.0, "middle", x_name);
    text(&mut svg, LEFT, top - 10.0, "end", y_name);
    for (n, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[(n / 2) % COLOURS.len()];
        let dash = if n % 2 == 1 { " stroke-dasharray=\"5 4\"" } else { "" };
        let path: Vec<String> =
            points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
            path.join(" ")
        );
        for (at, value) in points {
            let (cx, cy) = (x(*at), y(*value));
            let _ =
                writeln!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let legend = top + 18.0 * n as f64;
        let from = WIDTH - RIGHT + 15.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{from}\" y1=\"{legend}\" x2=\"{}\" y2=\"{legend}\" stroke=\"{colour}\" \
             stroke-width=\"2\"{dash}/>",
            from + 22.0
        );
        text(&mut svg, from + 28.0, legend + 4.0, "start", name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn start(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"26\" text-anchor=\"middle\" font-size=\"15\" fill=\"#222222\">{title}</text>",
        WIDTH / 2.0
    );
    svg
}

fn grid(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{words}</text>"
    );
}

/// 12345.6 as 12,346; below ten with decimals.
pub fn number(value: f64) -> String {
    if value < 10.0 {
        let text = format!("{value:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([number(0.1), number(1.5), number(12.0)], ["0.1", "1.5", "12"]);
        assert_eq!([number(123_456.0), number(1_000.0)], ["123,456", "1,000"]);
    }

    #[test]
    fn pictures_are_whole() {
        let drawn = bars("t", &[("a".into(), 1.0, "1/s".into())]);
        assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>\n"));
        let points = vec![(100.0, 1.0), (10_000.0, 5.0)];
        let drawn = lines("t", "x", "y", &[("a".into(), points)]);
        assert!(drawn.contains("<polyline") && !drawn.contains("NaN"));
    }
}
