//! What services can ask for, whichever way they come: fields are checked here, once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize;

use super::Failure;
use crate::{
    bus::{
        Published, Publisher, Push, To, UnderWay,
        stream::{self, Stream},
    },
    channel::Topic,
    close::CloseMessage,
    control::{Control, Presence, Reached, Users},
    grants::{Grants, GrantsError, Lists, MILLISECONDS},
    message::{EventName, MESSAGE_ID_RULE, is_message_id},
    origin::Origin,
    position::Position,
    registry::{Dismissal, TopicChange},
    tickets::{IssueError, Order, Ticket, Tickets},
    trace::Caller,
    user::UserId,
};

/// Topics to follow, or not to, in one call.
const MAX_TOPICS: usize = 256;
/// The shortest time that a ticket may wait to be used.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// The longest time that a ticket may wait to be used.
const LONGEST_TTL: Duration = Duration::from_secs(300);

/// The operations. Clones share what they work on.
#[derive(Debug, Clone)]
pub struct Operations {
    /// Where messages go.
    pub publisher: Publisher,
    /// Where tickets go.
    pub tickets: Tickets,
    /// What is published is kept here, in durable mode.
    pub stream: Option<Stream>,
    /// What all gateways are asked by.
    pub control: Control,
    /// How long a ticket waits whose issuer does not say.
    pub ticket_ttl: Duration,
}

/// A push, as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct PushOrder {
    /// Whose sessions get it.
    pub user_id: String,
    /// Its event; empty for `message`.
    pub event: String,
    /// So that JetStream drops a duplicate; empty for none.
    pub message_id: String,
    /// The message's bytes.
    pub payload: Bytes,
    /// Whether to ask which sessions have it.
    pub receipt: bool,
    /// What the caller said of its trace.
    pub caller: Caller,
}

/// A message to every session, or to those that follow a topic, as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct BroadcastOrder {
    /// Its event; empty for `message`.
    pub event: String,
    /// So that JetStream drops a duplicate; empty for none.
    pub message_id: String,
    /// The message's bytes.
    pub payload: Bytes,
    /// What the caller said of its trace.
    pub caller: Caller,
}

/// A ticket, as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct TicketOrder {
    /// Whose session it shall open.
    pub user_id: String,
    /// How long it may wait to be used; `None` for `tickets.ttl`.
    pub ttl: Option<Duration>,
    /// When its session ends; `None` for never.
    pub expires_at: Option<SystemTime>,
    /// The only origin that may use it; empty for any.
    pub origin: String,
    /// What its session may do.
    pub grants: Lists,
}

/// A ticket, how long it waits to be used, and where the stream ends.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The secret.
    pub ticket: Ticket,
    /// From now on.
    pub expires_in: Duration,
    /// The `since` of a client that loads its page's state after this; `None` in live mode, or
    /// where the stream's leader does not say.
    pub position: Option<Position>,
}

/// The end of a user's sessions, as it was asked for. Its JSON is the body of such a call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisconnectOrder {
    /// Whose sessions end.
    pub user_id: String,
    /// Whether their clients are to reconnect.
    #[serde(default)]
    pub reconnect: bool,
    /// What clients are told besides; empty for nothing.
    #[serde(default)]
    pub reason: String,
}

/// Other topics for a user's open sessions, as they were asked for. Its JSON is the body of such
/// a call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicsOrder {
    /// Whose sessions.
    pub user_id: String,
    /// Followed from now on.
    #[serde(default)]
    pub follow: Vec<String>,
    /// Followed no more.
    #[serde(default)]
    pub unfollow: Vec<String>,
}

impl Operations {
    /// Publishes a message to a user.
    ///
    /// # Errors
    ///
    /// [`Failure`] says whether it may still be published. Dropping the future leaves that
    /// unknown.
    pub async fn push(&self, order: PushOrder) -> Result<Published, Failure> {
        Ok(self.begin_push(order).await?.outcome().await?)
    }

    /// Hands a message to a user over; its outcome is for later. Messages that one caller
    /// begins one after the other are published in that order.
    ///
    /// # Errors
    ///
    /// A certain [`Failure`]. Dropping the future: nothing was published.
    pub async fn begin_push(&self, order: PushOrder) -> Result<UnderWay, Failure> {
        let user = user_id(&order.user_id)?;
        let push = Push {
            event: event(&order.event)?,
            message_id: message_id(&order.message_id, &user.subject_token())?,
            payload: order.payload,
            to: To::User(user),
            caller: order.caller,
        };
        Ok(self.publisher.send(push, order.receipt).await?)
    }

    /// Publishes a message to every session.
    ///
    /// # Errors
    ///
    /// [`Failure`] says whether it may still be published. Dropping the future leaves that
    /// unknown.
    pub async fn broadcast(&self, order: BroadcastOrder) -> Result<Published, Failure> {
        let push = Push {
            event: event(&order.event)?,
            message_id: message_id(&order.message_id, "$broadcast")?,
            payload: order.payload,
            to: To::All,
            caller: order.caller,
        };
        Ok(self.publisher.publish(push, false).await?)
    }

    /// Publishes a message to all sessions that follow a topic.
    ///
    /// # Errors
    ///
    /// [`Failure`] says whether it may still be published. Dropping the future leaves that
    /// unknown.
    pub async fn publish_topic(
        &self,
        topic: &str,
        order: BroadcastOrder,
    ) -> Result<Published, Failure> {
        let topic = self::topic("topic", topic)?;
        let channel = format!("$topic.{}", topic.subject_token());
        let push = Push {
            event: event(&order.event)?,
            message_id: message_id(&order.message_id, &channel)?,
            payload: order.payload,
            to: To::Topic(topic),
            caller: order.caller,
        };
        Ok(self.publisher.publish(push, false).await?)
    }

    /// Issues a ticket.
    ///
    /// # Errors
    ///
    /// [`Failure`]; no ticket is handed out then.
    pub async fn issue(&self, order: TicketOrder) -> Result<Issued, Failure> {
        let ttl = order.ttl.unwrap_or(self.ticket_ttl);
        if order.ttl.is_some() && !(SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) {
            return Err(Failure::invalid("ttl", "is not between 1 s and 300 s"));
        }
        let expires_at = match order.expires_at {
            None => None,
            Some(at) => {
                // In whole seconds, as the ticket has it.
                let seconds = at.duration_since(UNIX_EPOCH).map(|at| at.as_secs());
                let future = |at: &u64| UNIX_EPOCH + Duration::from_secs(*at) > SystemTime::now();
                let at = seconds.ok().filter(future);
                if at.is_some_and(|at| at >= MILLISECONDS) {
                    let why = "is 10^11 or above, as milliseconds are; write Unix seconds";
                    return Err(Failure::invalid("expires_at", why));
                }
                Some(at.ok_or_else(|| Failure::invalid("expires_at", "is not in the future"))?)
            }
        };
        let origin = match &order.origin[..] {
            "" => None,
            origin => {
                let origin = Origin::parse(origin);
                Some(origin.map_err(|error| Failure::invalid("origin", error))?)
            }
        };
        let order = Order {
            user: user_id(&order.user_id)?,
            expires_at,
            origin,
            grants: Grants::parse(&order.grants)?,
        };
        let position = async { Ok(stream::end(self.stream.as_ref()).await) };
        let issued = tokio::try_join!(self.tickets.issue(&order, ttl), position);
        let (ticket, position) = issued.map_err(|error| match error {
            IssueError::Unavailable(_) => {
                let says = "Redis is away, or took no ticket: none was issued, try again";
                Failure::Unavailable(says.to_owned())
            }
            IssueError::NoStore => {
                let says = "this gateway has no Redis (redis.url is empty), so no tickets: \
                            sessions are opened by tokens (tickets.jwt.connect)";
                Failure::NotServed(says.to_owned())
            }
        })?;
        Ok(Issued {
            ticket,
            expires_in: ttl,
            position,
        })
    }

    /// Who of these users is online.
    ///
    /// # Errors
    ///
    /// [`Failure`]. Dropping the future is safe.
    pub async fn presence<T: AsRef<str>>(&self, user_ids: &[T]) -> Result<Presence, Failure> {
        let users = Users::parse(user_ids);
        let users = users.map_err(|error| Failure::invalid("user_ids", error))?;
        let found = self.control.presence(users).await;
        found.map_err(|error| Failure::of_control("user_ids:", error))
    }

    /// Ends all sessions of a user.
    ///
    /// # Errors
    ///
    /// [`Failure`] says whether sessions may end all the same. Dropping the future leaves that
    /// unknown.
    pub async fn disconnect(&self, order: DisconnectOrder) -> Result<Reached, Failure> {
        let user = user_id(&order.user_id)?;
        let message = CloseMessage::parse(&order.reason);
        let dismissal = Dismissal {
            reconnect: order.reconnect,
            message: message.map_err(|error| Failure::invalid("reason", error))?,
        };
        let reached = self.control.disconnect(&user, dismissal).await;
        reached.map_err(|error| Failure::of_control("reason:", error))
    }

    /// Changes what a user's open sessions follow, whatever they are granted.
    ///
    /// # Errors
    ///
    /// [`Failure`] says whether sessions may be changed all the same. Dropping the future leaves
    /// that unknown.
    pub async fn update_topics(&self, order: TopicsOrder) -> Result<Reached, Failure> {
        let user = user_id(&order.user_id)?;
        let change = TopicChange {
            follow: topics("follow", &order.follow)?,
            unfollow: topics("unfollow", &order.unfollow)?,
            ..TopicChange::default()
        };
        let field = match change.follow.len() < change.unfollow.len() {
            true => "unfollow:",
            false => "follow:",
        };
        let reached = self.control.change_topics(&user, &change).await;
        reached.map_err(|error| Failure::of_control(field, error))
    }
}

/// Topics of one change.
fn topics(field: &'static str, names: &[String]) -> Result<Vec<Topic>, Failure> {
    if names.len() > MAX_TOPICS {
        let rule = format!("has {} topics; it has at most {MAX_TOPICS}", names.len());
        return Err(Failure::invalid(field, rule));
    }
    names.iter().map(|name| topic(field, name)).collect()
}

fn topic(field: &'static str, name: &str) -> Result<Topic, Failure> {
    Topic::parse(name).map_err(|error| Failure::invalid(field, error))
}

impl From<GrantsError> for Failure {
    fn from(GrantsError { field, fault }: GrantsError) -> Self {
        Self::invalid(field, fault)
    }
}

fn user_id(text: &str) -> Result<UserId, Failure> {
    UserId::parse(text).map_err(|error| Failure::invalid("user_id", error))
}

fn event(name: &str) -> Result<Option<EventName>, Failure> {
    match name {
        "" => Ok(None),
        name => {
            let event = EventName::parse(name);
            Ok(Some(
                event.map_err(|error| Failure::invalid("event", error))?,
            ))
        }
    }
}

/// NATS drops a duplicate id whichever channel it was for, so the channel is part of it.
fn message_id(id: &str, channel: &str) -> Result<Option<String>, Failure> {
    if id.is_empty() {
        return Ok(None);
    }
    if !is_message_id(id) {
        return Err(Failure::invalid("message_id", MESSAGE_ID_RULE));
    }
    Ok(Some(format!("{channel}:{id}")))
}
