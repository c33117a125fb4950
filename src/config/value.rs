//! What every type of value can do: be read, and be printed as TOML.

/// What is wrong with a value, and the mend: how an error line ends.
pub(super) type Complaint = String;

/// A type of value.
pub(super) trait Value: Sized {
    /// What it is, in words.
    const KIND: &'static str;
    /// What one looks like in TOML.
    const EXAMPLE: &'static str;
    /// Whether it may be a secret. Its complaints then show nothing secret of it,
    /// and nobody else shows it.
    const SECRET: bool = false;

    /// Reads it from text, such as a variable of the environment.
    fn parse(text: &str) -> Result<Self, Complaint>;

    /// Reads it from TOML; where a type does not say otherwise it is a string.
    fn from_toml(value: &toml::Value) -> Result<Self, Complaint> {
        match value {
            toml::Value::String(text) => Self::parse(text),
            _ => Err(not::<Self>()),
        }
    }

    /// Reads it from what stands in a file of its own.
    fn from_content(content: &str) -> Result<Self, Complaint> {
        Self::parse(content)
    }

    /// Prints it.
    fn show(&self) -> Shown;
}

/// A value as it was given, before it is known of which type it should be.
pub(super) enum Raw {
    /// From the TOML file.
    Toml(toml::Value),
    /// From the environment.
    Text(String),
    /// From the file that holds a secret.
    Content(String),
}

/// A value as it is printed.
pub(super) struct Shown {
    /// The value in TOML, or a stand-in where it is withheld.
    pub(super) toml: String,
    /// Why it is withheld, if it is.
    pub(super) withheld: Option<&'static str>,
}

impl Raw {
    /// Reads it as a value of type `T`.
    pub(super) fn read<T: Value>(&self) -> Result<T, Complaint> {
        match self {
            Self::Toml(value) => T::from_toml(value),
            Self::Text(text) => T::parse(text),
            Self::Content(content) => T::from_content(content),
        }
    }
}

impl Shown {
    /// A value that anybody may see.
    pub(super) fn plain(toml: impl Into<String>) -> Self {
        Self {
            toml: toml.into(),
            withheld: None,
        }
    }

    /// A secret.
    pub(super) fn hidden(stand_in: impl Into<String>) -> Self {
        Self {
            toml: stand_in.into(),
            withheld: Some("set, but not shown: give it again"),
        }
    }

    /// No value at all.
    pub(super) fn unset(stand_in: impl Into<String>) -> Self {
        Self {
            toml: stand_in.into(),
            withheld: Some("not set"),
        }
    }
}

/// The default of a key, as the table of keys has it.
pub(super) fn default<T: Value>(toml: &str) -> T {
    let value = toml.parse().expect("a default is a value of TOML");
    T::from_toml(&value).expect("a default is a value of its key's type")
}

/// The complaint where there is nothing special to say.
pub(super) fn not<T: Value>() -> Complaint {
    format!("not {}; write for example {}", T::KIND, T::EXAMPLE)
}

/// Text as a TOML string on one line.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
