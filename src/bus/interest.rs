//! What the registry hears from the bus, whichever kind the bus is; and, below it, the
//! connections of our own over which anyone's bytes come: `wire` (the protocol, without
//! I/O), `link` (one connection), `dial` (getting one), `supervisor` (keeping one), and
//! `reader` over them.

mod dial;
mod link;
mod overlap;
mod reader;
mod supervisor;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

pub use self::dial::DialError;
#[cfg(test)]
pub(super) use self::wire::example_message;
#[cfg(fuzzing)]
pub(super) use self::wire::{Decoder, ServerOp};
pub(super) use self::{
    dial::Dialer,
    link::{Link, Received, Window},
    reader::{Reader, event_name, is_probe, trace_parent},
    supervisor::{News, Supervisor},
    wire::{Headers, Info, ServerMessage, header_length},
};
use super::{embedded::Embedded, stream::Stream};
use crate::{channel::Audience, message::Message};

/// What messages are delivered to.
pub trait Subscriber: Clone {
    /// Whose messages it gets.
    fn audience(&self) -> &Audience;
}

/// The lowest id of an audience's subscription; what is below is the bus's own.
pub(super) const FIRST_ID: u64 = 2;

/// What happens on the bus.
#[derive(Debug)]
pub enum Event<K> {
    /// Connected, and everything that was held when the connection came up is
    /// subscribed: first `Up`, then `Confirmed` for those.
    Up {
        /// Whether other servers have yet to learn of our interest.
        clustered: bool,
    },
    /// The connection is lost. Every confirmation so far is void; what is held
    /// is subscribed again by itself.
    Down,
    /// NATS has processed these subscriptions.
    Confirmed(Vec<(K, u64)>),
    /// NATS forbids these subscriptions, or holds no more; they are forgotten here.
    Refused(Vec<(K, u64)>),
    /// A message to one user, or to those who follow a topic.
    Message {
        /// The subscriber whose subject it was published to.
        to: K,
        /// What was published.
        message: Message,
        /// Present where the publisher asks for an answer.
        request: Option<Request>,
    },
    /// A message to every session.
    Broadcast(Message),
}

/// A publisher's question.
#[derive(Debug)]
pub struct Request {
    /// Where the answer goes.
    pub reply: String,
    /// Asks who is here, and is no message.
    pub probe: Option<Probe>,
}

/// What a question that is no message asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Who has everything up to this sequence; `None`: who is here.
    pub up_to: Option<u64>,
    /// A gateway asks, about presence.
    pub presence: bool,
}

/// The audiences' subscriptions, and what comes on them.
#[derive(Debug)]
pub enum Interest<K> {
    /// From NATS; the stream is told what is heard, in durable mode.
    Nats(Box<Reader<K>>, Option<Stream>),
    /// From this process.
    Embedded(Box<Embedded<K>>),
}

impl<K: Subscriber> Interest<K> {
    /// The next event. Dropping the future loses none.
    pub async fn next(&mut self) -> Event<K> {
        match self {
            Self::Nats(reader, stream) => {
                let event = reader.next().await;
                if let Some(stream) = stream {
                    stream.heard(&event);
                }
                event
            }
            Self::Embedded(embedded) => embedded.next().await,
        }
    }

    /// Answers a publisher.
    pub fn answer(&mut self, reply: &str, payload: &[u8]) {
        match self {
            Self::Nats(reader, _) => reader.answer(reply, payload),
            Self::Embedded(embedded) => embedded.answer(payload),
        }
    }
}

/// Asks for subscriptions, from any thread, without waiting.
#[derive(Debug)]
pub struct Subscriptions<K> {
    /// One command a change of who is held, taken by the reader at its next turn, connected
    /// or not: so the queue stays as short as a turn is.
    commands: mpsc::UnboundedSender<Command<K>>,
    next_id: AtomicU64,
}

/// What was asked for; the bus takes it.
pub type Commands<K> = mpsc::UnboundedReceiver<Command<K>>;

/// A change of who is held.
#[derive(Debug)]
pub enum Command<K> {
    /// Begins the subscription of this id.
    Subscribe(u64, K),
    /// Ends it.
    Unsubscribe(u64),
}

impl<K> Subscriptions<K> {
    /// Who asks, and what the bus takes.
    pub fn new() -> (Self, Commands<K>) {
        let (commands, queue) = mpsc::unbounded_channel();
        let next_id = AtomicU64::new(FIRST_ID);
        (Self { commands, next_id }, queue)
    }

    /// Subscribes to the audience's subject; an [`Event::Confirmed`] with the
    /// returned id follows, or an [`Event::Refused`].
    pub fn subscribe(&self, subscriber: K) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // Where the bus has ended, so does the process.
        let _ = self.commands.send(Command::Subscribe(id, subscriber));
        id
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, id: u64) {
        let _ = self.commands.send(Command::Unsubscribe(id));
    }
}
