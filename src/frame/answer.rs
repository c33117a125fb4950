//! Frames that answer what a client said.

use super::control;

/// Why a client does not get what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A known command, of another shape than it has.
    BadRequest,
    /// No command that Usher knows.
    UnknownCommand,
    /// A token that is not good.
    TokenInvalid,
    /// A ticket that opens nothing.
    TicketUnknown,
    /// A ticket for another origin.
    Origin,
    /// A server is away.
    Unavailable,
    /// More than the client may ask for.
    TooMany,
}

impl Code {
    /// As the client reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownCommand => "unknown_command",
            Self::TokenInvalid => "token_invalid",
            Self::TicketUnknown => "ticket_unknown",
            Self::Origin => "origin",
            Self::Unavailable => "unavailable",
            Self::TooMany => "too_many",
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

/// `{"expiring":{"in":60}}`: the session ends in so many seconds unless a fresh token or
/// ticket comes.
pub fn expiring(seconds: u64) -> String {
    control("expiring", serde_json::json!({ "in": seconds }))
}

/// `{"refreshed":{"id":"7","in":3600}}`: the session now ends in so many seconds; without `in`
/// it has no end.
pub fn refreshed(id: Option<&str>, seconds: Option<u64>) -> String {
    let mut body = serde_json::json!({});
    if let Some(seconds) = seconds {
        body["in"] = seconds.into();
    }
    control("refreshed", with_id(id, body))
}

/// `{"following":{"id":"7","topics":["news"]}}`: all that is followed now.
pub fn following(id: Option<&str>, topics: &[&str]) -> String {
    control(
        "following",
        with_id(id, serde_json::json!({ "topics": topics })),
    )
}

/// The same body, with what the command had as its `id`.
fn with_id(id: Option<&str>, mut body: serde_json::Value) -> serde_json::Value {
    if let Some(id) = id {
        body["id"] = id.into();
    }
    body
}
