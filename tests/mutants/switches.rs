//! The switches: each rule's text becomes a choice between itself and what is done without the
//! rule. In migrations, which are text, the choice is made when they are run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use crate::Rule;

/// Where a program with switches runs its migrations, and how it does then.
const RUNS_SQL: (&str, &str, &str) = (
    "src/store/migrate.rs",
    "connection.execute(AssertSqlSafe(script))",
    "connection.execute(AssertSqlSafe(crate::mutant::sql(script)))",
);
/// Where the module of the switches is declared, and behind which line.
pub const MODULES: (&str, &str) = ("src/lib.rs", "pub mod model;\n");

/// The files of the host that change, and how: `read` gives a file.
///
/// # Errors
/// A text is not there once.
pub fn put_in(
    rules: &[Rule],
    read: impl Fn(&str) -> Result<String>,
) -> Result<BTreeMap<String, String>> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut sql = String::new();
    for (n, rule) in rules.iter().enumerate() {
        let at = rule.at.as_ref().unwrap_or(&rule.text);
        // As it stands in the tree: a switch that was put in before does not count.
        once(&read(&rule.file)?, at).with_context(|| rule.name.clone())?;
        once(at, &rule.text).with_context(|| rule.name.clone())?;
        if rule.file.ends_with(".sql") {
            in_force(&rule.file, at, &read).with_context(|| rule.name.clone())?;
            let without = at.replacen(&rule.text, &rule.instead, 1);
            writeln!(sql, "        Some({n}) => script.replacen({at:?}, {without:?}, 1),")?;
            continue;
        }
        change(&mut files, &read, &rule.file, at, &at.replacen(&rule.text, &switch(n, rule), 1))
            .with_context(|| rule.name.clone())?;
    }
    let (file, before, after) = RUNS_SQL;
    change(&mut files, &read, file, before, after)?;
    let (file, line) = MODULES;
    change(&mut files, &read, file, line, &format!("{line}mod mutant;\n"))?;
    let module = format!(
        "//! Which rule is out, of tests/mutants/rules.toml: TRIBOX_MUTANT has its number.

use std::sync::OnceLock;

fn out() -> Option<usize> {{
    static OUT: OnceLock<Option<usize>> = OnceLock::new();
    *OUT.get_or_init(|| std::env::var(\"TRIBOX_MUTANT\").ok()?.parse().ok())
}}

pub fn is(rule: usize) -> bool {{
    out() == Some(rule)
}}

pub fn sql(script: String) -> String {{
    match out() {{
{sql}        _ => script,
    }}
}}
"
    );
    files.insert("src/mutant.rs".to_owned(), module);
    Ok(files)
}

/// A choice: of statements as they are, of expressions in parentheses.
fn switch(n: usize, rule: &Rule) -> String {
    let (text, instead) = (&rule.text, &rule.instead);
    let choice = format!("if crate::mutant::is({n}) {{ {instead} }} else {{ {text} }}");
    if text.ends_with(';') { choice } else { format!("({choice})") }
}

fn change(
    files: &mut BTreeMap<String, String>,
    read: &impl Fn(&str) -> Result<String>,
    file: &str,
    before: &str,
    after: &str,
) -> Result<()> {
    let text = match files.remove(file) {
        Some(text) => text,
        None => read(file)?,
    };
    once(&text, before)?;
    files.insert(file.to_owned(), text.replacen(before, after, 1));
    Ok(())
}

/// No later migration makes the function anew in which `at` stands: nobody would miss a rule in it.
fn in_force(file: &str, at: &str, read: &impl Fn(&str) -> Result<String>) -> Result<()> {
    let text = read(file)?;
    let before = text.split(at).next().unwrap_or_default();
    let Some((_, function)) = before.rsplit_once("FUNCTION tribox.") else { return Ok(()) };
    let head = format!("FUNCTION tribox.{}(", function.split('(').next().unwrap_or_default());
    let steps = read(RUNS_SQL.0)?;
    let names = steps.split('"').filter_map(|text| text.strip_prefix("../../"));
    for later in names.filter(|name| name.ends_with(".sql") && *name > file) {
        ensure!(!read(later)?.contains(&head), "{later} has {head}, so that {file} is past");
    }
    Ok(())
}

fn once(text: &str, what: &str) -> Result<()> {
    let count = text.matches(what).count();
    ensure!(count == 1, "this stands there {count} times, and not once:\n{what}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(file: &str, at: Option<&str>, text: &str, instead: &str) -> Rule {
        Rule {
            name: "a rule".to_owned(),
            file: file.to_owned(),
            at: at.map(str::to_owned),
            text: text.to_owned(),
            instead: instead.to_owned(),
            tests: Vec::new(),
            points: String::new(),
        }
    }

    fn read(file: &str) -> Result<String> {
        Ok(match file {
            "migrations/1.sql" => "CREATE FUNCTION tribox.f(a) old; CREATE FUNCTION tribox.g(a) g;",
            "migrations/2.sql" => "CREATE OR REPLACE FUNCTION tribox.f(a) new;",
            "src/store/migrate.rs" => MIGRATIONS,
            "src/a.rs" => "if a && b { c(); }\nif b { d(); }\n",
            "x.sql" => "SELECT 1 WHERE a;",
            _ => MODULES.1,
        }
        .to_owned())
    }

    const MIGRATIONS: &str = "include_str!(\"../../migrations/1.sql\"), \
                              include_str!(\"../../migrations/2.sql\"), \
                              connection.execute(AssertSqlSafe(script))";

    #[test]
    fn each_rule_becomes_a_choice() {
        let rules = [
            rule("src/a.rs", Some("a && b"), "b", "true"),
            rule("src/a.rs", None, "d();", ""),
            rule("x.sql", None, "WHERE a", ""),
        ];
        let files = put_in(&rules, read).unwrap();
        assert_eq!(
            files["src/a.rs"],
            "if a && (if crate::mutant::is(0) { true } else { b }) { c(); }\n\
             if b { if crate::mutant::is(1) {  } else { d(); } }\n"
        );
        let line = "Some(2) => script.replacen(\"WHERE a\", \"\", 1),";
        assert!(files["src/mutant.rs"].contains(line), "{}", files["src/mutant.rs"]);
        assert!(files["src/lib.rs"].contains("mod mutant;"));
    }

    #[test]
    fn a_rule_that_is_not_there_is_an_error() {
        for (at, text) in [(None, "gone"), (None, "b"), (Some("a && b"), "c")] {
            assert!(put_in(&[rule("src/a.rs", at, text, "")], read).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_in_a_function_that_was_made_anew_is_an_error() {
        let of = |file: &str, text: &str| put_in(&[rule(file, None, text, "")], read).is_ok();
        assert!(!of("migrations/1.sql", "old"));
        assert!(of("migrations/1.sql", " g;"));
        assert!(of("migrations/2.sql", "new"));
    }
}
