//! Questions and commands that concern sessions of all gateways: who is online, the end of a
//! user's sessions, and what they follow. Each gateway hears them on `usher.control` and answers what its own
//! registry knows. So there is no store of who is online that could be wrong.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    gateways::{Gateways, MAX_GATEWAYS},
    users::{MAX_USERS, Users},
    wire::{Answer, Request},
};
use crate::{
    bus::{Peers, PublishError, Topic as Meeting},
    channel::Topic,
    close::CloseMessage,
    metrics::Metrics,
    registry::{Dismissal, Registry, TopicChange},
    supervision,
    user::UserId,
};

/// How long answers are collected at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a gateway that may not know all others collects answers at least.
const UNSURE: Duration = Duration::from_millis(250);
/// How often it is looked whether a gateway whose answer is waited for has said goodbye.
const LOOK: Duration = Duration::from_millis(50);
/// Calls under way; a further one waits, for [`PATIENCE`] at most.
const MAX_CALLS: usize = 64;
/// Changes of topics under way at this gateway; a further one is not answered.
const MAX_CHANGES: usize = 1024;

/// Where a user is online.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Online {
    /// Sessions on all gateways, at least one.
    pub sessions: u32,
    /// The gateways that hold them.
    pub gateways: Vec<String>,
}

/// Who of the users is online. As JSON, it is what callers are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// Only those who are.
    pub users: BTreeMap<String, Online>,
    /// Every gateway has answered.
    pub complete: bool,
}

/// Sessions that end, or that follow other topics. As JSON, it is what callers are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// On all gateways.
    pub sessions: u32,
    /// Every gateway has answered.
    pub complete: bool,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No gateway was asked.
    #[error("NATS is away; no gateway was asked, try again")]
    Unavailable,
    /// No gateway has answered, not even this one; each may have done what was asked.
    #[error("NATS has not answered within 1 s; whether the gateways got the call is unknown")]
    Unconfirmed,
    /// No gateway was asked, or none could answer.
    #[error(
        "NATS does not permit this gateway to publish to or to hear usher.control or \
         usher.gateways; see examples/nats-permissions.conf"
    )]
    Forbidden,
    /// No gateway was asked.
    #[error("the call has {size} bytes; the NATS server takes at most {limit}")]
    TooLarge {
        /// Of the question.
        size: usize,
        /// `max_payload` of the server.
        limit: usize,
    },
    /// No gateway was asked.
    #[error("64 calls are under way at this gateway; try again later")]
    Busy,
}

/// Asks and commands all gateways. Clones share everything.
#[derive(Debug, Clone)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    registry: Arc<Registry>,
    /// `None` if this gateway is the only one.
    others: Option<(Peers, Arc<Gateways>)>,
    calls: Semaphore,
    changes: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Control {
    /// One for the gateway of this name; without `others` it is the only gateway.
    pub fn new(
        name: &str,
        registry: Arc<Registry>,
        others: Option<(Peers, Arc<Gateways>)>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            registry,
            others,
            calls: Semaphore::new(MAX_CALLS),
            changes: Arc::new(Semaphore::new(MAX_CHANGES)),
            metrics,
        }))
    }

    /// Who of these users is online, and where.
    ///
    /// # Errors
    ///
    /// [`ControlError`]. Dropping the future is safe.
    pub async fn presence(&self, Users(users): Users) -> Result<Presence, ControlError> {
        let mut online = BTreeMap::<String, Online>::new();
        let ids = users.iter().map(|user| user.as_str().into()).collect();
        let request = Request::Presence { users: ids };
        let answered = self.call("presence", &request, |answer| {
            for (index, sessions) in answer.online {
                if let Some(user) = users.get(index)
                    && sessions > 0
                {
                    let user = online.entry(user.as_str().to_owned()).or_default();
                    user.sessions = user.sessions.saturating_add(sessions);
                    user.gateways.push(answer.gateway.clone());
                }
            }
        });
        let complete = answered.await?;
        Ok(Presence {
            users: online,
            complete,
        })
    }

    /// Ends all sessions of a user.
    ///
    /// # Errors
    ///
    /// [`ControlError`] says whether any may end all the same. Dropping the future leaves that
    /// unknown.
    pub async fn disconnect(
        &self,
        user: &UserId,
        dismissal: Dismissal,
    ) -> Result<Reached, ControlError> {
        let request = Request::Disconnect {
            user: user.as_str().into(),
            reconnect: dismissal.reconnect,
            reason: dismissal.message.as_ref().map(|text| text.as_str().into()),
        };
        self.reach("disconnect", &request).await
    }

    /// Changes what the open sessions of a user follow, whatever they are granted.
    ///
    /// # Errors
    ///
    /// [`ControlError`] says whether any may be changed all the same. Dropping the future leaves
    /// that unknown.
    pub async fn change_topics(
        &self,
        user: &UserId,
        TopicChange {
            follow, unfollow, ..
        }: &TopicChange,
    ) -> Result<Reached, ControlError> {
        let names = |topics: &[Topic]| {
            let topics = topics.iter().map(|topic| topic.as_str().to_owned().into());
            topics.collect()
        };
        let request = Request::Topics {
            user: user.as_str().into(),
            follow: names(follow),
            unfollow: names(unfollow),
        };
        self.reach("topics", &request).await
    }

    /// How many sessions a command reaches.
    async fn reach(&self, op: &str, request: &Request<'_>) -> Result<Reached, ControlError> {
        let mut sessions = 0_u32;
        let answered = self.call(op, request, |answer| {
            sessions = sessions.saturating_add(answer.sessions);
        });
        let complete = answered.await?;
        Ok(Reached { sessions, complete })
    }

    /// Answers what gateways ask and command, for as long as the process lives.
    pub async fn run(self) {
        let Some((peers, _)) = &self.0.others else {
            return std::future::pending().await;
        };
        let Some(mut listener) = peers.listen(Meeting::Control).await else {
            return;
        };
        while let Some(said) = listener.next().await {
            let Some(reply) = said.reply else { continue };
            // What is no request of ours is of a newer version, and has no answer here.
            let request = serde_json::from_slice::<Request<'_>>(&said.payload);
            let Ok(request) = request else { continue };
            match self.0.change(&request) {
                // NATS has to confirm it, for which nobody else waits.
                Some(change) => {
                    let Ok(permit) = self.0.changes.clone().try_acquire_owned() else {
                        continue;
                    };
                    let (control, peers) = (self.clone(), peers.clone());
                    supervision::spawn("a change of topics", async move {
                        let answer = control.0.changed(change).await;
                        peers.answer(reply, answer.json()).await;
                        drop(permit);
                    });
                }
                None => {
                    if let Some(answer) = self.0.answer(request) {
                        peers.answer(reply, answer.json()).await;
                    }
                }
            }
        }
    }

    /// Has every gateway answer, and hands each one's answer on. Returns whether all have.
    async fn call(
        &self,
        op: &str,
        request: &Request<'_>,
        each: impl FnMut(Answer),
    ) -> Result<bool, ControlError> {
        let called = self.0.call(request, each).await;
        let result = match &called {
            Ok(true) => "complete",
            Ok(false) => "incomplete",
            Err(_) => "failed",
        };
        let calls = &self.0.metrics.control_calls;
        calls.with_label_values(&[op, result]).inc();
        called
    }
}

impl Inner {
    async fn call(
        &self,
        request: &Request<'_>,
        mut each: impl FnMut(Answer),
    ) -> Result<bool, ControlError> {
        let Some((peers, gateways)) = &self.others else {
            let answer = match self.change(request) {
                Some(change) => Some(self.changed(change).await),
                None => self.answer(request.clone()),
            };
            each(answer.unwrap_or_default());
            return Ok(true);
        };
        let permit = timeout(PATIENCE, self.calls.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(ControlError::Busy);
        };
        let begun = Instant::now();
        let (unsure, deadline) = (begun + UNSURE, begun + PATIENCE);
        let known = gateways.known();
        let mut missing: HashSet<Arc<str>> = known.names.into_iter().collect();
        missing.insert(self.name.as_str().into());
        let question = Bytes::from(request.json());
        let mut answers = peers.ask(question, MAX_GATEWAYS, deadline).await?;
        let mut answered = HashSet::new();
        while !missing.is_empty() || (!known.all && Instant::now() < unsure) {
            let until = match missing.is_empty() {
                true => unsure,
                false => deadline,
            };
            tokio::select! {
                answer = timeout_at(until, answers.next()) => {
                    let Ok(Some(answer)) = answer else { break };
                    let Some(answer) = Answer::parse(&answer) else { continue };
                    missing.remove(answer.gateway.as_str());
                    // Each gateway counts once.
                    if answered.insert(answer.gateway.clone()) {
                        each(answer);
                    }
                }
                () = sleep(LOOK) => {
                    missing.retain(|name| **name == *self.name || !gateways.has_left(name));
                }
            }
        }
        match answered.is_empty() {
            true if answers.is_forbidden() => Err(ControlError::Forbidden),
            true => Err(ControlError::Unconfirmed),
            false => Ok(missing.is_empty() && known.all),
        }
    }

    /// Which user's sessions a request has follow other topics, if it is of that kind.
    fn change(&self, request: &Request<'_>) -> Option<(UserId, TopicChange)> {
        let Request::Topics {
            user,
            follow,
            unfollow,
        } = request
        else {
            return None;
        };
        let topics = |names: &[Cow<'_, str>]| {
            let names = names.iter().map(|name| Topic::parse(name).ok());
            names.collect::<Option<Vec<_>>>()
        };
        let change = TopicChange {
            follow: topics(follow)?,
            unfollow: topics(unfollow)?,
            ..TopicChange::default()
        };
        Some((UserId::parse(user).ok()?, change))
    }

    async fn changed(&self, (user, change): (UserId, TopicChange)) -> Answer {
        let changed = self.registry.change_topics(&user, &change).await;
        Answer {
            gateway: self.name.clone(),
            sessions: u32::try_from(changed).unwrap_or(u32::MAX),
            ..Answer::default()
        }
    }

    /// What this gateway knows, or does; `None` if it is no request.
    fn answer(&self, request: Request<'_>) -> Option<Answer> {
        let mut answer = Answer {
            gateway: self.name.clone(),
            ..Answer::default()
        };
        let count = |sessions| u32::try_from(sessions).unwrap_or(u32::MAX);
        match request {
            Request::Presence { users } => {
                for (index, user) in users.iter().take(MAX_USERS).enumerate() {
                    let user = UserId::parse(user).ok()?;
                    match self.registry.sessions_of(&user) {
                        0 => {}
                        sessions => answer.online.push((index, count(sessions))),
                    }
                }
            }
            Request::Disconnect {
                user,
                reconnect,
                reason,
            } => {
                let user = UserId::parse(&user).ok()?;
                let message = reason.as_deref().map(CloseMessage::parse);
                let dismissal = Dismissal {
                    reconnect,
                    message: message.transpose().ok()?.flatten(),
                };
                answer.sessions = count(self.registry.dismiss(&user, dismissal));
            }
            Request::Topics { .. } => return None,
        }
        Some(answer)
    }
}

impl From<PublishError> for ControlError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Unavailable | PublishError::NotStored(_) => Self::Unavailable,
            PublishError::Unconfirmed | PublishError::Undecided(_) => Self::Unconfirmed,
            PublishError::Forbidden => Self::Forbidden,
            PublishError::TooLarge { size, limit } => Self::TooLarge { size, limit },
        }
    }
}
