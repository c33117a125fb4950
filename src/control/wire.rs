//! What gateways say on `usher.control`: JSON, in which unknown keys mean nothing.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A question or a command to all gateways. One with an `op` that a gateway does not know has no
/// answer of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// Who of these is online?
    Presence {
        /// In the order to which the answer refers.
        users: Vec<Cow<'a, str>>,
    },
    /// End the sessions of a user.
    Disconnect {
        user: Cow<'a, str>,
        #[serde(default)]
        reconnect: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
    },
    /// Change what the sessions of a user follow.
    Topics {
        user: Cow<'a, str>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        follow: Vec<Cow<'a, str>>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unfollow: Vec<Cow<'a, str>>,
    },
}

/// What one gateway answers.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) gateway: String,
    /// To `presence`: the indices of users who are online there, each with their sessions. An
    /// index is shorter than an id, so an answer is some 10 KB at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) online: Vec<(usize, u32)>,
    /// To `disconnect`: the sessions that end there; to `topics`: those that were changed.
    #[serde(default)]
    pub(super) sessions: u32,
}

impl Request<'_> {
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Answer {
    pub(super) fn json(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gateways of different versions speak to each other.
    #[test]
    fn requests_are_as_the_contract_has_them() {
        let presence = Request::Presence {
            users: vec!["42".into(), "a\"b".into()],
        };
        assert_eq!(
            String::from_utf8_lossy(&presence.json()),
            r#"{"op":"presence","users":["42","a\"b"]}"#
        );
        let text = br#"{"op":"disconnect","user":"42","new":1}"#;
        let disconnect = Request::Disconnect {
            user: "42".into(),
            reconnect: false,
            reason: None,
        };
        assert_eq!(
            serde_json::from_slice::<Request<'_>>(text).ok(),
            Some(disconnect)
        );
        for unknown in ["", "{}", r#"{"op":"later","user":"42"}"#, "[]"] {
            assert!(
                serde_json::from_str::<Request<'_>>(unknown).is_err(),
                "{unknown}"
            );
        }
    }

    #[test]
    fn an_answer_reads_back() {
        let answer = Answer {
            gateway: "g".to_owned(),
            online: vec![(3, 2)],
            sessions: 0,
        };
        assert_eq!(Answer::parse(&answer.json()), Some(answer));
    }
}
