//! NATS subjects and subject filters, matched as the server does.

/// Whether `filter` covers `subject`.
pub fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in filter.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (literal, Some(token)) if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Whether some subject is covered by both filters.
pub fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(x), Some(y)) if x == "*" || y == "*" || x == y => {}
            _ => return false,
        }
    }
}

/// Says what is wrong with a subject to publish to, if anything.
pub fn check(subject: &str) -> Result<(), String> {
    check_filter(subject)?;
    if subject.split('.').any(|token| token == "*" || token == ">") {
        return Err(format!("subject '{subject}' has a wildcard; name one subject"));
    }
    Ok(())
}

/// Says what is wrong with a subject filter, if anything.
pub fn check_filter(filter: &str) -> Result<(), String> {
    let tokens: Vec<&str> = filter.split('.').collect();
    for (n, token) in tokens.iter().enumerate() {
        if token.is_empty() {
            return Err(format!("subject '{filter}' has an empty token"));
        }
        if token.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("subject '{filter}' has white space or a control character"));
        }
        if token.contains(['*', '>']) && token.len() > 1 {
            return Err(format!("subject '{filter}' has a wildcard inside a token"));
        }
        if *token == ">" && n + 1 != tokens.len() {
            return Err(format!("subject '{filter}' has '>' before its end"));
        }
    }
    Ok(())
}
