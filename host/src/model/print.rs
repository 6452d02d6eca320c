//! Effects as text, a line each, as the SDK prints them in tests. For people alone: bodies are cut.

use std::fmt;

use super::effects::{Delivery, Due, Effects, Mutation, Outgoing};
use super::rules;

/// Bytes of a document or payload that are shown.
const SHOWN: usize = 300;

/// `put <collection>/<key> <body>`, `delete <collection>/<key>`, `cancel <name>` and
/// `send <subject> <payload> [<how>]`, in this order.
impl fmt::Display for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mutation in &self.mutations {
            match mutation {
                Mutation::Put(put) => {
                    let body = rules::shorten_to(&put.body, SHOWN);
                    writeln!(f, "put {}/{} {body}", put.collection, put.key)?;
                }
                Mutation::Delete { collection, key } => writeln!(f, "delete {collection}/{key}")?,
            }
        }
        for name in &self.cancellations {
            writeln!(f, "cancel {name}")?;
        }
        for message in &self.messages {
            writeln!(f, "{message}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "send {} ", self.subject)?;
        match std::str::from_utf8(&self.payload) {
            Ok(text) => f.write_str(&rules::shorten_to(text, SHOWN))?,
            Err(_) => write!(f, "({} bytes that are no text)", self.payload.len())?,
        }
        let mut how = Vec::new();
        how.extend((self.delivery == Delivery::Transient).then(|| "transient".to_owned()));
        how.extend(self.due.map(|due| match due {
            Due::After(milliseconds) => format!("after {milliseconds} ms"),
            Due::At(time) => format!("at {time}"),
        }));
        how.extend(
            self.expires_after.map(|milliseconds| format!("expires after {milliseconds} ms")),
        );
        how.extend(self.schedule_name.as_ref().map(|name| format!("as {name}")));
        how.extend(self.headers.iter().map(|header| format!("{}: {}", header.name, header.value)));
        if how.is_empty() { Ok(()) } else { write!(f, " [{}]", how.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Document, Header};

    #[test]
    fn effects_are_lines() {
        let outgoing = |payload: &'static [u8]| Outgoing {
            subject: "s".into(),
            headers: Vec::new(),
            payload: payload.into(),
            delivery: Delivery::Durable,
            due: None,
            expires_after: None,
            schedule_name: None,
        };
        let header = Header { name: "Lang".into(), value: "de".into() };
        let document = |body: String| Document { collection: "c".into(), key: "k".into(), body };
        let mut effects = Effects {
            mutations: vec![
                Mutation::Put(document("{}".into())),
                Mutation::Delete { collection: "c".into(), key: "k".into() },
            ],
            cancellations: vec!["tea".into()],
            messages: vec![
                outgoing(b"1"),
                Outgoing {
                    delivery: Delivery::Transient,
                    headers: vec![header],
                    ..outgoing(b"\xff")
                },
                Outgoing {
                    due: Some(Due::At(7)),
                    expires_after: Some(5),
                    schedule_name: Some("tea".into()),
                    ..outgoing(b"2")
                },
            ],
        };
        assert_eq!(
            effects.to_string(),
            "put c/k {}\ndelete c/k\ncancel tea\nsend s 1\n\
             send s (1 bytes that are no text) [transient, Lang: de]\n\
             send s 2 [at 7, expires after 5 ms, as tea]\n"
        );
        effects.mutations = vec![Mutation::Put(document("x".repeat(9_999)))];
        assert!(effects.to_string().len() < 1_000);
    }
}
