//! `tribox new`: the project of a new handler, which builds, passes its tests and runs as it is. All
//! of it comes out of this program; what is fetched when it is built are crates from the registry.

mod embedded;
mod language;
mod manifest;
mod rename;

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser};

use self::embedded::{File, RUST, Template};
use self::language::Language;
use self::rename::{Names, rename};
use super::{Outcome, say};

/// Words that cargo or Rust would not take as a crate's name, or that are another crate's there.
const TAKEN: &str = "test core std alloc self super crate serde serde_json wit-bindgen tribox-guest \
    proc-macro build deps examples incremental as async await break const continue dyn else enum \
    extern false fn for gen if impl in let loop match mod move mut pub ref return static struct \
    trait true try type unsafe use where while";

/// What is made.
#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// The handler's name: of the crate, its subjects and its collection, too.
    #[arg(required_unless_present = "update")]
    name: Option<String>,
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// What to start from; in other languages than Rust there are items and accounts.
    #[arg(long, default_value = RUST[0].name, value_parser = templates())]
    template: String,
    /// The project's directory, in place of one named like the handler.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Bring the SDK and the contract of the project in this directory up to date, and leave
    /// everything else as it is.
    #[arg(long, conflicts_with_all = ["name", "lang", "template", "into"])]
    update: bool,
}

fn templates() -> PossibleValuesParser {
    PossibleValuesParser::new(
        RUST.iter().map(|template| PossibleValue::new(template.name).help(template.about())),
    )
}

impl Template {
    /// What its manifest says it is.
    fn about(&self) -> String {
        let manifest = self.files.iter().find(|file| file.path == "Cargo.toml");
        let line = manifest.and_then(|m| m.text.lines().find(|l| l.starts_with("description")));
        line.and_then(|line| line.split('"').nth(1)).unwrap_or_default().to_owned()
    }

    /// Whether a word stands in it for something of its own.
    fn uses(&self, pattern: &str) -> bool {
        // The fields of cases are named alike in all of them.
        let mut sources = self.files.iter().filter(|file| !file.path.starts_with("cases/"));
        sources.any(|file| file.text.contains(pattern))
    }
}

pub(super) fn run(new: &New) -> Outcome {
    let Some(name) = &new.name else { return update(Path::new("")) };
    let language = new.lang;
    let template = language.templates().iter().find(|template| template.name == new.template);
    let template = template.ok_or_else(|| {
        let names: Vec<&str> = language.templates().iter().map(|template| template.name).collect();
        let (language, names) = (language.name(), names.join(", "));
        format!("there is no template {} in {language}; there are {names}", new.template)
    })?;
    check_name(name)?;
    let names = names(name, template)?;
    let place = new.into.clone().unwrap_or_else(|| PathBuf::from(name));
    let there = place.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if there || place.is_file() {
        let place = place.display();
        return Err(format!("{place} is there already; take another name, or --into DIR").into());
    }
    for (path, text) in files(language, template, &names)?.into_iter().chain(language.sdk()?) {
        write(&place.join(path), &text)?;
    }
    say(&first_steps(&place, language, template, &names));
    Ok(())
}

/// # Errors
/// It cannot be the name of a handler, or of a crate.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    if !first || name.len() > 63 || !name.chars().all(plain) {
        return Err(format!(
            "'{name}' cannot be a handler's name: 1 to 63 of a-z, 0-9, - and _, beginning with a \
             letter"
        ));
    }
    if TAKEN.split_whitespace().any(|word| word == name) {
        return Err(format!("'{name}' means something to Rust or cargo: take another name"));
    }
    Ok(())
}

/// The names of the project, such that none of them stands in the template for something else.
fn names(name: &str, template: &Template) -> Result<Names, String> {
    let mut names = Names::of(name);
    if name == template.name {
        return Ok(names);
    }
    let Names { snake, camel, .. } = &names;
    if template.uses(&format!("\"{snake}\"")) || template.uses(&format!("\"{name}.")) {
        let template = template.name;
        return Err(format!(
            "the template {template} uses '{name}' for something of its own: take another name, \
             or another template"
        ));
    }
    let alone = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == camel);
    if template.files.iter().any(|file| alone(file.text)) || alone("Some None Ok Err Vec Box") {
        names.camel.push_str("Handler");
    }
    Ok(names)
}

/// The files of the project itself.
fn files(
    language: Language,
    template: &Template,
    names: &Names,
) -> Result<Vec<(String, String)>, String> {
    let from = Names::of(template.name);
    let mut files = Vec::new();
    for File { path, text } in template.files.iter().chain(cases(template)) {
        if language.is_helper(path) {
            continue;
        }
        let mut text = rename(text, &from, names);
        if *path == "Cargo.toml" {
            text = manifest::standalone(&text, true)?;
            text.push_str(MANIFEST_END);
        }
        files.push(((*path).to_owned(), text));
    }
    files.sort();
    files.dedup();
    let (subject, payload) = first_message(template, names);
    let fill = |text: &str| {
        text.replace("{name}", &names.name)
            .replace("{built}", language.built())
            .replace("{component}", &language.component(names))
            .replace("{subject}", &subject)
            .replace("{payload}", &payload)
    };
    let settings = language.settings().iter();
    files.extend(settings.map(|file| (file.path.to_owned(), file.text.to_owned())));
    files.push(("README.md".to_owned(), fill(language.readme())));
    files.push(("tribox.toml".to_owned(), fill(include_str!("project.toml"))));
    files.push((".gitignore".to_owned(), language.ignored().to_owned()));
    Ok(files)
}

/// The recorded cases of a template: those of its handler in Rust, whatever language it is in.
fn cases(template: &Template) -> impl Iterator<Item = &'static File> + use<> {
    let rust = RUST.iter().find(|rust| rust.name == template.name);
    let files = rust.map_or(&[][..], |rust| rust.files);
    files.iter().filter(|file| file.path.starts_with("cases/"))
}

/// What the workspace here says for all guests.
const MANIFEST_END: &str = "\n[profile.release]\nlto = \"thin\"\n\n\
    # A workspace of its own, wherever it lies.\n[workspace]\n";

/// A message that the handler takes: that of the first case which comes to effects.
fn first_message(template: &Template, names: &Names) -> (String, String) {
    let read = |case: &File| serde_json::from_str::<serde_json::Value>(case.text).ok();
    let own = format!("{}.", template.name);
    let good = |case: &serde_json::Value| {
        let subject = case["message"]["subject"].as_str().unwrap_or_default();
        subject.starts_with(&own) && case["expect"]["verdict"] == "effects"
    };
    let case = cases(template).filter_map(read).find(good).unwrap_or_default();
    let message = &case["message"];
    let subject = message["subject"].as_str().unwrap_or_default();
    (rename(subject, &Names::of(template.name), names), message["payload"].to_string())
}

/// Replaces what `new` has put beside the handler.
fn update(place: &Path) -> Outcome {
    let language = Language::of(place).ok_or(
        "there is no tribox-guest, tribox.py or tribox.js here; run this in a project that \
         `tribox new` made",
    )?;
    // Files that a later SDK no longer has must not stay.
    for directory in language.ours() {
        let directory = place.join(directory);
        match std::fs::remove_dir_all(&directory) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{} cannot be replaced: {why}", directory.display()).into());
            }
            _ => {}
        }
    }
    for (path, text) in language.sdk()? {
        write(&place.join(path), &text)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    say(&format!(
        "what came with tribox is that of {version} now; build and test the handler again"
    ));
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let failed = |why| format!("{} cannot be written: {why}", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

fn first_steps(place: &Path, language: Language, template: &Template, names: &Names) -> String {
    let shown = place.display();
    let mut lines = vec![
        format!(
            "made {shown}/, a handler in {} that starts from {}\n",
            language.name(),
            template.name
        ),
        format!("  cd {shown}"),
    ];
    lines.extend(language.commands().iter().map(|command| format!("  {command}")));
    lines.push(format!("  tribox check {}", language.component(names)));
    lines
        .push("  tribox test\n  tribox dev\n\nREADME.md there says what each of them does.".into());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str) -> &'static Template {
        RUST.iter().find(|template| template.name == name).unwrap()
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for name in ["", "Items", "7", "-a", "a.b", "a b", "ü", "match", "serde", "test"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["a", "my-shop", "b2_c"] {
            assert_eq!(check_name(name), Ok(()));
        }
    }

    #[test]
    fn templates_in_rust_say_what_they_are() {
        assert!(RUST.iter().all(|template| !template.about().is_empty()));
    }

    #[test]
    fn names_that_the_template_has_already_are_not_taken() {
        assert!(names("products", template("baskets")).unwrap_err().contains("'products'"));
        assert_eq!(names("item", template("items")).unwrap().camel, "ItemHandler");
        assert_eq!(names("message", template("items")).unwrap().camel, "MessageHandler");
        assert_eq!(names("assets", template("items")).unwrap().camel, "Assets");
    }

    #[test]
    fn every_template_stands_alone_under_another_name() {
        let all = Language::ALL.into_iter().flat_map(|l| l.templates().iter().map(move |t| (l, t)));
        for (language, template) in all {
            let names = names("my-shop", template).unwrap();
            let files = files(language, template, &names).unwrap();
            assert!(files.iter().any(|(path, _)| path.starts_with("cases/")), "{}", template.name);
            for (path, text) in &files {
                assert!(!text.contains("workspace = true"), "{}/{path}: {text}", template.name);
                let left = text.contains(&format!("\"{}\"", template.name));
                assert!(!left, "{}/{path} still has its old name: {text}", template.name);
            }
            let (subject, payload) = first_message(template, &names);
            assert!(subject.starts_with("my-shop."), "{subject}");
            assert!(payload.starts_with('{'), "{payload}");
        }
    }
}
