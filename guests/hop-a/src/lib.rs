//! Passes a message on along the route in its payload: what tests make chains and loops of handlers
//! from. `hop-b` and `hop-c` are built from this file as well.
//!
//! `hop-a.<key>` with `{"route": ["hop-b", "hop-c"]}` goes to `hop-b.<key>`, and at the end to
//! `hops.ended.<key>`. `"round"`: the route begins again. `"after"`: milliseconds before each step.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription};

const NAME: &str = env!("CARGO_PKG_NAME");

#[derive(Serialize, Deserialize)]
struct Errand {
    route: Vec<String>,
    #[serde(default)]
    round: bool,
    after: Option<u64>,
}

struct Hop;

impl Handler for Hop {
    fn describe() -> Description {
        Description::new(NAME, env!("CARGO_PKG_VERSION"))
            .subscribe(Subscription::to(concat!(env!("CARGO_PKG_NAME"), ".*")).key_from_subject(1))
            .publish("hop-a.*")
            .publish("hop-b.*")
            .publish("hop-c.*")
            .publish("hops.ended.*")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let Errand { mut route, round, after } = message.json()?;
        let key = message.key()?;
        let mut effects = Effects::new();
        if route.is_empty() {
            effects.send(format!("hops.ended.{key}"), &json!({"by": NAME}))?;
            return Ok(effects);
        }
        let next = route.remove(0);
        let subject = format!("{next}.{key}");
        if round {
            route.push(next);
        }
        let sent = effects.send(subject, &Errand { route, round, after })?;
        if let Some(after) = after {
            sent.after(Duration::from_millis(after));
        }
        Ok(effects)
    }
}

tribox_guest::export!(Hop);

#[cfg(test)]
mod tests {
    use tribox_guest::testing::{TestHost, assert_effects, message};

    use super::*;

    #[test]
    fn a_message_goes_along_its_route() -> Result<(), Failure> {
        let mut host = TestHost::<Hop>::new();
        let errand = json!({"route": ["hop-b"], "round": true, "after": 5});
        assert_effects(
            &host.handle(message("hop-a.7").json(&errand))?,
            r#"send hop-b.7 {"route":["hop-b"],"round":true,"after":5} [after 5 ms]"#,
        );
        assert_effects(
            &host.handle(message("hop-a.7").json(&json!({"route": []})))?,
            r#"send hops.ended.7 {"by":"hop-a"}"#,
        );
        Ok(())
    }
}
