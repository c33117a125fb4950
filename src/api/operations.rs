//! What services can ask for, whichever way they come: fields are checked here, once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::Failure;
use crate::{
    bus::{Published, Publisher, Push},
    message::EventName,
    origin::Origin,
    tickets::{Order, Ticket, Tickets},
    user::UserId,
};

/// The time that a ticket may wait to be used.
const TICKET_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Characters of a message id.
const MAX_MESSAGE_ID: usize = 128;

/// The operations. Clones share what they work on.
#[derive(Debug, Clone)]
pub struct Operations {
    /// Where messages go.
    pub publisher: Publisher,
    /// Where tickets go.
    pub tickets: Tickets,
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
}

/// A ticket, as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct TicketOrder {
    /// Whose session it shall open.
    pub user_id: String,
    /// How long it may wait to be used; none for `tickets.ttl`.
    pub ttl: Option<Duration>,
    /// When its session ends; none for never.
    pub expires_at: Option<SystemTime>,
    /// The only origin that may use it; empty for any.
    pub origin: String,
}

/// A ticket, and how long it waits to be used.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The secret.
    pub ticket: Ticket,
    /// From now on.
    pub expires_in: Duration,
}

impl Operations {
    /// Publishes a message to a user.
    ///
    /// # Errors
    ///
    /// [`Failure`] says whether it may still be published. Dropping the future leaves that
    /// unknown.
    pub async fn push(&self, order: PushOrder) -> Result<Published, Failure> {
        let user = user_id(&order.user_id)?;
        let push = Push {
            event: event(&order.event)?,
            message_id: message_id(&order.message_id, &user.subject_token())?,
            payload: order.payload,
            user,
        };
        Ok(self.publisher.publish(push, order.receipt).await?)
    }

    /// Mints a ticket.
    ///
    /// # Errors
    ///
    /// [`Failure`]; no ticket is handed out then.
    pub async fn issue(&self, order: TicketOrder) -> Result<Issued, Failure> {
        let ttl = order.ttl.unwrap_or(self.ticket_ttl);
        if order.ttl.is_some() && !(TICKET_TTL.0..=TICKET_TTL.1).contains(&ttl) {
            return Err(Failure::invalid("ttl", "is not between 1 s and 300 s"));
        }
        let expires_at = match order.expires_at {
            None => None,
            Some(at) => {
                // In whole seconds, as the ticket has it.
                let seconds = at.duration_since(UNIX_EPOCH).map(|at| at.as_secs());
                let future = |at: &u64| UNIX_EPOCH + Duration::from_secs(*at) > SystemTime::now();
                let at = seconds.ok().filter(future);
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
        };
        let ticket = self.tickets.issue(&order, ttl).await.map_err(|_| {
            let says = "Redis is away; no ticket was issued, try again";
            Failure::Unavailable(says.to_owned())
        })?;
        Ok(Issued {
            ticket,
            expires_in: ttl,
        })
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
    if id.len() > MAX_MESSAGE_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        let rule = "is not 1–128 printable ASCII characters without spaces";
        return Err(Failure::invalid("message_id", rule));
    }
    Ok(Some(format!("{channel}:{id}")))
}
