//! Manifests that inherit from this repository's workspace, made to stand alone: a new project has the
//! very versions and features of its dependencies that the guests here are tested with.

use toml::{Table, Value};

use super::embedded::WORKSPACE;

/// Lines that only make sense here.
const OURS: [&str; 2] = ["license", "rust-version"];

/// The manifest with everything that it inherits written out; of a project, `ours` is left out.
///
/// # Errors
/// It inherits what the workspace does not have.
pub(super) fn standalone(manifest: &str, project: bool) -> Result<String, String> {
    let workspace: Table = WORKSPACE.parse().map_err(|why| format!("the workspace: {why}"))?;
    let workspace = workspace.get("workspace").ok_or("there is no workspace")?;
    let mut section = "";
    let mut text = String::new();
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        match line.strip_suffix(".workspace = true") {
            Some(key) if project && section == "package" && OURS.contains(&key) => continue,
            Some("tribox-guest") => text.push_str("tribox-guest = { path = \"tribox-guest\" }"),
            Some(key) => {
                let value = workspace.get(section).and_then(|table| table.get(key));
                let value = value.ok_or_else(|| format!("the workspace has no {section}.{key}"))?;
                text.push_str(&format!("{key} = {}", inline(value)));
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    Ok(text)
}

/// A value on one line; a table has its keys in the order of what cargo asks for first.
fn inline(value: &Value) -> String {
    let Value::Table(table) = value else { return value.to_string() };
    let mut keys: Vec<&String> = table.keys().collect();
    keys.sort_by_key(|key| (key.as_str() != "version", key.as_str()));
    let pairs: Vec<String> = keys.iter().map(|key| format!("{key} = {}", table[*key])).collect();
    format!("{{ {} }}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inherited_is_written_out() {
        let manifest = "[package]\nname = \"x\"\nedition.workspace = true\nlicense.workspace = true\n\
                        \n[dependencies]\nserde.workspace = true\ntribox-guest.workspace = true\n";
        let alone = standalone(manifest, true).unwrap();
        let expected = "[package]\nname = \"x\"\nedition = \"2024\"\n\n[dependencies]\n\
                        serde = { version = \"1\", features = [\"derive\"] }\n\
                        tribox-guest = { path = \"tribox-guest\" }\n";
        assert_eq!(alone, expected);
        assert!(standalone(manifest, false).unwrap().contains("license = \"MIT OR Apache-2.0\""));
        let unknown = standalone("[dependencies]\nnothing.workspace = true\n", true);
        assert!(unknown.unwrap_err().contains("dependencies.nothing"));
    }
}
