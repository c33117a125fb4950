//! A connection on its way to a session or an answer: the permits that it holds, and its deadline.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The permits and the deadline of one connection, from its accept to the end of the admission (not
/// only of the TLS or WebSocket handshake). Clones share them.
#[derive(Clone)]
pub(super) struct Handshake(Arc<Inner>);

struct Inner {
    /// Its permits among the pending connections.
    held: Mutex<Vec<Box<dyn Any + Send>>>,
    /// The deadline; `None` while a join waits for the stream.
    until: watch::Sender<Option<Instant>>,
    /// `Bounds::handshake`: half of the time from the accept to the deadline, and the whole time
    /// after [`Handshake::waits`] or [`Handshake::begins_anew`].
    time: Duration,
}

/// A join waits to be caught up. Dropping it lets time count again.
pub(super) struct Waits<'a>(&'a Inner);

impl Handshake {
    /// A connection that was accepted at `begun`.
    pub(super) fn new(begun: Instant, time: Duration) -> Self {
        Self(Arc::new(Inner {
            held: Mutex::default(),
            until: watch::Sender::new(Some(begun + 2 * time)),
            time,
        }))
    }

    /// Has the connection hold this too.
    pub(super) fn hold(&self, permit: impl Any + Send) {
        self.held().push(Box::new(permit));
    }

    /// A join waits to be caught up: it holds nothing any more, and time does not count. Many
    /// that come back together would else keep newcomers out for as long as that takes.
    pub(super) fn waits(&self) -> Waits<'_> {
        self.held().clear();
        self.0.until.send_replace(None);
        Waits(&self.0)
    }

    /// From now on it has the time of a handshake again: its client is upgraded, and has yet
    /// to say who it is.
    pub(super) fn begins_anew(&self) {
        self.0
            .until
            .send_replace(Some(Instant::now() + self.0.time));
    }

    /// Returns when its time is over.
    pub(super) async fn over(&self) {
        let mut until = self.0.until.subscribe();
        loop {
            let now = *until.borrow_and_update();
            let over = async {
                match now {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => return,
                // The sender is part of this.
                _ = until.changed() => {}
            }
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Any + Send>>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let until = Instant::now() + self.0.time;
        self.0.until.send_replace(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    const TIME: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_join_that_waits_holds_nothing_and_has_all_time() {
        let handshake = Handshake::new(Instant::now(), TIME);
        let permit = Arc::new(());
        handshake.hold(permit.clone());
        assert_eq!(Arc::strong_count(&permit), 2);
        {
            let _waits = handshake.waits();
            assert_eq!(Arc::strong_count(&permit), 1);
            assert!(timeout(10 * TIME, handshake.over()).await.is_err());
        }
        let begun = Instant::now();
        handshake.over().await;
        assert_eq!(begun.elapsed(), TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_is_changed_while_it_is_waited_for_counts() {
        let handshake = Handshake::new(Instant::now(), TIME);
        let other = handshake.clone();
        tokio::spawn(async move {
            let _waits = other.waits();
            sleep(4 * TIME).await;
        });
        let begun = Instant::now();
        handshake.over().await;
        assert_eq!(begun.elapsed(), 5 * TIME);
    }
}
