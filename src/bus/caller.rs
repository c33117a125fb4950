//! A connection on which questions are asked whose answers hold anyone's bytes: reads of
//! stored messages, and calls of clients.
//!
//! Each connection has an inbox of its own. So while the caller moves to another server no
//! answer can come twice: it comes on the connection on which its question was asked.
//!
//! What else is said and heard over the connection of the stream, for events of what nobody
//! was given, is in `feed`.

mod feed;
mod inbox;
mod questions;

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use ulid::Ulid;

use self::{
    feed::{Feed, PULLS},
    inbox::inbox,
    questions::{Answers, Open, Questions},
};
pub(super) use self::{
    feed::{Heard, Saying},
    questions::Unanswered,
};
use super::{
    client::Outgoing,
    interest::{News, Received, ServerMessage, Supervisor},
};

/// Questions that wait for their turn on the connection; a caller beyond it waits.
const QUEUE: usize = 1024;

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
        number: u64,
        request: Outgoing,
        /// Whether an answer is wanted.
        answered: bool,
    },
    Say(Saying),
}

/// The answers to a question, as they come. Dropping it forgets the question.
pub(super) struct Replies {
    _open: Open,
    answers: mpsc::Receiver<Result<ServerMessage, Unanswered>>,
}

impl Replies {
    /// The next one.
    ///
    /// # Errors
    ///
    /// `Lost`: the connection was lost, or more came than was asked for. `Forbidden`. No more can
    /// come.
    pub(super) async fn next(&mut self) -> Result<ServerMessage, Unanswered> {
        self.answers.recv().await.unwrap_or(Err(Unanswered::Lost))
    }
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
            queue,
            reply_prefix: reply_prefix.to_owned(),
            inbox: Default::default(),
            questions: questions.clone(),
            is_up,
            feed: heard.map(Feed::new),
        };
        let caller = Self {
            jobs,
            questions,
            up,
        };
        (caller, task.run())
    }

    /// Asks; at most `answers` are kept.
    ///
    /// # Errors
    ///
    /// `Away`
    pub(super) async fn ask(
        &self,
        subject: &str,
        body: &impl serde::Serialize,
        answers: usize,
    ) -> Result<Replies, Unanswered> {
        if !*self.up.borrow() {
            return Err(Unanswered::Away);
        }
        let (answer, answers) = mpsc::channel(answers);
        let open = self.questions.add(Answers::Many {
            subject: subject.into(),
            answer,
        });
        let body = serde_json::to_vec(body).expect("such a value is always JSON");
        let job = Job::Ask {
            number: open.number,
            request: Outgoing {
                subject: subject.to_owned(),
                payload: body.into(),
                ..Outgoing::default()
            },
            answered: true,
        };
        self.jobs.send(job).await.map_err(|_| Unanswered::Away)?;
        let _open = open;
        Ok(Replies { _open, answers })
    }

    /// Asks, and returns the first answer. Dropping the future forgets the question; it may
    /// have been asked.
    ///
    /// # Errors
    ///
    /// [`Unanswered`]
    pub(super) async fn request(
        &self,
        request: Outgoing,
        deadline: Instant,
    ) -> Result<ServerMessage, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let subject = request.subject.as_str().into();
        let answers = Answers::One { subject, answer };
        self.hand_over(request, (answers, answered), deadline).await
    }

    /// Publishes, and returns when the message is written to the connection.
    ///
    /// # Errors
    ///
    /// [`Unanswered`]; never `TimedOut` or `Forbidden`.
    pub(super) async fn publish(
        &self,
        request: Outgoing,
        deadline: Instant,
    ) -> Result<(), Unanswered> {
        let (done, written) = oneshot::channel();
        let answers = Answers::Written(done);
        self.hand_over(request, (answers, written), deadline).await
    }

    async fn hand_over<T>(
        &self,
        request: Outgoing,
        (answers, mut answer): (Answers, oneshot::Receiver<Result<T, Unanswered>>),
        deadline: Instant,
    ) -> Result<T, Unanswered> {
        if !*self.up.borrow() {
            return Err(Unanswered::Away);
        }
        let answered = matches!(answers, Answers::One { .. });
        let open = self.questions.add(answers);
        let job = Job::Ask {
            number: open.number,
            request,
            answered,
        };
        let asking = async {
            let sent = self.jobs.send(job).await;
            sent.map_err(|_| Unanswered::Away)?;
            (&mut answer).await.unwrap_or(Err(Unanswered::Lost))
        };
        match timeout_at(deadline, asking).await {
            Ok(outcome) => outcome,
            Err(_) => match open.forget() {
                // It never will be.
                Some(false) => Err(Unanswered::Away),
                Some(true) => Err(Unanswered::TimedOut),
                None => answer.try_recv().unwrap_or(Err(Unanswered::TimedOut)),
            },
        }
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

/// What the task does next.
enum Next {
    News(News),
    /// `None`: nobody can ask any more.
    Job(Option<Job>),
}

struct Task {
    connection: Supervisor,
    queue: mpsc::Receiver<Job>,
    reply_prefix: String,
    /// The connection on which the last answer came, and what its inbox begins with.
    inbox: (Ulid, String),
    questions: Arc<Questions>,
    is_up: watch::Sender<bool>,
    feed: Option<Feed>,
}

impl Task {
    async fn run(mut self) {
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Next::News(news) => self.handle(news),
                Next::Job(Some(Job::Ask {
                    number,
                    request,
                    answered,
                })) => self.ask(number, &request, answered),
                Next::Job(Some(Job::Say(saying))) => self.say(saying),
                Next::Job(None) => return,
            }
        }
    }

    /// What the task does next. The connection sends while it is polled, and may have nothing
    /// to report when that has made room: so the queue is polled again after it.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(job) = self.poll_job(cx) {
            return Poll::Ready(Next::Job(job));
        }
        if let Poll::Ready(news) = self.connection.poll_next(cx) {
            return Poll::Ready(Next::News(news));
        }
        self.poll_job(cx).map(Next::Job)
    }

    /// The next job, where the connection has room for it.
    fn poll_job(&mut self, cx: &mut Context<'_>) -> Poll<Option<Job>> {
        match self.connection.current() {
            Some(link) if link.has_room() => self.queue.poll_recv(cx),
            _ => Poll::Pending,
        }
    }

    fn handle(&mut self, news: News) {
        match news {
            News::Up => {
                self.subscribe();
                self.connection.tell_up();
                self.is_up.send_replace(true);
            }
            News::SuccessorUp => {
                self.subscribe();
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
            News::Received(received) => {
                let id = self.connection.current().map(|link| link.id());
                self.received(id, received);
            }
            News::FromOld(id, received) => self.received(Some(id), received),
            News::AskAgain => self.listen(),
            News::FromSuccessor(_) | News::SuccessorLost => {}
        }
    }

    /// Something came on the connection of this id.
    fn received(&mut self, connection: Option<Ulid>, received: Received) {
        match received {
            Received::Message(message) => self.answered(connection, message),
            Received::Error(text) => self.refused(connection, &text),
            Received::Pong(window) => {
                let current = self.connection.current();
                let link = current.filter(|link| Some(link.id()) == connection);
                if let Some(feed) = &mut self.feed {
                    feed.pong(window, link);
                }
            }
            Received::Nonsense | Received::Info(_) => {}
        }
    }

    fn answered(&mut self, connection: Option<Ulid>, message: ServerMessage) {
        if message.sid == PULLS {
            if let Some(feed) = &self.feed {
                feed.message(message);
            }
        } else if let Some(connection) = connection {
            if self.inbox.0 != connection {
                self.inbox = (connection, inbox(&self.reply_prefix, connection));
            }
            let inbox = &self.inbox.1;
            let number = message.subject.strip_prefix(inbox.as_bytes());
            let number = number.and_then(|number| std::str::from_utf8(number).ok());
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                self.questions.answered(connection, number, message);
            }
        }
    }

    fn ask(&mut self, number: u64, request: &Outgoing, answered: bool) {
        let Some(link) = self.connection.current() else {
            return;
        };
        // NATS ends a connection over a message that is too large.
        if request.size() > link.info().max_payload {
            return self.questions.fail(number, Unanswered::TooLarge);
        }
        // A caller that has gone needs no answer.
        if self.questions.ask(number, link.id()) {
            let reply = format!("{}{number}", inbox(&self.reply_prefix, link.id()));
            let reply = answered.then_some(&*reply);
            let headers = request.headers.iter();
            let headers: Vec<_> = headers.map(|(name, value)| (*name, &**value)).collect();
            link.publish(&request.subject, reply, &headers, &request.payload);
            if !answered {
                self.questions.written(number);
            }
        }
    }
}

#[cfg(test)]
mod tests;
