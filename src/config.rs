//! The configuration: a TOML file, then the environment; the later wins.
//!
//! `config/keys.rs` is the one place that knows key names: each key is a line
//! there, with its type, its default, its rule and its documentation. All the
//! rest follows from that table: the typed [`Config`], what a file and the
//! environment may say, the printed configuration, the reference.
//!
//! An error is one line that names the key, its value and the mend, and never
//! shows a secret.

use std::path::Path;

mod error;
mod keys;
mod layers;
mod load;
mod names;
mod print;
mod redis_url;
mod rules;
mod servers;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod units;
mod value;

pub use error::{ConfigError, ConfigErrors};
pub use keys::{
    Config, Drain, Durable, Grpc, GrpcTls, Log, Nats, NatsTls, Ops, Public, PublicTls, Redis,
    RedisSentinel, RedisTls, Session, Telemetry, Tickets, TicketsJwt, TicketsJwtTls,
};
pub use print::{Reference, reference};
pub use redis_url::{RedisKind, RedisServers};
pub use servers::{HttpsUrl, IssuerUrl, NatsServers, OtlpUrl};
pub use types::{LogFormat, Ratio, Settle, Storage};
pub use units::{Size, duration_text};

impl Config {
    /// Reads the file, if there is one, and then the environment's
    /// `USHER_SECTION__KEY`; other variables are left alone.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] says all that is wrong, and how to mend it.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        load::load(file, environment)
    }

    /// Reads the files of secrets (`KEY_file`) again. Returns the configuration with what they
    /// say now, and what is wrong with some of them: those keys keep their values.
    pub fn reread(&self) -> (Self, Vec<ConfigError>) {
        load::reread(self)
    }

    /// All keys with their documentation and their values, as TOML that may be
    /// loaded again. Secrets are commented out, and not shown.
    pub fn to_toml(&self) -> String {
        print::to_toml(self)
    }
}
