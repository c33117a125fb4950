//! The limits of a channel that the stream had before. What a smaller limit has removed shows
//! nowhere once the limit is larger, so it is remembered: in the stream's own metadata where
//! Usher raises the limit, and in this process where somebody else does.

use serde_json::{Value, json};

/// Where the stream's metadata has it: `10@31,50@90`, each a limit and the last sequence that
/// was stored under it; `*` until that sequence is known.
const KEY: &str = "usher.limits";
/// What the metadata says where the sequence is not known yet.
const OPEN: &str = "*";
/// How many raised limits are kept. Of more, the oldest become one.
const MOST: usize = 8;

/// A limit that was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raised {
    /// The last sequence that was stored under it.
    pub(super) up_to: u64,
    /// Messages of one channel that it allowed.
    pub(super) limit: u64,
}

/// What a stream's configuration says of its limits before.
pub(super) fn of(config: &Value) -> Vec<Raised> {
    let text = config["metadata"][KEY].as_str().unwrap_or_default();
    let raised = text.split(',').filter_map(|one| {
        let (limit, up_to) = one.split_once('@')?;
        let up_to = match up_to {
            OPEN => u64::MAX,
            seq => seq.parse().ok()?,
        };
        let limit = limit.parse().ok()?;
        Some(Raised { up_to, limit })
    });
    raised.collect()
}

/// Notes in a configuration that the limit is about to be raised from what it was.
pub(super) fn note(config: &mut Value, before: &Value) {
    if let Some(limit) = before.as_u64() {
        let mut raised = of(config);
        let up_to = u64::MAX;
        add(&mut raised, Raised { up_to, limit });
        write(config, &raised);
    }
}

/// Whether the last sequence under a limit is still to be noted.
pub(super) fn is_open(config: &Value) -> bool {
    of(config).iter().any(|raised| raised.up_to == u64::MAX)
}

/// Notes it: the stream has been at the new limit, and holds these sequences.
pub(super) fn close(config: &mut Value, first: u64, last: u64) {
    let mut raised = Vec::new();
    for mut one in of(config) {
        one.up_to = one.up_to.min(last);
        // What is gone from the stream's beginning shows there.
        if one.up_to >= first {
            add(&mut raised, one);
        }
    }
    write(config, &raised);
}

/// Adds one that is not before the others.
pub(super) fn add(all: &mut Vec<Raised>, one: Raised) {
    // A larger limit that ended no later says nothing.
    all.retain(|other| other.up_to > one.up_to || other.limit < one.limit);
    all.push(one);
    if all.len() > MOST {
        let oldest = all.remove(0);
        all[0].limit = all[0].limit.min(oldest.limit);
        all[0].up_to = all[0].up_to.max(oldest.up_to);
    }
}

fn write(config: &mut Value, raised: &[Raised]) {
    let one = |Raised { up_to, limit }: &Raised| match up_to {
        &u64::MAX => format!("{limit}@{OPEN}"),
        up_to => format!("{limit}@{up_to}"),
    };
    let text: Vec<_> = raised.iter().map(one).collect();
    if !config["metadata"].is_object() {
        config["metadata"] = json!({});
    }
    config["metadata"][KEY] = text.join(",").into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_noted_before_it_is_raised_and_closed_after() {
        let mut config = json!({"metadata": {"a": "b"}});
        assert!(!is_open(&config));
        note(&mut config, &json!(10));
        assert!(is_open(&config));
        assert_eq!(config["metadata"], json!({"a": "b", KEY: "10@*"}));
        close(&mut config, 1, 31);
        assert_eq!(config["metadata"][KEY], "10@31");
        note(&mut config, &json!(50));
        close(&mut config, 20, 90);
        assert_eq!(config["metadata"][KEY], "10@31,50@90");
        // A smaller one that ended later says all that is to be said.
        note(&mut config, &json!(5));
        close(&mut config, 20, 95);
        assert_eq!(config["metadata"][KEY], "5@95");
        close(&mut config, 96, 100);
        assert_eq!(config["metadata"][KEY], "");
        assert_eq!(of(&json!({"metadata": {KEY: "x,1@,@2,3@4"}})).len(), 1);
    }

    #[test]
    fn no_more_are_kept_than_need_be() {
        let mut all = Vec::new();
        for step in 1..=20 {
            let (up_to, limit) = (step * 10, step);
            add(&mut all, Raised { up_to, limit });
        }
        assert_eq!(all.len(), MOST);
        let least = all.iter().filter(|one| one.up_to > 5).map(|one| one.limit);
        assert_eq!(least.min(), Some(1), "of what was merged the smallest");
    }
}
