//! Pushes on their way out, each told what became of it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    Subjects,
    asking::{Answer, answer},
    client::{Client, Failure, Outgoing, Sent},
    embedded,
};
use crate::{message::EventName, user::UserId};

/// The first answer of a gateway must come within this.
const FIRST_RECEIPT: Duration = Duration::from_millis(250);
/// The others' must come within this of the first.
const MORE_RECEIPTS: Duration = Duration::from_millis(50);
/// Gateways whose answers to one push are kept.
const MAX_RECEIPTS: usize = 256;

/// One message to one user.
#[derive(Debug, Clone)]
pub struct Push {
    /// Whose sessions get it.
    pub user: UserId,
    /// The `Event` header; none for `message`.
    pub event: Option<EventName>,
    /// The `Nats-Msg-Id` header; printable ASCII.
    pub message_id: Option<String>,
    /// The message's bytes.
    pub payload: Bytes,
}

impl Push {
    /// As NATS gets it.
    fn outgoing(self, subjects: &Subjects) -> Outgoing {
        let event = self.event.map(|event| ("Event", event.as_str().to_owned()));
        let id = self.message_id.map(|id| ("Nats-Msg-Id", id));
        Outgoing {
            subject: subjects.user(&self.user),
            headers: event.into_iter().chain(id).collect(),
            payload: self.payload,
        }
    }
}

/// What gateways answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// So many sessions, at least one, have it queued.
    Queued(u32),
    /// Nobody has.
    Offline,
}

/// Why a push is not known to be with NATS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Certainly not published.
    #[error("NATS is away; nothing was published")]
    Unavailable,
    /// Published or not: nobody can say.
    #[error("NATS has not confirmed the message; whether it was published is unknown")]
    Unconfirmed,
    /// Certainly not published.
    #[error("NATS does not permit this gateway to publish there")]
    Forbidden,
    /// Certainly not stored, in the stream's own words.
    #[error("the stream did not store the message: {0}")]
    NotStored(String),
    /// Certainly not published.
    #[error("the message has {size} bytes with its headers; the NATS server takes at most {limit}")]
    TooLarge {
        /// Of payload and headers.
        size: usize,
        /// `max_payload` of the server.
        limit: usize,
    },
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where it is in the stream; none in live mode.
    pub seq: Option<u64>,
    /// What gateways answered, where that was asked for.
    pub receipt: Option<Receipt>,
}

/// Publishes. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Publisher(pub(super) Way);

#[derive(Debug, Clone)]
pub(super) enum Way {
    /// NATS has a push, or nobody has.
    Live(Client),
    /// A stream acknowledges what is published.
    Durable {
        client: Client,
        stream: Arc<str>,
        /// Told where there is none.
        gone: Arc<Notify>,
    },
    Embedded(embedded::Sender),
}

impl Publisher {
    /// Publishes; returns when NATS has confirmed, or the stream has stored it. With
    /// `receipt` what the gateways that hold the user answer is gathered too.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says whether the message can still arrive. Dropping the future
    /// leaves that unknown.
    pub async fn publish(&self, push: Push, receipt: bool) -> Result<Published, PublishError> {
        match &self.0 {
            Way::Live(client) => live(client, push, receipt).await,
            Way::Durable {
                client,
                stream,
                gone,
            } => durable(client, push, receipt, stream, gone).await,
            Way::Embedded(sender) => sender.publish(push, receipt).await,
        }
    }
}

async fn live(client: &Client, push: Push, receipt: bool) -> Result<Published, PublishError> {
    let answers = if receipt { MAX_RECEIPTS } else { 0 };
    let mut sent = client
        .send(push.outgoing(&client.subjects), answers)
        .await?;
    let receipt = match (sent.confirmed().await, receipt) {
        (Ok(()), false) => None,
        // The times count from NATS's confirmation; answers before it are kept.
        (Ok(()), true) => Some(receipts(&mut sent).await),
        // A gateway that has it got it from NATS.
        (Err(Failure::Unknown), true) => match sent.try_next().as_ref().and_then(answer) {
            Some(Answer { sessions, .. }) => Some(Receipt::Queued(sessions)),
            None => return Err(PublishError::Unconfirmed),
        },
        (Err(failure), _) => return Err(failure.into()),
    };
    match sent.is_forbidden() {
        true => Err(Failure::Forbidden.into()),
        false => Ok(Published { seq: None, receipt }),
    }
}

async fn durable(
    client: &Client,
    push: Push,
    receipt: bool,
    stream: &str,
    gone: &Notify,
) -> Result<Published, PublishError> {
    let heard = client.subjects.heard_user(&push.user);
    let outgoing = push.outgoing(&client.subjects);
    let answer = client.send(outgoing, 1).await?.answer().await?;
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        gone.notify_one();
        let nobody = "no stream captures it; see `usher check`";
        return Err(PublishError::NotStored(nobody.to_owned()));
    }
    let (seq, duplicate) = acknowledged(&answer, stream)?;
    // Who has a duplicate was asked when it came for the first time.
    let receipt = match receipt && !duplicate {
        true => Some(probe(client, heard, seq).await),
        false => None,
    };
    Ok(Published {
        seq: Some(seq),
        receipt,
    })
}

/// Asks which sessions have everything up to a sequence of the user's. Whatever becomes of
/// the question, the message is stored.
async fn probe(client: &Client, subject: String, seq: u64) -> Receipt {
    let probe = Outgoing {
        subject,
        headers: vec![
            ("Usher-Probe", "1".to_owned()),
            ("Usher-Seq", seq.to_string()),
        ],
        payload: Bytes::new(),
    };
    match client.send(probe, MAX_RECEIPTS).await {
        Ok(mut sent) => receipts(&mut sent).await,
        Err(_) => Receipt::Offline,
    }
}

/// Sums what gateways answer, each counted once.
async fn receipts(sent: &mut Sent) -> Receipt {
    let mut until = Instant::now() + FIRST_RECEIPT;
    let mut gateways = HashSet::new();
    let mut sum = 0_u32;
    while let Ok(Some(message)) = timeout_at(until, sent.next()).await {
        let Some(Answer {
            gateway, sessions, ..
        }) = answer(&message)
        else {
            // NATS says that nobody is there, and nobody else answers.
            if message.status.is_some() {
                break;
            }
            continue;
        };
        if gateways.is_empty() {
            until = Instant::now() + MORE_RECEIPTS;
        }
        if gateways.insert(gateway) {
            sum = sum.saturating_add(sessions);
        }
    }
    match gateways.is_empty() {
        true => Receipt::Offline,
        false => Receipt::Queued(sum),
    }
}

impl From<Failure> for PublishError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away => Self::Unavailable,
            Failure::Unknown => Self::Unconfirmed,
            Failure::Forbidden => Self::Forbidden,
            Failure::TooLarge { size, limit } => Self::TooLarge { size, limit },
        }
    }
}

/// A stream's acknowledgement: `{"stream":…,"seq":…}` or `{"error":…}`, as JetStream's
/// API has it. Returns where the message is, and whether it was there already.
fn acknowledged(answer: &Message, stream: &str) -> Result<(u64, bool), PublishError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        stream: String,
        seq: Option<u64>,
        #[serde(default)]
        duplicate: bool,
        error: Option<Refusal>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        description: String,
    }
    let body: Result<Body, _> = serde_json::from_slice(&answer.payload);
    let body = body.map_err(|_| PublishError::Unconfirmed)?;
    if let Some(Refusal { description }) = body.error {
        return Err(PublishError::NotStored(description));
    }
    if body.stream != stream {
        return Err(PublishError::NotStored(format!(
            "the stream {:?} captures it, and durable.stream is {stream:?}",
            body.stream
        )));
    }
    let seq = body.seq.ok_or(PublishError::Unconfirmed)?;
    Ok((seq, body.duplicate))
}
