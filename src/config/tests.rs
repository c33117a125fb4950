//! What a configuration may be, and what an error line says of one that may not.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;

use super::*;

mod layers;
mod print;
mod redis;
mod rules;
mod secrets;
mod servers;
mod values;

/// Reads a file `usher.toml` that stands alone in a folder.
fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("usher.toml");
    fs::write(&file, toml).expect("a file");
    load_in(&folder, Some(&file), environment)
}

/// Reads a configuration; errors, a line each, name files as if from within `folder`.
fn load_in(
    folder: &TempDir,
    file: Option<&Path>,
    environment: &[(&str, &str)],
) -> Result<Config, String> {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Config::load(file, environment.iter().map(owned)).map_err(|errors| {
        for error in errors.iter() {
            let line = error.to_string();
            assert!(!line.contains(char::is_control), "not one line: {line:?}");
        }
        let lines = errors.to_string();
        lines.replace(&format!("{}/", folder.path().display()), "")
    })
}

#[track_caller]
fn good(toml: &str, environment: &[(&str, &str)]) -> Config {
    load(toml, environment).expect("a good configuration")
}

#[track_caller]
fn error(toml: &str, environment: &[(&str, &str)]) -> String {
    load(toml, environment).expect_err(toml)
}

/// `[section] key = value` as a file.
fn row(path: &str, value: &str) -> String {
    let (section, key) = path.rsplit_once('.').expect("a path");
    format!("[{section}]\n{key} = {value}\n")
}
