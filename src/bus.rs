//! The bus: how messages reach this gateway, and how pushes leave it.
//!
//! Two connections to NATS, so that neither waits behind the other:
//! [`Interest`] brings what is published to the users held here, and
//! [`Publisher`] carries pushes out. Both know of a confirmation the same way:
//! NATS answers a PING only after all that came before it on that connection.

mod dial;
mod interest;
mod link;
mod publisher;
mod subject;
mod wire;

use std::fmt;

use url::Url;

pub use self::{
    dial::{DialError, probe},
    interest::{Event, Interest, Request, Subscriber, Subscriptions},
    publisher::{PublishError, Publisher, Push, Receipt},
    subject::Subjects,
};
use crate::secret::Secret;

/// Where NATS is, and how to be let in. `Debug` leaves out what may hold
/// credentials.
#[derive(Clone)]
pub struct Config {
    /// `nats://host:port`, tried in a random order.
    pub servers: Vec<Url>,
    /// A token, or a user and password; credentials in a URL go before these.
    pub auth: Auth,
    /// The name that NATS shows for our connections.
    pub name: String,
    /// The first tokens of every subject of ours.
    pub prefix: String,
    /// What a reply subject begins with: those that receipts are sent to, and
    /// those that we ask receipts for.
    pub reply_prefix: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .field("reply_prefix", &self.reply_prefix)
            .finish_non_exhaustive()
    }
}

/// Credentials for NATS.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// None.
    #[default]
    Anonymous,
    /// A token.
    Token(Secret),
    /// A user and password.
    Password(String, Secret),
}
