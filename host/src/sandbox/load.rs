//! Loading: from bytes to a guest that was tried once. Whatever is wrong with a component comes to
//! light here, with the file, the import and the remedy, and never at a message.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex};

use super::bindings::PluginPre;
use super::guest::{Code, Guest, Run};
use super::linker::{self, Import};
use super::state::{Origin, State};
use super::{Inner, traps};
use crate::model::{Description, Limits, rules};

/// Why a file is not loaded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct LoadError {
    pub file: String,
    pub problem: Problem,
}

/// What is wrong with a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the file is empty; write it under another name and rename it when it is complete")]
    Empty,
    #[error(
        "not WebAssembly (it begins with {0}); a handler is a component, built for example by \
         `cargo build --release --target wasm32-wasip2`"
    )]
    NotWasm(String),
    #[error(
        "a core module, not a component; build it by `cargo build --release --target \
         wasm32-wasip2`, or wrap it by `wasm-tools component new`"
    )]
    CoreModule,
    #[error("not a valid component, cut short or broken: {0}; build or copy it again")]
    Invalid(String),
    #[error("imports `{import}`, which no handler may: {remedy}")]
    ForeignImport { import: String, remedy: &'static str },
    #[error(
        "exports no `tribox:handler/handler@0.1.0`, so it is not a handler; it exports {0}; \
         build it against the world `plugin` of wit/handler.wit"
    )]
    NotAHandler(String),
    #[error("does not fit the contract: {0}; build it against tribox:handler@0.1.0")]
    Mismatch(String),
    #[error("its `describe` failed: {0}")]
    Describe(String),
    #[error("its description is not valid: {0}")]
    Description(String),
    #[error("the sandbox could not load it: {0}")]
    Sandbox(String),
}

const HANDLER: &str = "tribox:handler/handler";

pub(super) fn load(sandbox: &Arc<Inner>, wasm: &[u8]) -> Result<Guest, Problem> {
    check_header(wasm)?;
    let digest = hex(&Sha256::digest(wasm));
    let component = compile(sandbox, &digest, wasm)?;
    let imports = check_imports(sandbox, &component)?;
    let (contract, handle) = check_exports(sandbox, &component)?;
    let mismatch = |error: wasmtime::Error| Problem::Mismatch(for_people(&format!("{error:#}")));
    let pre = sandbox.linker.instantiate_pre(&component).map_err(mismatch)?;
    let plugin = PluginPre::new(pre.clone()).map_err(mismatch)?;
    let description = describe(sandbox, &plugin)?;
    rules::check_description(&description).map_err(Problem::Description)?;
    Ok(Guest {
        code: Arc::new(Code {
            sandbox: Arc::clone(sandbox),
            pre,
            handle,
            name: Arc::from(description.name.as_str()),
            description: Arc::new(description),
            digest,
            size: wasm.len(),
            contract,
            imports,
        }),
        settings: Arc::default(),
        limits: Arc::default(),
    })
}

/// Tells apart what wasmtime's parser would call by one name.
fn check_header(wasm: &[u8]) -> Result<(), Problem> {
    if wasm.is_empty() {
        return Err(Problem::Empty);
    }
    if !wasm.starts_with(b"\0asm") {
        let start = &wasm[..wasm.len().min(8)];
        return Err(Problem::NotWasm(format!("\"{}\"", start.escape_ascii())));
    }
    match wasm.get(4..8) {
        Some([1, 0, 0, 0]) => Err(Problem::CoreModule),
        Some(_) => Ok(()),
        None => Err(Problem::Invalid("the file ends within its header".into())),
    }
}

fn compile(sandbox: &Inner, digest: &str, wasm: &[u8]) -> Result<Component, Problem> {
    if let Some(component) = sandbox.cache.as_ref().and_then(|c| c.get(&sandbox.engine, digest)) {
        return Ok(component);
    }
    let component = Component::from_binary(&sandbox.engine, wasm)
        .map_err(|error| Problem::Invalid(for_people(&format!("{error:#}"))))?;
    if let Some(cache) = &sandbox.cache {
        cache.put(&sandbox.engine, digest, &component);
    }
    Ok(component)
}

fn check_imports(sandbox: &Inner, component: &Component) -> Result<Vec<Import>, Problem> {
    let ty = component.component_type();
    ty.imports(&sandbox.engine)
        .map(|(name, _)| match linker::classify(name) {
            Ok(kind) => Ok(Import { name: name.to_owned(), kind }),
            Err(remedy) => Err(Problem::ForeignImport { import: shown(name), remedy }),
        })
        .collect()
}

/// The version of the contract that the component exports a handler of, and that handler's function.
fn check_exports(
    sandbox: &Inner,
    component: &Component,
) -> Result<(String, ComponentExportIndex), Problem> {
    let ty = component.component_type();
    let mut names = Vec::new();
    for (name, export) in ty.exports(&sandbox.engine) {
        let version = name.strip_prefix(HANDLER).and_then(|rest| rest.strip_prefix('@'));
        match (version, &export.ty) {
            (Some(version), ComponentItem::ComponentInstance(_)) if version.starts_with("0.1.") => {
                let handler = component.get_export_index(None, name);
                let handle = component.get_export_index(handler.as_ref(), "handle");
                let missing = || Problem::Mismatch(format!("`{}` has no `handle`", shown(name)));
                return Ok((version.to_owned(), handle.ok_or_else(missing)?));
            }
            _ => names.push(name),
        }
    }
    let listed: Vec<String> = names.iter().take(NAMED).map(|n| format!("`{}`", shown(n))).collect();
    let found = match names.len() {
        0 => "nothing".to_owned(),
        count if count > NAMED => format!("{} and {} more", listed.join(", "), count - NAMED),
        _ => listed.join(", "),
    };
    Err(Problem::NotAHandler(found))
}

/// Exports that are named where none of them is a handler.
const NAMED: usize = 5;

/// A name of a component as it is shown: it can be as long as its author likes.
fn shown(name: &str) -> String {
    rules::shorten_to(name, 200)
}

/// What wasmtime says of a file, some of it in the file's own words.
fn for_people(text: &str) -> String {
    traps::for_people(text).replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// Asks the component to describe itself: this also is the trial instantiation that finds records
/// of another shape, which linking does not.
fn describe(sandbox: &Arc<Inner>, pre: &PluginPre<State>) -> Result<Description, Problem> {
    let limits = Limits::default();
    let origin = Origin { handler: "describe".into(), message_id: "".into() };
    let state = State::new(origin, 0, None, Arc::new(BTreeMap::new()), &limits);
    let mut run =
        Run::start(sandbox, state, &limits).map_err(|unreadable| Problem::Sandbox(unreadable.0))?;
    let plugin = match pre.instantiate(&mut run.store) {
        Ok(plugin) => plugin,
        Err(error) if is_forced(&error, &run.store) => return Err(forced(&mut run, &error)),
        Err(error) => return Err(Problem::Mismatch(for_people(&format!("{error:#}")))),
    };
    match plugin.tribox_handler_handler().call_describe(&mut run.store) {
        Ok(description) => {
            run.store.data_mut().finish_output();
            Ok(description.into())
        }
        Err(error) => Err(forced(&mut run, &error)),
    }
}

/// Whether the guest's code ended an instantiation, rather than its shape.
fn is_forced(error: &wasmtime::Error, store: &wasmtime::Store<State>) -> bool {
    error.is::<wasmtime::Trap>()
        || error.is::<super::state::Stop>()
        || store.data().memory.refused().is_some()
}

fn forced(run: &mut Run<'_>, error: &wasmtime::Error) -> Problem {
    match run.classify(error) {
        Ok(failure) => Problem::Describe(traps::for_people(&failure.to_string())),
        Err(unreadable) => Problem::Sandbox(unreadable.0),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
