//! What a run came to, for people and for scripts.

use std::time::Duration;

use serde_json::json;

pub(super) struct Outcome {
    messages: u64,
    seconds: f64,
    /// In milliseconds, sorted; `None`: nobody asked.
    latency: Option<Vec<f64>>,
}

impl Outcome {
    pub(super) fn new(messages: u64, seconds: f64, took: Vec<Duration>, asked: bool) -> Outcome {
        let mut latency: Vec<f64> = took.iter().map(|t| t.as_secs_f64() * 1_000.0).collect();
        latency.sort_by(f64::total_cmp);
        Outcome { messages, seconds, latency: asked.then_some(latency) }
    }

    fn per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// p50, p99, p99.9 and the longest; `None` where nothing came out.
    fn percentiles(&self) -> Option<[f64; 4]> {
        let sorted = self.latency.as_ref().filter(|l| !l.is_empty())?;
        let at = |share: f64| {
            let place = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(place.max(1) - 1).copied().unwrap_or_default()
        };
        Some([at(0.5), at(0.99), at(0.999), at(1.0)])
    }

    pub(super) fn table(&self) -> String {
        let mut lines = vec![
            format!("messages         {:>12}", self.messages),
            format!("seconds          {:>12.2}", self.seconds),
            format!("messages/s       {:>12.0}", self.per_second()),
        ];
        if let Some(latency) = &self.latency {
            lines.push(format!("outputs          {:>12}", latency.len()));
            match self.percentiles() {
                Some(values) => {
                    let names = ["p50", "p99", "p99.9", "longest"];
                    for (name, value) in names.iter().zip(values) {
                        lines.push(format!("to output, {name:<7}{value:>9.2} ms"));
                    }
                }
                None => lines.push(
                    "nothing came out: check --output, and tribox.parked for messages that were \
                     set aside"
                        .to_owned(),
                ),
            }
        }
        lines.join("\n")
    }

    pub(super) fn json(&self) -> String {
        let latency = self.percentiles().map(
            |[p50, p99, p999, most]| json!({ "p50": p50, "p99": p99, "p99_9": p999, "max": most }),
        );
        json!({
            "messages": self.messages,
            "seconds": self.seconds,
            "messages_per_s": self.per_second(),
            "outputs": self.latency.as_ref().map(Vec::len),
            "publish_to_output_ms": latency,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let took: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let outcome = Outcome::new(100, 2.0, took, true);
        assert_eq!(outcome.percentiles(), Some([50.0, 99.0, 100.0, 100.0]));
        assert!(outcome.table().contains("50.00 ms"), "{}", outcome.table());
        let json: serde_json::Value = serde_json::from_str(&outcome.json()).expect("JSON");
        assert_eq!((&json["messages_per_s"], &json["outputs"]), (&json!(50.0), &json!(100)));
    }

    #[test]
    fn where_nothing_came_out_it_says_so() {
        let outcome = Outcome::new(5, 1.0, Vec::new(), true);
        assert!(outcome.table().contains("nothing came out"));
        assert!(!Outcome::new(5, 1.0, Vec::new(), false).table().contains("outputs"));
    }
}
