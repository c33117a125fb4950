//! Every way in which a session ends: one table.

use std::{fmt, sync::Arc, time::Duration};

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said goodbye (1000, 1001, or whatever it chose).
    ClientLeft,
    /// The connection broke without a goodbye.
    ConnectionLost,
    /// The client broke RFC 6455.
    ProtocolError,
    /// The client sent text that is not UTF-8.
    BadUtf8,
    /// More frames a second than `session.frames_per_second`.
    TooManyFrames,
    /// A message larger than `session.max_frame`.
    FrameTooBig,
    /// A fault of ours.
    Internal,
    /// This gateway is going away; others are there.
    Drain,
    /// The client reads more slowly than it is sent to.
    SlowConsumer,
    /// `session.max_lifetime`, or the ticket's `expires_at`.
    SessionExpired,
    /// Nothing heard for `session.idle_timeout`, not even a pong.
    Idle,
    /// Messages may have been missed, and the protocol has no way to say so.
    BusLost,
    /// A message is larger than `session.max_outgoing_frame`, and the protocol has no way to
    /// say so.
    TooLarge,
    /// A service asks for a new session, with fresh grants.
    Reconnect,
    /// A service ends the session.
    Disconnected,
    /// The user opened more than `public.max_sessions_per_user`.
    Replaced,
    /// The client sent what its protocol does not allow (a message that is not one JSON object,
    /// a wrong Centrifuge command), or a fresh ticket or token of another user.
    BadFrame,
}

/// A session's end as the session is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: CloseReason,
    /// When the client should come back, where that is for us to say.
    pub reconnect_after: Option<Duration>,
    /// What a service says besides, for the client.
    pub message: Option<CloseMessage>,
}

/// What a service says to the clients whose sessions it ends: 1–64 bytes of any text. Clones
/// share it.
#[derive(Clone, PartialEq, Eq)]
pub struct CloseMessage(Arc<str>);

/// A text is too long; carries its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has {0} bytes; it has at most 64 bytes")]
pub struct CloseMessageError(usize);

impl CloseMessage {
    /// The longest, in bytes.
    const MAX: usize = 64;

    /// Reads a text; `None` if it is empty.
    ///
    /// # Errors
    ///
    /// [`CloseMessageError`]
    pub fn parse(text: &str) -> Result<Option<Self>, CloseMessageError> {
        match text.len() {
            0 => Ok(None),
            length if length > Self::MAX => Err(CloseMessageError(length)),
            _ => Ok(Some(Self(text.into()))),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CloseMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl CloseReason {
    /// All of them, in the table's order.
    pub const ALL: [Self; 17] = [
        Self::ClientLeft,
        Self::ConnectionLost,
        Self::ProtocolError,
        Self::BadUtf8,
        Self::TooManyFrames,
        Self::FrameTooBig,
        Self::Internal,
        Self::Drain,
        Self::SlowConsumer,
        Self::SessionExpired,
        Self::Idle,
        Self::BusLost,
        Self::TooLarge,
        Self::Reconnect,
        Self::Disconnected,
        Self::Replaced,
        Self::BadFrame,
    ];

    /// The table: the WebSocket close code that we send (`None` if the client
    /// is already gone), the close reason, which is also the metric's label,
    /// and whether a `goodbye` frame comes first.
    const fn row(self) -> (Option<u16>, &'static str, bool) {
        match self {
            Self::ClientLeft => (None, "client_left", false),
            Self::ConnectionLost => (None, "connection_lost", false),
            Self::ProtocolError => (Some(1002), "protocol_error", false),
            Self::BadUtf8 => (Some(1007), "bad_utf8", false),
            Self::TooManyFrames => (Some(1008), "too_many_frames", false),
            Self::FrameTooBig => (Some(1009), "frame_too_big", false),
            Self::Internal => (Some(1011), "internal", false),
            Self::Drain => (Some(1012), "drain", true),
            Self::SlowConsumer => (Some(4000), "slow_consumer", false),
            Self::SessionExpired => (Some(4001), "session_expired", true),
            Self::Idle => (Some(4002), "idle", false),
            Self::BusLost => (Some(4003), "bus_lost", false),
            Self::TooLarge => (Some(4003), "too_large", false),
            Self::Reconnect => (Some(4004), "reconnect", true),
            Self::Disconnected => (Some(4100), "disconnected", true),
            Self::Replaced => (Some(4101), "replaced", true),
            Self::BadFrame => (Some(4102), "bad_frame", false),
        }
    }

    /// The close code that the client gets, if it is still there to get one.
    pub const fn code(self) -> Option<u16> {
        self.row().0
    }

    /// One word for it: the close frame's reason and the metric's label.
    pub const fn name(self) -> &'static str {
        self.row().1
    }

    /// The close code over the Centrifuge client protocol, whose clients come back on 3000–3499 and
    /// stay away on 3500–3999.
    pub const fn centrifuge_code(self) -> Option<u16> {
        match self {
            Self::ClientLeft | Self::ConnectionLost => None,
            Self::Drain => Some(3001),
            Self::Internal => Some(3004),
            Self::SessionExpired => Some(3005),
            Self::SlowConsumer => Some(3008),
            Self::BusLost | Self::TooLarge => Some(3010),
            Self::Idle => Some(3012),
            Self::Reconnect => Some(3014),
            Self::ProtocolError
            | Self::BadUtf8
            | Self::TooManyFrames
            | Self::FrameTooBig
            | Self::BadFrame => Some(3501),
            Self::Disconnected => Some(3503),
            Self::Replaced => Some(3504),
        }
    }

    /// Whether a service ends the session.
    pub const fn is_of_a_service(self) -> bool {
        matches!(self, Self::Reconnect | Self::Disconnected)
    }

    /// Whether `usher.v1` sends a `goodbye` frame before the close.
    pub const fn says_goodbye(self) -> bool {
        self.row().2
    }
}

impl From<CloseReason> for Ending {
    fn from(reason: CloseReason) -> Self {
        Self {
            reason,
            reconnect_after: None,
            message: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_metric_labels_and_fit_a_close_frame() {
        for reason in CloseReason::ALL {
            let name = reason.name();
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b"_8".contains(&b)),
                "{name}"
            );
            assert!(name.len() <= 100);
        }
    }

    /// The rule that clients follow: 4100–4199 and these say 'stay away'.
    #[test]
    fn the_code_tells_whether_to_reconnect() {
        use CloseReason::*;
        let stays_away = |code: u16| {
            (4100..=4199).contains(&code) || [1000, 1002, 1005, 1007, 1008, 1009].contains(&code)
        };
        for reason in [
            ProtocolError,
            BadUtf8,
            TooManyFrames,
            FrameTooBig,
            Disconnected,
            Replaced,
            BadFrame,
        ] {
            assert!(reason.code().is_some_and(stays_away), "{reason:?}");
        }
        for reason in CloseReason::ALL {
            let centrifuge = reason.centrifuge_code();
            let away = centrifuge.is_some_and(|code| (3500..4000).contains(&code));
            assert_eq!(reason.code().is_some_and(stays_away), away, "{reason:?}");
        }
        for reason in [
            Internal,
            Drain,
            SlowConsumer,
            SessionExpired,
            Idle,
            BusLost,
            Reconnect,
        ] {
            assert!(!reason.code().is_some_and(stays_away), "{reason:?}");
        }
    }

    #[test]
    fn a_message_has_at_most_64_bytes() {
        assert_eq!(CloseMessage::parse(""), Ok(None));
        let longest = "ü".repeat(32);
        let message = CloseMessage::parse(&longest).expect("64 bytes");
        assert_eq!(message.as_ref().map(CloseMessage::as_str), Some(&*longest));
        let error = CloseMessage::parse(&"x".repeat(65)).expect_err("65 bytes");
        assert_eq!(error.to_string(), "has 65 bytes; it has at most 64 bytes");
    }
}
