//! What a component may import: the contract, settings and a deterministic WASI 0.2. Anything else
//! is refused by name, before any of its code runs.

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};

use super::bindings::Plugin;
use super::state::State;

/// One import of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// As the component spells it: `wasi:io/poll@0.2.6`.
    pub name: String,
    pub kind: ImportKind,
}

/// What stands behind an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportKind {
    /// The contract: reading documents.
    Contract,
    /// Settings from the host's config.
    Settings,
    /// WASI 0.2, deterministic and empty.
    Wasi,
}

/// The packages of WASI 0.2 that are linked.
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    // What would let a guest see the machine or the moment it runs at is replaced.
    linker.allow_shadowing(true);
    type D = HasSelf<State>;
    clocks::wall_clock::add_to_linker::<State, D>(&mut linker, |state| state)?;
    clocks::monotonic_clock::add_to_linker::<State, D>(&mut linker, |state| state)?;
    random::random::add_to_linker::<State, D>(&mut linker, |state| state)?;
    random::insecure::add_to_linker::<State, D>(&mut linker, |state| state)?;
    random::insecure_seed::add_to_linker::<State, D>(&mut linker, |state| state)?;
    cli::environment::add_to_linker::<State, D>(&mut linker, |state| state)?;
    linker.allow_shadowing(false);
    Plugin::add_to_linker::<State, D>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Says what an import is.
///
/// # Errors
/// It is none of what a handler may import; the text says what to do instead.
pub(super) fn classify(name: &str) -> Result<ImportKind, &'static str> {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    match interface {
        "tribox:handler/documents" | "tribox:handler/types" => {
            return if version.starts_with("0.1.") {
                Ok(ImportKind::Contract)
            } else {
                Err("this host has version 0.1 of the contract: build the handler against 0.1")
            };
        }
        "wasi:config/store" => return Ok(ImportKind::Settings),
        "wasi:http/types" | "wasi:http/outgoing-handler" | "wasi:http/handler" => {
            return Err("a handler cannot reach the network: send a message to a service that \
                        makes the request, and turn HTTP off in the toolchain that built this \
                        component (JavaScript: disable the features http and fetch-event)");
        }
        "wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch" => {
            return Err("state is kept in documents: read them with tribox:handler/documents and \
                        return mutations");
        }
        _ => {}
    }
    let package = interface.strip_prefix("wasi:").and_then(|rest| rest.split_once('/'));
    match package {
        Some((package, _)) if WASI.contains(&package) && version.starts_with("0.2.") => {
            Ok(ImportKind::Wasi)
        }
        Some((package, _)) if WASI.contains(&package) => {
            Err("of WASI only version 0.2 is there: build the handler for wasm32-wasip2")
        }
        _ => Err("a handler may import the contract, wasi:config and WASI 0.2 alone: remove what \
                  imports this, or compose the component with one that provides it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_told_apart() {
        for (name, expected) in [
            ("tribox:handler/documents@0.1.0", Some(ImportKind::Contract)),
            ("tribox:handler/types@0.1.3", Some(ImportKind::Contract)),
            ("tribox:handler/documents@0.2.0", None),
            ("wasi:config/store@0.2.0-rc.1", Some(ImportKind::Settings)),
            ("wasi:io/poll@0.2.6", Some(ImportKind::Wasi)),
            ("wasi:cli/environment@0.2.3", Some(ImportKind::Wasi)),
            ("wasi:cli/environment@0.3.0", None),
            ("wasi:http/outgoing-handler@0.2.3", None),
            ("wasi:nn/graph@0.2.0-rc", None),
            ("acme:billing/charge@1.0.0", None),
            ("log", None),
        ] {
            assert_eq!(classify(name).ok(), expected, "{name}");
        }
    }
}
