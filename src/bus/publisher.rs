//! Pushes on their way out, each told what became of it.

mod ack;
mod error;
mod span;

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_nats::StatusCode;
use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

pub use self::error::PublishError;
use self::{
    ack::acknowledged,
    span::{conclude, enter},
};
use super::{
    Subjects,
    asking::{ANSWERS, Answer, PATIENCE, answer, ask_up_to},
    client::{Client, Failure, Outgoing, Sent},
    embedded,
};
use crate::{
    channel::{Audience, Topic},
    message::EventName,
    telemetry::{Operation, Span, Tracer},
    trace::{Caller, TRACEPARENT, TRACESTATE},
    user::UserId,
};

/// The first answer of a gateway must come within [`PATIENCE`], the others' within this of the
/// first.
const MORE_RECEIPTS: Duration = Duration::from_millis(50);

/// Whose sessions get a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// One user's.
    User(UserId),
    /// Those that follow this topic.
    Topic(Topic),
    /// All.
    All,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Push {
    /// Whose sessions get it.
    pub to: To,
    /// The `Event` header; `None` for `message`.
    pub event: Option<EventName>,
    /// The `Nats-Msg-Id` header; printable ASCII.
    pub message_id: Option<String>,
    /// The message's bytes.
    pub payload: Bytes,
    /// Which trace it belongs to, by its caller.
    pub caller: Caller,
}

impl Push {
    /// As NATS gets it.
    fn outgoing(self, subjects: &Subjects) -> Outgoing {
        let event = self.event.map(|event| ("Event", event.as_str().to_owned()));
        let id = self.message_id.map(|id| ("Nats-Msg-Id", id));
        let parent = self.caller.parent;
        let parent = parent.map(|parent| (TRACEPARENT, parent.to_string()));
        let state = self.caller.state.map(|state| (TRACESTATE, state));
        let trace = parent.into_iter().chain(state);
        Outgoing {
            subject: match &self.to {
                To::User(user) => subjects.user(user),
                To::Topic(topic) => subjects.topic(topic),
                To::All => subjects.broadcast(),
            },
            headers: event.into_iter().chain(id).chain(trace).collect(),
            payload: self.payload,
        }
    }
}

/// What gateways answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is queued for this many sessions, at least one.
    Queued(u32),
    /// Nobody has.
    Offline,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where it is in the stream; `None` in live mode.
    pub seq: Option<u64>,
    /// What gateways answered, where that was asked for.
    pub receipt: Option<Receipt>,
}

/// A message that was handed over, and what becomes of it. Dropping it leaves that unknown.
#[derive(Debug)]
pub struct UnderWay {
    outcome: Outcome,
    /// Where it is recorded.
    span: Option<Span>,
}

#[derive(Debug)]
enum Outcome {
    Live {
        sent: Sent,
        receipt: bool,
    },
    Durable {
        way: Durable,
        sent: Sent,
        /// Where to ask who has it, where that is asked for.
        asks: Option<String>,
    },
    Embedded(embedded::UnderWay),
}

/// Publishes. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Publisher {
    way: Way,
    tracer: Tracer,
}

#[derive(Debug, Clone)]
pub(super) enum Way {
    /// NATS has a push, or nobody has.
    Live(Client),
    /// A stream acknowledges what is published.
    Durable(Durable),
    Embedded(embedded::Sender),
}

/// The stream that acknowledges what is published.
#[derive(Debug, Clone)]
pub(super) struct Durable {
    pub(super) client: Client,
    pub(super) stream: Arc<str>,
    /// Told where there is none.
    pub(super) gone: Arc<Notify>,
}

impl Publisher {
    pub(super) fn new(way: Way, tracer: Tracer) -> Self {
        Self { way, tracer }
    }

    /// Publishes, and records that where its trace is recorded: then the message belongs to
    /// the span of the push. Any other message keeps its caller's `traceparent`. Returns when
    /// NATS has confirmed, or the stream has stored it. With `receipt` what the gateways that hold the user answer is gathered too.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says whether the message can still arrive. Dropping the future
    /// leaves that unknown.
    pub async fn publish(&self, push: Push, receipt: bool) -> Result<Published, PublishError> {
        self.send(push, receipt).await?.outcome().await
    }

    /// Hands a message over. Messages that one caller hands over one after the other are
    /// published in that order. Nobody is asked for the receipt of a message to all.
    ///
    /// # Errors
    ///
    /// Any [`PublishError`] but `Unconfirmed`, after two seconds at the latest: nothing was
    /// published. Dropping the future before it is done: nothing was handed over to NATS.
    pub async fn send(&self, mut push: Push, receipt: bool) -> Result<UnderWay, PublishError> {
        let trace = self.tracer.follow(push.caller.parent);
        let mut span = self.tracer.span(Operation::Push, trace);
        if let Some(span) = &mut span {
            enter(span, &mut push);
        }
        match self.hand_over(push, receipt).await {
            Ok(outcome) => Ok(UnderWay { outcome, span }),
            Err(error) => {
                if let Some(mut span) = span {
                    span.fail(error.name());
                }
                Err(error)
            }
        }
    }

    async fn hand_over(&self, push: Push, receipt: bool) -> Result<Outcome, PublishError> {
        let receipt = receipt && push.to != To::All;
        Ok(match &self.way {
            Way::Live(client) => {
                let answers = if receipt { ANSWERS } else { 0 };
                let outgoing = push.outgoing(&client.subjects);
                let sent = client.send(outgoing, answers).await?;
                Outcome::Live { sent, receipt }
            }
            Way::Durable(way) => {
                let subjects = &way.client.subjects;
                let asks = match &push.to {
                    To::User(user) if receipt => {
                        Some(subjects.heard(&Audience::User(user.clone())))
                    }
                    _ => None,
                };
                let outgoing = push.outgoing(subjects);
                Outcome::Durable {
                    sent: way.client.send(outgoing, 1).await?,
                    way: way.clone(),
                    asks,
                }
            }
            Way::Embedded(sender) => Outcome::Embedded(sender.send(push, receipt).await?),
        })
    }
}

impl UnderWay {
    /// Waits until NATS has confirmed the message, or the stream has stored it, and for the
    /// receipts.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says whether the message can still arrive.
    pub async fn outcome(self) -> Result<Published, PublishError> {
        let Self { outcome, span } = self;
        let published = outcome.wait().await;
        if let Some(mut span) = span {
            conclude(&mut span, &published);
        }
        published
    }
}

impl Outcome {
    async fn wait(self) -> Result<Published, PublishError> {
        match self {
            Self::Live { sent, receipt } => live(sent, receipt).await,
            Self::Durable { way, sent, asks } => way.outcome(sent, asks).await,
            Self::Embedded(under_way) => under_way.outcome().await,
        }
    }
}

async fn live(mut sent: Sent, receipt: bool) -> Result<Published, PublishError> {
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

impl Durable {
    async fn outcome(
        &self,
        mut sent: Sent,
        asks: Option<String>,
    ) -> Result<Published, PublishError> {
        let answer = sent.answer().await?;
        // The room of its bytes is for the next.
        drop(sent);
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            self.gone.notify_one();
            let nobody = "no stream captures it; see `usher check`";
            return Err(PublishError::NotStored(nobody.to_owned()));
        }
        let (seq, duplicate) = acknowledged(&answer.payload, &self.stream)?;
        let receipt = match asks {
            // Who has a duplicate was asked when it came for the first time.
            Some(subject) if !duplicate => Some(probe(&self.client, subject, seq).await),
            _ => None,
        };
        Ok(Published {
            seq: Some(seq),
            receipt,
        })
    }
}

/// Asks which sessions have everything up to a sequence of the user's. Whatever becomes of
/// the question, the message is stored.
async fn probe(client: &Client, subject: String, seq: u64) -> Receipt {
    match ask_up_to(client, subject, seq).await {
        Ok(mut sent) => receipts(&mut sent).await,
        Err(_) => Receipt::Offline,
    }
}

/// Sums what gateways answer, each counted once.
async fn receipts(sent: &mut Sent) -> Receipt {
    let mut until = Instant::now() + PATIENCE;
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
