//! The command line: one file a command.

mod api;
mod bench;
mod broadcast;
mod check;
mod completions;
mod config;
mod connect;
mod disconnect;
mod failure;
mod hints;
mod listen;
mod log;
mod message;
mod output;
mod presence;
mod push;
mod serve;
mod signals;
mod subject;
mod ticket;
mod topic;
mod values;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::failure::Failure;
use crate::config::{Config, ConfigErrors};

/// Wrong usage (sysexits.h: EX_USAGE).
const USAGE: u8 = 64;
/// A task on which delivery depends has failed (EX_SOFTWARE).
const FAILED: u8 = 70;
/// A server cannot be reached (EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;
/// Bad configuration (EX_CONFIG).
const BAD_CONFIG: u8 = 78;

/// The last mile from NATS to your users' screens.
#[derive(Debug, Parser)]
#[command(
    name = "usher",
    after_help = "\
A first look, with nothing else installed; each line in a terminal of its own:
  usher serve --embedded
  usher listen --user 42
  usher push 42 '{\"hello\":\"world\"}'

`usher help COMMAND` has examples of each. All of them read the same configuration."
)]
struct Usher {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway until SIGTERM, SIGINT or SIGQUIT, then drain. SIGHUP: read certificates
    /// and the files of secrets anew.
    #[command(after_help = "\
Examples:
  usher serve --config usher.toml
  USHER_PUBLIC__LISTEN=0.0.0.0:8080 usher serve
  usher serve --embedded --demo      then open http://127.0.0.1:8080")]
    Serve(serve::Arguments),
    /// Read the configuration, reach NATS and Redis, and say what was found.
    #[command(after_help = "\
Examples:
  usher check --config usher.toml
  usher check && usher serve

Exits 0, 78 for bad configuration, 69 where a server can't be reached.")]
    Check(check::Arguments),
    /// Print the effective configuration as commented TOML, without secrets.
    #[command(after_help = "\
Examples:
  usher config > usher.toml          every key, with its meaning and default
  usher config --config usher.toml   what holds in the end")]
    Config(ConfigFile),
    /// Mint a ticket, with which one session of a user can be opened.
    Ticket(ticket::Arguments),
    /// Push a message to a user's sessions, or a stream of them.
    Push(push::Arguments),
    /// Publish a message to every session of every user, or a stream of them.
    Broadcast(broadcast::Arguments),
    /// Publish a message to those who follow a topic, or a stream of them.
    Topic(topic::Arguments),
    /// Say which users are online, and on which gateways.
    Presence(presence::Arguments),
    /// End all sessions of a user.
    Disconnect(disconnect::Arguments),
    /// Follow a user's stream of messages in the terminal.
    Listen(listen::Arguments),
    /// Open many sessions, publish at a rate, and say what the gateway needs and loses.
    Bench(bench::Arguments),
    /// Print the NATS subject of a user.
    Subject(subject::Arguments),
    /// Print a script with which a shell completes these commands.
    Completions(completions::Arguments),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// A TOML file; the environment (USHER_SECTION__KEY) goes before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, ConfigErrors> {
        let environment = std::env::vars_os()
            .map(|(name, value)| [name, value].map(|text| text.to_string_lossy().into_owned()))
            .map(|[name, value]| (name, value));
        Config::load(self.config.as_deref(), environment)
    }
}

/// Runs what the arguments say. `version` is what `--version` shows.
pub fn main(version: &'static str) -> ExitCode {
    let parsed = Usher::command().version(version).try_get_matches();
    let usher = match parsed.and_then(|found| Usher::from_arg_matches(&found)) {
        Ok(usher) => usher,
        Err(error) => {
            let _ = error.print();
            // Asked for help or the version, or wrong usage.
            return match error.use_stderr() {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    match run(usher.command) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(arguments) => return Ok(serve::run(arguments.file.load()?, &arguments)),
        Command::Check(arguments) => {
            return Ok(check::run(&arguments.file.load()?, &arguments));
        }
        Command::Config(file) => config::run(&file.load()?)?,
        Command::Ticket(arguments) => ticket::run(&arguments)?,
        Command::Push(arguments) => push::run(&arguments)?,
        Command::Broadcast(arguments) => broadcast::run(&arguments)?,
        Command::Topic(arguments) => topic::run(&arguments)?,
        Command::Presence(arguments) => presence::run(&arguments)?,
        Command::Disconnect(arguments) => disconnect::run(&arguments)?,
        Command::Listen(arguments) => listen::run(arguments)?,
        Command::Bench(arguments) => bench::run(&arguments)?,
        Command::Subject(arguments) => subject::run(&arguments)?,
        Command::Completions(arguments) => completions::run(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that is a client, on this thread alone.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("no runtime: {error}")))?;
    let done = runtime.block_on(work);
    // A thread may still wait for input that nobody needs any more.
    runtime.shutdown_background();
    done
}

/// Says why a command ends, and gives its exit code. Whoever would read it may be gone.
fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    for line in error.to_string().lines() {
        let _ = writeln!(io::stderr(), "usher: {}", output::harmless(line));
    }
    ExitCode::from(code)
}
