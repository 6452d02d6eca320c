//! Components that mean harm: none of them gets further than a refusal, or a failure of its own
//! message, and what is said of it stays short.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::tests::{Nothing, looping, message};
use super::*;
use crate::model::{Failure, Limits, Trap, Verdict};

const DESCRIBE: &str = "i32.const 1024";
const HANDLE: &str = "i32.const 2048";

fn sandbox() -> Sandbox {
    Sandbox::new(SandboxConfig { concurrency: 2, cache: None }).unwrap()
}

/// The handler of `tests.rs` with more in its core module and around that.
fn text(describe: &str, handle: &str, module: &str, component: &str) -> String {
    include_str!("tests_handler.wat")
        .replace(";;DESCRIBE", describe)
        .replace(";;HANDLE", handle)
        .replace(";;MODULE", module)
        .replace(";;COMPONENT", component)
}

fn built(describe: &str, handle: &str, module: &str) -> Vec<u8> {
    wat::parse_str(text(describe, handle, module, "")).unwrap()
}

/// Why a component is refused, in words that stay short and harm no terminal.
fn refusal(wasm: &[u8]) -> Problem {
    let error = sandbox().load("x.wasm", wasm).err().expect("a refusal");
    let said = error.to_string();
    assert!(said.len() < 6 << 10, "{} bytes: {said:.200}", said.len());
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    error.problem
}

fn refused_by_describe(wasm: &[u8], words: &str) {
    let problem = refusal(wasm);
    assert!(matches!(&problem, Problem::Describe(why) if why.contains(words)), "{problem}");
}

fn failure(handle: &str, module: &str) -> Failure {
    failure_within(Limits::default(), handle, module)
}

fn failure_within(limits: Limits, handle: &str, module: &str) -> Failure {
    let guest = sandbox().load("x.wasm", &built(DESCRIBE, handle, module)).unwrap();
    let guest = guest.configured(BTreeMap::new(), limits);
    match guest.call(&message(), Arc::new(Mutex::new(Nothing))).verdict {
        Ok(Verdict::Failed(failure)) => {
            let said = failure.to_string();
            assert!(said.len() < 6 << 10, "{} bytes: {said:.200}", said.len());
            failure
        }
        other => panic!("not a failure: {other:?}"),
    }
}

fn trapped(failure: &Failure, kind: Trap, words: &str) {
    let Failure::Trap { trap, detail } = failure else { panic!("{failure}") };
    assert!(*trap == kind && detail.contains(words), "{failure}");
}

const DEEP: &str = "(func $deep (param i32) (result i32)
    (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))";

#[test]
fn a_start_function_that_does_not_end_is_refused() {
    let module = format!("(func $start {}) (start $start)", looping());
    refused_by_describe(&built(DESCRIBE, HANDLE, &module), "fuel");
    let module = "(func $start unreachable) (start $start)";
    refused_by_describe(&built(DESCRIBE, HANDLE, module), "unreachable");
    let module = format!("{DEEP} (func $start (drop (call $deep (i32.const 0)))) (start $start)");
    refused_by_describe(&built(DESCRIBE, HANDLE, &module), "stack");
}

#[test]
fn a_stack_that_is_used_up_ends_the_call_alone() {
    refused_by_describe(&built("(call $deep (i32.const 0))", HANDLE, DEEP), "stack");
    trapped(&failure("(call $deep (i32.const 0))", DEEP), Trap::Panic, "stack");
    // Through functions that are called by number, too.
    let module = "(table $t 1 funcref) (elem (table $t) (i32.const 0) func $again)
        (type $self (func (result i32)))
        (func $again (type $self)
            (i32.add (i32.const 1) (call_indirect $t (type $self) (i32.const 0))))";
    trapped(&failure("(call $again)", module), Trap::Panic, "stack");
}

#[test]
fn tables_grow_to_their_limit_and_no_further() {
    let grow = |by: u32| {
        format!(
            "(table.grow $t (ref.null func) (i32.const {by})) i32.const -1 i32.eq \
             if unreachable end i32.const 2048"
        )
    };
    let module = "(table $t 1 funcref)";
    trapped(&failure(&grow(100_000), module), Trap::Memory, "a table of 100001 elements");
    trapped(&failure(&grow(u32::MAX / 2), module), Trap::Memory, "the limit is 100000");
    // Bit by bit, for ever.
    let forever = format!(
        "(loop (drop (table.grow $t (ref.null func) (i32.const 64))) {} (br 0)) \
                           unreachable",
        "(drop (i32.const 1))".repeat(20)
    );
    let limits = Limits { fuel: 10_000_000, ..Limits::default() };
    trapped(&failure_within(limits, &forever, module), Trap::Fuel, "units of fuel");
}

#[test]
fn what_is_too_large_from_the_start_is_refused() {
    for module in
        ["(table 100001 funcref)", "(table 4294967295 funcref)", &"(table 1 funcref)".repeat(50)]
    {
        let problem = refusal(&built(DESCRIBE, HANDLE, module));
        assert!(!matches!(problem, Problem::Sandbox(_)), "{module:.60}: {problem}");
    }
    let large = text(DESCRIBE, HANDLE, "", "")
        .replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 60000)");
    refused_by_describe(&wat::parse_str(large).unwrap(), "the limit is");
}

#[test]
fn memory_in_many_instances_counts_together() {
    let module = "(core module $more (memory 1200))
        (core instance (instantiate $more)) (core instance (instantiate $more))";
    let wasm = wat::parse_str(text(DESCRIBE, HANDLE, "", module)).unwrap();
    let problem = refusal(&wasm);
    assert!(!matches!(problem, Problem::Sandbox(_)), "{problem}");
    let module =
        "(core module $empty)".to_owned() + &"(core instance (instantiate $empty))".repeat(500);
    let wasm = wat::parse_str(text(DESCRIBE, HANDLE, "", &module)).unwrap();
    let problem = refusal(&wasm);
    assert!(!matches!(problem, Problem::Sandbox(_)), "{problem}");
}

/// Grows the memory to some 100 MiB and says where to read.
const GROW: &str = "(drop (memory.grow (i32.const 1600)))";

#[test]
fn huge_returns_are_refused_in_few_words() {
    // A name of 100 MiB, and one that reaches out of the memory.
    for length in [100 << 20, i32::MAX] {
        let describe =
            format!("{GROW} (i32.store (i32.const 1028) (i32.const {length})) {DESCRIBE}");
        let problem = refusal(&built(&describe, HANDLE, ""));
        assert!(
            matches!(problem, Problem::Describe(_) | Problem::Description(_)),
            "{length}: {problem}"
        );
    }
    // Subscriptions without end.
    let describe = format!("{GROW} (i32.store (i32.const 1044) (i32.const 4000000)) {DESCRIBE}");
    assert!(matches!(refusal(&built(&describe, HANDLE, "")), Problem::Describe(_)));
    // A rejection of 100 MiB: result `error`, failure `reject`, from address 0 on.
    for length in [100 << 20, i32::MAX] {
        let handle = format!(
            "{GROW} (i32.store8 (i32.const 2048) (i32.const 1)) \
             (i32.store (i32.const 2060) (i32.const {length})) {HANDLE}"
        );
        failure(&handle, "");
    }
}

/// Components within components; text of this depth would be too much for the parser of the test.
fn nested(depth: usize) -> Vec<u8> {
    let header = b"\0asm\x0d\0\x01\0";
    let mut wasm = header.to_vec();
    for _ in 0..depth {
        let mut outer = header.to_vec();
        outer.push(4);
        let mut size = wasm.len();
        while size >= 0x80 {
            outer.push((size & 0x7f) as u8 | 0x80);
            size >>= 7;
        }
        outer.push(size as u8);
        outer.extend(&wasm);
        wasm = outer;
    }
    wasm
}

#[test]
fn deep_nesting_is_refused() {
    for depth in [1, 50, 101, 1_000, 5_000] {
        let problem = refusal(&nested(depth));
        let known = matches!(problem, Problem::Invalid(_) | Problem::NotAHandler(_));
        assert!(known, "{depth}: {problem}");
    }
    for depth in [10, 99, 101, 1_000, 20_000] {
        let mut types = "(type $t0 (list u8))".to_owned();
        for n in 1..=depth {
            types.push_str(&format!("(type $t{n} (list $t{}))", n - 1));
        }
        let import = format!("(import \"deep\" (func (param \"p\" $t{depth})))");
        let problem = refusal(&wat::parse_str(format!("(component {types} {import})")).unwrap());
        let known = matches!(problem, Problem::Invalid(_) | Problem::ForeignImport { .. });
        assert!(known, "{depth}: {problem}");
    }
    // Each type has the one before it twice.
    let mut types = "(type $t0 (tuple u8 u8))".to_owned();
    for n in 1..=60 {
        types.push_str(&format!("(type $t{n} (tuple $t{} $t{}))", n - 1, n - 1));
    }
    let import = "(import \"wide\" (func (param \"p\" $t60)))";
    let problem = refusal(&wat::parse_str(format!("(component {types} {import})")).unwrap());
    let known = matches!(problem, Problem::Invalid(_) | Problem::ForeignImport { .. });
    assert!(known, "{problem}");
}

#[test]
fn imports_cannot_be_smuggled_in() {
    let http = "wasi:http/outgoing-handler@0.2.3";
    // Through a component within, which is given the import of the outer one.
    let inner = format!(
        "(component
           (import \"{http}\" (instance $outer))
           (component $inner (import \"{http}\" (instance)))
           (instance (instantiate $inner (with \"{http}\" (instance $outer)))))"
    );
    let problem = refusal(&wat::parse_str(inner).unwrap());
    let named = matches!(&problem, Problem::ForeignImport { import, .. } if import == http);
    assert!(named, "{problem}");
    // Under the name of an instance that is exported again.
    let alias = format!(
        "(component
           (import \"{http}\" (instance $http (export \"handle\" (func))))
           (alias export $http \"handle\" (func $handle))
           (instance $shown (export \"handle\" (func $handle)))
           (export \"acme:shop/cart@1.0.0\" (instance $shown)))"
    );
    let problem = refusal(&wat::parse_str(alias).unwrap());
    assert!(matches!(&problem, Problem::Invalid(why) if why.contains("reexport")), "{problem}");
    // A name that is allowed for something that is not there, or of another kind.
    for import in [
        "(import \"wasi:io/poll@0.2.0\" (instance (export \"open-any-socket\" (func))))",
        "(import \"wasi:cli/environment@0.2.0\" (func))",
        "(import \"wasi:io/streams@0.2.0\" (core module))",
        "(import \"wasi:io/streams@0.2.0\" (component))",
        "(import \"wasi:nothing-of-it/at-all@0.2.0\" (instance (export \"f\" (func))))",
        "(import \"tribox:handler/documents@0.1.0\" (instance (export \"write\" (func))))",
        "(import \"tribox:handler/documents@0.1.0-other\" (instance (export \"get\" (func))))",
    ] {
        // The import stands before everything else.
        let text = text(DESCRIBE, HANDLE, "", "").replacen(
            "(component",
            &format!("(component {import}"),
            1,
        );
        let problem = refusal(&wat::parse_str(text).unwrap());
        let known = matches!(
            problem,
            Problem::Mismatch(_) | Problem::ForeignImport { .. } | Problem::Invalid(_)
        );
        assert!(known, "{import}: {problem}");
    }
    for import in ["log", "unlocked-dep=<acme:log>", "url=<https://acme.example/log.wasm>"] {
        let text = format!("(component (import \"{import}\" (func)))");
        let problem = refusal(&wat::parse_str(text).unwrap());
        // Names of another kind are no valid names of functions, or are foreign.
        let known = match &problem {
            Problem::ForeignImport { import: name, .. } => name == import,
            Problem::Invalid(_) => import != "log",
            _ => false,
        };
        assert!(known, "{import}: {problem}");
    }
}

#[test]
fn sockets_that_may_be_imported_lead_nowhere() {
    // Of the sandbox's own: every one of them is refused at run time, by `tests/suite/chaos.rs`.
    let text = "(component (import \"wasi:sockets/tcp@0.2.3\" (instance)))";
    assert_eq!(refusal(&wat::parse_str(text).unwrap()), Problem::NotAHandler("nothing".into()));
}

#[test]
fn many_and_long_names_are_told_shortly() {
    let exports: String = (0..400)
        .map(|n| format!("(instance $i{n}) (export \"acme:shop/cart{n}\" (instance $i{n}))"))
        .collect();
    let problem = refusal(&wat::parse_str(format!("(component {exports})")).unwrap());
    let Problem::NotAHandler(found) = &problem else { panic!("{problem}") };
    assert!(
        found.starts_with("`acme:shop/cart0`, ") && found.ends_with(" and 395 more"),
        "{found}"
    );
    let long = format!("acme:{}/x", "a".repeat(50_000));
    let problem =
        refusal(&wat::parse_str(format!("(component (import \"{long}\" (instance)))")).unwrap());
    assert!(matches!(problem, Problem::ForeignImport { .. } | Problem::Invalid(_)), "{problem}");
    // Two exports of one name, in words that a terminal would obey.
    let twice = "(core module (memory 1)
        (export \"\\1b[31mred\" (memory 0)) (export \"\\1b[31mred\" (memory 0)))";
    let problem = refusal(&wat::parse_str(format!("(component {twice})")).unwrap());
    assert!(matches!(&problem, Problem::Invalid(why) if why.contains("red")), "{problem}");
}

#[test]
fn a_large_file_is_loaded_or_refused_by_what_is_in_it() {
    let mut wasm = built(DESCRIBE, HANDLE, "");
    // A section that nobody reads, of 32 MiB.
    wasm.extend([0, 0x85, 0x80, 0x80, 0x10, 4]);
    wasm.extend(b"none");
    wasm.resize(wasm.len() + (32 << 20), 0);
    assert_eq!(sandbox().load("x.wasm", &wasm).unwrap().description().name, "h");
    // As many functions as there is patience for.
    let functions = "(func (result i32) i32.const 1)".repeat(20_000);
    let wasm = built(DESCRIBE, HANDLE, &functions);
    assert_eq!(sandbox().load("x.wasm", &wasm).unwrap().description().name, "h");
    let locals = format!("(func {})", "(local i64)".repeat(50_001));
    assert!(matches!(refusal(&built(DESCRIBE, HANDLE, &locals)), Problem::Invalid(_)));
}
