//! What a stream must be, what it is, and what the difference means.
//!
//! A stream's configuration is kept as the JSON that JetStream gives and takes, so that
//! what this version does not know is kept as it is.

use std::time::Duration;

use serde_json::{Value, json};

use super::Config;
use crate::bus::Subjects;

/// Something about a stream that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// JetStream's name for it.
    pub field: &'static str,
    /// Our key for it, where there is one.
    pub key: Option<&'static str>,
    /// What it should be.
    pub wanted: Value,
    /// What it is.
    pub found: Value,
    /// What can be done.
    pub mend: Mend,
}

/// What can be done about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// Usher does not work without it.
    Needed,
    /// The stream would keep more.
    KeepsMore,
    /// The stream would keep less, so somebody has to want it.
    KeepsLess,
    /// JetStream does not change it: the stream has to be made anew.
    ByHand,
}

impl Difference {
    /// Whether mending it lets a channel have more messages.
    pub(super) fn raises_limit(&self) -> bool {
        self.key == Some(PER_CHANNEL) && self.mend == Mend::KeepsMore
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            field,
            key,
            wanted,
            found,
            mend,
        } = self;
        let shown = |value: &Value| match (*field, value.as_u64()) {
            ("max_age" | "duplicate_window", Some(time)) => {
                format!("{:?}", Duration::from_nanos(time))
            }
            _ => value.to_string(),
        };
        write!(
            f,
            "{field} is {} and should be {}",
            shown(found),
            shown(wanted)
        )?;
        if let Some(key) = key {
            write!(f, " ({key})")?;
        }
        f.write_str(match mend {
            Mend::Needed => "; Usher does not work without it",
            Mend::KeepsMore if *field == "num_replicas" => {
                "; it keeps less than is asked for, `usher check --apply` mends that where NATS has \
                 so many servers"
            }
            Mend::KeepsMore => {
                "; it keeps less than is asked for, `usher check --apply` mends that"
            }
            Mend::KeepsLess => {
                "; it keeps more than is asked for, `usher check --apply` mends that"
            }
            Mend::ByHand => "; JetStream does not change that, the stream has to be made anew",
        })
    }
}

/// Which values of a field will do, and what can be done about another one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The value that is asked for.
    Equal(Mend),
    /// The value that is asked for, or no value.
    Absent(Mend),
    /// The number that is asked for; with a larger one the stream keeps more.
    Amount,
    /// A number as in `Amount`. One that is not positive is no limit.
    Limit,
    /// All subjects that are asked for, and perhaps others.
    Subjects,
    /// From and to where it is asked for, with the payload.
    Republish,
}

/// JetStream's name of each field that matters, ours (empty where we have none), and what it
/// has to be.
const FIELDS: [(&str, &str, Rule); 18] = [
    ("allow_direct", "", Rule::Equal(Mend::Needed)),
    ("allow_msg_ttl", "", Rule::Equal(Mend::Needed)),
    ("discard", "", Rule::Equal(Mend::KeepsLess)),
    ("duplicate_window", "durable.duplicate_window", Rule::Amount),
    ("max_age", "durable.max_age", Rule::Limit),
    ("max_bytes", "durable.max_bytes", Rule::Limit),
    ("max_msg_size", "", Rule::Limit),
    ("max_msgs", "", Rule::Limit),
    ("max_msgs_per_subject", PER_CHANNEL, Rule::Limit),
    ("num_replicas", "durable.replicas", Rule::Amount),
    ("republish", "nats.prefix", Rule::Republish),
    ("retention", "", Rule::Equal(Mend::ByHand)),
    ("storage", "durable.storage", Rule::Equal(Mend::ByHand)),
    ("subjects", "nats.prefix", Rule::Subjects),
    ("mirror", "", Rule::Absent(Mend::ByHand)),
    ("subject_transform", "", Rule::Absent(Mend::ByHand)),
    ("no_ack", "", Rule::Absent(Mend::Needed)),
    ("sealed", "", Rule::Absent(Mend::ByHand)),
];
const PER_CHANNEL: &str = "durable.max_messages_per_channel";

impl Rule {
    /// What a difference means; `None` if there is none that matters.
    fn mend(self, wanted: &Value, found: &Value) -> Option<Mend> {
        let (serves, mend) = match self {
            Self::Equal(mend) => (found == wanted, mend),
            Self::Absent(mend) => (found.is_null() || found == wanted, mend),
            Self::Subjects => (all_of(found, wanted) == *found, Mend::Needed),
            Self::Republish => {
                let same = ["src", "dest"].iter().all(|end| wanted[end] == found[end]);
                (same && found["headers_only"] != true, Mend::Needed)
            }
            Self::Amount | Self::Limit => {
                let size = |value| match value {
                    ..=0 if self == Self::Limit => i64::MAX,
                    value => value,
                };
                let wanted = size(wanted.as_i64()?);
                let found = size(found.as_i64().unwrap_or(0));
                let more = wanted > found;
                let mend = if more {
                    Mend::KeepsMore
                } else {
                    Mend::KeepsLess
                };
                (wanted == found, mend)
            }
        };
        (!serves).then_some(mend)
    }
}

/// A stream as it should be.
pub(super) struct Shape {
    wanted: Value,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Shape {
    /// The stream that captures what is published.
    pub(super) fn of(config: &Config, subjects: &Subjects) -> Self {
        let [src, dest] = subjects.republished();
        // JetStream refuses a window longer than what is kept.
        let window = match config.max_age {
            Some(age) => config.duplicate_window.min(age),
            None => config.duplicate_window,
        };
        let wanted = json!({
            "name": config.name,
            "subjects": subjects.captured(),
            "republish": { "src": src, "dest": dest, "headers_only": false },
            "max_msgs_per_subject": config.max_messages_per_channel,
            "max_msgs": -1,
            "duplicate_window": nanoseconds(window),
            "retention": "limits",
            "discard": "old",
            "storage": if config.on_disk { "file" } else { "memory" },
            "num_replicas": config.replicas,
            "max_age": config.max_age.map_or(0, nanoseconds),
            "max_bytes": config.max_bytes,
            "max_msg_size": -1,
            "allow_direct": true,
            "allow_msg_ttl": true,
            "no_ack": false,
            "sealed": false,
        });
        Self { wanted }
    }

    /// What creates it.
    pub(super) fn creation(&self) -> &Value {
        &self.wanted
    }

    /// What of an existing stream is not as it should be.
    pub(super) fn differences(&self, found: &Value) -> Vec<Difference> {
        let difference = |(field, key, rule): (&'static str, &'static str, Rule)| {
            let (wanted, found) = (&self.wanted[field], &found[field]);
            Some(Difference {
                field,
                key: Some(key).filter(|key| !key.is_empty()),
                wanted: wanted.clone(),
                found: found.clone(),
                mend: rule.mend(wanted, found)?,
            })
        };
        FIELDS.into_iter().filter_map(difference).collect()
    }

    /// The existing configuration with these differences mended, and all else kept.
    pub(super) fn mended(&self, found: &Value, differences: &[Difference]) -> Value {
        let mut mended = found.clone();
        for difference in differences {
            let mut value = difference.wanted.clone();
            if difference.field == "subjects" {
                value = all_of(&difference.found, &difference.wanted);
            }
            mended[difference.field] = value;
        }
        // JetStream refuses a window longer than what is kept.
        let (age, window) = (&mended["max_age"], &mended["duplicate_window"]);
        if let (Some(age @ 1..), Some(window)) = (age.as_u64(), window.as_u64())
            && window > age
        {
            mended["duplicate_window"] = age.into();
        }
        mended
    }
}

/// Both lists' subjects, each once.
fn all_of(found: &Value, wanted: &Value) -> Value {
    let mut all: Vec<Value> = found.as_array().cloned().unwrap_or_default();
    for subject in wanted.as_array().into_iter().flatten() {
        if !all.iter().any(|pattern| covers(pattern, subject)) {
            all.push(subject.clone());
        }
    }
    all.into()
}

/// Whether all that one subject stands for is part of what another one does.
pub(super) fn covers(pattern: &Value, subject: &Value) -> bool {
    let (Some(pattern), Some(subject)) = (pattern.as_str(), subject.as_str()) else {
        return false;
    };
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            name: "USHER".to_owned(),
            manage: true,
            max_age: Some(Duration::from_secs(60)),
            max_messages_per_channel: 10,
            max_bytes: 1 << 20,
            replicas: 1,
            on_disk: true,
            duplicate_window: Duration::from_secs(120),
            replay_bytes: 96 << 20,
            offline_events: false,
        }
    }

    fn shape() -> Shape {
        Shape::of(&config(), &Subjects::new("usher"))
    }

    /// What JetStream gives back for what creates it.
    fn created() -> Value {
        let mut found = shape().creation().clone();
        found["max_consumers"] = (-1).into();
        found["republish"] = json!({ "src": "usher.>", "dest": "usher.live.>" });
        found["sealed"] = false.into();
        found["a_field_of_the_future"] = 7.into();
        found
    }

    fn mends(found: &Value) -> Vec<(&'static str, Mend)> {
        let differences = shape().differences(found);
        differences
            .into_iter()
            .map(|difference| (difference.field, difference.mend))
            .collect()
    }

    #[test]
    fn what_it_creates_is_as_it_should_be() {
        assert_eq!(shape().differences(&created()), []);
        assert_eq!(
            created()["duplicate_window"],
            60_000_000_000_u64,
            "never longer than what is kept"
        );
    }

    #[test]
    fn a_difference_says_what_mending_it_means() {
        for (field, value, mend) in [
            (
                "subjects",
                json!(["usher.user.*", "usher.topic.*"]),
                Mend::Needed,
            ),
            ("republish", Value::Null, Mend::Needed),
            ("allow_direct", false.into(), Mend::Needed),
            ("max_age", 1_000_000_000.into(), Mend::KeepsMore),
            ("max_age", 0.into(), Mend::KeepsLess),
            ("max_msgs_per_subject", 9.into(), Mend::KeepsMore),
            ("max_msgs_per_subject", (-1).into(), Mend::KeepsLess),
            ("max_bytes", 5.into(), Mend::KeepsMore),
            ("storage", "memory".into(), Mend::ByHand),
            ("retention", "interest".into(), Mend::ByHand),
            ("sealed", true.into(), Mend::ByHand),
        ] {
            let mut found = created();
            found[field] = value;
            assert_eq!(mends(&found), [(field, mend)]);
        }
    }

    #[test]
    fn mending_keeps_what_it_does_not_know() {
        let mut found = created();
        found["subjects"] = json!(["orders", "usher.broadcast"]);
        found["max_msgs_per_subject"] = 5.into();
        let mended = shape().mended(&found, &shape().differences(&found));
        assert_eq!(
            mended["subjects"],
            json!(["orders", "usher.broadcast", "usher.user.*", "usher.topic.*"])
        );
        assert_eq!(mended["max_msgs_per_subject"], 10);
        assert_eq!(mended["a_field_of_the_future"], 7);
    }

    #[test]
    fn a_subject_may_be_covered_by_a_wider_one() {
        for (pattern, subject, covered) in [
            ("usher.user.*", "usher.user.*", true),
            ("usher.user.>", "usher.user.*", true),
            ("usher.*.*", "usher.user.*", true),
            ("usher.>", "usher.broadcast", true),
            ("usher.user.*", "usher.user.>", false),
            ("usher.user", "usher.user.*", false),
            ("usher.user.42", "usher.user.*", false),
            ("usher.user.*.*", "usher.user.*", false),
        ] {
            let (pattern, subject) = (pattern.into(), subject.into());
            assert_eq!(covers(&pattern, &subject), covered, "{pattern} {subject}");
        }
    }
}
