//! How many handshakes are under way at once: more while the gateway admits soon, fewer where
//! it refuses. So many wait for an answer at most; there is no rate.

use std::time::Duration;

/// An admission that takes no longer means that the gateway could do more.
const SOON: Duration = Duration::from_millis(250);
/// One that takes longer means that it has too much to do.
const LATE: Duration = Duration::from_secs(1);
/// How long nobody begins after a refusal.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Pace {
    window: f64,
    most: f64,
}

impl Pace {
    /// So many at most; at once or step by step.
    pub(super) fn new(most: usize, at_once: bool) -> Self {
        let most = most.max(1) as f64;
        let window = if at_once { most } else { 1.0 };
        Self { window, most }
    }

    /// How many may be under way.
    pub(super) fn window(&self) -> usize {
        self.window as usize
    }

    pub(super) fn admitted(&mut self, after: Duration) {
        if after <= SOON {
            // One more when all that are under way were admitted soon.
            self.window += 1.0 / self.window;
        } else if after > LATE {
            self.window -= 0.5;
        }
        self.window = self.window.clamp(1.0, self.most);
    }

    /// Refused, or not answered.
    pub(super) fn refused(&mut self) {
        self.window = (self.window / 2.0).max(1.0);
    }
}
