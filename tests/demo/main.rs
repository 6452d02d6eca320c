//! `make demo`: 20,000 commands through two handlers, 2,000 of them twice, a kill -9 half-way; then
//! an audit of the books that asks Postgres and the streams, and not the host.

mod check;
mod deliveries;
mod plan;
mod progress;
mod publish;
mod report;
mod run;

use std::process::ExitCode;

use anyhow::{Result, bail};
use tribox_tests::{Stack, StackOptions};

const USAGE: &str = "usage: demo [--keep]   (--keep: leave the servers running to look around)";

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it must be.
async fn demo() -> Result<bool> {
    let mut keep = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--keep" => keep = true,
            other => bail!("unknown argument {other}; {USAGE}"),
        }
    }
    let plan = plan::Plan::new();
    println!(
        "Starting a private Postgres and NATS, and tribox with the handlers accounts and orders."
    );
    let options = StackOptions { own_postgres: true, ..StackOptions::default() };
    let mut stack = Stack::with("demo", options).await?;
    stack.drop_in(&["accounts", "orders"])?;
    stack.config.set("handlers.accounts.settings.threshold", plan::THRESHOLD.to_string());
    publish::make_streams(&stack.broker).await?;

    println!(
        "Publishing {} commands, {} of them twice under the same id; the host is killed half-way.",
        report::thousands(plan::COMMANDS),
        report::thousands(plan::DUPLICATES),
    );
    let course = run::run(&mut stack, &plan).await?;
    println!("Asking Postgres and the streams, not the host:");
    let audit = check::check(&plan, &stack.pool, &stack.broker).await?;
    let passed = report::print(&plan, &course, &audit);
    report::how_to_look(&stack, keep);
    if keep {
        wait_for_enter().await?;
    }
    Ok(passed)
}

/// Until Enter, the end of the input, or Ctrl-C.
async fn wait_for_enter() -> Result<()> {
    let (entered, enter) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime would wait for one of its own to end.
    std::thread::spawn(move || {
        // An input that cannot be read is as good as its end.
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = entered.send(());
    });
    tokio::select! {
        _ = enter => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
