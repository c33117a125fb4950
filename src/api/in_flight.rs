//! How much of all requests together may be under way.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::metrics::Metrics;

/// What is under way of all requests together.
#[derive(Debug)]
pub(super) struct InFlight {
    most: usize,
    bytes: AtomicUsize,
    /// Told when there is more room.
    freed: Notify,
    metrics: Arc<Metrics>,
}

/// What is under way of one call; dropping it gives all of it back.
#[derive(Debug)]
pub(super) struct Held {
    in_flight: Arc<InFlight>,
    bytes: AtomicUsize,
    /// Of the messages of a stream that were passed on and not taken yet.
    lengths: Mutex<VecDeque<usize>>,
}

impl InFlight {
    /// At most `most` bytes.
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most,
            bytes: AtomicUsize::new(0),
            freed: Notify::new(),
            metrics,
        })
    }

    /// Nothing yet, for a call that begins.
    pub(super) fn begin(self: &Arc<Self>) -> Arc<Held> {
        Arc::new(Held {
            in_flight: self.clone(),
            bytes: AtomicUsize::new(0),
            lengths: Mutex::default(),
        })
    }
}

impl Held {
    /// Takes room for `bytes` bytes. False if there is not enough.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let InFlight {
            most,
            bytes: all,
            metrics,
            ..
        } = &*self.in_flight;
        let more = |now: usize| now.checked_add(bytes).filter(|sum| sum <= most);
        let taken = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if taken.is_ok() {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            metrics.grpc_in_flight_bytes.add(gauge(bytes));
        }
        taken.is_ok()
    }

    /// Waits until there is room for `bytes` bytes, and takes it.
    pub(super) async fn take_later(self: Arc<Self>, bytes: usize) {
        loop {
            let mut freed = pin!(self.in_flight.freed.notified());
            // From here on nothing that is given back is missed.
            freed.as_mut().enable();
            if self.take(bytes) {
                return;
            }
            freed.await;
        }
    }

    /// A message of a stream is passed on to the stream's decoder.
    pub(super) fn passed(&self, bytes: usize) {
        self.lengths().push_back(bytes);
    }

    /// The length of the next message of a stream, which the decoder has given out.
    pub(super) fn next(&self) -> usize {
        self.lengths().pop_front().unwrap_or(0)
    }

    /// A message of a stream is answered.
    pub(super) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.in_flight.give_back(bytes);
    }

    fn lengths(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.grpc_in_flight_bytes.sub(gauge(bytes));
        self.freed.notify_waiters();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.in_flight.give_back(bytes);
    }
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_waits_for_room() {
        let in_flight = InFlight::new(10, Arc::new(Metrics::new()));
        let (one, other) = (in_flight.begin(), in_flight.begin());
        assert!(one.take(8));
        let mut waits = Box::pin(other.clone().take_later(5));
        assert!((&mut waits).now_or_never().is_none());
        one.give_back(3);
        waits.await;
        assert!(!one.take(1));
        // The messages of a stream are given back in their order.
        other.passed(2);
        other.passed(3);
        assert_eq!((other.next(), other.next(), other.next()), (2, 3, 0));
    }

    #[test]
    fn what_is_held_is_given_back() {
        let metrics = Arc::new(Metrics::new());
        let in_flight = InFlight::new(10, metrics.clone());
        let (one, other) = (in_flight.begin(), in_flight.begin());
        assert!(one.take(6) && !other.take(5) && other.take(4) && !one.take(1));
        assert!(!one.take(usize::MAX));
        drop(one);
        assert!(other.take(6) && !other.take(1));
        assert_eq!(metrics.grpc_in_flight_bytes.get(), 10);
        drop(other);
        assert_eq!(metrics.grpc_in_flight_bytes.get(), 0);
        assert_eq!(in_flight.bytes.load(Ordering::Relaxed), 0);
    }
}
