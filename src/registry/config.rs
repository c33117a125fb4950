//! How the registry treats its sessions.

use std::time::Duration;

use crate::telemetry::Tracer;

/// How the registry treats its sessions.
#[derive(Debug, Clone)]
pub struct Config {
    /// This gateway's name, in receipts.
    pub gateway: String,
    /// Receipts go only to reply subjects that begin so.
    pub reply_prefix: String,
    /// Waited after a confirmation; `None` for what suits the server.
    pub settle: Option<Duration>,
    /// Sessions of one user; beyond it the oldest goes.
    pub max_sessions_per_user: usize,
    /// Unsent messages of one session.
    pub queue_messages: usize,
    /// Unsent bytes of one session.
    pub queue_bytes: usize,
    /// Memory of what is unsent, of all sessions.
    pub total_queue_bytes: usize,
    /// Sessions that have to end for one reason are closed across this.
    pub drain_window: Duration,
    /// Topics that one session follows at most.
    pub max_topics_per_session: usize,
    /// Topics that all sessions together follow at most.
    pub max_topics: usize,
    /// The largest frame that a session is sent.
    pub max_frame: usize,
    /// Records the way of messages.
    pub tracer: Tracer,
}
