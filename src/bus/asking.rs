//! Questions that gateways ask each other about a user: probes on the subject where the
//! user's messages are heard, which reach only gateways that hold the user.

use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::client::{Client, Failure, Outgoing};

/// Gateways answer within this, or count as if they did not hold the user.
const PATIENCE: Duration = Duration::from_millis(250);
/// Answers to one probe that are kept.
const ANSWERS: usize = 8;

/// A gateway's answer to a probe.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    /// Its name.
    #[serde(default)]
    pub(super) gateway: String,
    /// How many of its sessions it speaks of.
    pub(super) sessions: u32,
}

/// Reads what came to the inbox of a probe; none where no gateway says it.
pub(super) fn answer(message: &Message) -> Option<Answer> {
    serde_json::from_slice(&message.payload).ok()
}

/// Whether any session was given the message with this sequence, and everything before it.
///
/// # Errors
///
/// Any [`Failure`]: it is not known.
pub(super) async fn was_given(client: &Client, subject: String, seq: u64) -> Result<bool, Failure> {
    let probe = Outgoing {
        subject,
        headers: vec![
            ("Usher-Probe", "1".to_owned()),
            ("Usher-Seq", seq.to_string()),
        ],
        payload: Bytes::new(),
    };
    let mut sent = client.send(probe, ANSWERS).await?;
    let until = Instant::now() + PATIENCE;
    loop {
        match timeout_at(until, sent.next()).await {
            // NATS says that nobody is there.
            Ok(Some(message)) if message.status.is_some() => return Ok(false),
            Ok(Some(message)) if answer(&message).is_some_and(|it| it.sessions > 0) => {
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
