//! Pushes on their way out, each told what became of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Config,
    requests::{Answer, Answers, Questions},
    wire::{ServerMessage, header_length},
};
use crate::{message::EventName, user::UserId};

/// Pushes waiting for their turn on the connection; a caller beyond it waits.
const QUEUE: usize = 1024;
/// NATS must confirm within this.
const CONFIRM: Duration = Duration::from_secs(2);
/// The first answer of a gateway must come within this.
const FIRST_RECEIPT: Duration = Duration::from_millis(250);
/// The others' must come within this of the first.
const MORE_RECEIPTS: Duration = Duration::from_millis(50);
/// Gateways whose answers to one push are kept.
const MAX_RECEIPTS: usize = 256;

/// One message to one user.
#[derive(Debug, Clone)]
pub struct Push {
    /// Whose sessions get it.
    pub user: UserId,
    /// The `Event` header; none for `message`.
    pub event: Option<EventName>,
    /// The `Nats-Msg-Id` header; printable ASCII.
    pub message_id: Option<String>,
    /// The message's bytes.
    pub payload: Bytes,
}

impl Push {
    /// The headers that NATS gets.
    pub(super) fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = Vec::new();
        if let Some(event) = &self.event {
            headers.push(("Event", event.as_str()));
        }
        if let Some(id) = &self.message_id {
            headers.push(("Nats-Msg-Id", id));
        }
        headers
    }
}

/// What gateways answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// So many sessions, at least one, have it queued.
    Queued(u32),
    /// Nobody has.
    Offline,
}

/// Why a push is not known to be with NATS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Certainly not published.
    #[error("NATS is away; nothing was published")]
    Unavailable,
    /// Published or not: nobody can say.
    #[error("NATS has not confirmed the message; whether it was published is unknown")]
    Unconfirmed,
    /// Certainly not published.
    #[error("NATS does not permit this gateway to publish there")]
    Forbidden,
    /// Certainly not stored, in the stream's own words.
    #[error("the stream did not store the message: {0}")]
    NotStored(String),
    /// Certainly not published.
    #[error("the message has {size} bytes with its headers; the NATS server takes at most {limit}")]
    TooLarge {
        /// Of payload and headers.
        size: usize,
        /// `max_payload` of the server.
        limit: usize,
    },
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where it is in the stream; none in live mode.
    pub seq: Option<u64>,
    /// What gateways answered, where that was asked for.
    pub receipt: Option<Receipt>,
}

/// Hands pushes to the connection's task.
#[derive(Debug, Clone)]
pub struct Publisher {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    /// The stream that acknowledges what is published.
    stream: Option<Arc<str>>,
    /// Told where there is none.
    gone: Arc<Notify>,
}

/// Something on its way to whoever carries it out.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) reply: Option<String>,
    pub(super) done: oneshot::Sender<Result<(), PublishError>>,
}

/// What is to be published.
#[derive(Debug)]
pub(super) enum Task {
    /// A message to a user.
    Push(Push),
    /// The question who has everything up to this sequence of the user's stream.
    Probe(UserId, u64),
}

/// What callers and whoever carries pushes out have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) questions: Questions,
    /// The largest message taken; 0 while none is.
    pub(super) max_payload: AtomicUsize,
}

impl Publisher {
    /// A publisher, and where what it is given comes out.
    pub(super) fn new(
        config: &Config,
        gone: Arc<Notify>,
    ) -> (Self, mpsc::Receiver<Job>, Arc<Shared>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            questions: Questions::new(&config.reply_prefix),
            max_payload: AtomicUsize::new(0),
        });
        let publisher = Self {
            jobs,
            shared: shared.clone(),
            stream: config.stream.as_ref().map(|stream| stream.name[..].into()),
            gone,
        };
        (publisher, queue, shared)
    }

    /// Publishes; returns when NATS has confirmed, or the stream has stored it. With
    /// `receipt` what the gateways that hold the user answer is gathered too.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says whether the message can still arrive.
    pub async fn publish(&self, push: Push, receipt: bool) -> Result<Published, PublishError> {
        if let Some(stream) = &self.stream {
            let user = push.user.clone();
            let Stored { seq, duplicate } = self.store(push, stream).await?;
            let receipt = match receipt && !duplicate {
                // Whatever becomes of the question, the message is stored.
                true => Some(self.probe(user, seq).await.unwrap_or(Receipt::Offline)),
                // Who has it was asked when it came for the first time.
                false => None,
            };
            return Ok(Published {
                seq: Some(seq),
                receipt,
            });
        }
        let receipt = match receipt {
            true => Some(self.ask(Task::Push(push)).await?),
            false => {
                self.submit(Task::Push(push), None).await?;
                None
            }
        };
        Ok(Published { seq: None, receipt })
    }

    /// Publishes, and waits for the stream's word; of a duplicate that is the first
    /// one's.
    async fn store(&self, push: Push, stream: &str) -> Result<Stored, PublishError> {
        let deadline = Instant::now() + CONFIRM;
        let mut answers = self.shared.questions.ask(1);
        let submitted = self.submit(Task::Push(push), Some(answers.reply())).await;
        let answer = match submitted {
            Ok(()) => timeout_at(deadline, answers.next()).await.ok().flatten(),
            Err(PublishError::Unconfirmed) => answers.try_next(),
            Err(error) => return Err(error),
        };
        match answer {
            Some(Answer::Message(message)) if message.headers.status() == Some(503) => {
                self.gone.notify_one();
                let nobody = "no stream captures it; see `usher check`";
                Err(PublishError::NotStored(nobody.to_owned()))
            }
            Some(Answer::Message(message)) => acknowledged(&message, stream),
            _ => Err(PublishError::Unconfirmed),
        }
    }

    async fn probe(&self, user: UserId, seq: u64) -> Result<Receipt, PublishError> {
        self.ask(Task::Probe(user, seq)).await
    }

    /// Publishes, and gathers what gateways answer.
    async fn ask(&self, task: Task) -> Result<Receipt, PublishError> {
        let mut answers = self.shared.questions.ask(MAX_RECEIPTS);
        // The times count from NATS's confirmation; answers before it are kept.
        match self.submit(task, Some(answers.reply())).await {
            Ok(()) => Ok(receipts(&mut answers).await),
            // Whoever has it got it from NATS.
            Err(PublishError::Unconfirmed) => match answers.try_next().and_then(sessions) {
                Some(sessions) => Ok(Receipt::Queued(sessions)),
                None => Err(PublishError::Unconfirmed),
            },
            Err(error) => Err(error),
        }
    }

    async fn submit(&self, task: Task, reply: Option<String>) -> Result<(), PublishError> {
        let limit = match self.shared.max_payload.load(Ordering::Relaxed) {
            0 => return Err(PublishError::Unavailable),
            limit => limit,
        };
        if let Task::Push(push) = &task {
            let size = header_length(&push.headers()) + push.payload.len();
            if size > limit {
                return Err(PublishError::TooLarge { size, limit });
            }
        }
        let deadline = Instant::now() + CONFIRM;
        let (done, outcome) = oneshot::channel();
        let job = Job { task, reply, done };
        match timeout_at(deadline, self.jobs.send(job)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(PublishError::Unavailable),
        }
        match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(PublishError::Unconfirmed),
        }
    }
}

async fn receipts(answers: &mut Answers) -> Receipt {
    let first = timeout(FIRST_RECEIPT, answers.next()).await.ok().flatten();
    let Some(mut sum) = first.and_then(sessions) else {
        return Receipt::Offline;
    };
    let until = Instant::now() + MORE_RECEIPTS;
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        sum = sum.saturating_add(sessions(answer).unwrap_or(0));
    }
    Receipt::Queued(sum)
}

/// How many sessions a gateway answered that it has; none where it is no gateway that
/// answers, or nobody.
fn sessions(answer: Answer) -> Option<u32> {
    #[derive(Deserialize)]
    struct Body {
        sessions: u32,
    }
    match answer {
        Answer::Sessions(sessions) => Some(sessions),
        Answer::NoResponders => None,
        Answer::Message(message) => {
            let body: Option<Body> = serde_json::from_slice(&message.payload).ok();
            body.map(|body| body.sessions)
        }
    }
}

/// Where a message is.
struct Stored {
    seq: u64,
    /// It was there already.
    duplicate: bool,
}

/// A stream's acknowledgement: `{"stream":…,"seq":…}` or `{"error":…}`, as JetStream's
/// API has it.
fn acknowledged(answer: &ServerMessage, stream: &str) -> Result<Stored, PublishError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        stream: String,
        seq: Option<u64>,
        #[serde(default)]
        duplicate: bool,
        error: Option<Refusal>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        description: String,
    }
    let body: Result<Body, _> = serde_json::from_slice(&answer.payload);
    match body {
        Ok(Body {
            error: Some(refusal),
            ..
        }) => Err(PublishError::NotStored(refusal.description)),
        Ok(body) if body.stream != stream => Err(PublishError::NotStored(format!(
            "the stream {:?} captures it, and durable.stream is {stream:?}",
            body.stream
        ))),
        Ok(Body {
            seq: Some(seq),
            duplicate,
            ..
        }) => Ok(Stored { seq, duplicate }),
        _ => Err(PublishError::Unconfirmed),
    }
}
