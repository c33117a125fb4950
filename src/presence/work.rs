//! What is asked and said about one user.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::time::sleep;

use super::table::{Outcome, Step};
use crate::{
    bus::{Elsewhere, PublishError},
    metrics::Metrics,
    user::UserId,
};

/// Before something is tried again that NATS did not take.
const PAUSE: Duration = Duration::from_secs(1);

/// Speaks for this gateway. Clones share the connection.
#[derive(Clone)]
pub(super) struct Announcer {
    gateway: Arc<str>,
    elsewhere: Elsewhere,
    metrics: Arc<Metrics>,
}

impl Announcer {
    pub(super) fn new(gateway: &str, elsewhere: Elsewhere, metrics: Arc<Metrics>) -> Self {
        Self {
            gateway: gateway.into(),
            elsewhere,
            metrics,
        }
    }

    /// Asks and says, and tries again for as long as NATS is away.
    pub(super) async fn find_out(&self, user: &UserId, step: Step) -> Outcome {
        loop {
            match self.try_to(user, step).await {
                Ok(outcome) => return outcome,
                Err(PublishError::Unavailable | PublishError::Unconfirmed) => sleep(PAUSE).await,
                Err(_) => {
                    self.metrics.presence_dropped.inc();
                    return Outcome::Failed;
                }
            }
        }
    }

    async fn try_to(&self, user: &UserId, step: Step) -> Result<Outcome, PublishError> {
        let elsewhere = &self.elsewhere;
        match step {
            Step::Announce if elsewhere.is_announced(user).await? => Ok(Outcome::Online),
            Step::Announce | Step::SayOnline => self.say(user, "online").await,
            Step::Check if elsewhere.is_held(user).await? => Ok(Outcome::Held),
            Step::Check => self.say(user, "offline").await,
            Step::CheckAgain if elsewhere.is_held(user).await? => self.say(user, "online").await,
            Step::CheckAgain | Step::IsOnline | Step::Wait | Step::AskAgainLater => {
                Ok(Outcome::Nobody)
            }
        }
    }

    async fn say(&self, user: &UserId, state: &str) -> Result<Outcome, PublishError> {
        let at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let event = json!({
            "user": user.as_str(),
            "state": state,
            "gateway": &*self.gateway,
            "at": u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        });
        self.elsewhere.tell(user, event.to_string().into()).await?;
        self.metrics.presence_event(state);
        Ok(match state {
            "online" => Outcome::Online,
            _ => Outcome::Offline,
        })
    }

    /// A gateway has vanished. Each of the others says so, and tries again for as long as NATS
    /// is away.
    pub(super) async fn tell_of_lost(self, gateway: Arc<str>) {
        let event = json!({ "gateway": &*gateway }).to_string();
        loop {
            match self.elsewhere.tell_of_lost(event.clone().into()).await {
                Ok(()) => return self.metrics.presence_event("lost"),
                Err(PublishError::Unavailable | PublishError::Unconfirmed) => sleep(PAUSE).await,
                Err(error) => {
                    return tracing::warn!(
                        %gateway, %error, "services are not told of a gateway that vanished"
                    );
                }
            }
        }
    }
}
