//! Questions that gateways ask each other about a user: probes on the subject where the
//! user's messages are heard, which reach only gateways that hold the user. And what services
//! are told of the answers.

use std::{sync::Arc, time::Duration};

use async_nats::Message;
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    client::{Client, Failure, Outgoing, Sent},
    publisher::PublishError,
};
use crate::{channel::Audience, user::UserId};

/// Gateways answer within this, or count as if they did not hold the user.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);
/// Answers to one probe that are kept.
pub(super) const ANSWERS: usize = 256;
/// What was handed over before a process ends is with the kernel within this.
const FLUSH: Duration = Duration::from_secs(1);

/// A gateway's answer to a probe.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    /// Its name.
    #[serde(default)]
    pub(super) gateway: String,
    /// How many of its sessions it speaks of.
    pub(super) sessions: u32,
    /// Whether services know by it that the user is online.
    #[serde(default)]
    online: bool,
}

/// Reads what came to the inbox of a probe; `None` if no gateway says it.
pub(super) fn answer(message: &Message) -> Option<Answer> {
    serde_json::from_slice(&message.payload).ok()
}

/// Asks which sessions have the message with this sequence, and everything before it.
pub(super) async fn ask_up_to(client: &Client, subject: String, seq: u64) -> Result<Sent, Failure> {
    let probe = Outgoing::probe(subject, Some(("Usher-Seq", seq.to_string())));
    client.send(probe, ANSWERS).await
}

/// Whether any session was given the message with this sequence, and everything before it.
///
/// # Errors
///
/// Any [`Failure`]: it is not known.
pub(super) async fn was_given(client: &Client, subject: String, seq: u64) -> Result<bool, Failure> {
    let mut sent = ask_up_to(client, subject, seq).await?;
    first(&mut sent, |answer| answer.sessions > 0).await
}

/// Whether a gateway answers so, in time.
async fn first(sent: &mut Sent, wanted: impl Fn(&Answer) -> bool) -> Result<bool, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match timeout_at(until, sent.next()).await {
            // NATS says that nobody is there.
            Ok(Some(message)) if message.status.is_some() => return Ok(false),
            Ok(Some(message)) if answer(&message).is_some_and(|it| wanted(&it)) => {
                return Ok(true);
            }
            Ok(Some(_)) => {}
            Ok(None) if sent.is_forbidden() => return Err(Failure::Forbidden),
            // The connection was lost.
            Ok(None) => return Err(Failure::Unknown),
            Err(_) => return Ok(false),
        }
    }
}

/// Asks the other gateways about users, and tells services. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    client: Client,
    gateway: Arc<str>,
}

impl Elsewhere {
    pub(super) fn new(client: Client, gateway: &str) -> Self {
        let gateway = gateway.into();
        Self { client, gateway }
    }

    /// Whether another gateway holds the user.
    ///
    /// # Errors
    ///
    /// [`PublishError`]: it is not known. Dropping the future is safe.
    pub async fn is_held(&self, user: &UserId) -> Result<bool, PublishError> {
        self.ask(user, |answer| answer.sessions > 0).await
    }

    /// Whether another gateway holds the user, and services know by it that the user is
    /// online.
    ///
    /// # Errors
    ///
    /// [`PublishError`]: it is not known. Dropping the future is safe.
    pub async fn is_announced(&self, user: &UserId) -> Result<bool, PublishError> {
        self.ask(user, |answer| answer.sessions > 0 && answer.online)
            .await
    }

    async fn ask(
        &self,
        user: &UserId,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<bool, PublishError> {
        let subject = self.client.subjects.heard(&Audience::User(user.clone()));
        let probe = Outgoing::probe(subject, Some(("Usher-Presence", "1".to_owned())));
        let mut sent = self.client.send(probe, ANSWERS).await?;
        // Where the user is here too, this gateway answers itself.
        let other = |answer: &Answer| *answer.gateway != *self.gateway && wanted(answer);
        Ok(first(&mut sent, other).await?)
    }

    /// Tells services about a user, at most once.
    ///
    /// # Errors
    ///
    /// [`PublishError::Unavailable`] and [`PublishError::Forbidden`]: certainly not told.
    pub async fn tell(&self, user: &UserId, payload: Vec<u8>) -> Result<(), PublishError> {
        self.publish(&user.subject_token(), payload).await
    }

    /// Tells services that a gateway has vanished, at most once.
    ///
    /// # Errors
    ///
    /// As [`Elsewhere::tell`].
    pub async fn tell_of_lost(&self, payload: Vec<u8>) -> Result<(), PublishError> {
        self.publish("$lost", payload).await
    }

    async fn publish(&self, token: &str, payload: Vec<u8>) -> Result<(), PublishError> {
        let told = Outgoing {
            subject: self.client.subjects.presence(token),
            payload: payload.into(),
            ..Outgoing::default()
        };
        self.client.send(told, 0).await?;
        Ok(())
    }

    /// Waits until the kernel has what was told, for a second at most.
    pub async fn flush(&self) {
        let _ = timeout(FLUSH, self.client.flush()).await;
    }
}
