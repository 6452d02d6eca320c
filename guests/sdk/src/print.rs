//! Effects as text, one a line, for tests and for people. The same effects always print the same.

use std::fmt;

use crate::{Delivery, Due, Effects, Mutation, Outgoing};

/// `put <collection>/<key> <body>`, `delete <collection>/<key>`, `cancel <name>` and
/// `send <subject> <payload> [<how>]`, in this order.
impl fmt::Display for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mutation in &self.mutations {
            writeln!(f, "{mutation}")?;
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

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mutation::Put(put) => write!(f, "put {}/{} {}", put.collection, put.key, put.body),
            Mutation::Delete(id) => write!(f, "delete {}/{}", id.collection, id.key),
        }
    }
}

impl fmt::Display for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "send {} ", self.subject)?;
        match std::str::from_utf8(&self.payload) {
            Ok(text) if !text.contains(char::is_control) => f.write_str(text)?,
            _ => write!(f, "0x{}", Hex(&self.payload))?,
        }
        let how = self.how();
        if !how.is_empty() {
            write!(f, " [{}]", how.join(", "))?;
        }
        Ok(())
    }
}

impl Outgoing {
    fn how(&self) -> Vec<String> {
        let mut how = Vec::new();
        if self.delivery == Delivery::Transient {
            how.push("transient".to_owned());
        }
        match self.due {
            Some(Due::After(milliseconds)) => how.push(format!("after {milliseconds} ms")),
            Some(Due::At(time)) => how.push(format!("at {time}")),
            None => {}
        }
        if let Some(milliseconds) = self.expires_after {
            how.push(format!("expires after {milliseconds} ms"));
        }
        if let Some(name) = &self.schedule_name {
            how.push(format!("as {name}"));
        }
        how.extend(self.headers.iter().map(|header| format!("{}: {}", header.name, header.value)));
        how
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
