//! The bodies of requests: how large one message may be, how much of all may be under
//! way, and how long a message may take to arrive.
//!
//! gRPC puts five bytes before each message, the last four of which are its length. So a
//! message that is too large is refused before it is read, and one that is not is counted
//! by its length: the decoder reserves that much memory at once.
//!
//! A call of one message is refused where there is no room for it. A stream of messages waits
//! for room: nothing of the message is passed on, or read, until then.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::{in_flight::Held, not_published::nothing_done};
use crate::metrics::Metrics;

/// From the beginning of a message to its end.
pub(super) const ARRIVAL: Duration = Duration::from_secs(10);
const PREFIX: usize = 5;

/// What one message may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Bytes.
    pub(super) message: usize,
    /// The key that says so.
    pub(super) key: &'static str,
    /// Whether the call is one message, which has to come at once.
    pub(super) at_once: bool,
    /// Whether a message waits for room, rather than being refused.
    pub(super) waits: bool,
    /// The method as metrics have it, if they have it.
    pub(super) method: Option<&'static str>,
}

/// The body of a request. Breaking a bound ends it with a status.
pub(super) struct Bounded {
    body: Incoming,
    limit: Limit,
    /// `None` for calls whose messages are too small to be counted.
    held: Option<Arc<Held>>,
    metrics: Arc<Metrics>,
    at: At,
    late: Option<Pin<Box<Sleep>>>,
    /// What came behind the last message that was passed on.
    rest: Option<Bytes>,
    /// Waits for room for the message with which `rest` begins.
    room: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// There is room for it.
    has_room: bool,
    /// How the body ends, once what came before is passed on.
    failed: Option<Status>,
    over: bool,
}

/// Why not all bytes pass.
enum Stop {
    /// A bound is broken.
    Failed(Status),
    /// A message of this length waits for room.
    Waits(usize),
}

/// Where in the body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before a message: how many bytes of its prefix have come, and the length that they say.
    Prefix(usize, u32),
    /// In a message: how many bytes of it are to come.
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
            rest: None,
            room: None,
            has_room: false,
            failed: None,
            over: false,
        }
    }

    /// Looks at bytes that come next: how many of them pass, and why not all do.
    fn look(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let mut passed = 0;
        while let [first, ..] = bytes[passed..] {
            match self.at {
                At::Message(left) => {
                    let skipped = left.min(bytes.len() - passed);
                    passed += skipped;
                    self.at = At::Message(left - skipped);
                }
                At::Prefix(at, length) => {
                    let length = match at {
                        0 => 0,
                        _ => length << 8 | u32::from(first),
                    };
                    if at == 0 {
                        let late = || Box::pin(sleep(ARRIVAL));
                        self.late.get_or_insert_with(late);
                    }
                    if at + 1 == PREFIX {
                        // Before the last byte: with it the decoder makes room itself.
                        if let Some(stop) = self.begin(length as usize) {
                            return (passed, Some(stop));
                        }
                        self.at = At::Message(length as usize);
                    } else {
                        self.at = At::Prefix(at + 1, length);
                    }
                    passed += 1;
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
        (passed, None)
    }

    /// Why a message of this length does not begin now, if it does not.
    fn begin(&mut self, length: usize) -> Option<Stop> {
        let Limit {
            message,
            key,
            waits,
            ..
        } = self.limit;
        if length > message {
            let says = format!(
                "the message has {length} bytes, and {key} allows {message}; nothing was done"
            );
            return Some(Stop::Failed(self.exhausted("message_too_large", says)));
        }
        let held = self.held.as_ref()?;
        let fits = std::mem::take(&mut self.has_room) || held.take(length);
        match (fits, waits) {
            (true, true) => {
                held.passed(length);
                None
            }
            (true, false) => None,
            (false, true) => Some(Stop::Waits(length)),
            (false, false) => {
                let says = "requests under way fill grpc.max_in_flight_bytes; nothing was done, \
                            try again later";
                Some(Stop::Failed(self.exhausted("in_flight_bytes", says)))
            }
        }
    }

    fn exhausted(&self, reason: &str, says: impl Into<String>) -> Status {
        self.count(reason, "RESOURCE_EXHAUSTED");
        nothing_done(self.limit.method, Status::resource_exhausted(says))
    }

    fn too_slow(&self) -> Status {
        let says = format!(
            "the message did not arrive within {} s; nothing was done",
            ARRIVAL.as_secs()
        );
        self.count("too_slow", "DEADLINE_EXCEEDED");
        nothing_done(self.limit.method, Status::deadline_exceeded(says))
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
        let failed = loop {
            if this.over {
                return Poll::Ready(None);
            }
            if let Some(failed) = this.failed.take() {
                break failed;
            }
            if let Some(room) = &mut this.room {
                ready!(room.as_mut().poll(cx));
                (this.room, this.has_room) = (None, true);
                // It is not late that it was not read.
                this.late = Some(Box::pin(sleep(ARRIVAL)));
            }
            let data = match this.rest.take() {
                Some(rest) => rest,
                None => match Pin::new(&mut this.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => data,
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                    Poll::Ready(Some(Err(error))) => break Status::from_error(error.into()),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {
                        let Some(late) = &mut this.late else {
                            return Poll::Pending;
                        };
                        ready!(late.as_mut().poll(cx));
                        break this.too_slow();
                    }
                },
            };
            let (passed, stop) = this.look(&data);
            match stop {
                None => {}
                Some(Stop::Failed(status)) => this.failed = Some(status),
                Some(Stop::Waits(length)) => {
                    this.rest = Some(data.slice(passed..));
                    let held = this.held.clone();
                    this.room = Some(Box::pin(async move {
                        if let Some(held) = held {
                            held.take_later(length).await;
                        }
                    }));
                }
            }
            if passed > 0 {
                return Poll::Ready(Some(Ok(Frame::data(data.slice(..passed)))));
            }
        };
        this.over = true;
        Poll::Ready(Some(Err(failed)))
    }

    fn is_end_stream(&self) -> bool {
        let holds_back = self.rest.is_some() || self.failed.is_some();
        self.over || (!holds_back && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
