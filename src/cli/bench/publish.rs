//! Messages, published at a steady rate.

use std::{collections::VecDeque, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tonic::Code;

use super::{
    pace::{Pace, Targets},
    plan::{Mode, Plan},
    tally::Tally,
};
use crate::{
    cli::{
        api::{Api, CallError, Kind, is_unpublished, leaves_unknown},
        output::harmless,
    },
    proto::{
        BroadcastRequest, PublishTopicRequest, PushRequest, PushStreamRequest,
        push_stream_response::Result as Answer,
    },
};

/// Calls under way at the same time.
const CALLS: usize = 256;
/// Pushes that wait for the connection to take them.
const WAITING: usize = 16;
/// For the next answer, once all was sent.
const ANSWER: Duration = Duration::from_secs(10);
/// Between a stream that the gateway ended and the next.
const REOPEN: Duration = Duration::from_millis(100);
/// Streams that may end in good order one after the other with no answer between them.
const REOPENED: u32 = 20;

/// Publishes a plan's messages.
pub(super) struct Publisher<'a> {
    pub(super) plan: &'a Plan,
    pub(super) api: &'a Api,
    pub(super) tally: &'a Tally,
    pub(super) targets: &'a Targets,
}

impl Publisher<'_> {
    /// Publishes until the plan is done or `stop` is true, and waits for the answers.
    ///
    /// # Errors
    ///
    /// Why it ended before that, in words.
    pub(super) async fn run(&self, stop: watch::Receiver<bool>) -> Result<(), String> {
        match self.plan.mode {
            Mode::Users => self.push(stop).await,
            Mode::Broadcast | Mode::Topics => self.call(stop).await,
        }
    }

    /// Counts a message as sent, and makes its payload.
    fn send(&self, message: u64) -> (u64, Vec<u8>) {
        let (to, number) = self.targets.of_message(message);
        self.tally.sends(self.targets.sessions(to));
        (to, self.plan.message(to, number))
    }

    /// Counts a message as not published, or not known to be.
    fn fails(&self, message: u64, unknown: bool, why: String) {
        let to = self.targets.of_message(message);
        let unknown = unknown.then_some(to);
        self.tally.fails(self.targets.sessions(to.0), unknown, why);
    }

    /// One call for each message, many at the same time.
    async fn call(&self, mut stop: watch::Receiver<bool>) -> Result<(), String> {
        let mut pace = Pace::start(self.plan);
        let mut calls = FuturesUnordered::new();
        let mut outcome = Ok(());
        loop {
            let sending = outcome.is_ok() && !*stop.borrow() && !pace.is_over();
            if !sending && calls.is_empty() {
                return outcome;
            }
            tokio::select! {
                Some((message, answer)) = calls.next(), if !calls.is_empty() => match answer {
                    Ok(seq) => self.tally.confirms(seq),
                    Err(CallError { trouble, kind, unknown }) => {
                        self.fails(message, unknown, trouble.to_string());
                        if kind != Kind::Later {
                            outcome = Err(trouble.to_string());
                        }
                    }
                },
                () = sleep_until(pace.due()), if sending && calls.len() < CALLS => {
                    let message = pace.take();
                    calls.push(async move {
                        let (to, payload) = self.send(message);
                        (message, self.publish(to, payload).await)
                    });
                }
                () = sleep_until(pace.end), if sending => {}
                Ok(()) = stop.changed() => {}
            }
        }
    }

    async fn publish(&self, to: u64, message: Vec<u8>) -> Result<u64, CallError> {
        match self.plan.mode {
            Mode::Topics => {
                let request = PublishTopicRequest {
                    topic: self.plan.topic(to),
                    message,
                    ..PublishTopicRequest::default()
                };
                Ok(self.api.publish_topic(request).await?.seq)
            }
            Mode::Users | Mode::Broadcast => {
                let request = BroadcastRequest {
                    message,
                    ..BroadcastRequest::default()
                };
                Ok(self.api.broadcast(request).await?.seq)
            }
        }
    }

    /// All messages over one stream of pushes, and over another where the gateway ends the
    /// first in good order (its connection's age, a drain).
    async fn push(&self, mut stop: watch::Receiver<bool>) -> Result<(), String> {
        let mut pace = Pace::start(self.plan);
        let mut pushes = Pushes::default();
        let mut without_an_answer = 0;
        loop {
            let confirmed = self.tally.confirmed.get();
            match self.push_once(&mut pace, &mut pushes, &mut stop).await {
                Ok(End::Done) => return Ok(()),
                Ok(End::Again) => {}
                Err(why) => {
                    for message in pushes.pending {
                        self.fails(message, true, why.clone());
                    }
                    for message in pushes.again {
                        self.fails(message, false, why.clone());
                    }
                    return Err(why);
                }
            }
            without_an_answer = match self.tally.confirmed.get() > confirmed {
                true => 0,
                false => without_an_answer + 1,
            };
            if without_an_answer > REOPENED {
                return Err("the gateway ends each stream of pushes: is it draining?".to_owned());
            }
            // What has no answer was not published.
            pushes.again.append(&mut pushes.pending);
            sleep(REOPEN).await;
        }
    }

    async fn push_once(
        &self,
        pace: &mut Pace,
        pushes: &mut Pushes,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, String> {
        let (sender, receiver) = mpsc::channel::<PushStreamRequest>(WAITING);
        let requests = stream::unfold(receiver, async |mut receiver| {
            let request = receiver.recv().await?;
            Some((request, receiver))
        });
        let answers = self.api.push_stream(requests).await;
        let mut answers = answers.map_err(|error| error.trouble.to_string())?;
        let mut sender = Some(sender);
        loop {
            let again = !pushes.again.is_empty();
            if !again && (*stop.borrow() || pace.is_over()) {
                // The gateway ends the stream when all is answered.
                sender = None;
            }
            let due = if again { Instant::now() } else { pace.due() };
            let (room, is_open) = (sender.clone(), sender.is_some());
            let taken = async move {
                sleep_until(due).await;
                room?.reserve_owned().await.ok()
            };
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.answered(pushes, answer.result),
                    Ok(None) if pushes.pending.is_empty() => return Ok(End::Done),
                    Ok(None) => return Err("the gateway has left pushes unanswered".to_owned()),
                    Err(status) if status.code() == Code::Unavailable && is_unpublished(&status) => {
                        return Ok(End::Again);
                    }
                    Err(status) => return Err(self.api.explain(&status).trouble.to_string()),
                },
                permit = taken, if is_open => {
                    let Some(permit) = permit else {
                        // The stream has ended; its status comes next.
                        sender = None;
                        continue;
                    };
                    let request = match pushes.again.pop_front() {
                        Some(message) => {
                            let (to, number) = self.targets.of_message(message);
                            pushes.pending.push_back(message);
                            self.push_request(to, self.plan.message(to, number))
                        }
                        None => {
                            let message = pace.take();
                            pushes.pending.push_back(message);
                            let (to, payload) = self.send(message);
                            self.push_request(to, payload)
                        }
                    };
                    permit.send(request);
                }
                () = sleep_until(pace.end), if is_open && !again => {}
                () = sleep(ANSWER), if !is_open => {
                    return Err(format!("no answer within {} s", ANSWER.as_secs()));
                }
                Ok(()) = stop.changed() => {}
            }
        }
    }

    fn push_request(&self, to: u64, message: Vec<u8>) -> PushStreamRequest {
        let user = u32::try_from(to).unwrap_or_default();
        PushStreamRequest {
            push: Some(PushRequest {
                user_id: self.plan.user(user),
                message,
                ..PushRequest::default()
            }),
        }
    }

    fn answered(&self, pushes: &mut Pushes, answer: Option<Answer>) {
        let Some(message) = pushes.pending.pop_front() else {
            return;
        };
        match answer {
            Some(Answer::Error(error)) => {
                let why = format!("the gateway says: {}", harmless(&error.message));
                // An ErrorInfo says that it was not published.
                let unpublished = !error.details.is_empty();
                let unknown = leaves_unknown(Code::from_i32(error.code), unpublished);
                self.fails(message, unknown, why);
            }
            Some(Answer::Response(response)) => self.tally.confirms(response.seq),
            None => self.tally.confirms(0),
        }
    }
}

/// Messages on their way over a stream.
#[derive(Default)]
struct Pushes {
    /// Sent, not yet answered.
    pending: VecDeque<u64>,
    /// Certainly not published, to be sent anew.
    again: VecDeque<u64>,
}

/// How a stream of pushes ended.
enum End {
    Done,
    /// In good order, before all was sent.
    Again,
}
