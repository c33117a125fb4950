//! The connection over which the stream is read: questions, each with the answers that come
//! for it.
//!
//! Each connection has an inbox of its own. So while the caller moves to another server no
//! answer can come twice: it comes on the connection on which its question was asked.
//!
//! What else is said and heard over the connection, for events of what nobody was given, is
//! in `feed`.

mod feed;

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{mpsc, watch};
use ulid::Ulid;

use self::feed::{Feed, PULLS};
pub(super) use self::feed::{Heard, Saying};
use super::StreamError;
use crate::bus::interest::{Link, News, Received, ServerMessage, Supervisor};

/// Questions that wait for their turn on the connection; a caller beyond it waits.
const QUEUE: usize = 1024;
/// Bytes written before the socket takes them; a caller beyond it waits.
const MAX_UNSENT: usize = 1024 * 1024;
/// Subscription id of the inbox.
const INBOX: u64 = 1;

/// Asks questions. Clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    jobs: mpsc::Sender<Job>,
    questions: Arc<Questions>,
    up: watch::Receiver<bool>,
}

#[derive(Debug)]
enum Job {
    Ask {
        subject: String,
        number: u64,
        body: Vec<u8>,
    },
    Say(Saying),
}

/// The open questions, by number, and the connection on which each was asked.
#[derive(Debug, Default)]
struct Questions {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Question>>,
}

#[derive(Debug)]
struct Question {
    /// None while it waits for its turn.
    asked_on: Option<Ulid>,
    answers: mpsc::Sender<ServerMessage>,
}

/// The answers to a question, as they come. Dropping it forgets the question.
pub(super) struct Replies {
    number: u64,
    questions: Arc<Questions>,
    answers: mpsc::Receiver<ServerMessage>,
}

impl Replies {
    /// The next one.
    ///
    /// # Errors
    ///
    /// The connection was lost, or more came than was asked for: no more can come.
    pub(super) async fn next(&mut self) -> Result<ServerMessage, StreamError> {
        self.answers.recv().await.ok_or(StreamError::Away)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.questions.open().remove(&self.number);
    }
}

impl Questions {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Question>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more comes on this connection; none: on any.
    fn lost(&self, connection: Option<Ulid>) {
        let mut open = self.open();
        open.retain(|_, question| connection.is_some() && question.asked_on != connection);
    }

    /// An answer came on a connection.
    fn answered(&self, connection: Ulid, message: ServerMessage, reply_prefix: &str) {
        let subject = std::str::from_utf8(&message.subject).unwrap_or_default();
        let number = subject.strip_prefix(&inbox(reply_prefix, connection));
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            return;
        };
        let mut open = self.open();
        let asked_here = |question: &Question| question.asked_on == Some(connection);
        if let Some(question) = open.get(&number).filter(|question| asked_here(question))
            && question.answers.try_send(message).is_err()
        {
            // One is missing now, so those that are here are of no use.
            open.remove(&number);
        }
    }
}

fn inbox(reply_prefix: &str, connection: Ulid) -> String {
    format!("{reply_prefix}{connection}.")
}

impl Caller {
    /// A caller, and what keeps its connection for as long as it is polled. The reader of the
    /// consumer, where there is one, hears by `heard`.
    pub(super) fn new(
        connection: Supervisor,
        reply_prefix: &str,
        heard: Option<mpsc::Sender<Heard>>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (is_up, up) = watch::channel(false);
        let questions = Arc::<Questions>::default();
        let task = Task {
            connection,
            reply_prefix: reply_prefix.to_owned(),
            questions: questions.clone(),
            is_up,
            feed: heard.map(Feed::new),
        };
        let caller = Self {
            jobs,
            questions,
            up,
        };
        (caller, task.run(queue))
    }

    /// Asks; at most `answers` are kept.
    ///
    /// # Errors
    ///
    /// The connection is away.
    pub(super) async fn ask(
        &self,
        subject: &str,
        body: &impl serde::Serialize,
        answers: usize,
    ) -> Result<Replies, StreamError> {
        if !*self.up.borrow() {
            return Err(StreamError::Away);
        }
        let (sender, receiver) = mpsc::channel(answers);
        let number = self.questions.next.fetch_add(1, Ordering::Relaxed);
        let question = Question {
            asked_on: None,
            answers: sender,
        };
        self.questions.open().insert(number, question);
        let replies = Replies {
            number,
            questions: self.questions.clone(),
            answers: receiver,
        };
        let job = Job::Ask {
            subject: subject.to_owned(),
            number,
            body: serde_json::to_vec(body).expect("such a value is always JSON"),
        };
        let sent = self.jobs.send(job).await;
        sent.map_err(|_| StreamError::Away)?;
        Ok(replies)
    }

    /// Says something when the connection has room for it.
    pub(super) async fn say(&self, saying: Saying) {
        // Where the task has ended, so does the process.
        let _ = self.jobs.send(Job::Say(saying)).await;
    }

    /// Whether there is a connection, and when that changes.
    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }
}

struct Task {
    connection: Supervisor,
    reply_prefix: String,
    questions: Arc<Questions>,
    is_up: watch::Sender<bool>,
    feed: Option<Feed>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        loop {
            let has_room = |link: &mut Link| link.unsent() < MAX_UNSENT;
            let room = self.connection.current().is_some_and(has_room);
            tokio::select! {
                news = poll_fn(|cx| self.connection.poll_next(cx)) => self.handle(news),
                job = queue.recv(), if room => match job {
                    Some(Job::Ask { subject, number, body }) => self.ask(&subject, number, &body),
                    Some(Job::Say(saying)) => self.say(saying),
                    None => return,
                },
            }
        }
    }

    fn handle(&mut self, news: News) {
        match news {
            News::Up => {
                if let Some(link) = self.connection.current() {
                    let inbox = inbox(&self.reply_prefix, link.id());
                    link.subscribe(INBOX, &format!("{inbox}*"));
                    if let Some(feed) = &mut self.feed {
                        feed.up(link, &inbox);
                    }
                    let info = link.info().clone();
                    let health = self.connection.health();
                    health.up(&info.server_name, &info.version);
                }
                self.is_up.send_replace(true);
            }
            News::Next => {
                if let Some(link) = self.connection.next() {
                    let inbox = inbox(&self.reply_prefix, link.id());
                    link.subscribe(INBOX, &format!("{inbox}*"));
                    if let Some(feed) = &mut self.feed {
                        feed.up(link, &inbox);
                    }
                }
                self.connection.promote();
            }
            News::Down => {
                self.is_up.send_replace(false);
                self.questions.lost(None);
                if let Some(feed) = &mut self.feed {
                    feed.lost();
                }
            }
            News::Ended(id) => self.questions.lost(Some(id)),
            News::Received(Received::Message(message)) => {
                let id = self.connection.current().map(|link| link.id());
                self.answered(id, message);
            }
            News::FromLeft(Received::Message(message)) => {
                let id = self.connection.left();
                self.answered(id, message);
            }
            News::Received(Received::Pong(window)) => {
                if let Some(feed) = &mut self.feed {
                    feed.pong(window, self.connection.current());
                }
            }
            News::FromLeft(Received::Pong(window)) => {
                if let Some(feed) = &mut self.feed {
                    feed.pong(window, None);
                }
            }
            News::Received(Received::Error(text)) | News::FromLeft(Received::Error(text)) => {
                if let Some(feed) = &self.feed {
                    feed.refused(&text);
                }
            }
            News::Received(_) | News::FromLeft(_) | News::FromNext(_) | News::NextLost => {}
        }
    }

    fn answered(&self, connection: Option<Ulid>, message: ServerMessage) {
        if message.sid == PULLS {
            if let Some(feed) = &self.feed {
                feed.message(message);
            }
        } else if let Some(connection) = connection {
            self.questions
                .answered(connection, message, &self.reply_prefix);
        }
    }

    fn ask(&mut self, subject: &str, number: u64, body: &[u8]) {
        let Some(link) = self.connection.current() else {
            return;
        };
        // A caller that has gone needs no answer.
        if let Some(question) = self.questions.open().get_mut(&number) {
            question.asked_on = Some(link.id());
            let reply = format!("{}{number}", inbox(&self.reply_prefix, link.id()));
            link.publish(subject, Some(&reply), &[], body);
        }
    }
}
