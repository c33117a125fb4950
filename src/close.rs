//! Every way in which a session ends: one table.

use std::time::Duration;

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
    /// The user opened more than `public.max_sessions_per_user`.
    Replaced,
    /// A frame that `usher.v1` does not know.
    BadFrame,
}

/// A session's end as the session is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: CloseReason,
    /// When the client should come back, where that is for us to say.
    pub reconnect_after: Option<Duration>,
}

impl CloseReason {
    /// All of them, in the table's order.
    pub const ALL: [Self; 15] = [
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
        Self::Replaced,
        Self::BadFrame,
    ];

    /// The table: the WebSocket close code that we send (none where the client
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
            Replaced,
            BadFrame,
        ] {
            assert!(reason.code().is_some_and(stays_away), "{reason:?}");
        }
        for reason in [Internal, Drain, SlowConsumer, SessionExpired, Idle, BusLost] {
            assert!(!reason.code().is_some_and(stays_away), "{reason:?}");
        }
    }
}
