//! Confirmations of live pushes. async-nats tells nobody of a PONG, so the gateway publishes
//! to itself: when an echo comes back, NATS has processed all that was published before it
//! on the connection. One echo confirms all pushes that wait for it.

use std::collections::HashMap;

/// Echoes under way at the same time. Further pushes share the next ones.
const MAX_ECHOES: usize = 4;

/// Echoes under way, and the pushes that each confirms.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    next: u64,
    under_way: HashMap<u64, Vec<u64>>,
    /// Pushes for the next echo.
    waiting: Vec<u64>,
}

impl Echoes {
    /// A push was published and waits for its confirmation. Returns the echo to publish, if
    /// one is needed.
    pub(super) fn join(&mut self, push: u64) -> Option<u64> {
        self.waiting.push(push);
        self.begin()
    }

    /// An echo has come back. Returns the pushes that it confirms, and the echo to publish
    /// next; `None` for an echo that is not under way.
    pub(super) fn returned(&mut self, echo: u64) -> Option<(Vec<u64>, Option<u64>)> {
        let confirmed = self.under_way.remove(&echo)?;
        Some((confirmed, self.begin()))
    }

    /// No echo comes back. Returns the pushes that wait for one.
    pub(super) fn lost(&mut self) -> Vec<u64> {
        let sent = self.under_way.drain().flat_map(|(_, pushes)| pushes);
        sent.chain(self.waiting.drain(..)).collect()
    }

    /// An echo for all pushes that wait.
    fn begin(&mut self) -> Option<u64> {
        if self.waiting.is_empty() || self.under_way.len() >= MAX_ECHOES {
            return None;
        }
        self.next += 1;
        let pushes = std::mem::take(&mut self.waiting);
        self.under_way.insert(self.next, pushes);
        Some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_confirms_what_waited_when_it_was_sent() {
        let mut echoes = Echoes::default();
        let sent: Vec<_> = (0..6).map(|push| echoes.join(push)).collect();
        assert_eq!(sent, [Some(1), Some(2), Some(3), Some(4), None, None]);
        assert_eq!(echoes.returned(2), Some((vec![1], Some(5))));
        assert_eq!(echoes.returned(2), None, "it comes back once");
        assert_eq!(echoes.returned(5), Some((vec![4, 5], None)));
        let mut lost = echoes.lost();
        lost.sort_unstable();
        assert_eq!(lost, [0, 2, 3]);
        assert_eq!(echoes.returned(1), None);
        assert_eq!(echoes.join(7), Some(6));
    }
}
