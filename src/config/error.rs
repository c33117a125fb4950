//! What can be wrong with a configuration, in a line each for a person.

use std::{fmt, io, path::PathBuf};

/// Everything that is wrong with a configuration: at least one error. Keys that contradict
/// each other are found once each value by itself is good.
///
/// `Display` has a line for each error.
#[derive(Debug)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let line = if index > 0 { "\n" } else { "" };
            write!(f, "{line}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One thing that is wrong.
///
/// `Display` is a single line, and neither it nor `Debug` shows a secret. A
/// `place` is where the configuration says so, such as `in "usher.toml"`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path:?} can't be read: {cause}; name a file that exists and may be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        cause: io::Error,
    },
    /// The file is not TOML.
    #[error("{path:?} is not TOML, see line {line}: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// There is no such key or section.
    #[error("{name} ({place}) is not a known name; the nearest is {nearest}")]
    Unknown {
        /// The name, as it was written.
        name: String,
        /// Where.
        place: String,
        /// What was probably meant.
        nearest: String,
    },
    /// A value stands for a section, or a section for a value.
    #[error("{name} ({place}) is {mend}")]
    Shape {
        /// The name of the key or of the section.
        name: String,
        /// Where.
        place: String,
        /// What it is, and how to write it.
        mend: String,
    },
    /// A secret is given both directly and by a file.
    #[error("{name} ({place}) is given beside {other}; keep one of them")]
    Twice {
        /// One of the two names.
        name: String,
        /// Where.
        place: String,
        /// The other name.
        other: String,
    },
    /// A value is not good.
    #[error("{key}{} ({place}): {complaint}", equals(.value.as_deref()))]
    Value {
        /// Whose value.
        key: String,
        /// The value in TOML, unless it may be a secret.
        value: Option<String>,
        /// Where.
        place: String,
        /// What is wrong, and the mend.
        complaint: String,
    },
}

fn equals(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" = {value}"))
}
