//! Configurations as somebody may write them.

use std::{env, fs, path::PathBuf, process, sync::LazyLock};

use usher::config::{Config, ConfigErrors};

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| env::temp_dir().join(format!("usher-fuzz-{}.toml", process::id())));

/// Loads a file that says this.
pub fn load(toml: &str, environment: &[(String, String)]) -> Result<Config, ConfigErrors> {
    fs::write(&*FILE, toml).expect("a file");
    Config::load(Some(&FILE), environment.iter().cloned())
}

/// Whether reading the files that a text may name could go on for ever.
pub fn names_a_device(text: &str) -> bool {
    ["/dev", "/proc", "/sys"]
        .iter()
        .any(|folder| text.contains(folder))
}
