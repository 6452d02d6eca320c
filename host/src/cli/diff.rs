//! What has changed between two texts, line by line.

/// Lines of one side beyond which the middle is taken for changed as a whole.
const MANY: usize = 1_000;
/// Unchanged lines that are shown before and after a change.
const AROUND: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The lines of both: `- ` before those that are gone, `+ ` before new ones. Long stretches without
/// a change are left out.
pub(super) fn diff(before: &str, after: &str) -> String {
    let lines = compare(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>());
    let changed: Vec<usize> =
        (0..lines.len()).filter(|n| !matches!(lines[*n], Line::Same(_))).collect();
    let near = |n: usize| changed.iter().any(|at| at.abs_diff(n) <= AROUND);
    let mut text = String::new();
    let mut left_out = false;
    for (n, line) in lines.iter().enumerate() {
        if lines.len() > 40 && !near(n) {
            if !left_out {
                text.push_str("  …\n");
            }
            left_out = true;
            continue;
        }
        left_out = false;
        let (mark, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Gone(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        text.extend([mark, ' ']);
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn compare<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let start = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (rest, other) = (&before[start..], &after[start..]);
    let end = rest.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&rest[..rest.len() - end], &other[..other.len() - end]);
    let mut lines: Vec<Line> = before[..start].iter().map(|line| Line::Same(line)).collect();
    if old.len() > MANY || new.len() > MANY {
        lines.extend(old.iter().map(|line| Line::Gone(line)));
        lines.extend(new.iter().map(|line| Line::New(line)));
    } else {
        middle(old, new, &mut lines);
    }
    lines.extend(rest[rest.len() - end..].iter().map(|line| Line::Same(line)));
    lines
}

/// By the longest common subsequence.
fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    let mut common = vec![0_u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_marked() {
        let text = diff("{\n  a\n  b\n  c\n}", "{\n  b\n  x\n  c\n}");
        assert_eq!(text, "  {\n-   a\n    b\n+   x\n    c\n  }\n");
        assert_eq!(diff("", "a\nb"), "+ a\n+ b\n");
        assert_eq!(diff("a", ""), "- a\n");
        assert_eq!(diff("a", "a"), "  a\n");
    }

    #[test]
    fn long_texts_are_shown_around_their_changes() {
        let before: Vec<String> = (0..3_000).map(|n| n.to_string()).collect();
        let mut after = before.clone();
        after[1_500] = "x".to_owned();
        let text = diff(&before.join("\n"), &after.join("\n"));
        assert_eq!(text.lines().count(), 2 * (AROUND + 1) + 2, "{text}");
        assert!(text.starts_with("  …\n  1497\n") && text.contains("- 1500\n+ x\n"), "{text}");
        let all = diff(&before.join("\n"), &"y\n".repeat(2_000));
        assert_eq!(all.lines().count(), 5_000);
    }
}
