//! The connection over which the stream is read.

use std::{future::poll_fn, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::StreamError;
use crate::bus::{
    dial::Dialer,
    link::{Link, Received},
    requests::{Answer, Answers, Questions},
    wire::ServerMessage,
};

/// Questions that wait for their turn on the connection; who asks beyond it waits.
const QUEUE: usize = 1024;
/// Bytes written before the socket takes them; who asks beyond it waits.
const MAX_UNSENT: usize = 1024 * 1024;
/// A connection that is left for another may still bring answers for so long.
const LINGER: Duration = Duration::from_secs(2);
/// Subscription id of the inbox.
const INBOX: u64 = 1;

/// Asks questions. Clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    jobs: mpsc::Sender<Job>,
    questions: Questions,
    up: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Job {
    subject: String,
    reply: String,
    body: Vec<u8>,
}

/// The answers to a question, as they come.
pub(super) struct Replies(Answers);

impl Replies {
    /// The next one.
    pub(super) async fn next(&mut self) -> Result<ServerMessage, StreamError> {
        match self.0.next().await {
            Some(Answer::Message(message)) => Ok(message),
            _ => Err(StreamError::Away),
        }
    }
}

impl Caller {
    /// Connects, for as long as the process lives.
    pub(super) fn start(dialer: Dialer, reply_prefix: &str) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (is_up, up) = watch::channel(false);
        let questions = Questions::new(reply_prefix);
        tokio::spawn(run(dialer, queue, questions.clone(), is_up));
        Self {
            jobs,
            questions,
            up,
        }
    }

    /// Asks; at most `answers` are kept.
    pub(super) async fn ask(
        &self,
        subject: &str,
        body: &impl serde::Serialize,
        answers: usize,
    ) -> Result<Replies, StreamError> {
        if !*self.up.borrow() {
            return Err(StreamError::Away);
        }
        let answers = self.questions.ask(answers);
        let job = Job {
            subject: subject.to_owned(),
            reply: answers.reply(),
            body: serde_json::to_vec(body).expect("such a value is always JSON"),
        };
        let sent = self.jobs.send(job).await;
        sent.map_err(|_| StreamError::Away)?;
        Ok(Replies(answers))
    }

    /// Whether there is a connection, and when that changes.
    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }
}

async fn run(
    mut dialer: Dialer,
    mut queue: mpsc::Receiver<Job>,
    questions: Questions,
    up: watch::Sender<bool>,
) {
    loop {
        let mut link;
        (dialer, link) = dialer.dial().await;
        loop {
            dialer.learn(link.info());
            link.subscribe(INBOX, &questions.subject());
            up.send_replace(true);
            match serve(link, &dialer, &mut queue, &questions).await {
                End::Unused => return,
                End::Lost => break,
                End::Moved(next) => (dialer, link) = *next,
            }
        }
        up.send_replace(false);
        while queue.try_recv().is_ok() {}
        questions.lost();
    }
}

/// How one connection ended.
enum End {
    /// Nobody is left to ask.
    Unused,
    Lost,
    /// Its server retires, and this is one to another.
    Moved(Box<(Dialer, Link)>),
}

async fn serve(
    mut link: Link,
    dialer: &Dialer,
    queue: &mut mpsc::Receiver<Job>,
    questions: &Questions,
) -> End {
    let mut dialing = None;
    loop {
        let room = link.unsent() < MAX_UNSENT;
        tokio::select! {
            received = poll_fn(|cx| link.poll_next(cx)) => match received {
                Ok(Received::Message(message)) => answered(message, questions),
                Ok(Received::Error(text)) => {
                    tracing::warn!(error = text, "NATS refused a question to the stream");
                }
                Ok(Received::Info(info)) if info.ldm && dialing.is_none() => {
                    dialing = Some(Box::pin(dialer.clone().dial()));
                }
                Ok(Received::Info(_) | Received::Pong) => {}
                Err(error) => {
                    tracing::debug!(%error, "the connection to the stream is lost; reconnecting");
                    return End::Lost;
                }
            },
            next = async { dialing.as_mut().expect("checked").await }, if dialing.is_some() => {
                let questions = questions.clone();
                tokio::spawn(timeout(LINGER, async move {
                    while let Ok(received) = poll_fn(|cx| link.poll_next(cx)).await {
                        if let Received::Message(message) = received {
                            answered(message, &questions);
                        }
                    }
                }));
                return End::Moved(Box::new(next));
            }
            job = queue.recv(), if room => match job {
                Some(Job { subject, reply, body }) => {
                    link.publish(&subject, Some(&reply), &[], &body);
                }
                None => return End::Unused,
            },
        }
    }
}

fn answered(message: ServerMessage, questions: &Questions) {
    let subject = message.subject.clone();
    questions.answered(&subject, Answer::Message(message));
}
