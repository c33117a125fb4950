//! Who may call, judged by the head of a call: who may not is answered before anything
//! of the message is read.

use http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq as _;

use crate::secret::{Secret, Secrets};

/// Load balancers and Kubernetes ask for the health, and have no token.
const OPEN: &str = "/grpc.health.v1.Health/";
const OURS: &str = "/usher.v1.Notification/";

/// The tokens that let a call in.
#[derive(Debug, Clone)]
pub(super) struct Guard(Secrets);

impl Guard {
    /// Without tokens anyone may call.
    pub(super) fn new(tokens: Secrets) -> Self {
        Self(tokens)
    }

    /// Whether these headers bear a token.
    pub(super) fn knows(&self, headers: &HeaderMap) -> bool {
        let tokens = self.0.get();
        if tokens.is_empty() {
            return true;
        }
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim());
        let is = |token: &Secret| bool::from(token.expose().as_bytes().ct_eq(bearer.as_bytes()));
        // All of them are compared, so that the time tells nothing of the tokens.
        tokens.iter().filter(|token| is(token)).count() > 0
    }
}

/// Whether anyone may call this.
pub(super) fn is_open(path: &str) -> bool {
    path.starts_with(OPEN)
}

/// Whether a method of the push API publishes.
pub(super) fn publishes(method: &str) -> bool {
    [
        "PushNotification",
        "PushStream",
        "Broadcast",
        "PublishTopic",
    ]
    .contains(&method)
}

/// Whether a method of the push API takes a stream of messages.
pub(super) fn streams(method: &str) -> bool {
    method == "PushStream"
}

/// The method of the push API that a path names, as metrics have it.
pub(super) fn method(path: &str) -> Option<&'static str> {
    match path.strip_prefix(OURS)? {
        "PushNotification" => Some("PushNotification"),
        "PushStream" => Some("PushStream"),
        "Broadcast" => Some("Broadcast"),
        "PublishTopic" => Some("PublishTopic"),
        "IssueTicket" => Some("IssueTicket"),
        "GetPresence" => Some("GetPresence"),
        "Disconnect" => Some("Disconnect"),
        "UpdateTopics" => Some("UpdateTopics"),
        _ => None,
    }
}
