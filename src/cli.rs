//! The command line: one file a command.

mod check;
mod config;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// Wrong usage (sysexits.h: EX_USAGE).
const USAGE: u8 = 64;
/// A server cannot be reached (EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;
/// Bad configuration (EX_CONFIG).
const BAD_CONFIG: u8 = 78;

/// The last mile from NATS to your users' screens.
#[derive(Debug, Parser)]
#[command(name = "usher", version)]
struct Usher {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway until SIGTERM or SIGINT, then drain.
    Serve(ConfigFile),
    /// Read the configuration, reach NATS and Redis, and say what was found.
    Check(ConfigFile),
    /// Print the effective configuration as commented TOML, without secrets.
    Config(ConfigFile),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// A TOML file; the environment (USHER_SECTION__KEY) goes before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, ConfigError> {
        let environment = std::env::vars_os()
            .map(|(name, value)| [name, value].map(|text| text.to_string_lossy().into_owned()))
            .map(|[name, value]| (name, value));
        Config::load(self.config.as_deref(), environment)
    }
}

/// Runs what the arguments say.
pub fn main() -> ExitCode {
    let usher = match Usher::try_parse() {
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
    let (Command::Serve(file) | Command::Check(file) | Command::Config(file)) = &usher.command;
    let config = match file.load() {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIG, &error),
    };
    match usher.command {
        Command::Serve(_) => serve::run(config),
        Command::Check(_) => check::run(&config),
        Command::Config(_) => config::run(&config),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("usher: {error}");
    ExitCode::from(code)
}
