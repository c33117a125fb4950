//! The names under which a value may be given, and the one that was meant.

use strsim::damerau_levenshtein;

use super::table::{Key, keys};

/// A key as somebody writes it: by itself, or, for a secret, by a file.
#[derive(Clone, Copy)]
pub(super) struct Name {
    /// Whose value it gives.
    pub(super) key: &'static Key,
    /// Whether it names a file that holds the value.
    pub(super) file: bool,
}

/// A name of an earlier version.
pub(super) enum Former {
    /// It means the same key.
    Renamed(Name),
    /// It has no effect any more, for this reason.
    Ignored(&'static str),
}

/// What a name of an earlier version means now.
pub(super) fn former(dotted: &str) -> Option<Former> {
    let renamed = |path| Name::all().find(|name| !name.file && name.key.path == path);
    match dotted {
        "durable.max_messages_per_user" => {
            renamed("durable.max_messages_per_channel").map(Former::Renamed)
        }
        "durable.max_broadcasts" => Some(Former::Ignored(
            "durable.max_messages_per_channel holds for broadcasts too; remove it",
        )),
        _ => None,
    }
}

impl Name {
    /// All names there are.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        keys()
            .flat_map(|key| {
                let direct = Self { key, file: false };
                let by_file = Self { key, file: true };
                [Some(direct), key.secret.then_some(by_file)]
            })
            .flatten()
    }

    /// The name in the file and in messages, such as `nats.password_file`.
    pub(super) fn dotted(self) -> String {
        let suffix = if self.file { "_file" } else { "" };
        format!("{}{suffix}", self.key.path)
    }

    /// The name in the environment, such as `USHER_NATS__PASSWORD_FILE`.
    pub(super) fn variable(self) -> String {
        format!("USHER_{}", self.dotted().replace('.', "__").to_uppercase())
    }

    /// The name that is most like `dotted`. A name without a section may be meant for
    /// several.
    pub(super) fn nearest(dotted: &str) -> String {
        if dotted.contains('.') {
            return most_like(dotted).dotted();
        }
        let unlike = |name: &Self| damerau_levenshtein(last(&name.dotted()), dotted);
        let least = Self::all().map(|name| unlike(&name)).min();
        let mut names: Vec<_> = Self::all()
            .filter(|name| Some(unlike(name)) == least)
            .map(Self::dotted)
            .collect();
        let end = names.pop().unwrap_or_default();
        match names.is_empty() {
            true => end,
            false => format!("{} or {end}", names.join(", ")),
        }
    }

    /// The variable that is most like one that would be `dotted` in the file.
    pub(super) fn nearest_variable(dotted: &str) -> String {
        most_like(dotted).variable()
    }
}

fn most_like(dotted: &str) -> Name {
    Name::all()
        .min_by_key(|name| distance(&name.dotted(), dotted))
        .expect("the table of keys is not empty")
}

/// How unlike two names are. What stands behind the section counts twice: a known
/// key in the wrong section most likely belongs in another one.
fn distance(one: &str, other: &str) -> usize {
    damerau_levenshtein(one, other) + damerau_levenshtein(last(one), last(other))
}

fn last(dotted: &str) -> &str {
    dotted.rsplit_once('.').map_or(dotted, |(_, key)| key)
}
