//! The configuration as commented TOML, and the reference of its keys.

use super::{
    keys::{Config, SECTIONS},
    names::Name,
    table::{Key, Section},
    value::quoted,
};

/// What there is to know about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its name, such as `session.ping_interval`.
    pub key: &'static str,
    /// Its name in the environment, such as `USHER_SESSION__PING_INTERVAL`.
    pub variable: String,
    /// What its section is for.
    pub section: String,
    /// What kind of value it takes, in words.
    pub kind: &'static str,
    /// Its default in TOML, if it has one.
    pub default: Option<String>,
    /// What it does.
    pub doc: String,
    /// Whether its value may be a secret, so that `KEY_file` may name a file that
    /// holds it.
    pub secret: bool,
}

/// All keys, in the order in which they are documented.
pub fn reference() -> Vec<Reference> {
    let defaults = Config::default();
    let in_a_line = |doc: &[&str]| {
        let lines: Vec<_> = doc.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    };
    let reference = |section: &'static Section, key: &'static Key| {
        let shown = (key.show)(&defaults);
        Reference {
            key: key.path,
            variable: Name { key, file: false }.variable(),
            kind: key.kind,
            default: shown.withheld.is_none().then_some(shown.toml),
            doc: in_a_line(key.doc),
            section: in_a_line(section.doc),
            secret: key.secret,
        }
    };
    let of = |section: &'static Section| {
        let keys = section.keys.iter();
        keys.map(move |key| reference(section, key))
    };
    SECTIONS.iter().flat_map(of).collect()
}

const HEADER: &str = "\
# The configuration of Usher, as it is in effect.
#
# A key may also be set in the environment, which wins over the file:
# USHER_SESSION__PING_INTERVAL is ping_interval of [session]. Lists have commas
# between there. A secret KEY may also be given as KEY_file = \"/path\"; secrets are
# not shown here. Durations are written 500ms, 25s, 5m or 24h, sizes 512B, 4KiB,
# 1MiB or 1GiB.
";

pub(super) fn to_toml(config: &Config) -> String {
    let defaults = Config::default();
    let mut text = HEADER.to_owned();
    for section in SECTIONS {
        text += "\n";
        text += &comment(section.doc);
        text += &format!("[{}]\n", section.name);
        for key in section.keys {
            let (shown, default) = ((key.show)(config), (key.show)(&defaults));
            let line = format!("{} = {}", key.name, shown.toml);
            text += "\n";
            text += &comment(key.doc);
            // Where a secret is, is none.
            if let Some(path) = config.secret_files.get(key.path) {
                text += &format!("{}_file = {}\n", key.name, quoted(path));
                continue;
            }
            text += &match (shown.withheld, default.withheld) {
                (Some(why), _) => format!("# {line} # {why}\n"),
                (None, None) if shown.toml != default.toml => {
                    format!("{line} # default: {}\n", default.toml)
                }
                _ => format!("{line}\n"),
            };
        }
    }
    text
}

fn comment(doc: &[&str]) -> String {
    doc.iter().map(|line| format!("#{line}\n")).collect()
}
