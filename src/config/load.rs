//! From the layers to a configuration, or to all that is wrong.

use std::{fs, path::Path};

use super::{
    error::{ConfigError, ConfigErrors},
    keys::Config,
    layers::{Layer, Setting, from_environment, from_file},
    rules,
    table::{Key, keys},
    value::{Complaint, Raw, quoted},
};

/// Reads the layers, the later over the earlier.
///
/// Only the values that win are looked at: the environment also mends what is
/// wrong with a value in the file.
pub(super) fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigErrors> {
    let mut settings = Layer::default();
    match file.map(from_file) {
        Some(Ok(layer)) => settings.extend(layer),
        Some(Err(error)) => settings.errors.push(error),
        None => {}
    }
    settings.extend(from_environment(environment));

    let mut config = Config {
        ignored: std::mem::take(&mut settings.ignored),
        ..Config::default()
    };
    let mut errors = std::mem::take(&mut settings.errors);
    for setting in settings.settings.values() {
        errors.extend(apply(setting, &mut config).err());
    }
    // A value that is missing would seem to contradict others.
    if errors.is_empty() {
        let at_odds = |(path, complaint)| at_odds(&config, &settings, path, complaint);
        errors.extend(rules::together(&config).into_iter().map(at_odds));
    }
    match errors.is_empty() {
        true => Ok(config),
        false => Err(ConfigErrors(errors)),
    }
}

fn apply(setting: &Setting, config: &mut Config) -> Result<(), ConfigError> {
    let Setting {
        name, raw, place, ..
    } = setting;
    let shown = match raw {
        Raw::Toml(value) => on_one_line(value),
        Raw::Text(text) | Raw::Content(text) => quoted(text),
    };
    // What is not a path may be the secret itself, under the wrong name.
    let is_path = name.file && shown.starts_with("\"/");
    let value = (!name.key.secret || is_path).then(|| clipped(shown));
    let wrong = |complaint| ConfigError::Value {
        key: name.dotted(),
        value,
        place: place.clone(),
        complaint,
    };
    let result = if name.file {
        from_secret_file(name.key, raw, config)
    } else {
        (name.key.set)(config, raw)
    };
    result.map_err(wrong)
}

/// Sets a key to what stands in the file that `raw` names.
fn from_secret_file(key: &Key, raw: &Raw, config: &mut Config) -> Result<(), Complaint> {
    let path: String = raw.read()?;
    (key.set)(config, &content(&path)?)?;
    config.secret_files.insert(key.path, path);
    Ok(())
}

/// Sets each key that a file was given for to what stands there now, where that is good by
/// itself and beside the others.
pub(super) fn reread(config: &Config) -> (Config, Vec<ConfigError>) {
    let (mut fresh, mut errors) = (config.clone(), Vec::new());
    for (path, file) in &config.secret_files {
        let mut next = fresh.clone();
        let read = keys()
            .find(|key| key.path == *path)
            .map_or(Ok(()), |key| (key.set)(&mut next, &content(file)?))
            .and_then(|()| match rules::together(&next).into_iter().next() {
                None => Ok(()),
                Some((_, complaint)) => Err(complaint),
            });
        match read {
            Ok(()) => fresh = next,
            Err(complaint) => errors.push(ConfigError::Value {
                key: format!("{path}_file"),
                value: Some(quoted(file)),
                place: "read again".to_owned(),
                complaint,
            }),
        }
    }
    (fresh, errors)
}

/// What stands in a file, without its last line's end.
fn content(path: &str) -> Result<Raw, Complaint> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            Ok(Raw::Content(line.to_owned()))
        }
        Err(cause) => Err(format!(
            "can't be read: {cause}; name a file that exists and may be read"
        )),
    }
}

/// A value of TOML for an error line.
fn on_one_line(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => quoted(text),
        toml::Value::Array(items) => {
            let items: Vec<_> = items.iter().map(on_one_line).collect();
            format!("[{}]", items.join(", "))
        }
        toml::Value::Table(_) => "{ … }".to_owned(),
        other => other.to_string(),
    }
}

fn clipped(value: String) -> String {
    const LONGEST: usize = 100;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value,
    }
}

/// The error for a value that is good by itself, but not beside the others.
fn at_odds(
    config: &Config,
    settings: &Layer,
    path: &'static str,
    complaint: Complaint,
) -> ConfigError {
    let key = keys().find(|key| key.path == path);
    let key = key.expect("a rule names a key of the table");
    let place = settings
        .settings
        .get(path)
        .map(|setting| setting.place.clone());
    ConfigError::Value {
        key: path.to_owned(),
        value: (!key.secret).then(|| (key.show)(config).toml),
        place: place.unwrap_or_else(|| "the default".to_owned()),
        complaint,
    }
}
