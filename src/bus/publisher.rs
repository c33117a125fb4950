//! Pushes on their way out, each told what became of it.
//!
//! A push counts as done when NATS has answered a PING that was sent after it.
//! A push that never reached the socket is known not to be published; one that
//! did, and was not confirmed, is of unknown outcome.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
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

use super::{
    Config,
    dial::Dialer,
    link::{Link, Received},
    subject::Subjects,
    wire::{ServerMessage, header_length},
};
use crate::{message::EventName, user::UserId};

/// Pushes waiting for their turn on the connection; a caller beyond it waits.
const QUEUE: usize = 1024;
/// Pushes written before the first of them is confirmed.
const MAX_UNCONFIRMED: usize = 4096;
/// Bytes written before the socket takes them; a caller beyond it waits.
const MAX_UNSENT: usize = 4 * 1024 * 1024;
/// NATS must confirm within this.
const CONFIRM: Duration = Duration::from_secs(2);
/// The first answer of a gateway must come within this.
const FIRST_RECEIPT: Duration = Duration::from_millis(250);
/// The others' must come within this of the first.
const MORE_RECEIPTS: Duration = Duration::from_millis(50);
/// Gateways whose answers to one push are kept.
const MAX_RECEIPTS: usize = 256;
/// Subscription id of the inbox.
const INBOX: u64 = 1;

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

#[derive(Debug)]
struct Shared {
    subjects: Subjects,
    /// `PREFIX.ID.`, before the number of a question.
    inbox: String,
    next_question: AtomicU64,
    questions: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
    /// The connected server's limit; 0 while none is connected.
    max_payload: AtomicUsize,
}

#[derive(Debug)]
struct Job {
    subject: String,
    reply: Option<String>,
    push: Push,
    done: oneshot::Sender<Result<(), PublishError>>,
}

#[derive(Debug)]
enum Answer {
    NoResponders,
    Sessions(u32),
}

impl Publisher {
    /// Connects in a task of its own, which ends with the last clone.
    pub fn start(config: Config) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            subjects: Subjects::new(&config.prefix),
            inbox: format!("{}{}.", config.reply_prefix, ulid::Ulid::new()),
            next_question: AtomicU64::new(0),
            questions: Mutex::default(),
            max_payload: AtomicUsize::new(0),
        });
        tokio::spawn(run(Dialer::new(config), queue, shared.clone()));
        Self { jobs, shared }
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
        let receipts = async {
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
        let (confirmed, receipt) = tokio::join!(self.submit(push, Some(reply)), receipts);
        match (confirmed, receipt) {
            // Whoever has it got it from NATS.
            (Ok(()) | Err(PublishError::Unconfirmed), Receipt::Queued(n)) => Ok(Receipt::Queued(n)),
            (confirmed, receipt) => confirmed.map(|()| receipt),
        }
    }

    async fn submit(&self, push: Push, reply: Option<String>) -> Result<(), PublishError> {
        let limit = match self.shared.max_payload.load(Ordering::Relaxed) {
            0 => return Err(PublishError::Unavailable),
            limit => limit,
        };
        let size = header_length(&headers(&push)) + push.payload.len();
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let deadline = Instant::now() + CONFIRM;
        let (done, outcome) = oneshot::channel();
        let job = Job {
            subject: self.shared.subjects.user(&push.user),
            reply,
            push,
            done,
        };
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

    fn answered(&self, message: &ServerMessage) {
        let number = std::str::from_utf8(&message.subject)
            .ok()
            .and_then(|subject| subject.strip_prefix(&self.inbox)?.parse().ok());
        let Some(number) = number else { return };
        let answer = if message.headers.status() == Some(503) {
            Answer::NoResponders
        } else {
            #[derive(Deserialize)]
            struct Body {
                sessions: u32,
            }
            match serde_json::from_slice::<Body>(&message.payload) {
                Ok(body) => Answer::Sessions(body.sessions),
                Err(_) => return,
            }
        };
        if let Some(question) = self.questions().get(&number) {
            // Full: more gateways than a sum is worth waiting for.
            let _ = question.try_send(answer);
        }
    }
}

fn headers(push: &Push) -> Vec<(&str, &str)> {
    let mut headers = Vec::new();
    if let Some(event) = &push.event {
        headers.push(("Event", event.as_str()));
    }
    if let Some(id) = &push.message_id {
        headers.push(("Nats-Msg-Id", id));
    }
    headers
}

async fn run(mut dialer: Dialer, mut queue: mpsc::Receiver<Job>, shared: Arc<Shared>) {
    loop {
        let dialing = dialer.dial();
        tokio::pin!(dialing);
        let link = loop {
            tokio::select! {
                (returned, link) = &mut dialing => {
                    dialer = returned;
                    break link;
                }
                job = queue.recv() => match job {
                    Some(job) => { let _ = job.done.send(Err(PublishError::Unavailable)); }
                    None => return,
                },
            }
        };
        dialer.learn(link.info());
        shared
            .max_payload
            .store(link.info().max_payload, Ordering::Relaxed);
        let stopped = serve(link, &mut queue, &shared).await;
        shared.max_payload.store(0, Ordering::Relaxed);
        if stopped {
            return;
        }
    }
}

/// A push that NATS may have, until a PONG says that it has.
struct Unconfirmed {
    subject: String,
    /// None where the push was refused already.
    done: Option<oneshot::Sender<Result<(), PublishError>>>,
}

/// Serves one connection; true when no caller is left.
async fn serve(mut link: Link, queue: &mut mpsc::Receiver<Job>, shared: &Shared) -> bool {
    link.subscribe(INBOX, &format!("{}*", shared.inbox));
    let mut unconfirmed: VecDeque<Unconfirmed> = VecDeque::new();
    loop {
        tokio::select! {
            received = poll_fn(|cx| link.poll_next(cx)) => match received {
                Ok(Received::Message(message)) => shared.answered(&message),
                Ok(Received::Pong) => {
                    if let Some(done) = unconfirmed.pop_front().and_then(|push| push.done) {
                        let _ = done.send(Ok(()));
                    }
                }
                Ok(Received::Error(text)) => refused(&text, &mut unconfirmed),
                Ok(Received::Info(_)) => {}
                // Dropping what is unconfirmed says so to its callers.
                Err(error) => {
                    tracing::warn!(%error, "the publishing connection to NATS is lost; reconnecting");
                    return false;
                }
            },
            job = queue.recv(), if unconfirmed.len() < MAX_UNCONFIRMED && link.unsent() < MAX_UNSENT => match job {
                // A caller that has gone was told that nothing is certain; what
                // can still be held back is.
                Some(job) if job.done.is_closed() => {}
                Some(job) => {
                    let headers = headers(&job.push);
                    link.publish(&job.subject, job.reply.as_deref(), &headers, &job.push.payload);
                    link.ping();
                    unconfirmed.push_back(Unconfirmed {
                        subject: job.subject,
                        done: Some(job.done),
                    });
                }
                None => return true,
            },
        }
    }
}

/// NATS sends an `-ERR` before the PONG that would confirm the same push.
fn refused(text: &str, unconfirmed: &mut VecDeque<Unconfirmed>) {
    tracing::warn!(error = text, "NATS refused an operation");
    let Some((_, subject)) = text.split_once("for Publish to ") else {
        return;
    };
    let subject = subject.split('"').nth(1).unwrap_or_default();
    let mut of_subject = unconfirmed
        .iter_mut()
        .filter(|push| push.subject == subject);
    if let Some(done) = of_subject.find_map(|push| push.done.take()) {
        let _ = done.send(Err(PublishError::Forbidden));
    }
}
