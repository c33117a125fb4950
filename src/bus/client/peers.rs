//! What gateways say to each other, over the connection of pushes. Only gateways may publish
//! there, so no stranger's header can cut that connection off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{Client, Connection, Failure, Gate, Outgoing, Sent, task::REFUSAL};
use crate::bus::{PublishError, refusal::Refusal};

/// What async-nats does not take within this is not said.
const HAND_OVER: Duration = Duration::from_secs(1);

/// A subject on which all gateways listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// `usher.gateways`: which gateways there are.
    Gateways,
    /// `usher.control`: questions and commands to all gateways.
    Control,
}

/// How a gateway speaks to all gateways, itself included. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Peers {
    client: Client,
    /// What the reply subjects of gateways begin with.
    reply_prefix: String,
}

/// What is said on one topic, across all reconnects.
#[derive(Debug)]
pub struct Listener {
    client: Client,
    topic: Topic,
    heard: Subscriber,
    /// Changes when NATS has to be asked for the topic once more.
    asks_again: watch::Receiver<u64>,
    reply_prefix: String,
}

/// One message of a gateway.
#[derive(Debug)]
pub struct Said {
    /// Its bytes.
    pub payload: Bytes,
    /// Where an answer goes, if one is wanted.
    pub reply: Option<String>,
}

/// A question to all gateways, and their answers.
#[derive(Debug)]
pub struct Answers(Sent);

impl Peers {
    pub(in crate::bus) fn new(client: Client, reply_prefix: &str) -> Self {
        Self {
            client,
            reply_prefix: reply_prefix.to_owned(),
        }
    }

    /// Listens for as long as the result lives. `None` if async-nats has ended, and with it
    /// the process.
    pub async fn listen(&self, topic: Topic) -> Option<Listener> {
        let asks_again = self.client.peers_ask_again.subscribe();
        let subject = self.client.topic(topic);
        let heard = self.client.nats.subscribe(subject).await.ok()?;
        Some(Listener {
            client: self.client.clone(),
            topic,
            heard,
            asks_again,
            reply_prefix: self.reply_prefix.clone(),
        })
    }

    /// How often the connection has been made, or a topic was asked for once more. A change
    /// means that messages may have been missed.
    pub fn lives(&self) -> watch::Receiver<u64> {
        self.client.lives.subscribe()
    }

    /// Whether NATS was heard to forbid one of the topics, when it was asked last.
    pub fn are_forbidden(&self) -> bool {
        self.client.peers_forbidden.load(Ordering::Relaxed)
    }

    /// The gateway hears itself, so both topics are subscribed to and news may be published.
    pub fn note_heard(&self) {
        if !self.are_forbidden() {
            self.client.peers_told.news_pass();
            if !self.client.peers_told.are_questions_forbidden() {
                self.client.health.readiness.control_forbidden(false);
            }
        }
    }

    /// Says something, at most once: nothing is kept for a NATS that is away. False where it
    /// was certainly not said.
    pub async fn say(&self, topic: Topic, payload: Bytes) -> bool {
        if !self.client.is_connected() || self.are_forbidden() {
            return false;
        }
        let subject = self.client.topic(topic);
        let saying = self.client.nats.publish(subject, payload);
        matches!(timeout(HAND_OVER, saying).await, Ok(Ok(())))
    }

    /// Asks all gateways. At most `answers` answers are kept.
    ///
    /// # Errors
    ///
    /// [`PublishError`]: no gateway was asked. Dropping the future leaves that unknown.
    pub async fn ask(
        &self,
        payload: Bytes,
        answers: usize,
        deadline: Instant,
    ) -> Result<Answers, PublishError> {
        if self.are_forbidden() {
            return Err(PublishError::Forbidden);
        }
        let question = Outgoing {
            subject: self.client.topic(Topic::Control),
            payload,
            ..Outgoing::default()
        };
        let asked = timeout_at(deadline, self.client.send(question, answers)).await;
        Ok(Answers(asked.unwrap_or(Err(Failure::Away))?))
    }

    /// Answers a question. While the connection moves or is not proven, the answer waits. One
    /// that NATS does not take within a second is dropped.
    pub async fn answer(&self, reply: String, payload: Bytes) {
        let answering = async {
            if self.client.passes(&reply).await.is_ok() {
                let _ = self.client.nats.publish(reply, payload).await;
            }
        };
        let _ = timeout(HAND_OVER, answering).await;
    }
}

impl Listener {
    /// The next message. `None` if async-nats has ended, and with it the process. Dropping
    /// the future loses none.
    pub async fn next(&mut self) -> Option<Said> {
        let message = loop {
            if self.asks_again.has_changed().ok()? {
                // NATS does not begin a subscription again that it has ended.
                let subject = self.client.topic(self.topic);
                self.heard = self.client.nats.subscribe(subject).await.ok()?;
                self.asks_again.mark_unchanged();
            }
            tokio::select! {
                message = self.heard.next() => break message?,
                changed = self.asks_again.changed() => {
                    changed.ok()?;
                    self.asks_again.mark_changed();
                }
            }
        };
        let reply = message.reply.map(|reply| reply.to_string());
        Some(Said {
            payload: message.payload,
            // The same rule as for receipts: an answer never goes to a subject of ours.
            reply: reply.filter(|reply| reply.starts_with(&self.reply_prefix)),
        })
    }
}

impl Answers {
    /// The next answer; `None` if none can come any more. The caller bounds the time.
    pub async fn next(&mut self) -> Option<Bytes> {
        let answer = self.0.next().await?;
        self.0.client.questions_pass();
        Some(answer.payload)
    }

    /// Whether NATS was heard to forbid the question.
    pub fn is_forbidden(&self) -> bool {
        self.0.is_forbidden() || self.0.client.peers_forbidden.load(Ordering::Relaxed)
    }
}

impl Connection {
    fn topic(&self, topic: Topic) -> String {
        match topic {
            Topic::Gateways => self.subjects.gateways(),
            Topic::Control => self.subjects.control(),
        }
    }

    fn is_connected(&self) -> bool {
        matches!(*self.gate.borrow(), Gate::Open | Gate::Forbidden)
    }

    /// A new connection: the rights may be others.
    pub(super) fn peers_are_new(&self) {
        self.peers_forbidden.store(false, Ordering::Relaxed);
        self.health.readiness.control_forbidden(false);
        self.lives.send_modify(|lives| *lives += 1);
    }

    /// Asks NATS for the topics once more, where it has forbidden one.
    pub(super) fn ask_again_for_peers(self: &Arc<Self>) {
        if self.peers_forbidden.swap(false, Ordering::Relaxed) {
            self.peers_ask_again.send_modify(|times| *times += 1);
            self.lives.send_modify(|lives| *lives += 1);
            if self.peers_told.are_questions_forbidden() {
                tokio::spawn(try_question(self.clone()));
            }
        }
    }

    /// NATS forbids something, perhaps to speak to the other gateways, or to hear them.
    pub(super) fn peers_refused(&self, refusal: Refusal<'_>) {
        let (Refusal::Publish(subject) | Refusal::Subscription { subject, .. }) = refusal else {
            return;
        };
        let topics = [Topic::Gateways, Topic::Control].map(|topic| self.topic(topic));
        if topics.iter().any(|topic| topic == subject)
            && !self.peers_forbidden.swap(true, Ordering::Relaxed)
        {
            self.health.readiness.control_forbidden(true);
            let question = refusal == Refusal::Publish(&self.subjects.control());
            self.peers_told.forbidden(subject, question);
        }
    }

    /// NATS permits questions.
    fn questions_pass(&self) {
        let told = self.peers_told.questions_pass();
        let others = self.peers_forbidden.load(Ordering::Relaxed);
        if told && !others && !self.peers_told.is_news_forbidden() {
            self.health.readiness.control_forbidden(false);
        }
    }
}

/// Asks nothing, where questions were forbidden: gateways ignore what is empty. NATS says within
/// [`REFUSAL`] whether it forbids that.
async fn try_question(client: Client) {
    let question = Outgoing {
        subject: client.topic(Topic::Control),
        ..Outgoing::default()
    };
    if let Ok(mut sent) = client.send(question, 1).await {
        // No more answers can come where it is forbidden, or where the connection is lost.
        let ended = matches!(timeout(REFUSAL, sent.next()).await, Ok(None));
        if !ended && !client.peers_forbidden.load(Ordering::Relaxed) {
            client.questions_pass();
        }
    }
}

/// What the log has told of the rights to speak to other gateways.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// That something else than questions is forbidden.
    news: AtomicBool,
    /// That questions are.
    questions: AtomicBool,
}

impl Told {
    fn forbidden(&self, subject: &str, question: bool) {
        let part = if question {
            &self.questions
        } else {
            &self.news
        };
        if part.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            subject,
            "NATS forbids this gateway to speak to the other gateways, so presence and disconnect \
             do not work; it needs the rights of examples/nats-permissions.conf to publish and to \
             hear this subject"
        );
    }

    fn is_news_forbidden(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    fn are_questions_forbidden(&self) -> bool {
        self.questions.load(Ordering::Relaxed)
    }

    fn news_pass(&self) {
        Self::passes(&self.news);
    }

    /// Returns whether they were forbidden.
    fn questions_pass(&self) -> bool {
        Self::passes(&self.questions)
    }

    fn passes(part: &AtomicBool) -> bool {
        // Nearly always there was nothing to tell.
        let passes = part.load(Ordering::Relaxed) && part.swap(false, Ordering::Relaxed);
        if passes {
            tracing::info!("NATS permits this gateway to speak to the other gateways again");
        }
        passes
    }
}
