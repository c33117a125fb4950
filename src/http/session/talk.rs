//! What a session does with what its client says, beside receiving messages. Few clients say
//! anything, so it costs a session nothing before that.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    command::{Command, Fault, Id, Said},
    open::Session,
};
use crate::{
    bus::{CallError, SessionCalls},
    channel::Topic,
    close::CloseReason,
    frame::{
        Protocol,
        answer::{self, Code},
    },
    grants::{CallName, Grants},
    http::{credentials::Granted, refusal::Refusal, request::Shown, transport::Transport},
    registry::{FollowError, TopicChange},
};

const SECOND: Duration = Duration::from_secs(1);
/// Changes of topics that a client may have under way. While NATS or the stream does not answer,
/// each takes seconds, one after the other.
const CHANGES: usize = 4;

/// What a client waits for.
pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What became of it.
pub(super) enum Done {
    /// The client is told already, or is not to be told.
    Nothing,
    /// The client is told this.
    Answer(String),
    /// A service's answer, as the frame that the client is sent.
    Reply(Bytes),
    /// A fresh ticket or token was judged.
    Refreshed(Option<Id>, Result<Granted, Refusal>),
    /// Over the Centrifuge protocol a fresh token was judged.
    Prolonged(u32, Result<Granted, Refusal>),
    /// The session ends.
    Ends(CloseReason),
}

/// A client that says something.
#[derive(Default)]
pub(super) struct Talk {
    /// What is under way for it; the bounds of each kind of work keep it short.
    pub(super) work: FuturesUnordered<Work>,
    /// When it last sent a ticket or a token that was looked at.
    pub(super) refreshed: Option<Instant>,
    /// It was told that a command is unknown.
    told_of_unknown: bool,
    /// When its topics were changed last, and the time before.
    changed: [Option<Instant>; 2],
    /// Each change of its topics that is under way has a clone.
    changing: Arc<()>,
    /// Its calls, from the first one on.
    calls: Option<SessionCalls>,
}

impl Talk {
    /// The client waits for this.
    pub(super) fn wait_for(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        self.work.push(Box::pin(work));
    }

    /// Counts a change of topics. False if it may not be made: two a second are allowed.
    fn take_change(&mut self) -> bool {
        let now = Instant::now();
        let [last, before] = self.changed;
        let may = before.is_none_or(|before| now >= before + SECOND);
        if may {
            self.changed = [Some(now), last];
        }
        may
    }

    /// Has a change of topics made, which counts until it is.
    pub(super) fn change(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        let changing = self.changing.clone();
        self.wait_for(async move {
            let done = work.await;
            drop(changing);
            done
        });
    }

    /// How many changes of topics are under way.
    pub(super) fn changes(&self) -> usize {
        Arc::strong_count(&self.changing) - 1
    }
}

impl<T: Transport> Session<T> {
    /// The client said something. An answer that needs no waiting is queued immediately.
    ///
    /// # Errors
    ///
    /// How the session ends.
    pub(super) fn hear(&mut self, text: &str) -> Result<(), CloseReason> {
        let Said { id, command } = Said::read(text);
        match command {
            Ok(Command::Ack) => {}
            Ok(Command::Ping) => self.answer_ping(),
            Ok(Command::Follow(topics)) => self.follow(id, topics),
            Ok(Command::Unfollow(topics)) => self.unfollow(id, topics),
            Ok(Command::Call { name, data }) => self.call(id, name, data),
            Ok(Command::Ticket(ticket)) => self.refresh(id, Shown::Ticket(ticket.expose())),
            Ok(Command::Token(token)) => self.refresh(id, Shown::Token(token.expose())),
            Err(Fault::NotAnObject) => return Err(CloseReason::BadFrame),
            Err(Fault::Unknown(names)) => self.answer_unknown(&names),
            Err(Fault::Shape(what)) => self.refuse(id.as_ref(), Code::BadRequest, what),
        }
        Ok(())
    }

    /// Goes on with what is under way for the client. Ready where that ends the session.
    pub(super) fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            let Some(talk) = &mut self.talk else {
                return Poll::Pending;
            };
            let Poll::Ready(Some(done)) = talk.work.poll_next_unpin(cx) else {
                return Poll::Pending;
            };
            let told = match done {
                Done::Nothing => Ok(()),
                Done::Answer(json) => {
                    self.say(&json);
                    Ok(())
                }
                Done::Reply(frame) => {
                    self.give(frame);
                    Ok(())
                }
                Done::Refreshed(id, granted) => self.refreshed(id.as_ref(), granted),
                Done::Prolonged(id, granted) => self.prolonged(id, granted),
                Done::Ends(reason) => Err(reason),
            };
            if let Err(reason) = told {
                return Poll::Ready(reason);
            }
        }
    }

    /// Queues a frame of `usher.v1` that nobody else gets; nothing in other protocols.
    pub(super) fn say(&mut self, json: &str) {
        if self.protocol().has_own_frames() {
            self.transport.queue(self.protocol().frame(json));
        }
    }

    /// Queues an answer of any size: it counts in the backlog, as a message does.
    pub(super) fn give(&mut self, frame: Bytes) {
        self.handle.give(frame);
    }

    /// Tells the client that it does not get what it wants.
    pub(super) fn refuse(&mut self, id: Option<&Id>, code: Code, message: &str) {
        let error = answer::error(id.map(Id::as_str), code.name(), message);
        self.say(&error);
    }

    fn follow(&mut self, id: Option<Id>, topics: Vec<Topic>) {
        let grants = self.grants.as_deref();
        let granted = |topic| grants.is_some_and(|grants: &Grants| grants.may_follow(topic));
        if !topics.iter().all(granted) {
            let says = "its ticket does not grant one of these topics";
            self.sessions.metrics.topics.count("forbidden");
            return self.refuse(id.as_ref(), Code::Forbidden, says);
        }
        self.change_topics(TopicChange {
            follow: topics,
            id: id.map(Id::into_string),
            ..TopicChange::default()
        });
    }

    fn unfollow(&mut self, id: Option<Id>, topics: Vec<Topic>) {
        self.change_topics(TopicChange {
            unfollow: topics,
            id: id.map(Id::into_string),
            ..TopicChange::default()
        });
    }

    fn change_topics(&mut self, change: TopicChange) {
        let talk = self.talk.get_or_insert_default();
        let (code, says) = if !talk.take_change() {
            (Code::TooMany, "topics are changed twice a second at most")
        } else if talk.changes() >= CHANGES {
            let says = "NATS has not confirmed earlier changes; try again";
            (Code::Unavailable, says)
        } else {
            return self.change(change);
        };
        self.sessions.metrics.topics.count(code.name());
        self.say(&answer::error(change.id.as_deref(), code.name(), says));
    }

    /// Changes what the session follows, however often it was changed before. Changes are made
    /// in the order of these calls. A change that fails ends a session of the Centrifuge protocol:
    /// its client has no command that the error could answer.
    pub(super) fn change(&mut self, change: TopicChange) {
        let id = change.id.clone();
        let talk = self.talk.get_or_insert_default();
        let follower = self.handle.follower();
        let is_centrifuge = self.handle.backlog().protocol().is_centrifuge();
        talk.change(async move {
            let error = match follower.change(change).await {
                // Its frame comes in the order of events.
                Ok(()) | Err(FollowError::Over) => return Done::Nothing,
                Err(_) if is_centrifuge => return Done::Ends(CloseReason::BusLost),
                Err(error) => error,
            };
            let code = match error {
                FollowError::TooMany(_) | FollowError::Full => Code::TooMany,
                FollowError::Forbidden
                | FollowError::Unavailable
                | FollowError::Already
                | FollowError::Unrecoverable
                | FollowError::Over => Code::Unavailable,
            };
            Done::Answer(answer::error(
                id.as_deref(),
                code.name(),
                &error.to_string(),
            ))
        });
    }

    /// What makes the session's calls.
    pub(super) fn calls(&mut self) -> SessionCalls {
        let known = self.talk.as_ref().and_then(|talk| talk.calls.clone());
        let calls = known.unwrap_or_else(|| self.sessions.calls.of(self.user().clone(), self.id));
        let talk = self.talk.get_or_insert_default();
        talk.calls.get_or_insert(calls).clone()
    }

    /// The client wants a service's answer. Without an id nobody waits for it.
    fn call(&mut self, id: Option<Id>, name: Option<CallName>, data: Bytes) {
        let granted = |name: &CallName| {
            let grants = self.grants.as_ref();
            grants.is_some_and(|grants| grants.may_call(name))
        };
        let Some(name) = name.filter(granted) else {
            self.sessions.calls.forbidden();
            if id.is_some() {
                let message = "this session's ticket or token grants no such call";
                self.refuse(id.as_ref(), Code::Forbidden, message);
            }
            return;
        };
        let limit = self.sessions.config.max_outgoing_frame;
        let protocol = self.protocol();
        let calls = self.calls();
        let work: Work = match id {
            None => {
                let telling = calls.tell(&name, data);
                Box::pin(async {
                    telling.await;
                    Done::Nothing
                })
            }
            Some(id) => {
                let calling = calls.call(&name, data);
                Box::pin(async move {
                    let outcome = calling.await;
                    Done::Reply(reply(&id, outcome, protocol, limit))
                })
            }
        };
        self.talk.get_or_insert_default().work.push(work);
    }

    fn answer_unknown(&mut self, names: &str) {
        let talk = self.talk.get_or_insert_default();
        if !std::mem::replace(&mut talk.told_of_unknown, true) {
            let message = format!("no command has these keys: {names} (said once)");
            self.refuse(None, Code::UnknownCommand, &message);
        }
    }
}

/// The frame with what became of a call. One that would be larger than a frame may be is an
/// error in its place.
fn reply(id: &Id, outcome: Result<Bytes, CallError>, protocol: Protocol, limit: usize) -> Bytes {
    let error = |code: &str, message: &str| {
        let error = answer::error(Some(id.as_str()), code, message);
        protocol.frame(&error)
    };
    let frame = match &outcome {
        Ok(payload) => protocol.frame(&answer::reply(id.as_str(), payload)),
        Err(why) => error(why.code(), &why.to_string()),
    };
    if frame.len() > limit {
        let message = "the answer is larger than session.max_outgoing_frame; the call was done";
        return error(Code::TooLarge.name(), message);
    }
    frame
}
