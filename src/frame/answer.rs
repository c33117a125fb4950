//! Frames that answer what a client said.

use super::{Proof, control};
use crate::channel::Topic;

/// Why a client does not get what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A known command, of another shape than it has.
    BadRequest,
    /// No command that Usher knows.
    UnknownCommand,
    /// Its ticket or token does not grant it.
    Forbidden,
    /// It would be one too many.
    TooMany,
    /// The answer is larger than a frame may be.
    TooLarge,
    /// A token that is not good.
    TokenInvalid,
    /// A ticket that opens nothing.
    TicketUnknown,
    /// A ticket for another origin.
    Origin,
    /// NATS, or what else it needs, is away.
    Unavailable,
}

impl Code {
    /// As the client reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownCommand => "unknown_command",
            Self::Forbidden => "forbidden",
            Self::TooMany => "too_many",
            Self::TooLarge => "too_large",
            Self::TokenInvalid => "token_invalid",
            Self::TicketUnknown => "ticket_unknown",
            Self::Origin => "origin",
            Self::Unavailable => "unavailable",
        }
    }
}

/// `{"error":{"id":"7","code":"…","message":"…"}}`
pub fn error(id: Option<&str>, code: &str, message: &str) -> String {
    control(
        "error",
        with_id(id, serde_json::json!({ "code": code, "message": message })),
    )
}

/// `{"following":{"topics":["news"],"seq":…,"at":…}}`: all that is followed now. A topic that was
/// not followed before owes nothing up to the proof.
pub fn following(id: Option<&str>, topics: &[Topic], proof: Option<Proof>) -> String {
    let topics: Vec<_> = topics.iter().map(Topic::as_str).collect();
    let mut body = serde_json::json!({ "topics": topics });
    if let Some(Proof { seq, at }) = proof {
        body["seq"] = seq.into();
        body["at"] = at.into();
    }
    control("following", with_id(id, body))
}

/// `{"reply":{"id":"7","data":…}}`: an answer's payload, by the rule for events.
pub fn reply(id: &str, payload: &[u8]) -> String {
    let mut out = Vec::with_capacity(payload.len() + id.len() + 48);
    out.extend_from_slice(b"{\"reply\":{\"id\":");
    serde_json::to_writer(&mut out, id).expect("a text is always JSON");
    super::data(payload, &mut out);
    out.extend_from_slice(b"}}");
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// `{"expiring":{"in":60}}`: the session ends in this many seconds unless a fresh token or
/// ticket comes.
pub fn expiring(seconds: u64) -> String {
    control("expiring", serde_json::json!({ "in": seconds }))
}

/// `{"refreshed":{"id":"7","in":3600}}`: the session now ends in this many seconds; without `in`
/// it has no end.
pub fn refreshed(id: Option<&str>, seconds: Option<u64>) -> String {
    let mut body = serde_json::json!({});
    if let Some(seconds) = seconds {
        body["in"] = seconds.into();
    }
    control("refreshed", with_id(id, body))
}

/// Adds the `id` of the command to a body, if it had one.
fn with_id(id: Option<&str>, mut body: serde_json::Value) -> serde_json::Value {
    if let Some(id) = id {
        body["id"] = id.into();
    }
    body
}
