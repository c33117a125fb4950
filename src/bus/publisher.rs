//! Pushes on their way out, each told what became of it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{Config, wire::header_length};
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
    /// Certainly not published.
    #[error("the message has {size} bytes with its headers; the NATS server takes at most {limit}")]
    TooLarge {
        /// Of payload and headers.
        size: usize,
        /// `max_payload` of the server.
        limit: usize,
    },
}

/// Hands pushes to the connection's task.
#[derive(Debug, Clone)]
pub struct Publisher {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

/// A push on its way to whoever carries it out.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) push: Push,
    pub(super) reply: Option<String>,
    pub(super) done: oneshot::Sender<Result<(), PublishError>>,
}

/// What callers and whoever carries pushes out have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// `PREFIX.ID.`, before the number of a question.
    pub(super) inbox: String,
    next_question: AtomicU64,
    questions: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
    /// The largest message taken; 0 while none is.
    pub(super) max_payload: AtomicUsize,
}

#[derive(Debug)]
pub(super) enum Answer {
    NoResponders,
    Sessions(u32),
}

impl Publisher {
    /// A publisher, and where what it is given comes out.
    pub(super) fn new(config: &Config) -> (Self, mpsc::Receiver<Job>, Arc<Shared>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            inbox: format!("{}{}.", config.reply_prefix, ulid::Ulid::new()),
            next_question: AtomicU64::new(0),
            questions: Mutex::default(),
            max_payload: AtomicUsize::new(0),
        });
        let publisher = Self {
            jobs,
            shared: shared.clone(),
        };
        (publisher, queue, shared)
    }

    /// Publishes; returns when NATS has confirmed.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says whether the message can still arrive.
    pub async fn publish(&self, push: Push) -> Result<(), PublishError> {
        self.submit(push, None).await
    }

    /// Publishes, and gathers what the gateways that hold the user answer.
    ///
    /// # Errors
    ///
    /// As [`Publisher::publish`].
    pub async fn publish_with_receipt(&self, push: Push) -> Result<Receipt, PublishError> {
        let (question, mut answers) = self.ask();
        let reply = format!("{}{}", self.shared.inbox, question.number);
        let receipts = async |answers: &mut mpsc::Receiver<Answer>| {
            let Ok(Some(Answer::Sessions(first))) = timeout(FIRST_RECEIPT, answers.recv()).await
            else {
                return Receipt::Offline;
            };
            let until = Instant::now() + MORE_RECEIPTS;
            let mut sessions = first;
            while let Ok(Some(answer)) = timeout_at(until, answers.recv()).await {
                if let Answer::Sessions(more) = answer {
                    sessions = sessions.saturating_add(more);
                }
            }
            Receipt::Queued(sessions)
        };
        // The times count from NATS's confirmation; answers before it are kept.
        match self.submit(push, Some(reply)).await {
            Ok(()) => Ok(receipts(&mut answers).await),
            // Whoever has it got it from NATS.
            Err(PublishError::Unconfirmed) => match answers.try_recv() {
                Ok(Answer::Sessions(sessions)) => Ok(Receipt::Queued(sessions)),
                _ => Err(PublishError::Unconfirmed),
            },
            Err(error) => Err(error),
        }
    }

    async fn submit(&self, push: Push, reply: Option<String>) -> Result<(), PublishError> {
        let limit = match self.shared.max_payload.load(Ordering::Relaxed) {
            0 => return Err(PublishError::Unavailable),
            limit => limit,
        };
        let size = header_length(&push.headers()) + push.payload.len();
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let deadline = Instant::now() + CONFIRM;
        let (done, outcome) = oneshot::channel();
        let job = Job { push, reply, done };
        match timeout_at(deadline, self.jobs.send(job)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(PublishError::Unavailable),
        }
        match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(PublishError::Unconfirmed),
        }
    }

    fn ask(&self) -> (Question, mpsc::Receiver<Answer>) {
        let number = self.shared.next_question.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(MAX_RECEIPTS);
        self.shared.questions().insert(number, sender);
        let question = Question {
            number,
            shared: self.shared.clone(),
        };
        (question, receiver)
    }
}

/// A question is forgotten when nobody waits for its answers any more.
struct Question {
    number: u64,
    shared: Arc<Shared>,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.shared.questions().remove(&self.number);
    }
}

impl Shared {
    fn questions(&self) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::Sender<Answer>>> {
        self.questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer came on this subject.
    pub(super) fn answered(&self, subject: &str, answer: Answer) {
        let number = subject
            .strip_prefix(&self.inbox)
            .and_then(|number| number.parse().ok());
        let Some(number) = number else { return };
        if let Some(question) = self.questions().get(&number) {
            // Full: more gateways than a sum is worth waiting for.
            let _ = question.try_send(answer);
        }
    }
}

impl Answer {
    /// Reads a gateway's answer.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            sessions: u32,
        }
        let body: Body = serde_json::from_slice(payload).ok()?;
        Some(Self::Sessions(body.sessions))
    }
}
