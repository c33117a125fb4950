//! A session that speaks the Centrifuge protocol: the answer to its `connect`, and what it
//! does with its client's commands.

use std::ops::RangeInclusive;

use tokio::time::Instant;
use tungstenite::Message;

use super::{Config, Sessions, connected::ttl, open::Session, refresh::PAUSE, talk::Done};
use crate::{
    bus::CallError,
    channel::Topic,
    close::CloseReason,
    frame::centrifuge::{self, BROADCAST, USER},
    grants::CallName,
    http::{
        centrifuge::{
            INTERNAL,
            command::{self, is_pong},
        },
        credentials::{Credential, Granted},
        frame_rate::FrameRate,
        refusal::Refusal,
        request::Shown,
        transport::Transport,
    },
    proto::centrifuge::{
        Command, Error, RefreshResult, Reply, RpcRequest, RpcResult, SubscribeRequest,
        UnsubscribeResult,
    },
    registry::{FollowError, Recovery, TopicChange},
};

/// Changes of topics in a second. More may come in one burst.
const CHANGES: u32 = 2;
/// How many commands may come in one burst, besides one for each topic.
const MORE: u32 = 20;

/// The codes of errors that belong to apps.
const APPS: RangeInclusive<u32> = 400..=1999;

/// Error: the client asked for more than it may in this time. It may try again.
const TOO_MANY: u32 = 111;

const NOT_HERE: &str = "not available: services publish, by NATS or by the API; browsers do not";

/// How many commands may come in one burst: SDKs send one for each topic when they return.
pub(in crate::http) fn burst(config: &Config) -> u32 {
    config.max_topics.saturating_add(MORE)
}

/// What a client may send still.
#[derive(Debug)]
pub(super) struct Rates {
    commands: FrameRate,
    /// Commands beyond that rate. More than these are a flood.
    refused: FrameRate,
    /// Topics to follow.
    changes: FrameRate,
}

impl Rates {
    pub(super) fn new(sessions: &Sessions) -> Self {
        let burst = burst(&sessions.config);
        Self {
            commands: sessions.rate().with_burst(burst),
            refused: sessions.rate().with_burst(command::most(burst)),
            changes: FrameRate::new(CHANGES, sessions.clock.clone()).with_burst(burst),
        }
    }
}

impl<T: Transport> Session<T> {
    /// A message of the client.
    ///
    /// # Errors
    ///
    /// How the session ends.
    pub(super) fn hear_centrifuge(&mut self, message: &Message) -> Result<(), CloseReason> {
        let burst = burst(&self.sessions.config);
        let commands = command::read(self.protocol(), message, burst)?;
        self.obey(commands)
    }

    /// Answers commands. What is beyond the client's rate is refused for now; a flood ends the
    /// session.
    pub(super) fn obey(&mut self, commands: Vec<Command>) -> Result<(), CloseReason> {
        commands.into_iter().try_for_each(|command| {
            let rates = self.rates();
            if rates.commands.take(1) {
                return self.answer(command);
            }
            if !rates.refused.take(1) {
                return Err(CloseReason::TooManyFrames);
            }
            // SDKs that get an error for `unsubscribe` drop their connection.
            if command.id == 0 || command.connect.is_some() || command.unsubscribe.is_some() {
                return self.answer(command);
            }
            self.fail(command.id, temporary(TOO_MANY, "too_many: wait a little"));
            Ok(())
        })
    }

    fn answer(&mut self, command: Command) -> Result<(), CloseReason> {
        let id = command.id;
        match command {
            // Nothing answers these.
            Command { id: 0, .. } if is_pong(&command) || command.send.is_some() => return Ok(()),
            // What wants an answer names itself, and a session is opened once.
            Command { id: 0, .. }
            | Command {
                connect: Some(_), ..
            } => {
                return Err(CloseReason::BadFrame);
            }
            Command {
                subscribe: Some(sub),
                ..
            } => self.subscribe(id, &sub),
            Command {
                unsubscribe: Some(sub),
                ..
            } => self.unsubscribe(id, &sub.channel),
            Command {
                rpc: Some(call), ..
            } => self.rpc(id, call),
            Command {
                refresh: Some(refresh),
                ..
            } => self.prolong(id, refresh.token),
            Command {
                publish: None,
                presence: None,
                presence_stats: None,
                history: None,
                ping: None,
                send: None,
                sub_refresh: None,
                ..
            } => self.fail(id, error(104, "this command is not known")),
            _ => self.fail(id, error(108, NOT_HERE)),
        }
        Ok(())
    }

    fn subscribe(&mut self, id: u32, sub: &SubscribeRequest) {
        if self.always_follows(&sub.channel) {
            return self.fail(id, centrifuge::already_subscribed());
        }
        let topic = Topic::parse(&sub.channel).ok();
        let Some(topic) = topic.filter(centrifuge::is_offered) else {
            return self.fail(id, error(102, "no topic is called so"));
        };
        let grants = self.grants.as_deref();
        if !grants.is_some_and(|grants| grants.may_follow(&topic)) {
            self.sessions.metrics.topics.count("forbidden");
            return self.fail(
                id,
                error(103, "forbidden: the ticket does not grant this topic"),
            );
        }
        if !command::is_plain(sub) {
            let message = "not available: filters, and subscriptions of another type";
            return self.fail(id, error(108, message));
        }
        if !self.rates().changes.take(1) {
            self.sessions.metrics.topics.count("too_many");
            let message = "too_many: topics change too often";
            return self.fail(id, temporary(TOO_MANY, message));
        }
        let under_way = self.talk.as_ref().map_or(0, |talk| talk.changes());
        if under_way >= burst(&self.sessions.config) as usize {
            self.sessions.metrics.topics.count("unavailable");
            let message = "NATS has not confirmed earlier changes; try again";
            return self.fail(id, temporary(INTERNAL, message));
        }
        let required = command::must_recover(sub);
        self.change_subscriptions(
            id,
            TopicChange {
                follow: vec![topic],
                since: command::mark(sub).map(|mark| Recovery { mark, required }),
                ..TopicChange::default()
            },
        );
    }

    /// Never refuses: an SDK that gets an error for `unsubscribe` drops its connection. The rate of
    /// `subscribe` bounds how often a topic can be left. What a session always follows stays.
    fn unsubscribe(&mut self, id: u32, channel: &str) {
        if self.always_follows(channel) {
            return self.reply(&Reply {
                id,
                unsubscribe: Some(UnsubscribeResult {}),
                ..Reply::default()
            });
        }
        self.change_subscriptions(
            id,
            TopicChange {
                unfollow: Topic::parse(channel).into_iter().collect(),
                ..TopicChange::default()
            },
        );
    }

    /// Has a change made. Its reply comes in the order of publications.
    fn change_subscriptions(&mut self, id: u32, mut change: TopicChange) {
        change.id = Some(id.to_string());
        let (follower, protocol) = (self.handle.follower(), self.protocol());
        let talk = self.talk.get_or_insert_default();
        talk.change(async move {
            let failed = match follower.change(change).await {
                Ok(()) | Err(FollowError::Over) => return Done::Nothing,
                Err(FollowError::Already) => centrifuge::already_subscribed(),
                Err(failed @ FollowError::TooMany(_)) => error(106, &failed.to_string()),
                Err(failed @ FollowError::Unrecoverable) => error(112, &failed.to_string()),
                Err(failed) => temporary(INTERNAL, &failed.to_string()),
            };
            Done::Reply(centrifuge::reply(protocol, &failure(id, failed)))
        });
    }

    /// The client has another token. What is wrong with it another one may mend.
    fn prolong(&mut self, id: u32, token: String) {
        let now = Instant::now();
        let talk = self.talk.get_or_insert_default();
        if talk.refreshed.is_some_and(|at| now < at + PAUSE) {
            let message = "too_many: a session is refreshed once in 5 s";
            return self.fail(id, temporary(INTERNAL, message));
        }
        talk.refreshed = Some(now);
        let credentials = self.sessions.credentials.clone();
        talk.wait_for(async move {
            let granted = async {
                let credential = Credential::read(Shown::Token(token))?;
                credentials.redeem(credential).await
            };
            Done::Prolonged(id, granted.await)
        });
    }

    /// The session goes on as another token says.
    ///
    /// # Errors
    ///
    /// How the session ends: it is another user's.
    pub(super) fn prolonged(
        &mut self,
        id: u32,
        granted: Result<Granted, Refusal>,
    ) -> Result<(), CloseReason> {
        let granted = match granted {
            Ok(granted) => granted,
            Err(refusal) => {
                self.fail(id, temporary(INTERNAL, &refusal.words()));
                return Ok(());
            }
        };
        let ttl = granted.expires_at.map_or(0, ttl);
        let before = self.take_over(granted)?;
        self.reply(&Reply {
            id,
            refresh: Some(RefreshResult {
                client: self.id.to_string(),
                expires: true,
                ttl,
                ..RefreshResult::default()
            }),
            ..Reply::default()
        });
        self.grants_changed(None, before.as_deref());
        Ok(())
    }

    /// The client wants a service's answer.
    fn rpc(&mut self, id: u32, call: RpcRequest) {
        let grants = self.grants.as_deref();
        let granted = |name: &CallName| grants.is_some_and(|grants| grants.may_call(name));
        let Some(name) = CallName::parse(&call.method).ok().filter(granted) else {
            self.sessions.calls.forbidden();
            let message = "forbidden: the ticket or token grants no such call";
            return self.fail(id, error(103, message));
        };
        let calling = self.calls().call(&name, call.data);
        let limit = self.sessions.config.max_outgoing_frame;
        let protocol = self.protocol();
        let talk = self.talk.get_or_insert_default();
        talk.wait_for(async move {
            let outcome = calling.await;
            let answer = match &outcome {
                Ok(data) => Reply {
                    id,
                    rpc: Some(RpcResult { data: data.clone() }),
                    ..Reply::default()
                },
                Err(error) => failure(id, unanswered(error)),
            };
            let frame = centrifuge::reply(protocol, &answer);
            if frame.len() <= limit {
                return Done::Reply(frame);
            }
            let message = "too_large: the answer is larger than session.max_outgoing_frame; the \
                           call was done";
            Done::Reply(centrifuge::reply(
                protocol,
                &failure(id, error(107, message)),
            ))
        });
    }

    /// Whether it is the broadcast, or the user's channel.
    fn always_follows(&self, channel: &str) -> bool {
        let user = channel.strip_prefix(USER);
        channel == BROADCAST || user.is_some_and(|user| user == self.user().as_str())
    }

    /// Queues a reply of the Centrifuge protocol.
    pub(super) fn reply(&mut self, reply: &Reply) {
        let frame = centrifuge::reply(self.protocol(), reply);
        self.transport.queue(frame);
    }

    /// What it may send still over the Centrifuge protocol.
    pub(super) fn rates(&mut self) -> &mut Rates {
        let sessions = &self.sessions;
        self.rates
            .get_or_insert_with(|| Box::new(Rates::new(sessions)))
    }

    fn fail(&mut self, id: u32, error: Error) {
        self.reply(&failure(id, error));
    }
}

/// An error of the protocol's table.
fn error(code: u32, message: &str) -> Error {
    Error {
        code,
        message: message.to_owned(),
        temporary: false,
    }
}

/// An error of the protocol's table after which the client may try again.
fn temporary(code: u32, message: &str) -> Error {
    Error {
        temporary: true,
        ..error(code, message)
    }
}

/// Why a call has no answer. A service's own code stands where it is one that apps may have.
fn unanswered(why: &CallError) -> Error {
    let message = format!("{}: {why}", why.code());
    match why {
        CallError::NoResponders => error(104, &message),
        CallError::TooLarge => error(107, &message),
        CallError::TooManyOfSession | CallError::TooManyOfGateway => temporary(TOO_MANY, &message),
        CallError::TimedOut | CallError::Lost | CallError::Unavailable | CallError::Refused => {
            temporary(INTERNAL, &message)
        }
        CallError::Service { code, .. } => {
            let code = code.parse().ok().filter(|code| APPS.contains(code));
            error(code.unwrap_or(*APPS.start()), &message)
        }
    }
}

fn failure(id: u32, error: Error) -> Reply {
    Reply {
        id,
        error: Some(error),
        ..Reply::default()
    }
}
