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

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            field,
            key,
            wanted,
            found,
            mend,
        } = self;
        write!(f, "{field} is {found} and should be {wanted}")?;
        if let Some(key) = key {
            write!(f, " ({key})")?;
        }
        f.write_str(match mend {
            Mend::Needed => "; Usher does not work without it",
            Mend::KeepsMore => "; it keeps less than is asked for",
            Mend::KeepsLess => {
                "; it keeps more than is asked for, `usher check --apply` mends that"
            }
            Mend::ByHand => "; JetStream does not change that, the stream has to be made anew",
        })
    }
}

/// A stream as it should be: what Usher asks of each field of its configuration.
pub(super) struct Shape(Vec<Field>);

struct Field {
    name: &'static str,
    key: Option<&'static str>,
    wanted: Value,
    rule: Rule,
}

/// Which values of a field will do, and what can be done about another one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Any: the stream was found by it.
    Any,
    /// This one alone.
    Equal(Mend),
    /// This one, or none. It is the value of a new stream, and creates nothing.
    Absent(Mend),
    /// This number; with a larger one the stream keeps more.
    Amount,
    /// The same, and one that is not positive is no limit.
    Limit,
    /// All of these subjects, and perhaps others.
    Subjects,
    /// From here to there, with the payload.
    Republish,
}

fn nanoseconds(duration: Duration) -> Value {
    u64::try_from(duration.as_nanos())
        .unwrap_or(u64::MAX)
        .into()
}

impl Field {
    /// What a difference means; none where there is none that matters.
    fn mend(&self, found: &Value) -> Option<Mend> {
        let wanted = &self.wanted;
        let (serves, mend) = match self.rule {
            Rule::Any => return None,
            Rule::Equal(mend) => (found == wanted, mend),
            Rule::Absent(mend) => (found.is_null() || found == wanted, mend),
            Rule::Subjects => (all_of(found, wanted) == *found, Mend::Needed),
            Rule::Republish => {
                let same = ["src", "dest"].iter().all(|end| wanted[end] == found[end]);
                (same && found["headers_only"] != true, Mend::Needed)
            }
            Rule::Amount | Rule::Limit => {
                let size = |value| match value {
                    ..=0 if self.rule == Rule::Limit => i64::MAX,
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

impl Shape {
    /// The stream that captures what is published.
    pub(super) fn of(config: &Config, subjects: &Subjects) -> Self {
        let [src, dest] = subjects.republished();
        let republish = json!({ "src": src, "dest": dest, "headers_only": false });
        let storage = if config.on_disk { "file" } else { "memory" };
        let age = config.max_age.map_or(0.into(), nanoseconds);
        // JetStream refuses a window longer than what is kept.
        let window = match config.max_age {
            Some(age) => config.duplicate_window.min(age),
            None => config.duplicate_window,
        };
        let per_channel = config.max_messages_per_channel;
        let field = |name, key, wanted, rule| Field {
            name,
            key,
            wanted,
            rule,
        };
        let (needed, by_hand) = (Rule::Equal(Mend::Needed), Rule::Equal(Mend::ByHand));
        let absent = Rule::Absent(Mend::ByHand);
        Self(vec![
            field("allow_direct", None, true.into(), needed),
            field("allow_msg_ttl", None, true.into(), needed),
            field("discard", None, "old".into(), Rule::Equal(Mend::KeepsLess)),
            field(
                "duplicate_window",
                Some("durable.duplicate_window"),
                nanoseconds(window),
                Rule::Amount,
            ),
            field("max_age", Some("durable.max_age"), age, Rule::Limit),
            field(
                "max_bytes",
                Some("durable.max_bytes"),
                config.max_bytes.into(),
                Rule::Limit,
            ),
            field("max_msg_size", None, (-1).into(), Rule::Limit),
            field("max_msgs", None, (-1).into(), Rule::Limit),
            field(
                "max_msgs_per_subject",
                Some("durable.max_messages_per_channel"),
                per_channel.into(),
                Rule::Limit,
            ),
            field("name", None, config.name.as_str().into(), Rule::Any),
            field(
                "num_replicas",
                Some("durable.replicas"),
                config.replicas.into(),
                Rule::Amount,
            ),
            field("republish", Some("nats.prefix"), republish, Rule::Republish),
            field("retention", None, "limits".into(), by_hand),
            field("storage", Some("durable.storage"), storage.into(), by_hand),
            field(
                "subjects",
                Some("nats.prefix"),
                json!(subjects.captured()),
                Rule::Subjects,
            ),
            field("mirror", None, Value::Null, absent),
            field("subject_transform", None, Value::Null, absent),
            field("no_ack", None, false.into(), Rule::Absent(Mend::Needed)),
            field("sealed", None, false.into(), absent),
        ])
    }

    /// What creates it.
    pub(super) fn creation(&self) -> Value {
        let given = |field: &&Field| !matches!(field.rule, Rule::Absent(_));
        let fields = self.0.iter().filter(given);
        fields
            .map(|field| (field.name, field.wanted.clone()))
            .collect()
    }

    /// What of an existing stream is not as it should be.
    pub(super) fn differences(&self, found: &Value) -> Vec<Difference> {
        let difference = |field: &Field| {
            let found = &found[field.name];
            Some(Difference {
                field: field.name,
                key: field.key,
                wanted: field.wanted.clone(),
                found: found.clone(),
                mend: field.mend(found)?,
            })
        };
        self.0.iter().filter_map(difference).collect()
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
fn covers(pattern: &Value, subject: &Value) -> bool {
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
        }
    }

    fn shape() -> Shape {
        Shape::of(&config(), &Subjects::new("usher"))
    }

    /// What JetStream gives back for what creates it.
    fn created() -> Value {
        let mut found = shape().creation();
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
            ("subjects", json!(["usher.user.*"]), Mend::Needed),
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
            json!(["orders", "usher.broadcast", "usher.user.*"])
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
