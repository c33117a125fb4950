//! What the reader of the consumer says and hears over the connection of the stream: pulls
//! and what they bring, events that NATS confirms, acknowledgements.
//!
//! Messages of a pull keep the subjects that they were published to, so they come on a
//! subscription of their own, and are known by it.

use std::mem;

use tokio::sync::mpsc;

use super::Task;
use crate::bus::{
    interest::{Link, ServerMessage, Window},
    stream::Delivery,
};

/// Subscription id of what pulls bring.
pub(super) const PULLS: u64 = 2;

/// What the reader of the consumer says.
#[derive(Debug)]
pub(in crate::bus) enum Saying {
    /// Asks for messages; statuses come to an inbox with this number.
    Pull {
        number: u64,
        subject: String,
        body: Vec<u8>,
    },
    /// Publishes a message's event; [`Heard::Published`] follows when NATS has it.
    Event {
        number: u64,
        subject: String,
        event: Box<Delivery>,
    },
    /// Acknowledges a message.
    Ack { subject: String, body: Vec<u8> },
}

/// What the reader of the consumer hears.
#[derive(Debug)]
pub(in crate::bus) enum Heard {
    /// There is a connection: the first one, or another than before. What was asked for on
    /// the one before comes no more.
    Up,
    /// A message or a status.
    Message(ServerMessage),
    /// NATS has these events, where it did not refuse them before.
    Published(Vec<u64>),
    /// NATS does not permit to publish to this subject.
    Refused(String),
}

/// The reader of the consumer, and its events that NATS has not confirmed.
#[derive(Debug)]
pub(super) struct Feed {
    heard: mpsc::Sender<Heard>,
    /// Written since the last PING.
    written: Vec<u64>,
    /// A PONG is under way that confirms some.
    asked: bool,
}

impl Feed {
    pub(super) fn new(heard: mpsc::Sender<Heard>) -> Self {
        Self {
            heard,
            written: Vec::new(),
            asked: false,
        }
    }

    /// There is another connection than before.
    pub(super) fn up(&mut self) {
        self.lost();
        self.tell(Heard::Up);
    }

    /// The connection is lost, or left.
    pub(super) fn lost(&mut self) {
        self.written.clear();
        self.asked = false;
    }

    pub(super) fn say(&mut self, link: &mut Link, inbox: &str, saying: Saying) {
        match saying {
            Saying::Pull {
                number,
                subject,
                body,
            } => {
                let reply = format!("{inbox}pull.{number}");
                link.publish(&subject, Some(&reply), &[], &body);
            }
            Saying::Ack { subject, body } => link.publish(&subject, None, &[], &body),
            Saying::Event {
                number,
                subject,
                event,
            } => {
                let (block, payload) = event.event(link.info().max_payload);
                link.publish_block(&subject, &block, &payload);
                self.written.push(number);
                self.ask(link);
            }
        }
    }

    /// Asks for a PONG behind what was written, one at a time.
    fn ask(&mut self, link: &mut Link) {
        if !self.asked && !self.written.is_empty() {
            self.asked = true;
            link.ping(Window::of(mem::take(&mut self.written)));
        }
    }

    /// A PONG has come, on the connection that is used, where there is a link.
    pub(super) fn pong(&mut self, window: Window, link: Option<&mut Link>) {
        if window.ids.is_empty() {
            return;
        }
        self.tell(Heard::Published(window.ids));
        if let Some(link) = link {
            self.asked = false;
            self.ask(link);
        }
    }

    /// NATS does not permit to publish to this subject, and says so before the PONG that
    /// follows it.
    pub(super) fn refused(&self, subject: &str) {
        self.tell(Heard::Refused(subject.to_owned()));
    }

    pub(super) fn message(&self, message: ServerMessage) {
        self.tell(Heard::Message(message));
    }

    /// What finds no room is lost: the consumer delivers again what is not acknowledged.
    fn tell(&self, heard: Heard) {
        let _ = self.heard.try_send(heard);
    }
}

impl Task {
    pub(super) fn say(&mut self, saying: Saying) {
        if let (Some(feed), Some(link)) = (&mut self.feed, self.connection.current()) {
            let inbox = super::inbox(&self.reply_prefix, link.id());
            feed.say(link, &inbox, saying);
        }
    }
}
