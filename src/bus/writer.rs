//! The publishing connection.
//!
//! A push counts as done when NATS has answered a PING that was sent after it.
//! A push that never reached the socket is known not to be published; one that
//! did, and was not confirmed, is of unknown outcome.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    dial::Dialer,
    link::{Link, Received},
    publisher::{Job, PublishError, Shared, Task},
    requests::{Answer, Questions},
    subject::Subjects,
    wire::ServerMessage,
};
use crate::readiness::{Part, Readiness};

/// Pushes written before the first of them is confirmed.
const MAX_UNCONFIRMED: usize = 4096;
/// Bytes written before the socket takes them; a caller beyond it waits.
const MAX_UNSENT: usize = 4 * 1024 * 1024;
/// Longer than anybody waits for a receipt.
const LINGER: Duration = Duration::from_secs(1);
/// Subscription id of the inbox.
const INBOX: u64 = 1;

/// How one connection ended.
enum End {
    /// No caller is left.
    Unused,
    Lost,
    /// Its server retires, and this is one to another.
    Moved(Box<(Dialer, Link)>),
}

/// Connects, and carries pushes out until the last publisher is gone.
pub(super) async fn run(
    mut dialer: Dialer,
    mut queue: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    subjects: Subjects,
    readiness: Readiness,
) {
    loop {
        let dialing = dialer.dial();
        tokio::pin!(dialing);
        let mut link = loop {
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
        loop {
            dialer.learn(link.info());
            shared
                .max_payload
                .store(link.info().max_payload, Ordering::Relaxed);
            readiness.up(Part::Push);
            match serve(link, &dialer, &mut queue, &shared, &subjects).await {
                End::Unused => return,
                End::Lost => break,
                End::Moved(next) => (dialer, link) = *next,
            }
        }
        readiness.away(Part::Push);
        shared.max_payload.store(0, Ordering::Relaxed);
        shared.questions.lost();
    }
}

/// A push that NATS may have, until a PONG says that it has.
struct Unconfirmed {
    subject: String,
    /// None where the push was refused already.
    done: Option<oneshot::Sender<Result<(), PublishError>>>,
}

/// Serves one connection until it ends, or until there is a better one.
async fn serve(
    mut link: Link,
    dialer: &Dialer,
    queue: &mut mpsc::Receiver<Job>,
    shared: &Arc<Shared>,
    subjects: &Subjects,
) -> End {
    link.subscribe(INBOX, &shared.questions.subject());
    let mut unconfirmed: VecDeque<Unconfirmed> = VecDeque::new();
    let mut dialing = None;
    let mut successor = None;
    loop {
        if unconfirmed.is_empty()
            && let Some((dialer, next)) = successor
        {
            tokio::spawn(linger(link, shared.questions.clone()));
            return End::Moved(Box::new((dialer, next)));
        }
        let room = unconfirmed.len() < MAX_UNCONFIRMED && link.unsent() < MAX_UNSENT;
        tokio::select! {
            received = poll_fn(|cx| link.poll_next(cx)) => match received {
                Ok(Received::Message(message)) => answered(message, &shared.questions),
                Ok(Received::Pong) => {
                    if let Some(done) = unconfirmed.pop_front().and_then(|push| push.done) {
                        let _ = done.send(Ok(()));
                    }
                }
                Ok(Received::Error(text)) => refused(&text, &mut unconfirmed),
                Ok(Received::Info(info)) if info.ldm && dialing.is_none() => {
                    dialing = Some(Box::pin(dialer.clone().dial()));
                }
                Ok(Received::Info(_)) => {}
                // Dropping what is unconfirmed says so to its callers.
                Err(error) => {
                    tracing::warn!(%error, "the publishing connection to NATS is lost; reconnecting");
                    return End::Lost;
                }
            },
            found = async { dialing.as_mut().expect("checked").await },
                if dialing.is_some() && successor.is_none() => successor = Some(found),
            job = queue.recv(), if room && successor.is_none() => match job {
                // A caller that has gone was told that nothing is certain; what
                // can still be held back is.
                Some(job) if job.done.is_closed() => {}
                Some(job) => {
                    let reply = job.reply.as_deref();
                    let subject = match &job.task {
                        Task::Push(push) => {
                            let subject = subjects.user(&push.user);
                            link.publish(&subject, reply, &push.headers(), &push.payload);
                            subject
                        }
                        Task::Probe(user, seq) => {
                            let (subject, seq) = (subjects.heard_user(user), seq.to_string());
                            let headers = [("Usher-Probe", "1"), ("Usher-Seq", &seq)];
                            link.publish(&subject, reply, &headers, &[]);
                            subject
                        }
                    };
                    link.ping();
                    unconfirmed.push_back(Unconfirmed {
                        subject,
                        done: Some(job.done),
                    });
                }
                None => return End::Unused,
            },
        }
    }
}

/// Hears the receipts that are still under way on a connection that is left.
async fn linger(mut link: Link, questions: Questions) {
    let hearing = async {
        while let Ok(received) = poll_fn(|cx| link.poll_next(cx)).await {
            if let Received::Message(message) = received {
                answered(message, &questions);
            }
        }
    };
    let _ = timeout(LINGER, hearing).await;
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

fn answered(message: ServerMessage, questions: &Questions) {
    let subject = message.subject.clone();
    questions.answered(&subject, Answer::Message(message));
}
