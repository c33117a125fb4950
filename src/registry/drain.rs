//! The end of all sessions, when the gateway ends.

use std::time::Duration;

use super::Registry;
use crate::{
    close::{CloseReason, Ending},
    jitter::{self, spread},
};

/// A client that has to come back gets a hint of up to this.
const RECONNECT_HINT: Duration = Duration::from_secs(5);

impl Registry {
    /// Ends all sessions, evenly across `window`, each with its own hint of
    /// when to reconnect. The hints grow, so that the clients come back evenly too:
    /// across `window` and the longest hint.
    pub async fn drain(&self, window: Duration) {
        let mut all = Vec::new();
        self.each(|session| all.push(session.clone()));
        spread(all, window, |session, from, to| {
            session.backlog().end(drained(from, to));
        })
        .await;
        self.end_all();
    }

    /// Ends whoever is left: those that were on their way in when a drain began.
    pub fn end_all(&self) {
        self.each(|session| session.backlog().end(drained(0.0, 1.0)));
    }
}

/// With a hint between these fractions of the longest.
fn drained(from: f64, to: f64) -> Ending {
    Ending {
        reason: CloseReason::Drain,
        reconnect_after: Some(jitter::fraction_of(RECONNECT_HINT, from, to)),
        message: None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Goodbyes and returns of a drain, each as how many there were in each second.
    #[tokio::test(start_paused = true)]
    async fn a_drain_is_even_in_both_directions() {
        let (start, mut seconds) = (Instant::now(), [[0; 25]; 2]);
        let ends = std::cell::RefCell::new(Vec::new());
        spread(vec![(); 1000], Duration::from_secs(20), |(), from, to| {
            let hint = drained(from, to).reconnect_after.expect("a hint");
            ends.borrow_mut().push((start.elapsed(), hint));
        })
        .await;
        for (at, hint) in ends.into_inner() {
            seconds[0][at.as_secs() as usize] += 1;
            seconds[1][(at + hint).as_secs() as usize] += 1;
        }
        let [gone, back] = seconds;
        let even = |seconds: &[i32], mean: i32| seconds.iter().all(|n| (n - mean).abs() <= 2);
        assert!(even(&gone[..20], 50), "{gone:?}");
        assert!(even(&back, 40), "{back:?}");
    }
}
