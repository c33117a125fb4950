//! When a message came, and the span of its way to the client where its trace is recorded.

use std::time::Instant;

use crate::{
    message::Message,
    telemetry::{Operation, Span, Tracer},
    trace::Trace,
};

/// Spans of one message. A broadcast that is recorded must not fill the queue of spans.
const MAX_SPANS: usize = 64;

/// How a message came. It costs a frame no memory beyond that of the time; see the test.
#[derive(Debug)]
pub enum Arrival {
    /// From NATS: when the registry's task took it from the bus, before any session got it.
    At(Instant),
    /// From NATS at this time, and its way is recorded.
    Recorded(Box<(Instant, Span)>),
    /// From the stream, and its way is recorded.
    Replayed(Box<Span>),
}

/// The arrivals of one message for all of its sessions.
pub(super) struct Arrivals<'a> {
    tracer: &'a Tracer,
    message: &'a Message,
    /// When it came from NATS. It is the same for all sessions, so that a session's time
    /// includes its wait for the sessions before it.
    at: Instant,
    /// Spans that may still be made.
    left: usize,
}

impl Arrival {
    /// From the stream; `None` if nothing is recorded of it.
    pub fn replayed(tracer: &Tracer, trace: Option<Trace>, event: &str, seq: u64) -> Option<Self> {
        let mut span = tracer.span(Operation::Replay, trace)?.only_if_ended();
        span.set("usher.event", event.to_owned());
        span.set("usher.seq", seq);
        Some(Self::Replayed(Box::new(span)))
    }

    /// The kernel has the message. Returns when it came from NATS, if it did.
    pub fn written(self, transport: &'static str) -> Option<Instant> {
        let (at, mut span) = match self {
            Self::At(at) => return Some(at),
            Self::Recorded(recorded) => (Some(recorded.0), recorded.1),
            Self::Replayed(span) => (None, *span),
        };
        span.set("usher.transport", transport);
        span.end();
        at
    }
}

impl<'a> Arrivals<'a> {
    /// Of a message that came from NATS at this time.
    pub(super) fn of(message: &'a Message, at: Instant, tracer: &'a Tracer) -> Self {
        Self {
            tracer,
            message,
            at,
            left: MAX_SPANS,
        }
    }

    /// The arrival for one more session. A span begins now.
    pub(super) fn next(&mut self) -> Arrival {
        let at = self.at;
        let Some(trace) = self.message.trace.filter(|_| self.left > 0) else {
            return Arrival::At(at);
        };
        self.left -= 1;
        let Some(mut span) = self.tracer.span(Operation::Deliver, Some(trace)) else {
            return Arrival::At(at);
        };
        span.set("usher.event", self.message.event.as_str().to_owned());
        span.set("usher.payload_bytes", self.message.payload.len());
        if let Some(stored) = self.message.stored {
            span.set("usher.seq", stored.seq);
        }
        Arrival::Recorded(Box::new((at, span.only_if_ended())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        channel::Channel,
        message::{EventName, Message},
    };

    #[test]
    fn the_time_of_each_session_begins_when_the_message_came() {
        let message = Message {
            event: EventName::default(),
            payload: "{}".into(),
            channel: Channel::Broadcast,
            stored: None,
            probe: false,
            trace: None,
        };
        let tracer = Tracer::default();
        let came = Instant::now() - Duration::from_secs(1);
        let mut arrivals = Arrivals::of(&message, came, &tracer);
        for _ in 0..MAX_SPANS + 1 {
            assert_eq!(arrivals.next().written("websocket"), Some(came));
        }
    }

    /// Each frame of each backlog has one.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_arrival_is_as_small_as_its_time() {
        assert_eq!(size_of::<Option<Arrival>>(), size_of::<Option<Instant>>());
    }
}
