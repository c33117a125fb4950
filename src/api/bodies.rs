//! The bodies of requests: how large one message may be, how much of all may be under
//! way, and how long a message may take to arrive.
//!
//! gRPC puts five bytes before each message, the last four of which are its length. So a
//! message that is too large is refused before it is read, and one that is not is counted
//! by its length: the decoder reserves that much memory at once.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use crate::metrics::Metrics;

/// From the beginning of a message to its end.
const ARRIVAL: Duration = Duration::from_secs(10);
const PREFIX: usize = 5;

/// What is under way of all requests together.
#[derive(Debug)]
pub(super) struct InFlight {
    most: usize,
    bytes: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// What is under way of one call; dropping it gives all of it back.
#[derive(Debug)]
pub(super) struct Held {
    in_flight: Arc<InFlight>,
    bytes: AtomicUsize,
}

impl InFlight {
    /// So many bytes at most.
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most,
            bytes: AtomicUsize::new(0),
            metrics,
        })
    }

    /// Nothing yet, for a call that begins.
    pub(super) fn begin(self: &Arc<Self>) -> Arc<Held> {
        Arc::new(Held {
            in_flight: self.clone(),
            bytes: AtomicUsize::new(0),
        })
    }
}

impl Held {
    /// Takes so many bytes, if there is room for them.
    fn take(&self, bytes: usize) -> bool {
        let InFlight {
            most,
            bytes: all,
            metrics,
        } = &*self.in_flight;
        let more = |now: usize| now.checked_add(bytes).filter(|sum| sum <= most);
        let taken = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if taken.is_ok() {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            metrics.grpc_in_flight_bytes.add(gauge(bytes));
        }
        taken.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.in_flight.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let metrics = &self.in_flight.metrics;
        metrics.grpc_in_flight_bytes.sub(gauge(bytes));
    }
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What one message may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Bytes.
    pub(super) message: usize,
    /// The key that says so.
    pub(super) key: &'static str,
    /// Whether the call is one message, which has to come at once.
    pub(super) at_once: bool,
    /// The method as metrics have it, if they have it.
    pub(super) method: Option<&'static str>,
}

/// The body of a request. Breaking a bound ends it with a status.
pub(super) struct Bounded {
    body: Incoming,
    limit: Limit,
    /// None for calls whose messages are too small to be counted.
    held: Option<Arc<Held>>,
    metrics: Arc<Metrics>,
    at: At,
    late: Option<Pin<Box<Sleep>>>,
    over: bool,
}

/// Where in the body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before a message, of whose prefix so much has come.
    Prefix(usize, u32),
    /// In a message, of which so much is to come.
    Message(usize),
}

impl Bounded {
    pub(super) fn new(
        body: Incoming,
        limit: Limit,
        held: Option<Arc<Held>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            body,
            limit,
            held,
            metrics,
            at: At::Prefix(0, 0),
            late: limit.at_once.then(|| Box::pin(sleep(ARRIVAL))),
            over: false,
        }
    }

    #[allow(clippy::result_large_err, reason = "tonic's own type")]
    fn look(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while let [first, rest @ ..] = bytes {
            match self.at {
                At::Message(left) => {
                    let skipped = left.min(bytes.len());
                    bytes = &bytes[skipped..];
                    self.at = At::Message(left - skipped);
                }
                At::Prefix(at, length) => {
                    bytes = rest;
                    let length = match at {
                        0 => 0,
                        _ => length << 8 | u32::from(*first),
                    };
                    self.at = At::Prefix(at + 1, length);
                    if at == 0 {
                        let late = || Box::pin(sleep(ARRIVAL));
                        self.late.get_or_insert_with(late);
                    }
                    if at + 1 == PREFIX {
                        self.begin(length as usize)?;
                        self.at = At::Message(length as usize);
                    }
                }
            }
            if self.at == At::Message(0) {
                self.at = At::Prefix(0, 0);
                // A call of one message is read to its end.
                if !self.limit.at_once {
                    self.late = None;
                }
            }
        }
        Ok(())
    }

    #[allow(clippy::result_large_err, reason = "tonic's own type")]
    fn begin(&self, length: usize) -> Result<(), Status> {
        let Limit { message, key, .. } = self.limit;
        if length > message {
            let says = format!(
                "the message has {length} bytes, and {key} allows {message}; nothing was done"
            );
            return Err(self.exhausted("message_too_large", says));
        }
        let fits = self.held.as_ref().is_none_or(|held| held.take(length));
        if !fits {
            let says = "requests under way fill grpc.max_in_flight_bytes; nothing was done, try \
                        again later";
            return Err(self.exhausted("in_flight_bytes", says));
        }
        Ok(())
    }

    fn exhausted(&self, reason: &str, says: impl Into<String>) -> Status {
        self.count(reason, "RESOURCE_EXHAUSTED");
        Status::resource_exhausted(says)
    }

    /// The service itself does not see such a call.
    fn count(&self, reason: &str, code: &str) {
        self.metrics.grpc_refused(reason);
        if let Some(method) = self.limit.method {
            let labels = [method, code];
            self.metrics.grpc_requests.with_label_values(&labels).inc();
        }
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let failed = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let looked = frame.data_ref().map(|data| this.look(data));
                match looked {
                    Some(Err(status)) => status,
                    _ => return Poll::Ready(Some(Ok(frame))),
                }
            }
            Poll::Ready(Some(Err(error))) => Status::from_error(error.into()),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                let Some(late) = &mut this.late else {
                    return Poll::Pending;
                };
                ready!(late.as_mut().poll(cx));
                let says = format!(
                    "the message did not arrive within {} s; nothing was done",
                    ARRIVAL.as_secs()
                );
                this.count("too_slow", "DEADLINE_EXCEEDED");
                Status::deadline_exceeded(says)
            }
        };
        this.over = true;
        Poll::Ready(Some(Err(failed)))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
