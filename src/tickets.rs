//! One-time tickets: what they look like, what they grant, and where they are.

mod embedded;
mod redis;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};

pub use self::redis::{Address, Config, Login, Servers, check};
use self::{embedded::Embedded, redis::Redis};
use crate::{metrics::Metrics, origin::Origin, readiness::Readiness, user::UserId};

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
}

impl Tickets {
    /// In Redis, which is connected to in a task of its own.
    pub fn redis(config: Config, metrics: Arc<Metrics>, readiness: Readiness) -> Self {
        Self {
            accept_plain: config.accept_plain,
            store: Store::Redis(Redis::start(config, metrics, readiness)),
        }
    }

    /// In this process.
    pub fn embedded(accept_plain: bool) -> Self {
        Self {
            accept_plain,
            store: Store::Embedded(Arc::default()),
        }
    }

    /// Whether the store answered last time.
    pub fn is_connected(&self) -> bool {
        match &self.store {
            Store::Redis(redis) => redis.is_connected(),
            Store::Embedded(_) => true,
        }
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
        };
        let unknown = RedeemError::Unknown("it was never issued, is used or expired");
        read_value(&value.ok_or(unknown)?, self.accept_plain, SystemTime::now())
    }

    /// Mints a ticket that waits `ttl` to be used.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the ticket is not handed out, whether or not it is stored.
    pub async fn issue(&self, order: &Order, ttl: Duration) -> Result<Ticket, Unavailable> {
        let ticket = Ticket::mint();
        let value = order.to_value();
        match &self.store {
            Store::Redis(redis) => redis.put(&ticket, &value, ttl).await?,
            Store::Embedded(embedded) => embedded.put(&ticket, value, ttl)?,
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
}

/// Why a ticket opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// Never issued, used or expired; says which, as far as it shows.
    #[error("{0}")]
    Unknown(&'static str),
    /// What was stored for it is nothing that Usher reads, which whoever issues tickets
    /// should know.
    #[error("{0}")]
    Unreadable(&'static str),
    /// The store did not answer. The ticket may be used up all the same.
    #[error("the ticket store did not answer")]
    Unavailable,
}

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ticket store did not answer")]
pub struct Unavailable;

/// A ticket's value as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    origin: Option<String>,
}

/// Reads a ticket's value: JSON where it begins with `{`, otherwise, where
/// `accept_plain`, the user id itself.
fn read_value(value: &[u8], accept_plain: bool, now: SystemTime) -> Result<Grant, RedeemError> {
    let rubbish = RedeemError::Unreadable("its value is not one that Usher reads");
    let value = std::str::from_utf8(value).map_err(|_| rubbish)?;
    let value = if value.starts_with('{') {
        serde_json::from_str(value).map_err(|_| rubbish)?
    } else if accept_plain {
        Value {
            user_id: value.to_owned(),
            expires_at: None,
            origin: None,
        }
    } else {
        return Err(RedeemError::Unreadable(
            "its value is not JSON, and tickets.accept_plain is off",
        ));
    };
    let grant = Grant {
        user: UserId::parse(&value.user_id).map_err(|_| rubbish)?,
        expires_at: match value.expires_at {
            None => None,
            Some(seconds) => Some(
                UNIX_EPOCH
                    .checked_add(Duration::from_secs(seconds))
                    .ok_or(rubbish)?,
            ),
        },
        origin: match value.origin {
            None => None,
            Some(origin) => Some(Origin::parse(&origin).map_err(|_| rubbish)?),
        },
    };
    match grant.expires_at {
        Some(at) if at <= now => Err(RedeemError::Unknown("its session has expired")),
        _ => Ok(grant),
    }
}

/// What an issuer asks a ticket for.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whose session it shall open.
    pub user: UserId,
    /// When that session shall end, in Unix seconds.
    pub expires_at: Option<u64>,
    /// The only origin that may use it.
    pub origin: Option<Origin>,
}

impl Order {
    fn to_value(&self) -> String {
        serde_json::to_string(&Value {
            user_id: self.user.as_str().to_owned(),
            expires_at: self.expires_at,
            origin: self.origin.as_ref().map(ToString::to_string),
        })
        .expect("such a value is always JSON")
    }
}

/// What `fuzz/` reaches of this room.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{Grant, Order, RedeemError, SystemTime};

    /// Reads a ticket's value.
    pub fn read(value: &[u8], accept_plain: bool, now: SystemTime) -> Result<Grant, RedeemError> {
        super::read_value(value, accept_plain, now)
    }

    /// Writes a ticket's value.
    pub fn write(order: &Order) -> String {
        order.to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &[u8]) -> Result<Grant, RedeemError> {
        read_value(value, true, UNIX_EPOCH + Duration::from_secs(1000))
    }

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

    #[test]
    fn plain_values_are_the_user_id() {
        assert_eq!(read(b"42").expect("a grant").user.as_str(), "42");
        assert_eq!(
            read(" {x}".as_bytes()).expect("a grant").user.as_str(),
            " {x}"
        );
        assert!(read_value(b"42", false, UNIX_EPOCH).is_err());
    }

    #[test]
    fn json_values_say_more() {
        let grant = read(br#"{"user_id":"42","expires_at":1001,"origin":"https://a.example"}"#)
            .expect("a grant");
        assert_eq!(
            grant.expires_at,
            Some(UNIX_EPOCH + Duration::from_secs(1001))
        );
        assert_eq!(grant.origin, Origin::parse("https://a.example").ok());
    }

    #[test]
    fn rubbish_opens_nothing() {
        for bad in [
            &b""[..],
            b"\xff",
            b"a\nb",
            &[b'x'; 129],
            b"{",
            b"{}",
            br#"{"user_id":42}"#,
            br#"{"user_id":""}"#,
            br#"{"user_id":"42","admin":true}"#,
            br#"{"user_id":"42","user_id":"43"}"#,
            br#"{"user_id":"42","expires_at":"soon"}"#,
            br#"{"user_id":"42","expires_at":1000}"#,
            br#"{"user_id":"42","expires_at":18446744073709551615}"#,
            br#"{"user_id":"42","origin":"a.example"}"#,
            br#"{"user_id":"42"} "x""#,
        ] {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn an_order_reads_back_as_its_grant() {
        let order = Order {
            user: UserId::parse("{weird}\"id").expect("an id"),
            expires_at: Some(2000),
            origin: Origin::parse("https://a.example:8443").ok(),
        };
        let grant = read_value(order.to_value().as_bytes(), false, UNIX_EPOCH).expect("a grant");
        assert_eq!(grant.user, order.user);
        assert_eq!(grant.origin, order.origin);
        assert_eq!(
            grant.expires_at,
            Some(UNIX_EPOCH + Duration::from_secs(2000))
        );
    }
}
