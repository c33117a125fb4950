//! Messages to users that no session was given: for each a service is told, on
//! `PREFIX.offline.USER`.
//!
//! All gateways share one pull consumer over what is published to users. A gateway asks the
//! others about each message by a probe, and publishes an event where nobody was given it.
//! A message is acknowledged when a session was given it, or when NATS has its event: the
//! message of a gateway that ends in between comes to another one after [`consumer`]'s wait.
//!
//! A user whose page joins in that moment gets the message or the event, or both:
//!
//! - A session subscribes first, and is told where it begins only then: at the stream's end
//!   L of that moment, or where its client was.
//! - A probe that comes before the subscription is answered by nobody: the event follows,
//!   whatever the session gets.
//! - A probe that comes later reaches the session's gateway. That answers for the session only
//!   where it was sent the message by its place (`durable/chain.rs`, `was_given`): the message
//!   lies after the session's beginning, and everything up to it is queued. So a session that
//!   began at an L beyond the message does not count, though it lacks nothing of its own:
//!   nobody was given the message, and the event follows.
//! - A session that will be sent the message, live or from the stream, and is not within the
//!   probe's time, does not count either: then both come.
//!
//! Retention ends what is under way: JetStream delivers no message again that is gone.

mod consumer;
mod event;
mod keeper;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};

pub use self::consumer::ConsumerError;
pub(in crate::bus) use self::consumer::{NAME, see_to};
pub(in crate::bus) use self::event::Delivery;
use super::Stream;
use crate::{
    bus::{
        Task, asking,
        caller::{Heard, Saying},
        client::{Client, Failure},
        interest::{ServerMessage, is_probe},
    },
    readiness::Readiness,
};

/// Messages that one gateway looks at, at the same time.
const IN_FLIGHT: usize = 256;
/// How many messages there must be room for before more are asked for, so that a pull brings
/// many.
const ROOM: usize = 64;
/// What one pull brings at most, in bytes, or a message of the size that NATS takes.
const BYTES: usize = 16 * 1024 * 1024;
/// What waits to be heard: messages under way, and what NATS says about events.
const HEARD: usize = 4 * IN_FLIGHT;
/// A pull ends after this, whether or not it has brought all.
const EXPIRES: Duration = Duration::from_secs(5);
/// What of it has not come by then does not come.
const GRACE: Duration = Duration::from_secs(1);
/// After something was refused, or not known.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose message the consumer delivered, its sequence, and the event that is made of it.
#[cfg(fuzzing)]
pub(in crate::bus) type Told = (Option<crate::user::UserId>, u64, (Vec<u8>, bytes::Bytes));

/// What is told of a message.
#[cfg(fuzzing)]
pub(in crate::bus) fn event(message: ServerMessage, limit: usize) -> Option<Told> {
    let delivery = Delivery::read(message, "usher.user.")?;
    Some((delivery.user(), delivery.seq, delivery.event(limit)))
}

/// The tasks that publish events, and what they hear by over the stream's connection.
pub(super) struct Offline(mpsc::Receiver<Heard>);

impl Offline {
    pub(super) fn new() -> (Self, mpsc::Sender<Heard>) {
        let (sender, heard) = mpsc::channel(HEARD);
        (Self(heard), sender)
    }

    /// What has to be polled for as long as the process lives.
    pub(super) fn tasks(
        self,
        stream: &Stream,
        client: &Client,
        readiness: &Readiness,
    ) -> [Task; 2] {
        let (works, working) = watch::channel(false);
        let gone = Arc::new(Notify::new());
        let (keeps, stream) = (stream.clone(), stream.clone());
        let keeping = keeper::keep(
            keeps,
            client.clone(),
            readiness.clone(),
            works,
            gone.clone(),
        );
        let reader = Reader {
            client: client.clone(),
            readiness: readiness.clone(),
            heard: self.0,
            works: working,
            gone,
            looks: FuturesUnordered::new(),
            unconfirmed: HashMap::new(),
            next: 0,
            pull: None,
            alone: false,
            refused: false,
            not_before: Instant::now(),
            stream,
        };
        [
            Task::new("the upkeep of the consumer usher-offline", keeping),
            Task::new("the events of what nobody was given", reader.run()),
        ]
    }
}

/// Whether a session was given a message.
type Looked = (Box<Delivery>, Result<bool, Failure>);

struct Reader {
    stream: Stream,
    client: Client,
    readiness: Readiness,
    heard: mpsc::Receiver<Heard>,
    works: watch::Receiver<bool>,
    gone: Arc<Notify>,
    /// Messages that gateways are asked about.
    looks: FuturesUnordered<BoxFuture<'static, Looked>>,
    /// Events that NATS has not confirmed, with their subjects and where their messages are
    /// acknowledged.
    unconfirmed: HashMap<u64, (String, String)>,
    /// Numbers pulls and events.
    next: u64,
    pull: Option<Pull>,
    /// The next message is larger than a pull may be: it comes alone.
    alone: bool,
    /// NATS has refused the last pull.
    refused: bool,
    not_before: Instant,
}

/// What was asked for, and has not come yet.
struct Pull {
    number: u64,
    asked: usize,
    left: usize,
    until: Instant,
}

impl Reader {
    async fn run(mut self) {
        loop {
            self.ask().await;
            let wakes = match &self.pull {
                Some(pull) => pull.until,
                None => self.not_before.max(Instant::now() + PAUSE),
            };
            tokio::select! {
                heard = self.heard.recv() => match heard {
                    Some(heard) => self.hear(heard).await,
                    None => return,
                },
                Some((delivery, given)) = self.looks.next() => self.looked(delivery, given).await,
                Ok(()) = self.works.changed() => {}
                () = sleep_until(wakes) => {
                    if self.pull.as_ref().is_some_and(|pull| pull.until <= Instant::now()) {
                        self.pull = None;
                    }
                }
            }
        }
    }

    /// Asks for messages, where there is room for them.
    async fn ask(&mut self) {
        let room = IN_FLIGHT.saturating_sub(self.looks.len() + self.unconfirmed.len());
        let waits = self.pull.is_some() || room < ROOM || self.not_before > Instant::now();
        // Without the connection on which gateways are asked nothing would come of it.
        let connected = *self.stream.0.caller.up().borrow() && self.client.is_open();
        if waits || !*self.works.borrow() || !connected {
            return;
        }
        let expires = u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let (asked, body) = match std::mem::take(&mut self.alone) {
            true => (1, json!({ "batch": 1, "expires": expires })),
            false => {
                let bytes = BYTES.max(2 * self.client.max_payload());
                (
                    room,
                    json!({ "batch": room, "expires": expires, "max_bytes": bytes }),
                )
            }
        };
        let number = self.number();
        self.pull = Some(Pull {
            number,
            asked,
            left: asked,
            until: Instant::now() + EXPIRES + GRACE,
        });
        let stream = &self.stream.0.config.name;
        let pull = Saying::Pull {
            number,
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{NAME}"),
            body: body.to_string().into(),
        };
        self.stream.0.caller.say(pull).await;
    }

    async fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Up => {
                self.pull = None;
                // Those of the connection before are delivered again.
                self.unconfirmed.clear();
            }
            Heard::Message(message) => {
                if std::mem::take(&mut self.refused) {
                    self.readiness.offline_events(true);
                }
                match self.read(&message) {
                    Some(delivery) => self.look(delivery).await,
                    None => self.status(&message),
                }
            }
            Heard::Published(numbers) => {
                for number in numbers {
                    if let Some((_, ack)) = self.unconfirmed.remove(&number) {
                        self.readiness.offline_events(true);
                        self.done(ack, "published").await;
                    }
                }
            }
            Heard::Refused(subject) => {
                let before = self.unconfirmed.len();
                self.unconfirmed.retain(|_, (other, _)| *other != subject);
                let is_pull = subject.starts_with("$JS.API.CONSUMER.");
                self.refused |= is_pull;
                if self.unconfirmed.len() < before || is_pull {
                    self.readiness.offline_events(false);
                    self.not_before = Instant::now() + EXPIRES;
                    self.pull = None;
                }
            }
        }
    }

    /// A message of the consumer; `None` if it is something else.
    fn read(&self, message: &ServerMessage) -> Option<Box<Delivery>> {
        let users = self.client.subjects.users();
        Delivery::read(message.clone(), &users).map(Box::new)
    }

    /// Asks gateways about a message.
    async fn look(&mut self, delivery: Box<Delivery>) {
        if let Some(pull) = &mut self.pull {
            pull.left = pull.left.saturating_sub(1);
            if pull.left == 0 {
                self.pull = None;
            }
        }
        // A stored probe is no message; and nobody can be there whose subject is no user's.
        if is_probe(delivery.headers()) || delivery.user().is_none() {
            return self.done(delivery.ack, "skipped").await;
        }
        let client = self.client.clone();
        let subject = client.subjects.heard_token(&delivery.token);
        let look = async move {
            let given = asking::was_given(&client, subject, delivery.seq).await;
            (delivery, given)
        };
        self.looks.push(look.boxed());
    }

    async fn looked(&mut self, delivery: Box<Delivery>, given: Result<bool, Failure>) {
        match given {
            Ok(true) => self.done(delivery.ack, "given").await,
            Ok(false) => {
                let number = self.number();
                let subject = self.client.subjects.offline(&delivery.token);
                let waiting = (subject.clone(), delivery.ack.clone());
                self.unconfirmed.insert(number, waiting);
                let event = Saying::Event {
                    number,
                    subject,
                    event: delivery,
                };
                self.stream.0.caller.say(event).await;
            }
            Err(_) => {
                self.stream.0.metrics.offline_message("again");
                let delay = u64::try_from(PAUSE.as_nanos()).unwrap_or(u64::MAX);
                let body = format!("-NAK {}", json!({ "delay": delay })).into();
                let subject = delivery.ack;
                self.stream
                    .0
                    .caller
                    .say(Saying::Ack { subject, body })
                    .await;
            }
        }
    }

    /// Nothing more has to come of a message.
    async fn done(&mut self, ack: String, result: &str) {
        self.stream.0.metrics.offline_message(result);
        let (subject, body) = (ack, b"+ACK".to_vec());
        self.stream
            .0
            .caller
            .say(Saying::Ack { subject, body })
            .await;
    }

    /// What the consumer says about a pull ends it: nothing more comes of it.
    fn status(&mut self, message: &ServerMessage) {
        let number = std::str::from_utf8(&message.subject).ok();
        let number = number.and_then(|subject| subject.rsplit('.').next()?.parse().ok());
        let current = self.pull.as_ref();
        let Some(pull) = current.filter(|pull| Some(pull.number) == number) else {
            return;
        };
        match message.headers.status() {
            // There was no message to bring, or fewer in that time than were asked for.
            Some(404 | 408) => {}
            Some(100) | None => return,
            Some(409) if message.headers.mentions("MaxBytes") => {
                self.alone = pull.left == pull.asked;
            }
            // There is no consumer, or its server goes away.
            Some(_) => {
                self.gone.notify_one();
                self.not_before = Instant::now() + PAUSE;
            }
        }
        self.pull = None;
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
