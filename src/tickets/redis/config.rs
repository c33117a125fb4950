//! Where Redis is, who we are there, and how tickets are kept.

use std::{fmt, time::Duration};

use crate::{secret::Secret, tls::ClientFiles};

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// One server.
    Single(Address),
    /// Sentinels, and the name under which they watch the primary.
    Sentinel(Vec<Address>, String),
    /// Some nodes of a Cluster.
    Cluster(Vec<Address>),
}

/// Who to be at a server.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// A user of Redis's access control; `None`: its default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

/// Where Redis is, and how tickets are kept there. `Debug` leaves out credentials.
#[derive(Debug, Clone)]
pub struct Config {
    /// The servers.
    pub servers: Servers,
    /// The number of the database; 0 for a Cluster.
    pub database: u32,
    /// Whom to trust and who to be by TLS, the Sentinels included; `None`: no TLS.
    pub tls: Option<ClientFiles>,
    /// At the servers that hold the tickets.
    pub login: Login,
    /// At the Sentinels.
    pub sentinel_login: Login,
    /// Connections to a server at most.
    pub pool_size: usize,
    /// For one command, the wait for a connection included.
    pub timeout: Duration,
    /// Commands that run or wait at the same time; one more is refused.
    pub max_in_flight: usize,
    /// Before the ticket in a key.
    pub key_prefix: String,
    /// Whether a value may be just the user id.
    pub accept_plain: bool,
    /// Whether `POST /tickets` is served, which needs SET.
    pub mints: bool,
}

impl Config {
    /// A key that no ticket has: `!` is no character of a ticket. `number` picks one of
    /// several.
    pub(super) fn own_key(&self, number: u32) -> String {
        format!("{}!usher-check-{number}", self.key_prefix)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}
