//! How soon one round follows another.

use std::time::Duration;

use tokio::time::Instant;

/// Between the beginnings of two rounds of one queue. Sessions that come meanwhile share the next
/// one, and so its questions to the leader. Who comes after a time without rounds waits for
/// nobody.
const GAP: Duration = Duration::from_millis(10);

/// The pace of one queue.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Option<Instant>,
}

impl Pace {
    /// When the next round may begin; `None` for now.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.filter(|next| *next > Instant::now())
    }

    /// A round begins.
    pub(super) fn begins(&mut self) {
        self.next = Some(Instant::now() + GAP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_round_waits_for_the_one_before_and_for_nothing_else() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(), None);
        pace.begins();
        assert_eq!(pace.next(), Some(Instant::now() + GAP));
        tokio::time::sleep(GAP).await;
        assert_eq!(pace.next(), None);
    }
}
