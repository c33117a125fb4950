//! The last step of an admission: NATS delivers to the session, and the stream has said where
//! it begins.

use std::sync::Arc;

use tokio::time::Instant;

use super::refusal::Refusal;
use crate::{
    durable::{Durable, Opening},
    frame::Protocol,
    position::Since,
    registry::{JoinError, Live, Registry, Seat},
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
    /// Joins a session to its user's. Without an opening a service has ended it on its way in.
    /// Dropping the future, or the seat, leaves nothing behind.
    pub(super) async fn join(
        &self,
        user: &UserId,
        protocol: Protocol,
        since: Option<&Since>,
        began: Instant,
    ) -> Result<(Seat, Option<Opening>), Refusal> {
        let Self { registry, durable } = self;
        let (seat, opening) = match durable {
            None => {
                let seat = registry.join(user, Live::new(protocol), began).await?;
                (seat, Opening::live(since))
            }
            Some(durable) => {
                let session = durable.session(user, protocol);
                let seat = registry.join(user, session.clone(), began).await?;
                let begun = tokio::select! {
                    biased;
                    () = seat.dismissed() => return Ok((seat, None)),
                    begun = durable.begin(&session, since.cloned()) => begun,
                };
                let slow = "the stream did not answer in time; try again";
                match begun {
                    Err(_) if seat.backlog().is_dismissed() => return Ok((seat, None)),
                    begun => (seat, begun.map_err(|_| Refusal::Unavailable(slow))?),
                }
            }
        };
        if seat.backlog().is_dismissed() {
            return Ok((seat, None));
        }
        seat.welcome()?;
        Ok((seat, Some(opening)))
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        Self::Unavailable(match error {
            JoinError::Forbidden => "NATS forbids this user's subject",
            JoinError::Unconfirmed => "NATS did not answer in time; try again",
        })
    }
}
