//! One-time tickets: what they look like, what they grant, and where they are.

mod embedded;
mod redis;
mod value;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngCore as _;

use self::{embedded::Embedded, redis::Redis};
pub use self::{
    redis::{Address, Config, Login, Servers, check},
    value::{Fault, ValueError},
};
use crate::{grants::Grants, metrics::Metrics, origin::Origin, readiness::Readiness, user::UserId};

/// Where tickets are.
#[derive(Debug, Clone)]
pub struct Tickets {
    store: Store,
    accept_plain: bool,
}

#[derive(Debug, Clone)]
enum Store {
    Redis(Redis),
    Embedded(Arc<Embedded>),
    None,
}

impl Tickets {
    /// In Redis. Also returns what has to be polled for as long as the process lives: it
    /// keeps connected.
    pub fn redis(
        config: Config,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let accept_plain = config.accept_plain;
        let (redis, keeping) = Redis::new(config, metrics, readiness);
        let store = Store::Redis(redis);
        let tickets = Self {
            store,
            accept_plain,
        };
        (tickets, keeping)
    }

    /// In this process.
    pub fn embedded(accept_plain: bool) -> Self {
        Self {
            accept_plain,
            store: Store::Embedded(Arc::default()),
        }
    }

    /// Nowhere: no ticket opens anything, and none is issued.
    pub fn none() -> Self {
        Self {
            accept_plain: false,
            store: Store::None,
        }
    }

    /// Whether Redis answered last time; `None` if there is no Redis.
    pub fn is_connected(&self) -> Option<bool> {
        match &self.store {
            Store::Redis(redis) => Some(redis.is_connected()),
            Store::Embedded(_) | Store::None => None,
        }
    }

    /// Whether there is a place for tickets.
    pub fn can_issue(&self) -> bool {
        !matches!(self.store, Store::None)
    }

    /// Uses a ticket up.
    ///
    /// # Errors
    ///
    /// [`RedeemError`]; after either kind the ticket may be gone.
    pub async fn redeem(&self, ticket: &Ticket) -> Result<Grant, RedeemError> {
        let value = match &self.store {
            Store::Redis(redis) => redis.take(ticket).await?,
            Store::Embedded(embedded) => embedded.take(ticket),
            Store::None => return Err(RedeemError::NoStore),
        };
        let unknown = RedeemError::Unknown("it was never issued, is used or expired");
        value::read(&value.ok_or(unknown)?, self.accept_plain, SystemTime::now())
    }

    /// Issues a ticket that waits `ttl` to be used.
    ///
    /// # Errors
    ///
    /// [`IssueError`]: the ticket is not handed out, whether or not it is stored.
    pub async fn issue(&self, order: &Order, ttl: Duration) -> Result<Ticket, IssueError> {
        let ticket = Ticket::mint();
        let value = order.to_value();
        match &self.store {
            Store::Redis(redis) => redis.put(&ticket, &value, ttl).await?,
            Store::Embedded(embedded) => embedded.put(&ticket, value, ttl)?,
            Store::None => return Err(IssueError::NoStore),
        }
        Ok(ticket)
    }
}

/// A ticket: 16–512 characters of `A-Z a-z 0-9 - _ . ~`.
///
/// It is a secret. `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

/// The text cannot be a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ticket is 16–512 characters of A-Z a-z 0-9 - _ . ~")]
pub struct TicketError;

impl Ticket {
    /// Checks the shape; says nothing about whether it is known.
    ///
    /// # Errors
    ///
    /// [`TicketError`] where the shape is wrong.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if (16..=512).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TicketError)
        }
    }

    /// A new one, of 256 random bits.
    fn mint() -> Self {
        let mut bits = [0; 32];
        rand::rng().fill_bytes(&mut bits);
        Self(URL_SAFE_NO_PAD.encode(bits))
    }

    /// The secret itself, for the one who asked for it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

/// What a ticket lets its holder do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose session it opens.
    pub user: UserId,
    /// When that session ends.
    pub expires_at: Option<SystemTime>,
    /// The only origin that may use it.
    pub origin: Option<Origin>,
    /// What that session may do.
    pub grants: Grants,
}

/// Why a ticket opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// Never issued, used or expired; says which, as far as it shows.
    #[error("{0}")]
    Unknown(&'static str),
    /// What was stored for it is nothing that Usher reads, which whoever issues tickets
    /// should know.
    #[error("{0}")]
    Unreadable(&'static str),
    /// A field of what was stored for it is wrong: says which field, and what is wrong with it.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The store did not answer. The ticket may be used up all the same.
    #[error("the ticket store did not answer")]
    Unavailable,
    /// There is no store.
    #[error("there are no tickets here")]
    NoStore,
}

/// Why there is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The store did not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// There is no store.
    #[error("there are no tickets here")]
    NoStore,
}

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ticket store did not answer")]
pub struct Unavailable;

/// What an issuer asks a ticket for.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whose session it shall open.
    pub user: UserId,
    /// When that session shall end, in Unix seconds.
    pub expires_at: Option<u64>,
    /// The only origin that may use it.
    pub origin: Option<Origin>,
    /// What that session may do.
    pub grants: Grants,
}

/// What `fuzz/` reaches of this module.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{Grant, Order, RedeemError, SystemTime};

    /// Reads a ticket's value.
    pub fn read(value: &[u8], accept_plain: bool, now: SystemTime) -> Result<Grant, RedeemError> {
        super::value::read(value, accept_plain, now)
    }

    /// Writes a ticket's value.
    pub fn write(order: &Order) -> String {
        order.to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for good in [&"a".repeat(16), &"Z-_.~9".repeat(80), &"x".repeat(512)] {
            assert!(Ticket::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            &"a".repeat(15),
            &"a".repeat(513),
            "a b cdefghijklmnop",
            "ü234567890123456",
        ] {
            assert_eq!(Ticket::parse(bad), Err(TicketError), "{bad:?}");
        }
        let minted = Ticket::mint();
        assert_eq!(minted.expose().len(), 43);
        assert_eq!(Ticket::parse(minted.expose()), Ok(minted.clone()));
        assert_eq!(format!("{minted:?}"), "Ticket(…)");
    }
}
