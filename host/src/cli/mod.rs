//! The program's commands. Each prints what a person wants to know, and says by its exit code
//! whether it went well: 0 yes, 1 no, 2 for arguments that make no sense. `invoke` has more of them.

mod attempt;
mod bench;
mod case;
pub mod check;
mod compare;
mod component;
mod dev;
mod diff;
mod doctor;
mod golden;
mod hints;
mod invoke;
mod logging;
mod migrate;
mod new;
mod operate;
mod outcome;
mod output;
mod parked;
mod pause;
mod places;
mod provision;
mod publish;
mod relay;
mod rewind;
mod scheduled;
mod serve;
mod show;
mod status;
mod suggest;
mod test;
mod text;
mod trial;
mod undelivered;
mod view;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// Inbox, sandbox, outbox: one transaction. A host for message handlers that are WebAssembly
/// components.
#[derive(Debug, Parser)]
#[command(name = "tribox", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run: consume NATS JetStream, run the handlers, commit to Postgres, publish.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Run with a private Postgres and NATS, streams made, handlers reloaded on change.
    Dev {
        /// The plugin directory, in place of the config's.
        directory: Option<PathBuf>,
        /// The servers in the config are not looked at.
        #[command(flatten)]
        config: ConfigFile,
        /// Where the servers keep their data, from one start to the next.
        #[arg(long, default_value = ".tribox")]
        data: PathBuf,
        /// Begin anew: throw away what is in the data directory of earlier starts.
        #[arg(long)]
        fresh: bool,
    },
    /// Put one message into its stream, to try a handler out.
    Publish(publish::Publish),
    /// Is this file a handler? Prints what it says of itself, or why it is refused.
    Check(check::Check),
    /// Make the project of a new handler: it builds, passes its tests and runs.
    New(new::New),
    /// Run recorded cases: is what each message comes to still what was recorded? No servers.
    Test(test::Test),
    /// Try a handler on one message from a file: the same sandbox, no servers, nothing is changed.
    Invoke(invoke::Invoke),
    /// Messages that were set aside: look at them, retry them, throw them away.
    Parked {
        #[command(subcommand)]
        command: parked::Parked,
    },
    /// Outgoing messages that no stream took.
    Undelivered {
        #[command(subcommand)]
        command: undelivered::Undelivered,
    },
    /// Send again what the broker acknowledged and then lost.
    Relay(relay::Relay),
    /// After Postgres was restored to an earlier time: set a handler's consumers back to match.
    Rewind(rewind::Rewind),
    /// Delayed messages that wait.
    Scheduled {
        #[command(subcommand)]
        command: scheduled::Scheduled,
    },
    /// Stop handling messages of a handler, or of one key of it, until it is resumed.
    Pause(pause::What),
    /// Let a paused handler or key go on.
    Resume(pause::What),
    /// Nodes, handlers, what waits, and how far streams were handled.
    Status(operate::Common),
    /// What is wrong, and the command that mends it.
    Doctor(operate::Common),
    /// Bring the database schema up to date.
    Migrate {
        #[command(flatten)]
        config: ConfigFile,
        /// Print the pending SQL instead of running it; all of it where there is no database.
        #[arg(long)]
        print: bool,
    },
    /// Make the streams that the handlers in the plugin directory need and that are not there.
    Provision {
        #[command(flatten)]
        config: ConfigFile,
        /// Only say what would be made.
        #[arg(long)]
        dry_run: bool,
    },
    /// Put a running handler under load on your own servers, and see how it does.
    Bench {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        options: bench::Options,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The config file. Without it tribox.toml in the working directory, if there is one, else the
    /// defaults and the environment.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file, where there is one.
    fn path(&self) -> Option<PathBuf> {
        let usual = Path::new("tribox.toml");
        self.config.clone().or_else(|| usual.exists().then(|| usual.to_owned()))
    }

    fn load(&self) -> Result<Config, ConfigError> {
        match self.path() {
            Some(path) => Config::load(&path),
            None => {
                let mut config = Config::default();
                config.apply_environment(|name| std::env::var(name).ok());
                Ok(config)
            }
        }
    }
}

/// A command that failed: the text goes to standard error.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Check(check) => return check::run(&check, &mut std::io::stdout()),
        Command::New(new) => new::run(&new),
        Command::Test(test) => match test::run(&test) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        Command::Invoke(invoke) => match invoke::run(&invoke) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        Command::Parked { command } => parked::run(command),
        Command::Undelivered { command } => undelivered::run(command),
        Command::Relay(relay) => relay::run(&relay),
        Command::Rewind(arguments) => rewind::run(&arguments),
        Command::Scheduled { command } => scheduled::run(command),
        Command::Pause(what) => pause::pause(&what),
        Command::Resume(what) => pause::resume(&what),
        Command::Status(common) => status::run(&common),
        Command::Doctor(common) => doctor::run(&common),
        Command::Serve { config } => serve::run(&config),
        Command::Dev { directory, config, data, fresh } => {
            let directory = directory.as_deref();
            dev::run(&dev::Dev { directory, file: &config, data: &data, fresh })
        }
        Command::Publish(publish) => publish::run(&publish),
        Command::Migrate { config, print } => migrate::run(&config, print),
        Command::Provision { config, dry_run } => provision::run(&config, dry_run),
        Command::Bench { config, options } => bench::run(&config, &options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody is left to tell where standard error is gone.
            let _ = writeln!(std::io::stderr(), "tribox: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime that commands work in.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Prints a line for people or scripts; a closed pipe is no failure of the command.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
