//! Frames that answer what a client said.

use super::control;

/// Why a client does not get what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A known command, of another shape than it has.
    BadRequest,
    /// No command that Usher knows.
    UnknownCommand,
}

impl Code {
    /// As the client reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownCommand => "unknown_command",
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

/// The same body, with what the command had as its `id`.
fn with_id(id: Option<&str>, mut body: serde_json::Value) -> serde_json::Value {
    if let Some(id) = id {
        body["id"] = id.into();
    }
    body
}
