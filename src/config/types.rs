//! The plain types of values: text, lists, secrets, numbers, choices.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::secret::Secret;

use super::value::{Complaint, Shown, Value, not, quoted};

/// How long to wait between NATS's confirmation and `welcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// It depends on whether the server says that it is clustered.
    Auto,
    /// Always this long.
    Fixed(Duration),
}

/// Where the stream keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory, where they end with the servers.
    Memory,
}

/// Whether messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Where the client offers it.
    On,
    /// Never.
    Off,
}

/// A part of a whole: from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Value for String {
    const KIND: &'static str = "text";
    const EXAMPLE: &'static str = r#""text""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        Ok(text.to_owned())
    }

    fn show(&self) -> Shown {
        Shown::plain(quoted(self))
    }
}

impl Value for Option<String> {
    const KIND: &'static str = "text";
    const EXAMPLE: &'static str = r#""text""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        given(text).map(|text| Some(text.to_owned()))
    }

    fn show(&self) -> Shown {
        match self {
            Some(text) => text.show(),
            None => Shown::unset(r#""…""#),
        }
    }
}

impl Value for Option<PathBuf> {
    const KIND: &'static str = "a file's path";
    const EXAMPLE: &'static str = r#""/path""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        given(text).map(|text| Some(text.into()))
    }

    fn show(&self) -> Shown {
        match self {
            Some(path) => path.display().to_string().show(),
            None => Shown::unset(Self::EXAMPLE),
        }
    }
}

impl Value for Option<Secret> {
    const KIND: &'static str = "a secret text";
    const EXAMPLE: &'static str = r#""…""#;
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Complaint> {
        given(text).map(|text| Some(Secret::new(text)))
    }

    fn show(&self) -> Shown {
        match self {
            Some(_) => Shown::hidden(Self::EXAMPLE),
            None => Shown::unset(Self::EXAMPLE),
        }
    }
}

/// Text that may be left out, but not be empty: an empty variable more often
/// comes from a secret that failed to arrive than from somebody's wish.
fn given(text: &str) -> Result<&str, Complaint> {
    match text {
        "" => Err("empty; give it a value, or leave it out altogether".to_owned()),
        text => Ok(text),
    }
}

impl Value for Vec<String> {
    const KIND: &'static str = "a list of texts";
    const EXAMPLE: &'static str = r#"["one", "two"]"#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        Ok(items(text).map(str::to_owned).collect())
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Complaint> {
        texts(value).ok_or_else(not::<Self>)
    }

    fn show(&self) -> Shown {
        let items: Vec<_> = self.iter().map(|text| quoted(text)).collect();
        Shown::plain(format!("[{}]", items.join(", ")))
    }
}

impl Value for Vec<Secret> {
    const KIND: &'static str = "a list of secret texts";
    const EXAMPLE: &'static str = r#"["…", "…"]"#;
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Complaint> {
        Ok(items(text).map(Secret::new).collect())
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Complaint> {
        let texts = texts(value).ok_or_else(not::<Self>)?;
        Ok(texts.into_iter().map(Secret::new).collect())
    }

    /// One a line, and at least one: a file that arrived empty must not let everybody in.
    fn from_content(content: &str) -> Result<Self, Complaint> {
        given(content).map(|content| content.lines().map(Secret::new).collect())
    }

    fn show(&self) -> Shown {
        if self.is_empty() {
            Shown::unset(Self::EXAMPLE)
        } else {
            Shown::hidden(Self::EXAMPLE)
        }
    }
}

/// The items of a list with commas between; an empty text has none.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let list = Some(text).filter(|text| !text.is_empty());
    list.into_iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    let items = value.as_array()?.iter();
    items.map(|item| Some(item.as_str()?.to_owned())).collect()
}

impl Value for bool {
    const KIND: &'static str = "`true` or `false`";
    const EXAMPLE: &'static str = "true";

    fn parse(text: &str) -> Result<Self, Complaint> {
        text.parse().map_err(|_| "write true or false".to_owned())
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Complaint> {
        let complaint = || "write true or false, without quotes".to_owned();
        value.as_bool().ok_or_else(complaint)
    }

    fn show(&self) -> Shown {
        Shown::plain(self.to_string())
    }
}

impl Value for u32 {
    const KIND: &'static str = "a whole number";
    const EXAMPLE: &'static str = "16";

    fn parse(text: &str) -> Result<Self, Complaint> {
        text.parse().map_err(|_| not_a_count())
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Complaint> {
        match value {
            toml::Value::Integer(number) => (*number).try_into().map_err(|_| not_a_count()),
            toml::Value::String(text) => {
                Self::parse(text).and_then(|n| Err(format!("write {n}, without quotes")))
            }
            _ => Err(not_a_count()),
        }
    }

    fn show(&self) -> Shown {
        Shown::plain(self.to_string())
    }
}

fn not_a_count() -> Complaint {
    format!(
        "write a whole number from 0 to {}, without a unit",
        u32::MAX
    )
}

impl Value for SocketAddr {
    const KIND: &'static str = "an IP address and a port";
    const EXAMPLE: &'static str = r#""127.0.0.1:8080""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        text.parse().map_err(|_| {
            let all = r#", or "0.0.0.0:8080" to be reached from other machines"#;
            not::<Self>() + all
        })
    }

    fn show(&self) -> Shown {
        Shown::plain(quoted(&self.to_string()))
    }
}

impl Value for Settle {
    const KIND: &'static str = "`auto` or a duration";
    const EXAMPLE: &'static str = r#""auto" or "20ms""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        match text {
            "auto" => Ok(Self::Auto),
            text => match Duration::parse(text) {
                Ok(duration) => Ok(Self::Fixed(duration)),
                Err(_) => Err(not::<Self>()),
            },
        }
    }

    fn show(&self) -> Shown {
        match self {
            Self::Auto => Shown::plain(quoted("auto")),
            Self::Fixed(duration) => duration.show(),
        }
    }
}

impl Value for Storage {
    const KIND: &'static str = "`file` or `memory`";
    const EXAMPLE: &'static str = r#""file""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        match text {
            "file" => Ok(Self::File),
            "memory" => Ok(Self::Memory),
            _ => Err(not::<Self>()),
        }
    }

    fn show(&self) -> Shown {
        Shown::plain(quoted(match self {
            Self::File => "file",
            Self::Memory => "memory",
        }))
    }
}

impl Value for Compression {
    const KIND: &'static str = "`on` or `off`";
    const EXAMPLE: &'static str = r#""off""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(not::<Self>()),
        }
    }

    fn show(&self) -> Shown {
        Shown::plain(quoted(match self {
            Self::On => "on",
            Self::Off => "off",
        }))
    }
}

impl Value for Ratio {
    const KIND: &'static str = "a number from 0 to 1";
    const EXAMPLE: &'static str = "0.01";

    fn parse(text: &str) -> Result<Self, Complaint> {
        let ratio = text
            .parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or_else(not::<Self>)
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Complaint> {
        match value {
            toml::Value::Float(_) | toml::Value::Integer(_) => Self::parse(&value.to_string()),
            _ => Err(format!("{}, without quotes", not::<Self>())),
        }
    }

    fn show(&self) -> Shown {
        // As TOML writes it: a whole number has a point too.
        Shown::plain(format!("{:?}", self.0))
    }
}

impl Value for LogFormat {
    const KIND: &'static str = "`auto`, `text` or `json`";
    const EXAMPLE: &'static str = r#""auto""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(not::<Self>()),
        }
    }

    fn show(&self) -> Shown {
        Shown::plain(quoted(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }))
    }
}
