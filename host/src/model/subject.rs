//! NATS subjects and subject filters: tokens split by `.`, `*` for one token, `>` for the rest.

/// Whether `filter` covers `subject` (a subject without wildcards).
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

/// Whether `wide` covers every subject that `narrow` covers.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(literal), Some(token)) if literal == token => {}
            _ => return false,
        }
    }
}

/// Says what is wrong with a subject filter, if anything.
pub fn check_filter(filter: &str) -> Result<(), String> {
    let last = filter.split('.').count() - 1;
    for (n, token) in filter.split('.').enumerate() {
        check_token(token).map_err(|why| format!("subject filter '{filter}' {why}"))?;
        let wild = token.contains(['*', '>']);
        if wild && token.len() > 1 {
            return Err(format!("subject filter '{filter}' has a wildcard inside a token"));
        }
        if token == ">" && n != last {
            return Err(format!("subject filter '{filter}' has '>' before its end"));
        }
    }
    Ok(())
}

/// Says what is wrong with a subject to publish to, if anything.
pub fn check_subject(subject: &str) -> Result<(), String> {
    for token in subject.split('.') {
        check_token(token).map_err(|why| format!("subject '{subject}' {why}"))?;
        if token == "*" || token == ">" {
            return Err(format!("subject '{subject}' has a wildcard; name one subject"));
        }
    }
    Ok(())
}

fn check_token(token: &str) -> Result<(), &'static str> {
    if token.is_empty() {
        return Err("has an empty token");
    }
    if token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has white space or a control character");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_cover_subjects_as_nats_says() {
        for (filter, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("a.b.c", "a.b", false),
        ] {
            assert_eq!(matches(filter, subject), expected, "{filter} {subject}");
        }
    }

    #[test]
    fn overlapping_filters_share_a_subject() {
        for (a, b, expected) in [
            ("a.*", "a.b", true),
            ("a.*.c", "a.b.*", true),
            ("a.>", "a.b.c", true),
            ("a.*", "b.*", false),
            ("a.b", "a.b.c", false),
            (">", "x", true),
            ("a.>", "a", false),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_filter_covers_another_when_it_matches_all_of_it() {
        for (wide, narrow, expected) in [
            ("a.*", "a.b", true),
            ("a.>", "a.*.c", true),
            ("a.>", "a.>", true),
            ("a.*", "a.>", false),
            ("a.b", "a.*", false),
            ("*.*", "a.b", true),
            ("a.>", "a", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn bad_filters_and_subjects_are_named() {
        for bad in ["", "a..b", "a.b ", "a.>.b", "a.b*", "a.\u{0}"] {
            assert!(check_filter(bad).is_err(), "{bad:?}");
        }
        assert!(check_filter("a.*.>").is_ok());
        assert!(check_subject("a.*").is_err());
        assert!(check_subject("a.7.b").is_ok());
    }
}
