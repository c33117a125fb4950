//! `usher config`: the effective configuration.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::config::Config;

pub(super) fn run(config: &Config) -> ExitCode {
    match io::stdout().write_all(config.to_toml().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(1, &format_args!("the output cannot be written: {error}")),
    }
}
