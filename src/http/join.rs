//! The last step of an admission: NATS delivers to the session, and the stream has said where
//! it begins.

use std::sync::Arc;

use tokio::time::Instant;

use super::{handshake::Handshake, refusal::Refusal};
use crate::{
    channel::Topic,
    durable::{Durable, Opening},
    frame::{Protocol, centrifuge},
    grants::Grants,
    position::Since,
    registry::{JoinError, Live, Registry, SessionHandle},
    trace::Trace,
    user::UserId,
};

/// What sessions join.
#[derive(Debug, Clone)]
pub struct Joins {
    /// All sessions.
    pub registry: Arc<Registry>,
    /// In durable mode.
    pub durable: Option<Arc<Durable>>,
}

impl Joins {
    /// What a session follows from the beginning: what its ticket names, and of what its client
    /// asks for what is granted; as many topics as a session may follow.
    pub(super) fn topics(
        &self,
        grants: Option<&Grants>,
        asked: Vec<Topic>,
        protocol: Protocol,
    ) -> Vec<Topic> {
        let mut topics: Vec<Topic> = Vec::new();
        let Some(grants) = grants else {
            return topics;
        };
        let granted = asked.into_iter().filter(|topic| grants.may_follow(topic));
        let wanted = grants.topics.iter().cloned().chain(granted);
        let offered = |topic: &Topic| !protocol.is_centrifuge() || centrifuge::is_offered(topic);
        for topic in wanted.filter(offered) {
            if topics.len() < self.registry.max_topics_per_session() && !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        topics
    }

    /// Refuses a client whose join is known to fail, before its ticket is used up.
    ///
    /// # Errors
    ///
    /// 503 [`Refusal::Unavailable`]: NATS is away, or in durable mode the stream.
    pub(super) fn check(&self, since: Option<&Since>) -> Result<(), Refusal> {
        if !self.registry.is_connected() {
            return Err(Refusal::Unavailable("NATS is away; try again"));
        }
        match &self.durable {
            Some(durable) if !durable.can_begin(since.is_some()) => {
                Err(Refusal::Unavailable("the stream is away; try again"))
            }
            _ => Ok(()),
        }
    }

    /// Joins a session to its user and to topics, and asks where it begins. The `Opening` is
    /// `None` if a service has ended the session on its way in: then its client is told that.
    /// Dropping the future, or the handle, leaves nothing behind.
    ///
    /// # Errors
    ///
    /// 503 [`Refusal::Unavailable`]: NATS forbids a subject, or did not confirm the subscriptions
    /// within 2 s; this gateway follows `topics.max` topics; in durable mode the stream did not
    /// say where the session begins; or the connection to NATS was lost meanwhile.
    pub(super) async fn join(
        &self,
        user: &UserId,
        (protocol, topics): (Protocol, &[Topic]),
        since: Option<&Since>,
        began: Instant,
        (handshake, trace): (Option<&Handshake>, Option<Trace>),
    ) -> Result<(SessionHandle, Option<Opening>), Refusal> {
        let Self { registry, durable } = self;
        let (handle, opening) = match durable {
            None => {
                let handle = registry
                    .join(
                        user,
                        topics,
                        Live::new(protocol, registry.limits().clone()),
                        began,
                    )
                    .await?;
                let topics = handle.topics();
                (handle, Opening::live(since, topics))
            }
            Some(durable) => {
                let session = durable.session(user, protocol, topics);
                let handle = registry.join(user, topics, session.clone(), began).await?;
                let handshake = handshake.filter(|_| since.is_some());
                let _waits = handshake.map(Handshake::waits);
                let begun = tokio::select! {
                    biased;
                    () = handle.dismissed() => return Ok((handle, None)),
                    begun = durable.resume_or_start(&session, since.cloned(), trace) => begun,
                };
                let slow = "the stream did not answer in time; try again";
                match begun {
                    Err(_) if handle.backlog().is_dismissed() => return Ok((handle, None)),
                    begun => (handle, begun.map_err(|_| Refusal::Unavailable(slow))?),
                }
            }
        };
        if handle.backlog().is_dismissed() {
            return Ok((handle, None));
        }
        handle.commit()?;
        Ok((handle, Some(opening)))
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        Self::Unavailable(match error {
            JoinError::Forbidden => "NATS forbids a subject of this session",
            JoinError::Full => "this gateway follows as many topics as it may; try again",
            JoinError::Unconfirmed => "NATS did not answer in time; try again",
        })
    }
}
