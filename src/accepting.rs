//! Whether a listener can accept connections, as the log tells it.

use std::{
    io,
    time::{Duration, Instant},
};

/// Without a failure for this long a listener accepts again. A process at its limit of open
/// files fails and accepts by turns.
const STEADY: Duration = Duration::from_secs(1);

/// Tells the log when a listener begins to fail and when it is well again, once each.
#[derive(Debug)]
pub struct Accepting {
    /// What it accepts: `connections`.
    what: &'static str,
    /// The last failure since it began to fail.
    failed: Option<Instant>,
}

impl Accepting {
    /// A listener that has not failed.
    pub fn new(what: &'static str) -> Self {
        Self { what, failed: None }
    }

    /// A connection can't be accepted.
    pub fn fails(&mut self, error: &io::Error) {
        if self.failed.replace(Instant::now()).is_none() {
            tracing::warn!(
                %error,
                "{} cannot be accepted; trying on (said once, until it works again)", self.what
            );
        }
    }

    /// A connection is accepted.
    pub fn works(&mut self) {
        if self.failed.take_if(|at| at.elapsed() >= STEADY).is_some() {
            tracing::info!("{} are accepted again", self.what);
        }
    }
}
