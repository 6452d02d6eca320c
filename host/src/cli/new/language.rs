//! What differs between the languages that a handler can be begun in.

use clap::ValueEnum;

use super::embedded::{CARGO, File, JAVASCRIPT, PYTHON, RUST, SDK, TYPESCRIPT, Template, WIT};
use super::manifest;
use super::rename::Names;

/// The language of a new project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
    Python,
    Javascript,
    Typescript,
}

impl Language {
    pub(super) const ALL: [Language; 4] =
        [Language::Rust, Language::Python, Language::Javascript, Language::Typescript];

    pub(super) fn templates(self) -> &'static [Template] {
        match self {
            Language::Rust => RUST,
            Language::Python => PYTHON,
            Language::Javascript => JAVASCRIPT,
            Language::Typescript => TYPESCRIPT,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::Python => "Python",
            Language::Javascript => "JavaScript",
            Language::Typescript => "TypeScript",
        }
    }

    /// Where a project builds its component to.
    pub(super) fn built(self) -> &'static str {
        match self {
            Language::Rust => "target/wasm32-wasip2/release",
            Language::Python | Language::Javascript | Language::Typescript => "build",
        }
    }

    pub(super) fn component(self, names: &Names) -> String {
        let file = if self == Language::Rust { &names.snake } else { &names.name };
        format!("{}/{file}.wasm", self.built())
    }

    /// The commands that test and build a new project.
    pub(super) fn commands(self) -> &'static [&'static str] {
        match self {
            Language::Rust => &["cargo test", "cargo build --release --target wasm32-wasip2"],
            Language::Python => &["make"],
            Language::Javascript | Language::Typescript => &["npm install", "npm run build"],
        }
    }

    pub(super) fn readme(self) -> &'static str {
        match self {
            Language::Rust => include_str!("rust.md"),
            Language::Python => include_str!("python.md"),
            Language::Javascript => include_str!("javascript.md"),
            Language::Typescript => include_str!("typescript.md"),
        }
    }

    /// Settings of the tools that build it.
    pub(super) fn settings(self) -> &'static [File] {
        match self {
            Language::Rust => CARGO,
            Language::Python | Language::Javascript | Language::Typescript => &[],
        }
    }

    /// What git is to leave out.
    pub(super) fn ignored(self) -> &'static str {
        match self {
            Language::Rust => "/target\n/.tribox\n",
            Language::Python => "/build\n/.venv\n/.tribox\n__pycache__/\n",
            Language::Javascript | Language::Typescript => "/build\n/node_modules\n/.tribox\n",
        }
    }

    /// The helper of a project, by its paths there; the first one tells the language.
    fn helper(self) -> &'static [&'static str] {
        match self {
            Language::Rust => &["tribox-guest/Cargo.toml"],
            Language::Python => &["tribox.py"],
            Language::Javascript | Language::Typescript => &["tribox.js", "tribox.d.ts"],
        }
    }

    /// The language of the project in this directory, told by its helper: JavaScript and TypeScript
    /// have the same.
    pub(super) fn of(place: &std::path::Path) -> Option<Language> {
        Language::ALL.into_iter().find(|language| place.join(language.helper()[0]).is_file())
    }

    /// Directories that hold nothing but what comes with tribox.
    pub(super) fn ours(self) -> &'static [&'static str] {
        match self {
            Language::Rust => &["tribox-guest/src", "tribox-guest/wit"],
            Language::Python | Language::Javascript | Language::Typescript => &["wit"],
        }
    }

    /// What comes with tribox: the helper or SDK, and the contract.
    ///
    /// # Errors
    /// The SDK's manifest inherits what there is not.
    pub(super) fn sdk(self) -> Result<Vec<(String, String)>, String> {
        let wit =
            |place: &str, file: &File| (format!("{place}/{}", file.path), file.text.to_owned());
        let mut files = Vec::new();
        if self == Language::Rust {
            for File { path, text } in SDK {
                let text = match *path {
                    "Cargo.toml" => manifest::standalone(text, false)?,
                    _ => (*text).to_owned(),
                };
                files.push((format!("tribox-guest/{path}"), text));
            }
            files.extend(WIT.iter().map(|file| wit("tribox-guest/wit", file)));
        } else {
            let helper = self.templates()[0].files.iter().filter(|file| self.is_helper(file.path));
            files.extend(helper.map(|file| (file.path.to_owned(), file.text.to_owned())));
            files.extend(WIT.iter().map(|file| wit("wit", file)));
        }
        Ok(files)
    }

    /// Whether a template's file is one of the helper, which is not renamed.
    pub(super) fn is_helper(self, path: &str) -> bool {
        self != Language::Rust && self.helper().contains(&path)
    }
}
