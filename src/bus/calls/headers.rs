//! What a service is told about a call, in the headers of the request.

use std::time::{SystemTime, UNIX_EPOCH};

use ulid::Ulid;

use crate::{trace::TRACEPARENT, user::UserId};

/// Who asks, and until when an answer is of use. Nothing here is the client's to choose: its
/// user id comes from its ticket or token.
pub(super) struct Asked<'a> {
    pub(super) user: &'a UserId,
    /// As in the session's `welcome`.
    pub(super) session: Ulid,
    pub(super) gateway: &'a str,
    pub(super) deadline: SystemTime,
    /// The `traceparent`, where the call is recorded.
    pub(super) trace: Option<String>,
}

impl Asked<'_> {
    /// As NATS gets it. A user id has no control characters, so it fits into one line; it is
    /// UTF-8, which NATS passes on byte for byte.
    pub(super) fn headers(self) -> Vec<(&'static str, String)> {
        let deadline = self.deadline.duration_since(UNIX_EPOCH);
        let deadline = deadline.unwrap_or_default().as_millis();
        let mut headers = vec![
            ("Usher-User", self.user.as_str().to_owned()),
            ("Usher-Session", self.session.to_string()),
            ("Usher-Gateway", self.gateway.to_owned()),
            ("Usher-Deadline", deadline.to_string()),
        ];
        headers.extend(self.trace.map(|trace| (TRACEPARENT, trace)));
        headers
    }
}
