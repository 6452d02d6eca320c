use super::*;

fn refused(text: &str) -> String {
    Config::parse(text, "tribox.toml").expect_err("refused").to_string()
}

#[test]
fn the_documented_file_is_the_default() {
    let text = include_str!("../../../docs/tribox.toml");
    let documented = Config::parse(text, "docs/tribox.toml").expect("valid");
    assert_eq!(documented, Config::default());
    // Keys whose default is to be absent are shown as comments; they must be right as well.
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    let full = Config::parse(&all, "docs/tribox.toml").expect("valid with all keys");
    assert!(full.node.name.is_some() && full.handlers.contains_key("accounts"));
}

#[test]
fn mistakes_are_named_with_their_place() {
    let unknown = refused("[postgres]\nurll = \"x\"\n");
    assert!(unknown.contains("urll") && unknown.contains("line 2"), "{unknown}");
    assert!(unknown.contains("expected one of"), "{unknown}");
    let wrong = refused("[lanes]\nturn = \"many\"\n");
    assert!(wrong.contains("turn") && wrong.contains("line 2"), "{wrong}");
    assert!(refused("[lanes]\ncount = 0\n").contains("lanes.count is 0"));
    assert!(refused("[retention]\ninbox = \"1 fortnight\"\n").contains("inbox"));
    assert!(refused("[retention]\ninbox = \"1s\"\n").contains("at least 1m"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nowhere/tribox.toml")).expect_err("missing");
    assert!(error.to_string().contains("/nowhere/tribox.toml"), "{error}");
}

#[test]
fn the_environment_goes_before_the_file() {
    let mut config = Config::default();
    config.apply_environment(|name| (name != "NATS_CREDS").then(|| format!("{name}!")));
    assert_eq!(config.postgres.url, "DATABASE_URL!");
    assert_eq!(config.nats.url, "NATS_URL!");
    assert_eq!(config.nats.credentials, None);
}
