//! `usher config`: the effective configuration.

use std::io::{self, Write as _};

use super::{failure::Failure, output};
use crate::config::Config;

pub(super) fn run(config: &Config) -> Result<(), Failure> {
    output::written(io::stdout().write_all(config.to_toml().as_bytes()))
}
