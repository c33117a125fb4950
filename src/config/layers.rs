//! What the file says, and what the environment says, by the names that they use.

use std::{collections::BTreeMap, fs, path::Path};

use strsim::damerau_levenshtein;

use super::{
    error::ConfigError,
    keys::{Config, SECTIONS},
    names::{Former, Name, former},
    value::{Raw, quoted},
};

/// What one layer says, or several together.
#[derive(Default)]
pub(super) struct Layer {
    /// By the path of the key.
    pub(super) settings: BTreeMap<&'static str, Setting>,
    /// Keys of an earlier version that have no effect any more, each with the reason.
    pub(super) ignored: Vec<String>,
    /// What is wrong with names, and with where values stand.
    pub(super) errors: Vec<ConfigError>,
}

impl Layer {
    /// Puts a layer over this one.
    pub(super) fn extend(&mut self, other: Self) {
        self.settings.extend(other.settings);
        self.ignored.extend(other.ignored);
        self.errors.extend(other.errors);
    }

    /// Adds a setting, unless the layer already gives the key by its other name.
    fn add(&mut self, setting: Setting) {
        let path = setting.name.key.path;
        match self.settings.get(path) {
            Some(other) => {
                self.errors.push(ConfigError::Twice {
                    name: setting.written,
                    place: setting.place,
                    other: other.written.clone(),
                });
            }
            None => {
                self.settings.insert(path, setting);
            }
        }
    }
}

/// A value that somebody gave to a key.
pub(super) struct Setting {
    /// The name that was used.
    pub(super) name: Name,
    /// How it was written: a key may have a name of an earlier version.
    pub(super) written: String,
    /// The value.
    pub(super) raw: Raw,
    /// Where it was given, for an error.
    pub(super) place: String,
}

/// Reads the TOML file.
///
/// # Errors
///
/// The file can't be read, or is not TOML.
pub(super) fn from_file(path: &Path) -> Result<Layer, ConfigError> {
    let text = fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    let table = text.parse().map_err(|error| syntax(path, &text, &error))?;
    let mut layer = Layer::default();
    collect(&mut layer, "", table, &format!("in {path:?}"));
    Ok(layer)
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start));
    let message = match error.message() {
        // It goes on with the value, which may be a secret.
        message if message.starts_with("invalid type") => "a number is too large",
        message => message,
    };
    ConfigError::Syntax {
        path: path.to_owned(),
        line: before.unwrap_or(text).matches('\n').count() + 1,
        message: message.replace('\n', ", "),
    }
}

/// Adds the keys of a table, and of the tables in it, which must all be known.
fn collect(layer: &mut Layer, section: &str, table: toml::Table, place: &str) {
    for (name, value) in table {
        let path = join(section, &name);
        let place = place.to_owned();
        let name = match former(&path) {
            Some(Former::Renamed(name)) => Some(name),
            Some(Former::Ignored(why)) => {
                layer
                    .ignored
                    .push(format!("{path} ({place}) is ignored: {why}"));
                continue;
            }
            None => Name::all().find(|name| name.dotted() == path),
        };
        let shape = |mend| Err((mend, true));
        let unknown = |nearest| Err((nearest, false));
        let good = match (name, value) {
            (Some(name), toml::Value::Table(_)) => {
                let example = example(name);
                shape(format!("a value, not a section; write {example}"))
            }
            (Some(name), value) => {
                layer.add(Setting {
                    name,
                    written: path.clone(),
                    raw: Raw::Toml(value),
                    place: place.clone(),
                });
                Ok(())
            }
            (None, toml::Value::Table(inner)) if is_section(&path) || !inner.is_empty() => {
                collect(layer, &path, inner, &place);
                Ok(())
            }
            (None, toml::Value::Table(_)) => unknown(nearest_section(&path)),
            (None, _) if is_section(&path) => {
                shape(format!("a section; write [{path}], and its keys below it"))
            }
            (None, _) => unknown(Name::nearest(&path)),
        };
        layer.errors.extend(good.err().map(|(said, is_shape)| {
            let name = path;
            match is_shape {
                true => ConfigError::Shape {
                    name,
                    place,
                    mend: said,
                },
                false => ConfigError::Unknown {
                    name,
                    place,
                    nearest: said,
                },
            }
        }));
    }
}

/// The path of a name in a section; a name that needs quotes keeps them.
fn join(section: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let name = match name {
        "" => quoted(name),
        name if name.chars().all(bare) => name.to_owned(),
        name => quoted(name),
    };
    match section {
        "" => name,
        section => format!("{section}.{name}"),
    }
}

/// Whether `path` is a section, or holds one.
fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|section| {
        let rest = section.name.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn nearest_section(path: &str) -> String {
    let names = SECTIONS.iter().map(|section| section.name);
    let nearest = names.min_by_key(|name| damerau_levenshtein(name, path));
    nearest.expect("the table of keys is not empty").to_owned()
}

/// How a key is written, and where.
fn example(name: Name) -> String {
    let Name { key, file } = name;
    let (suffix, value) = if file {
        ("_file", r#""/path""#.to_owned())
    } else {
        ("", (key.show)(&Config::default()).toml)
    };
    format!("{}{suffix} = {value} below [{}]", key.name, key.section)
}

/// Reads the variables that are ours: others, such as the `USHER_PORT` that a
/// cluster injects for a service of our name, have no double underscore.
pub(super) fn from_environment(environment: impl IntoIterator<Item = (String, String)>) -> Layer {
    let mut layer = Layer::default();
    for (variable, text) in environment {
        let Some(rest) = variable.strip_prefix("USHER_") else {
            continue;
        };
        if !variable.contains("__") {
            let meant = Name::all().map(Name::variable);
            let meant = { meant }.find(|name| name.replace("__", "_") == variable);
            layer.ignored.extend(meant.map(|name| {
                format!("{variable} is ignored: names of ours have two underscores, as {name}")
            }));
            continue;
        }
        let dotted = rest.replace("__", ".").to_lowercase();
        let name = match former(&dotted) {
            Some(Former::Renamed(name)) => Some(name),
            Some(Former::Ignored(why)) => {
                layer.ignored.push(format!("{variable} is ignored: {why}"));
                continue;
            }
            None => Name::all().find(|name| name.variable() == variable),
        };
        match name {
            Some(name) => {
                layer.add(Setting {
                    name,
                    written: dotted,
                    raw: Raw::Text(text),
                    place: format!("from {variable}"),
                });
            }
            None => layer.errors.push(ConfigError::Unknown {
                name: variable.escape_debug().to_string(),
                place: "in the environment".to_owned(),
                nearest: Name::nearest_variable(&dotted),
            }),
        }
    }
    layer
}
