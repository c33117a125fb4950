//! The last message to each of many users, and the last broadcast: one question for
//! all who ask at the same time.
//!
//! The answer names the sequence up to which the replica that gave it has the stream.
//! It counts for who asked only where that is not less than what the leader had at
//! their look.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    ANSWER, ApiError, Look, Stream, StreamError, ask,
    batch::{Ended, Whole, batch},
};
use crate::{message::millis_of, supervision, user::UserId};

/// Users in one question.
const MAX_USERS: usize = 128;
/// Between two questions, where the replica that answered lags.
const PAUSE: Duration = Duration::from_millis(5);

/// The last messages that concern one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasts {
    /// The sequence of the last message to the user; 0 where there is none.
    pub user: u64,
    /// That of the last broadcast.
    pub broadcast: u64,
    /// Nothing of either kind is between those and this one, which is the leader's
    /// last at the look, or a later one.
    pub up_to: u64,
}

/// Who waits for the next question.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: bool,
    waiting: Vec<One>,
}

#[derive(Debug)]
struct One {
    subject: String,
    look: Look,
    deadline: Instant,
    sender: oneshot::Sender<Result<Lasts, StreamError>>,
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn lasts(
    stream: &Stream,
    user: &UserId,
    look: &Look,
) -> Result<Lasts, StreamError> {
    let (sender, receiver) = oneshot::channel();
    let one = One {
        subject: stream.0.subjects.user(user),
        look: look.clone(),
        deadline: Instant::now() + ANSWER,
        sender,
    };
    let begin = {
        let mut state = stream.0.lasts.state();
        state.waiting.push(one);
        !std::mem::replace(&mut state.running, true)
    };
    if begin {
        supervision::spawn("a question for last sequences", run(stream.clone()));
    }
    receiver.await.unwrap_or(Err(StreamError::Away))
}

async fn run(stream: Stream) {
    loop {
        let asking: Vec<One> = {
            let mut state = stream.0.lasts.state();
            state.waiting.retain(|one| !one.sender.is_closed());
            let count = state.waiting.len().min(MAX_USERS);
            if count == 0 {
                state.running = false;
                return;
            }
            state.waiting.drain(..count).collect()
        };
        let lagging = answer(&stream, asking).await;
        if !lagging.is_empty() {
            sleep(PAUSE).await;
            stream.0.lasts.state().waiting.extend(lagging);
        }
    }
}

/// Asks for these, and returns those who have to ask again.
async fn answer(stream: &Stream, asking: Vec<One>) -> Vec<One> {
    let subjects: Vec<_> = asking.iter().map(|one| one.subject.as_str()).collect();
    // What a lagging replica says is told from the rest of the time that there is.
    let deadline = asking.iter().map(|one| one.deadline).min();
    let deadline = deadline.unwrap_or_else(Instant::now);
    let newest = asking.iter().max_by_key(|one| one.look.last);
    let Some(newest) = newest.map(|one| one.look.clone()) else {
        return Vec::new();
    };
    let found = timeout_at(deadline, find(stream, &subjects, &newest)).await;
    let found = found.unwrap_or(Err(StreamError::TimedOut));
    let mut lagging = Vec::new();
    for one in asking {
        let answer = match &found {
            Ok(found) if found.up_to >= one.look.last => Ok(Lasts {
                user: found.of.get(&one.subject).copied().unwrap_or(0),
                broadcast: found.broadcast,
                up_to: found.up_to,
            }),
            Ok(_) | Err(StreamError::TimedOut) if one.deadline > Instant::now() => {
                lagging.push(one);
                continue;
            }
            Ok(_) => Err(StreamError::TimedOut),
            Err(error) => Err(error.clone()),
        };
        let _ = one.sender.send(answer);
    }
    lagging
}

/// The last sequence of each subject that has any.
struct Found {
    of: HashMap<String, u64>,
    broadcast: u64,
    up_to: u64,
}

async fn find(stream: &Stream, subjects: &[&str], look: &Look) -> Result<Found, StreamError> {
    let broadcast = stream.0.subjects.broadcast();
    let mut found = Found {
        of: HashMap::new(),
        broadcast: 0,
        up_to: u64::MAX,
    };
    let mut parts = vec![subjects];
    while let Some(part) = parts.pop() {
        match last_of(stream, part, &broadcast, &mut found.of).await? {
            Ended::Whole(Whole {
                up_to: Some(up_to),
                pending: 0,
                ..
            }) => found.up_to = found.up_to.min(up_to),
            Ended::TooMuch | Ended::Whole(Whole { pending: 1.., .. }) if part.len() > 1 => {
                let (one, other) = part.split_at(part.len() / 2);
                parts.extend([one, other]);
            }
            Ended::TooMuch | Ended::Whole(_) => {
                return Err(StreamError::Odd("two messages are too many".to_owned()));
            }
            // A replica that lags says so too.
            Ended::Nothing if look.replicated => {
                for subject in part.iter().copied().chain([&broadcast[..]]) {
                    if let Some(last) = by_leader(stream, subject).await? {
                        found.of.insert(subject.to_owned(), last);
                    }
                }
                found.up_to = found.up_to.min(look.last);
            }
            Ended::Nothing => found.up_to = found.up_to.min(look.last),
        }
    }
    found.broadcast = found.of.get(&broadcast).copied().unwrap_or(0);
    Ok(found)
}

async fn last_of(
    stream: &Stream,
    subjects: &[&str],
    broadcast: &str,
    last: &mut HashMap<String, u64>,
) -> Result<Ended, StreamError> {
    let all: Vec<_> = subjects.iter().copied().chain([broadcast]).collect();
    let question = json!({ "multi_last": all });
    let mut found = Vec::new();
    let ended = batch(stream, &question, all.len(), |seq, _, message| {
        if let Some(subject) = message.headers.last("Nats-Subject") {
            found.push((subject.to_owned(), seq));
        }
    });
    let ended = ended.await?;
    last.extend(found);
    Ok(ended)
}

/// The last sequence of a subject, by the leader, which never lags.
async fn by_leader(stream: &Stream, subject: &str) -> Result<Option<u64>, StreamError> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<ApiError>,
        message: Option<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        seq: u64,
    }
    let what = format!("STREAM.MSG.GET.{}", stream.0.config.name);
    let question = json!({ "last_by_subj": subject });
    let answer: Answer = ask(&stream.0.client, &what, &question).await?;
    match answer {
        Answer {
            message: Some(message),
            ..
        } => Ok(Some(message.seq)),
        Answer {
            error: Some(ApiError { code: 404, .. }),
            ..
        } => Ok(None),
        Answer { error, .. } => Err(StreamError::Odd(
            error.map_or_else(|| "no message".to_owned(), |error| error.description),
        )),
    }
}

pub(super) async fn nothing_later(
    stream: &Stream,
    user: &UserId,
    seq: u64,
    at: u64,
) -> Result<bool, StreamError> {
    let subjects = [stream.0.subjects.user(user), stream.0.subjects.broadcast()];
    let question = json!({ "multi_last": subjects, "up_to_seq": seq });
    let mut later = false;
    let reading = batch(stream, &question, subjects.len(), |_, _, message| {
        let stored = message.headers.last("Nats-Time-Stamp").and_then(millis_of);
        later |= stored.is_none_or(|stored| stored > at);
    });
    match timeout(ANSWER, reading).await {
        Ok(Ok(Ended::Whole(_) | Ended::Nothing)) => Ok(!later),
        Ok(Ok(Ended::TooMuch)) => Err(StreamError::Odd("two messages are too many".to_owned())),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StreamError::TimedOut),
    }
}
