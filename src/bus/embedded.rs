//! The bus without NATS: for trying Usher out, in one process.
//!
//! It keeps the promises that NATS keeps: a subscription is confirmed before
//! messages come, messages of one publisher stay in order, and who asks where
//! nobody is gets an answer immediately.

use std::{collections::HashMap, future::pending, sync::Arc};

use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::{
    interest::{Command, Commands, Event, Request, Subscriber},
    publisher::{PublishError, Published, Push, Receipt, To},
};
use crate::{
    channel::{Audience, Channel},
    message::Message,
    metrics::Metrics,
    telemetry::Tracer,
};

/// The largest message in bytes, as NATS has it by default.
const MAX_PAYLOAD: usize = 1024 * 1024;
/// Pushes that wait for their turn; a caller beyond it waits.
const QUEUE: usize = 1024;

/// Hands pushes over. Clones share the queue.
#[derive(Debug, Clone)]
pub(super) struct Sender(mpsc::Sender<Job>);

/// A push, and who waits for what becomes of it.
#[derive(Debug)]
pub(super) struct Job {
    push: Push,
    receipt: bool,
    done: oneshot::Sender<Option<Receipt>>,
}

/// A push that was handed over, and what becomes of it.
#[derive(Debug)]
pub(super) struct UnderWay(oneshot::Receiver<Option<Receipt>>);

impl Sender {
    /// Hands a push over.
    pub(super) async fn send(&self, push: Push, receipt: bool) -> Result<UnderWay, PublishError> {
        let (size, limit) = (push.payload.len(), MAX_PAYLOAD);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let (done, outcome) = oneshot::channel();
        let job = Job {
            push,
            receipt,
            done,
        };
        let sent = self.0.send(job).await;
        sent.map_err(|_| PublishError::Unavailable)?;
        Ok(UnderWay(outcome))
    }
}

impl UnderWay {
    /// Waits until it was passed on.
    pub(super) async fn outcome(self) -> Result<Published, PublishError> {
        let receipt = self.0.await.map_err(|_| PublishError::Unconfirmed)?;
        Ok(Published { seq: None, receipt })
    }
}

/// Subscriptions and messages of this process.
#[derive(Debug)]
pub struct Embedded<K> {
    queue: mpsc::Receiver<Job>,
    commands: Commands<K>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    /// The registry has heard that it is up.
    told: bool,
    /// Who waits for the receipt of the push that the registry has now.
    asked: Option<oneshot::Sender<Option<Receipt>>>,
    /// Where the registry answers.
    reply: String,
    ids: HashMap<u64, Audience>,
    audiences: HashMap<Audience, (u64, K)>,
}

/// The bus, up from the start, and who hands pushes over to it.
pub(super) fn start<K>(
    reply_prefix: &str,
    commands: Commands<K>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
) -> (Embedded<K>, Sender) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let embedded = Embedded {
        queue,
        commands,
        metrics,
        tracer,
        told: false,
        asked: None,
        reply: format!("{reply_prefix}embedded"),
        ids: HashMap::new(),
        audiences: HashMap::new(),
    };
    (embedded, Sender(sender))
}

impl<K: Subscriber> Embedded<K> {
    pub(super) async fn next(&mut self) -> Event<K> {
        // The registry answers a request before it asks for the next event; where it has
        // not, no session has the message.
        if let Some(unanswered) = self.asked.take() {
            let _ = unanswered.send(Some(Receipt::Offline));
        }
        if !std::mem::replace(&mut self.told, true) {
            return Event::Up { clustered: false };
        }
        loop {
            let event = tokio::select! {
                // Who was subscribed before a push gets it.
                biased;
                Some(command) = self.commands.recv() => self.follow(command),
                Some(job) = self.queue.recv() => self.carry_out(job),
                // Nobody is left to publish or to subscribe.
                else => pending().await,
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    pub(super) fn answer(&mut self, payload: &[u8]) {
        #[derive(Deserialize)]
        struct Body {
            sessions: u32,
        }
        let body: Option<Body> = serde_json::from_slice(payload).ok();
        if let Some((done, Body { sessions })) = self.asked.take().zip(body) {
            let _ = done.send(Some(Receipt::Queued(sessions)));
        }
        self.metrics.receipts("sent");
    }

    fn follow(&mut self, command: Command<K>) -> Option<Event<K>> {
        let confirmed = match command {
            Command::Subscribe(id, subscriber) => {
                let audience = subscriber.audience().clone();
                self.ids.insert(id, audience.clone());
                self.audiences.insert(audience, (id, subscriber.clone()));
                Some(Event::Confirmed(vec![(subscriber, id)]))
            }
            Command::Unsubscribe(id) => {
                // A later subscription of the same audience stays.
                if let Some(audience) = self.ids.remove(&id)
                    && self
                        .audiences
                        .get(&audience)
                        .is_some_and(|(now, _)| *now == id)
                {
                    self.audiences.remove(&audience);
                }
                None
            }
        };
        self.metrics.subscriptions.set(self.ids.len() as i64);
        confirmed
    }

    fn carry_out(&mut self, job: Job) -> Option<Event<K>> {
        let Job {
            push,
            receipt,
            done,
        } = job;
        let message = Message {
            event: push.event.unwrap_or_default(),
            payload: push.payload,
            channel: match &push.to {
                To::All => Channel::Broadcast,
                To::User(_) => Channel::User,
                To::Topic(topic) => Channel::Topic(topic.clone()),
            },
            stored: None,
            probe: false,
            trace: self.tracer.follow(push.caller.parent),
        };
        let subscriber = match &push.to {
            To::All => {
                // A caller that has gone needs no answer.
                let _ = done.send(None);
                self.metrics.messages_received.inc();
                return Some(Event::Broadcast(message));
            }
            To::User(user) => self.audiences.get(&Audience::User(user.clone())),
            To::Topic(topic) => self.audiences.get(&Audience::Topic(topic.clone())),
        };
        let Some((_, subscriber)) = subscriber else {
            let _ = done.send(receipt.then_some(Receipt::Offline));
            return None;
        };
        self.metrics.messages_received.inc();
        let request = match receipt {
            true => {
                self.asked = Some(done);
                let reply = self.reply.clone();
                Some(Request { reply, probe: None })
            }
            false => {
                let _ = done.send(None);
                None
            }
        };
        Some(Event::Message {
            to: subscriber.clone(),
            message,
            request,
        })
    }
}
