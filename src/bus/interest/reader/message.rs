//! What a message from NATS is to the registry: a message to a user or to all, a question,
//! or nothing.

use super::{BROADCAST, Reader};
use crate::{
    bus::interest::{
        Event, Probe, Request, Subscriber,
        wire::{Headers, ServerMessage},
    },
    channel::{Audience, Channel},
    message::{EventName, Message, Stored, millis_of},
    trace::{TRACEPARENT, TraceParent},
};

impl<K: Subscriber> Reader<K> {
    /// The event of a message; `None` if it is neither a message nor a question that can be
    /// answered.
    pub(in crate::bus) fn message(&self, message: ServerMessage) -> Option<Event<K>> {
        let ServerMessage {
            sid,
            reply,
            headers,
            payload,
            ..
        } = message;
        self.metrics.messages_received.inc();
        let to = match sid {
            BROADCAST => None,
            // None: a message that was under way when its user left.
            id => Some(self.table.get(&id)?.clone()),
        };
        let stream = self.stream.as_deref();
        let stored = stream.and_then(|stream| stored(&headers, stream));
        let to_user = to
            .as_ref()
            .is_some_and(|to| matches!(to.audience(), Audience::User(_)));
        // What a stream has stored is a message, whatever its headers say.
        let asks = to_user && stored.is_none() && is_probe(&headers);
        if stream.is_some() && stored.is_none() && !asks {
            self.metrics.dropped("not_stored", 1);
            return None;
        }
        // Of what it has stored, the stream has answered already.
        let reply = reply.filter(|_| to_user && stored.is_none());
        let reply = reply.and_then(|reply| String::from_utf8(reply.into()).ok());
        if asks && reply.is_none() {
            return None;
        }
        let request = reply.map(|reply| Request {
            reply,
            probe: asks.then(|| Probe {
                up_to: headers.get("Usher-Seq").and_then(|seq| seq.parse().ok()),
                presence: headers.get("Usher-Presence") == Some("1"),
            }),
        });
        let event = event_name(&headers).unwrap_or_else(|| {
            self.metrics.bad_event_names.inc();
            EventName::default()
        });
        let message = Message {
            event,
            payload,
            channel: to
                .as_ref()
                .map_or(Channel::Broadcast, |to| to.audience().channel()),
            probe: stored.is_some() && is_probe(&headers),
            stored,
            trace: match self.tracer.is_on() {
                true => self.tracer.follow(trace_parent(&headers)),
                false => None,
            },
        };
        Some(match to {
            None => Event::Broadcast(message),
            Some(to) => Event::Message {
                to,
                message,
                request,
            },
        })
    }
}

/// The name of a message's event: the default if it has no name, `None` if its name is bad.
pub(in crate::bus) fn event_name(headers: &Headers) -> Option<EventName> {
    match headers.get("Event") {
        None => Some(EventName::default()),
        Some(name) => EventName::parse(name).ok(),
    }
}

/// The trace that a publisher says it belongs to.
pub(in crate::bus) fn trace_parent(headers: &Headers) -> Option<TraceParent> {
    TraceParent::parse(headers.only(TRACEPARENT)?)
}

/// Whether a message only asks who is here.
pub(in crate::bus) fn is_probe(headers: &Headers) -> bool {
    headers.get("Usher-Probe") == Some("1")
}

/// Where the server that republished a message says that it is in the stream. What it says
/// comes last: a publisher may have said something else before it.
fn stored(headers: &Headers, stream: &str) -> Option<Stored> {
    let number = |name| headers.last(name)?.parse().ok();
    if headers.last("Nats-Stream") != Some(stream) {
        return None;
    }
    Some(Stored {
        seq: number("Nats-Sequence").filter(|seq| *seq > 0)?,
        prev: number("Nats-Last-Sequence")?,
        at: millis_of(headers.last("Nats-Time-Stamp")?)?,
    })
}
