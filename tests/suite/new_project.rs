//! `tribox new`: what it makes builds, passes its tests and its cases, and runs, as it stands. The
//! crates come from where the suite's own come from: cargo is told to stay offline.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use tribox_tests::tool::{self, Ran};
use tribox_tests::{Host, free_address, programs, wait_until};

/// Held by who runs cargo on projects that share what was compiled: one takes away what another one is
/// about to use.
pub static CARGO: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A directory that projects are made in, and where cargo keeps what it compiles on the way: from run to
/// run, so that what they depend on is compiled once.
struct Desk {
    place: tempfile::TempDir,
    target: PathBuf,
}

impl Desk {
    fn new() -> Result<Desk> {
        let place = tempfile::tempdir()?;
        // Root's Postgres runs as another user: let it pass through.
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711))?;
        let target = programs::repository().join("target/new-projects");
        std::fs::create_dir_all(&target)?;
        Ok(Desk { place, target })
    }

    fn new_project(&self, arguments: &[&str]) -> Result<PathBuf> {
        let said = tool::tribox(self.place.path(), None, &[&["new"], arguments].concat())?.ok()?;
        let project = self.place.path().join(arguments[0]);
        ensure!(said.contains("cargo build --release"), "{said}");
        Ok(project)
    }

    /// Runs cargo in a project, with the versions of crates that the suite is built with.
    fn cargo(&self, project: &Path, arguments: &[&str]) -> Result<String> {
        let lock = project.join("Cargo.lock");
        if !lock.exists() {
            std::fs::copy(programs::repository().join("Cargo.lock"), lock)?;
        }
        let output = Command::new(env!("CARGO"))
            .args(arguments)
            .arg("--offline")
            .current_dir(project)
            .env("CARGO_BUILD_BUILD_DIR", &self.target)
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null())
            .output()
            .context("failed to run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo {arguments:?}:\n{said}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn tribox(project: &Path, arguments: &[&str]) -> Result<Ran> {
    tool::tribox(project, None, arguments)
}

/// From nothing to a handled message, by the commands that the project's own page names.
#[tokio::test]
async fn a_new_project_builds_passes_its_tests_and_runs() -> Result<()> {
    let _alone = CARGO.lock().await;
    let desk = Desk::new()?;
    let project = desk.new_project(&["my-shop"])?;
    let said = desk.cargo(&project, &["test", "--quiet"])?;
    assert!(said.contains("3 passed"), "{said}");
    desk.cargo(&project, &["build", "--quiet", "--release", "--target", "wasm32-wasip2"])?;

    let component = "target/wasm32-wasip2/release/my_shop.wasm";
    let checked = tribox(&project, &["check", component, "--json"])?.json()?;
    assert_eq!(checked["handler"], "my-shop");
    assert_eq!(checked["subscriptions"][0]["subject"], "my-shop.create");
    assert_eq!(checked["collections"][0], "my_shop");
    let said = tribox(&project, &["test"])?.ok()?;
    assert!(said.contains("2 cases: 2 as expected"), "{said}");
    let readme = std::fs::read_to_string(project.join("README.md"))?;
    assert!(readme.contains(component), "{readme}");

    let mut host = dev(&project)?;
    wait_until("dev tells how to send a message", async || match host.log() {
        log if log.contains("tribox publish my-shop.create") => Ok(()),
        log => Err(log),
    })
    .await?;
    // As the page says, but for the payload, which it has from the first case.
    let send = readme.lines().find_map(|line| line.strip_prefix("tribox publish "));
    let (subject, payload) =
        send.and_then(|line| line.split_once(' ')).context("no command to send")?;
    let stored = tribox(&project, &["publish", subject, payload.trim_matches('\''), "--json"])?;
    assert_eq!(stored.json()?["stream"], "MY-SHOP", "{stored:?}");
    wait_until("the item is there", async || {
        let log = host.log();
        if log.contains("    put my_shop/7 {") { Ok(()) } else { Err(log) }
    })
    .await?;
    host.terminate()?;
    ensure!(host.exit().await?.success(), "{}", host.log());
    Ok(())
}

/// `tribox dev` without arguments in a project.
fn dev(project: &Path) -> Result<Host> {
    let admin = free_address()?;
    let mut config = std::fs::read_to_string(project.join("tribox.toml"))?;
    config.push_str(&format!("[admin]\nlisten = \"{admin}\"\n"));
    std::fs::write(project.join("tribox.toml"), config)?;
    let mut command = Command::new(programs::tribox()?);
    let nats = programs::nats_server();
    let beside = nats.parent().context("a directory")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(beside).chain(std::env::split_paths(&path)))?;
    command.arg("dev").current_dir(project);
    command.env("PATH", path).env_remove("DATABASE_URL").env_remove("NATS_URL");
    Host::spawn_command(command, admin, &project.join("log"))
}

/// All templates in one go: they share what they depend on.
#[test]
fn every_template_passes_its_tests_under_another_name() -> Result<()> {
    let _alone = CARGO.blocking_lock();
    let desk = Desk::new()?;
    for (template, tests) in
        [("accounts", 6), ("orders", 2), ("bookings", 3), ("baskets", 5), ("purchases", 5)]
    {
        let name = format!("the-{template}-of-mine");
        let project = desk.new_project(&[&name, "--template", template])?;
        let said = desk.cargo(&project, &["test", "--quiet"])?;
        assert!(said.contains(&format!("{tests} passed")), "{template}: {said}");
        desk.cargo(&project, &["build", "--quiet", "--release", "--target", "wasm32-wasip2"])?;
        let said = tribox(&project, &["test"])?.ok()?;
        assert!(said.contains(" 0 not"), "{template}: {said}");
    }
    Ok(())
}

/// Built by the one command that the project's page names, with the toolchains that scripts/languages.sh
/// installed; where there are none, `languages` says that it is skipped.
#[test]
fn projects_in_other_languages_build_and_pass_their_cases() -> Result<()> {
    let desk = Desk::new()?;
    let tools = programs::repository().join(".tools");
    let componentize = tools.join("python/bin/componentize-py");
    let make = format!("COMPONENTIZE={}", componentize.display());
    let javascript = tools.join("javascript/node_modules/.bin");
    for (language, there, build) in [
        ("python", componentize.is_file(), vec!["make", &make]),
        ("javascript", javascript.is_dir(), vec!["npm", "run", "build"]),
        ("typescript", javascript.join("tsc").exists(), vec!["npm", "run", "build"]),
    ] {
        if !there {
            println!("skipped: nothing here builds a component in {language}");
            continue;
        }
        let name = format!("shop-in-{language}");
        let arguments = ["new", &name, "--lang", language];
        tool::tribox(desk.place.path(), None, &arguments)?.ok()?;
        let project = desk.place.path().join(&name);
        let output = with_npm(&project, &build)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{language}: {said}");
        let readme = std::fs::read_to_string(project.join("README.md"))?;
        let component = format!("build/{name}.wasm");
        assert!(readme.contains(&format!("tribox check {component}")), "{readme}");
        let checked = tribox(&project, &["check", &component, "--json"])?.json()?;
        assert_eq!(checked["handler"], name.as_str());
        let said = tribox(&project, &["test"])?.ok()?;
        assert!(said.contains("2 cases: 2 as expected"), "{said}");
        tribox(&project, &["new", "--update"])?.ok()?;
    }
    Ok(())
}

/// Runs a command in a project, with what npm installed for the suite.
fn with_npm(project: &Path, command: &[&str]) -> Result<Output> {
    let own = programs::repository().join(".tools/javascript/node_modules/.bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(own).chain(std::env::split_paths(&path));
    let mut run = Command::new(command[0]);
    run.args(&command[1..]).current_dir(project).env("PATH", std::env::join_paths(path)?);
    run.stdin(Stdio::null()).output().with_context(|| format!("failed to run {}", command[0]))
}

/// The types that come with a project say where a handler is wrong, before anything is built.
#[test]
fn what_has_a_wrong_type_is_told_before_it_is_built() -> Result<()> {
    let tsc = programs::repository().join(".tools/javascript/node_modules/.bin/tsc");
    if !tsc.exists() {
        println!("skipped: no TypeScript here; scripts/languages.sh installs it");
        return Ok(());
    }
    let desk = Desk::new()?;
    let in_javascript = ["tsc", "--allowJs", "--noEmit", "--target", "es2022", "handler.js"];
    for (language, file, check) in [
        ("javascript", "handler.js", &in_javascript[..]),
        ("typescript", "handler.ts", &["npm", "run", "build"]),
    ] {
        for template in ["items", "accounts"] {
            let name = format!("{template}-in-{language}");
            let new = ["new", &name, "--lang", language, "--template", template];
            tool::tribox(desk.place.path(), None, &new)?.ok()?;
            let project = desk.place.path().join(&name);
            let right = with_npm(&project, check)?;
            ensure!(right.status.success(), "{name}: {right:?}");
            let handler = project.join(file);
            let text = std::fs::read_to_string(&handler)?;
            // A field that the shape does not have, and a subject that is no text.
            let wrong = "define(description, (message) => {\n    \
                         message.json({ id: \"string?\" }).ids;\n    new Effects().send(7, {});";
            let wrong = text.replace("define(description, (message) => {", wrong);
            std::fs::write(&handler, wrong)?;
            let output = with_npm(&project, check)?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(!output.status.success(), "{name}: {said}");
            for words in [
                "Property 'ids' does not exist",
                "'number' is not assignable to parameter of type 'string'",
            ] {
                assert!(said.contains(words), "{name}: {said}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_there_is_not_overwritten_and_bad_names_are_refused() -> Result<()> {
    let desk = Desk::new()?;
    let project = desk.new_project(&["mine"])?;
    let place = desk.place.path();
    let again = tool::tribox(place, None, &["new", "mine"])?.refused()?;
    assert!(again.contains("mine is there already"), "{again}");
    for (name, words) in [("Mine", "1 to 63 of a-z"), ("match", "means something to Rust")] {
        let why = tool::tribox(place, None, &["new", name])?.refused()?;
        assert!(why.contains(words), "{why}");
    }
    let ran = tool::tribox(place, None, &["new", "other", "--template", "none"])?;
    assert!(ran.code == Some(2) && ran.err.contains("bookings"), "{ran:?}");

    // An older SDK is brought up to date; what the author wrote stays.
    let sdk = project.join("tribox-guest");
    std::fs::write(sdk.join("src/old.rs"), "old")?;
    std::fs::write(sdk.join("wit/handler.wit"), "old")?;
    std::fs::write(project.join("src/lib.rs"), "mine")?;
    tool::tribox(&project, None, &["new", "--update"])?.ok()?;
    assert!(!sdk.join("src/old.rs").exists());
    let contract = std::fs::read_to_string(sdk.join("wit/handler.wit"))?;
    assert_eq!(contract, std::fs::read_to_string(programs::repository().join("wit/handler.wit"))?);
    assert_eq!(std::fs::read_to_string(project.join("src/lib.rs"))?, "mine");
    let why = tool::tribox(place, None, &["new", "--update"])?.refused()?;
    assert!(why.contains("there is no tribox-guest, tribox.py or"), "{why}");
    Ok(())
}
