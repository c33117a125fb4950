//! The connection for what the gateway itself says and asks, by async-nats: pushes and
//! their receipts, questions to JetStream.
//!
//! async-nats keeps across a reconnect what it was given, and sends it then. So a push is
//! handed over only while the connection is proven to work ([`Gate`]): a push that was not
//! handed over is certainly not published. One that was is published when its echo has
//! come back (live mode), or when the stream has acknowledged it (durable mode).

mod echoes;
mod options;
mod pending;
mod task;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use async_nats::{HeaderMap, Message, client::traits::Publisher as _, message::OutboundMessage};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, timeout, timeout_at},
};

pub(super) use self::task::start;
use self::{
    echoes::Echoes,
    pending::{Arrival, Pending},
};
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
    /// NATS forbids what every push needs.
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

/// The connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nats: async_nats::Client,
    subjects: Subjects,
    gate: watch::Sender<Gate>,
    servers: Servers,
    pending: Pending,
    echoes: Echoes,
    bytes: Arc<Semaphore>,
    /// NATS forbids this connection to hear its echo.
    deaf: AtomicBool,
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
    number: u64,
    size: usize,
    deadline: Instant,
    arrivals: mpsc::Receiver<Arrival>,
    /// Answers that came before the echo did.
    early: VecDeque<Message>,
    forbidden: bool,
    bytes: Option<OwnedSemaphorePermit>,
}

impl Client {
    /// The largest message that NATS takes, headers included.
    fn max_payload(&self) -> usize {
        let Shared { nats, servers, .. } = &*self.0;
        nats.max_payload().min(servers.max_payload())
    }

    pub(super) fn subjects(&self) -> &Subjects {
        &self.0.subjects
    }

    /// Hands a message over; with `answers` it carries a reply subject, and so many answers
    /// are kept.
    ///
    /// # Errors
    ///
    /// Any [`Failure`] but `Unknown`. Dropping the future before it is done: nothing was
    /// handed over.
    pub(super) async fn send(&self, message: Outgoing, answers: usize) -> Result<Sent, Failure> {
        let sending = async {
            self.0.passes().await?;
            self.publish(message, answers).await
        };
        timeout(CONFIRM, sending)
            .await
            .unwrap_or(Err(Failure::Away))
    }

    /// Waits until a push can be handed over, or is known to be forbidden.
    pub(super) async fn ready(&self) -> bool {
        let mut gate = self.0.gate.subscribe();
        let ready = |gate: &Gate| matches!(gate, Gate::Open | Gate::Forbidden);
        matches!(gate.wait_for(ready).await.as_deref(), Ok(Gate::Open))
    }

    /// Asks a question that has one answer.
    pub(super) async fn ask(&self, question: Outgoing) -> Result<Message, Failure> {
        self.send(question, 1).await?.answer().await
    }

    /// The same, whether or not pushes pass.
    async fn publish(&self, message: Outgoing, answers: usize) -> Result<Sent, Failure> {
        let shared = &self.0;
        let deadline = Instant::now() + CONFIRM;
        let size = message.size();
        let permits = u32::try_from((size + OVERHEAD).min(MAX_BYTES)).unwrap_or(u32::MAX);
        let bytes = shared.bytes.clone().acquire_many_owned(permits).await;
        let bytes = bytes.map_err(|_| Failure::Away)?;
        self.check_size(size)?;
        let (number, arrivals) = shared.pending.add(&message.subject, answers);
        let mut sent = Sent {
            client: self.clone(),
            number,
            size,
            deadline,
            arrivals,
            early: VecDeque::new(),
            forbidden: false,
            bytes: None,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &message.headers {
            headers.insert(*name, value.as_str());
        }
        let message = OutboundMessage {
            subject: message.subject.into(),
            reply: (answers > 0).then(|| shared.pending.reply(number).into()),
            headers: (!headers.is_empty()).then_some(headers),
            payload: message.payload,
        };
        let handed_over = shared.nats.publish_message(message).await;
        handed_over.map_err(|_| Failure::Away)?;
        sent.bytes = Some(bytes);
        Ok(sent)
    }

    fn check_size(&self, size: usize) -> Result<(), Failure> {
        let limit = self.max_payload();
        match size > limit {
            true => Err(Failure::TooLarge { size, limit }),
            false => Ok(()),
        }
    }
}

impl Shared {
    /// Waits while pushes are held.
    async fn passes(&self) -> Result<(), Failure> {
        let mut gate = self.gate.subscribe();
        let passes = gate.wait_for(|gate| *gate != Gate::Held).await;
        match passes.map(|gate| *gate) {
            Ok(Gate::Open) => Ok(()),
            Ok(Gate::Forbidden) => Err(Failure::Forbidden),
            _ => Err(Failure::Away),
        }
    }

    /// Publishes an echo, for its own sake: others wait for it too.
    fn echo(self: &Arc<Self>, number: u64) {
        let shared = self.clone();
        let publish = async move {
            let subject = shared.subjects.echo();
            // Where it fails nothing is confirmed, and the connection's task has ended.
            let _ = shared
                .nats
                .publish(subject, number.to_string().into())
                .await;
        };
        let mut publish = Box::pin(publish);
        if (&mut publish).now_or_never().is_none() {
            tokio::spawn(publish);
        }
    }
}

impl Outgoing {
    /// Payload and headers, as `max_payload` counts them.
    fn size(&self) -> usize {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        header_length(headers) + self.payload.len()
    }
}

impl Sent {
    /// Waits until NATS has the message (live mode).
    ///
    /// # Errors
    ///
    /// Any [`Failure`] but `Away`.
    pub(super) async fn confirmed(&mut self) -> Result<(), Failure> {
        let client = self.client.clone();
        let confirming = async {
            if let Some(echo) = client.0.echoes.join(self.number) {
                client.0.echo(echo);
            }
            loop {
                match self.arrivals.recv().await {
                    Some(Arrival::Echo) => return Ok(()),
                    Some(Arrival::Answer(answer)) => self.early.push_back(*answer),
                    Some(Arrival::Forbidden) => return Err(Failure::Forbidden),
                    Some(Arrival::Lost) | None => return Err(Failure::Unknown),
                }
            }
        };
        let confirmed = timeout_at(self.deadline, confirming).await;
        self.concluded(confirmed.unwrap_or(Err(Failure::Unknown)))
            .await
    }

    /// The first answer.
    ///
    /// # Errors
    ///
    /// Any [`Failure`] but `Away`.
    pub(super) async fn answer(&mut self) -> Result<Message, Failure> {
        if let Some(early) = self.early.pop_front() {
            return Ok(early);
        }
        let answered = timeout_at(self.deadline, async {
            match self.arrivals.recv().await {
                Some(Arrival::Answer(answer)) => Ok(*answer),
                Some(Arrival::Forbidden) => Err(Failure::Forbidden),
                Some(Arrival::Echo | Arrival::Lost) | None => Err(Failure::Unknown),
            }
        });
        let answered = answered.await.unwrap_or(Err(Failure::Unknown));
        self.concluded(answered).await
    }

    /// The next answer; none where none can come any more. The caller bounds the time.
    pub(super) async fn next(&mut self) -> Option<Message> {
        if let Some(answer) = self.early.pop_front() {
            return Some(answer);
        }
        match self.arrivals.recv().await {
            Some(Arrival::Answer(answer)) => Some(*answer),
            Some(Arrival::Forbidden) => {
                self.forbidden = true;
                None
            }
            _ => None,
        }
    }

    /// Whether NATS was heard to forbid it after it seemed confirmed: its error may take
    /// longer to get here than the echo behind the message.
    pub(super) fn is_forbidden(&self) -> bool {
        self.forbidden
    }

    /// The next answer, where it is here already.
    pub(super) fn try_next(&mut self) -> Option<Message> {
        self.next().now_or_never().flatten()
    }

    /// NATS closes the connection over a message that is too large. So where it was lost,
    /// the limit that the next connection tells decides.
    async fn concluded<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if outcome.as_ref().err() != Some(&Failure::Unknown) {
            self.bytes = None;
            return outcome;
        }
        if let Ok(true) = timeout_at(self.deadline, self.client.ready()).await {
            self.client.check_size(self.size)?;
        }
        outcome
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.client.0.pending.forget(self.number);
        // Its bytes may still wait for the socket.
        if let Some(bytes) = self.bytes.take() {
            let nats = self.client.0.nats.clone();
            tokio::spawn(async move {
                let _ = nats.flush().await;
                drop(bytes);
            });
        }
    }
}
