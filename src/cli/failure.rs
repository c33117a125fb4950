//! Why a command has not done what it was asked to.

use std::{fmt, process::ExitCode};

use crate::config::ConfigErrors;

/// A line for a person, and an exit code for a script.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Something went wrong on the way.
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self {
            code: 1,
            message: message.to_string(),
        }
    }

    /// The configuration, or a flag that stands for a key of it, is no good.
    pub(super) fn config(message: impl fmt::Display) -> Self {
        Self {
            code: super::BAD_CONFIG,
            message: message.to_string(),
        }
    }

    /// The arguments are no good, in a way that clap does not see.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self {
            code: super::USAGE,
            message: message.to_string(),
        }
    }

    /// Says so, and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        super::fail(self.code, &self.message)
    }
}

/// What is wrong with a gateway: said in full to somebody who can mend it, and
/// shortly where it is tried again anyway.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) what: String,
    /// What to do about it; empty where that is said already.
    pub(super) mend: String,
}

impl Trouble {
    pub(super) fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// In full.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.mend[..] {
            "" => Ok(()),
            mend => write!(f, "; {mend}"),
        }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(error: ConfigErrors) -> Self {
        Self::config(error)
    }
}
