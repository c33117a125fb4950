//! The connection for what the gateway itself says and asks, by async-nats: pushes and
//! their receipts, questions to JetStream.
//!
//! async-nats keeps across a reconnect what it was given, and sends it then. So a push is
//! handed over only while the connection is proven to work ([`Gate`]): a push that was not
//! handed over is certainly not published. One that was is published when its echo has
//! come back (live mode), or when the stream has acknowledged it (durable mode).

mod echoes;
pub(super) mod options;
mod peers;
mod pending;
mod task;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{HeaderMap, Message, client::traits::Publisher as _, message::OutboundMessage};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};

pub use self::peers::{Answers, Listener, Peers, Said, Topic};
use self::pending::{Fate, Outcome, Pending};
pub(super) use self::task::start;
use super::{Subjects, health::Health, interest::header_length, servers::Servers};

/// NATS must confirm a push, or answer a question, within this.
const CONFIRM: Duration = Duration::from_secs(2);
/// Bytes that the socket has not taken yet; a caller beyond it waits.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// What one push counts besides its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 2 * 1024;

/// Whether a push may be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// NATS is away.
    Away,
    /// The connection is not proven yet, or moves to another server: pushes wait.
    Held,
    Open,
    /// NATS forbids what pushes to users need: their subjects, or this gateway's echo.
    Forbidden,
}

/// Why a message is not known to be with NATS, or a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// NATS is away: it was certainly not sent.
    Away,
    /// It may have been sent, or may be sent when NATS is back.
    Unknown,
    /// NATS forbids it: it was not published.
    Forbidden,
    /// NATS takes at most `limit` bytes: it was not published.
    TooLarge { size: usize, limit: usize },
}

/// Who publishes and asks over the connection.
pub(super) type Client = Arc<Connection>;

/// The connection.
#[derive(Debug)]
pub(super) struct Connection {
    nats: async_nats::Client,
    pub(super) subjects: Subjects,
    gate: watch::Sender<Gate>,
    servers: Servers,
    pending: Pending,
    bytes: Arc<Semaphore>,
    /// NATS forbids this connection to hear its echo.
    deaf: AtomicBool,
    /// NATS forbids this connection to speak to the other gateways, or to hear them.
    peers_forbidden: AtomicBool,
    peers_told: peers::Told,
    /// Changes when the other gateways' topics are to be asked for once more.
    peers_ask_again: watch::Sender<u64>,
    /// How often the connection has been made.
    lives: watch::Sender<u64>,
    health: Health,
}

/// A message to publish. Header values have no line breaks.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Bytes,
}

/// A message that was handed over, and what comes of it. Dropping it forgets its answers.
#[derive(Debug)]
pub(super) struct Sent {
    client: Client,
    size: usize,
    deadline: Instant,
    outcome: Outcome,
    bytes: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Hands a message over. If `answers` is not 0, it carries a reply subject, and at most
    /// `answers` answers are kept.
    ///
    /// # Errors
    ///
    /// Any [`Failure`] but `Unknown`. Dropping the future before it is done: nothing was
    /// handed over.
    pub(super) async fn send(
        self: &Arc<Self>,
        message: Outgoing,
        answers: usize,
    ) -> Result<Sent, Failure> {
        let sending = async {
            self.passes(&message.subject).await?;
            self.publish(message, answers).await
        };
        timeout(CONFIRM, sending)
            .await
            .unwrap_or(Err(Failure::Away))
    }

    /// Waits until a push can be handed over, or is known to be forbidden.
    pub(super) async fn ready(&self) -> bool {
        let mut gate = self.gate.subscribe();
        let ready = |gate: &Gate| matches!(gate, Gate::Open | Gate::Forbidden);
        matches!(gate.wait_for(ready).await.as_deref(), Ok(Gate::Open))
    }

    /// Whether a push can be handed over now.
    pub(super) fn is_open(&self) -> bool {
        *self.gate.borrow() == Gate::Open
    }

    /// Waits until the socket has what was handed over.
    pub(super) async fn flush(&self) {
        let _ = self.nats.flush().await;
    }

    /// Asks a question that has one answer.
    pub(super) async fn ask(self: &Arc<Self>, question: Outgoing) -> Result<Message, Failure> {
        self.send(question, 1).await?.answer().await
    }

    /// Publishes a message, whether or not pushes pass.
    async fn publish(self: &Arc<Self>, message: Outgoing, answers: usize) -> Result<Sent, Failure> {
        let deadline = Instant::now() + CONFIRM;
        let size = message.size();
        let permits = u32::try_from((size + OVERHEAD).min(MAX_BYTES)).unwrap_or(u32::MAX);
        let bytes = self.bytes.clone().acquire_many_owned(permits).await;
        let bytes = bytes.map_err(|_| Failure::Away)?;
        self.check_size(size)?;
        let mut sent = Sent {
            client: self.clone(),
            size,
            deadline,
            outcome: self.pending.add(&message.subject, answers),
            bytes: None,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &message.headers {
            headers.insert(*name, value.as_str());
        }
        let message = OutboundMessage {
            subject: message.subject.into(),
            reply: (answers > 0).then(|| self.pending.reply(sent.outcome.number).into()),
            headers: (!headers.is_empty()).then_some(headers),
            payload: message.payload,
        };
        let handed_over = self.nats.publish_message(message).await;
        handed_over.map_err(|_| Failure::Away)?;
        sent.bytes = Some(bytes);
        Ok(sent)
    }

    /// Checks the size of a message, its headers included, against what NATS takes.
    fn check_size(&self, size: usize) -> Result<(), Failure> {
        let limit = self.max_payload();
        match size > limit {
            true => Err(Failure::TooLarge { size, limit }),
            false => Ok(()),
        }
    }

    /// Bytes of a message that NATS takes at most, headers included.
    pub(super) fn max_payload(&self) -> usize {
        self.nats.max_payload().min(self.servers.max_payload())
    }

    /// Waits while messages are held. What NATS forbids is refused; the rest passes.
    async fn passes(&self, subject: &str) -> Result<(), Failure> {
        let mut gate = self.gate.subscribe();
        let passes = gate.wait_for(|gate| *gate != Gate::Held).await;
        match passes.map(|gate| *gate) {
            Ok(Gate::Open) => Ok(()),
            Ok(Gate::Forbidden) if self.is_concerned(subject) => Err(Failure::Forbidden),
            Ok(Gate::Forbidden) => Ok(()),
            _ => Err(Failure::Away),
        }
    }

    /// Whether a message needs the right that NATS was found to forbid: to publish to users, or
    /// to confirm what is published by an echo.
    fn is_concerned(&self, subject: &str) -> bool {
        let subjects = &self.subjects;
        let [_, topics] = subjects.named();
        let to_many = subject == subjects.broadcast() || subject.starts_with(&topics);
        self.is_of_user(subject) || to_many && self.deaf.load(Ordering::Relaxed)
    }

    /// Whether a subject is that of a user's messages.
    fn is_of_user(&self, subject: &str) -> bool {
        let [users, _] = self.subjects.named();
        subject.starts_with(&users)
    }

    /// Publishes an echo, for its own sake: others wait for it too.
    fn echo(self: &Arc<Self>, number: u64) {
        let client = self.clone();
        let mut publish = Box::pin(async move {
            let (subject, payload) = (client.subjects.echo(), number.to_string());
            // Where it fails nothing is confirmed, and the connection's task has ended.
            let _ = client.nats.publish(subject, payload.into()).await;
        });
        if (&mut publish).now_or_never().is_none() {
            tokio::spawn(publish);
        }
    }
}

impl Outgoing {
    /// A question to the gateways that hear this subject; `about` says what it asks.
    pub(super) fn probe(subject: String, about: Option<(&'static str, String)>) -> Self {
        let probe = ("Usher-Probe", "1".to_owned());
        Self {
            subject,
            headers: [probe].into_iter().chain(about).collect(),
            payload: Bytes::new(),
        }
    }

    /// Payload and headers, as `max_payload` counts them.
    pub(super) fn size(&self) -> usize {
        let headers = self.headers.iter();
        header_length(headers.map(|(name, value)| (*name, value.as_str()))) + self.payload.len()
    }
}

impl Sent {
    /// Waits until NATS has the message (live mode).
    ///
    /// # Errors
    ///
    /// Any [`Failure`] but `Away`.
    pub(super) async fn confirmed(&mut self) -> Result<(), Failure> {
        if let Some(echo) = self.client.pending.wants_echo(self.outcome.number) {
            self.client.echo(echo);
        }
        let known = self.outcome.fate.wait_for(|fate| *fate != Fate::UnderWay);
        let _ = timeout_at(self.deadline, known).await;
        let confirmed = match *self.outcome.fate.borrow() {
            Fate::Confirmed => Ok(()),
            _ => Err(self.failure()),
        };
        self.concluded(confirmed).await
    }

    /// The first answer.
    ///
    /// # Errors
    ///
    /// Any [`Failure`] but `Away`.
    pub(super) async fn answer(&mut self) -> Result<Message, Failure> {
        let answered = timeout_at(self.deadline, self.outcome.answers.recv()).await;
        let answered = match answered {
            Ok(Some(answer)) => Ok(*answer),
            _ => Err(self.failure()),
        };
        self.concluded(answered).await
    }

    /// The next answer; `None` if none can come any more. The caller bounds the time.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.outcome.answers.recv().await.map(|answer| *answer)
    }

    /// The next answer, where it is here already.
    pub(super) fn try_next(&mut self) -> Option<Message> {
        self.outcome.answers.try_recv().ok().map(|answer| *answer)
    }

    /// Whether NATS was heard to forbid it, perhaps after it seemed confirmed: its error may
    /// take longer to get here than the echo behind the message.
    pub(super) fn is_forbidden(&self) -> bool {
        *self.outcome.fate.borrow() == Fate::Forbidden
    }

    fn failure(&self) -> Failure {
        match self.is_forbidden() {
            true => Failure::Forbidden,
            false => Failure::Unknown,
        }
    }

    /// NATS closes the connection over a message that is too large, and says so. Then the limit
    /// that the next connection tells decides. Where NATS did not say so, the limit may have
    /// been another one when the message was published.
    async fn concluded<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if outcome.as_ref().err() != Some(&Failure::Unknown) {
            self.bytes = None;
            return outcome;
        }
        let maybe_too_large = *self.outcome.fate.borrow() == Fate::MaybeTooLarge;
        if maybe_too_large && timeout_at(self.deadline, self.client.ready()).await == Ok(true) {
            self.client.check_size(self.size)?;
        }
        outcome
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.client.pending.forget(self.outcome.number);
        // Its bytes may still wait for the socket.
        if let Some(bytes) = self.bytes.take() {
            let nats = self.client.nats.clone();
            tokio::spawn(async move {
                let _ = nats.flush().await;
                drop(bytes);
            });
        }
    }
}
