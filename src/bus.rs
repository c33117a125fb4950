//! The bus: how messages reach this gateway, and how pushes leave it.
//!
//! [`Interest`] brings what is published to the users held here, and
//! [`Publisher`] carries pushes out: over two connections to NATS, so that
//! neither waits behind the other, or inside this process. On NATS both know of
//! a confirmation the same way: a PING is answered only after all that came
//! before it on that connection.

mod credentials;
mod dial;
mod embedded;
#[cfg(fuzzing)]
pub mod fuzzing;
mod interest;
mod link;
mod overlap;
mod publisher;
mod reader;
mod requests;
pub mod stream;
mod subject;
mod successor;
mod wire;
mod writer;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::Notify;
use url::Url;

pub use self::{
    credentials::Credentials,
    dial::{DialError, probe},
    interest::{Event, Interest, Probe, Request, Subscriber, Subscriptions},
    publisher::{PublishError, Published, Publisher, Push, Receipt},
    subject::Subjects,
};
use self::{dial::Dialer, stream::Stream};
use crate::{
    metrics::Metrics,
    readiness::{Part, Readiness},
    secret::Secret,
    tls::ClientFiles,
};

/// How long servers of a cluster on one site take to learn of a subscription.
pub const AUTO_SETTLE: Duration = Duration::from_millis(20);

/// A bus over NATS, with a stream in durable mode. The interest connects with its first
/// `next`.
pub fn nats<K: Subscriber>(
    config: Config,
    subscriptions: Arc<Subscriptions<K>>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
) -> (Interest<K>, Publisher, Option<Stream>) {
    readiness.needs(Part::Push);
    let gone = Arc::new(Notify::new());
    let (publisher, queue, shared) = Publisher::new(&config, gone.clone());
    let subjects = Subjects::new(&config.prefix).durable(config.stream.is_some());
    let stream = config.stream.clone().map(|stream| {
        readiness.needs(Part::Stream);
        Stream::start(
            stream,
            Dialer::new(config.clone()),
            subjects.clone(),
            &config.reply_prefix,
            gone,
            readiness.clone(),
        )
    });
    tokio::spawn(writer::run(
        Dialer::new(config.clone()),
        queue,
        shared,
        subjects,
        readiness,
    ));
    let reader = reader::Reader::new(config, subscriptions, metrics);
    (Interest::Nats(Box::new(reader)), publisher, stream)
}

/// A bus inside this process: what is published here arrives here.
pub fn embedded<K: Subscriber>(
    config: &Config,
    subscriptions: Arc<Subscriptions<K>>,
    metrics: Arc<Metrics>,
) -> (Interest<K>, Publisher) {
    let (publisher, queue, shared) = Publisher::new(config, Arc::default());
    let embedded = embedded::Embedded::new(queue, shared, subscriptions, metrics);
    (Interest::Embedded(embedded), publisher)
}

/// Where NATS is, and how to be let in. `Debug` leaves out what may hold
/// credentials.
#[derive(Clone)]
pub struct Config {
    /// `nats://host:port`, or `tls://` where it must be encrypted; tried in a
    /// random order.
    pub servers: Vec<Url>,
    /// A token, or a user and password; credentials in a URL go before these.
    pub auth: Auth,
    /// Whom to trust and who to be where the servers speak TLS. Where anything
    /// is said here, they must.
    pub tls: ClientFiles,
    /// The name that NATS shows for our connections.
    pub name: String,
    /// The first tokens of every subject of ours.
    pub prefix: String,
    /// How long other servers of a cluster take to learn of a subscription; none
    /// for [`AUTO_SETTLE`] where there are others.
    pub settle: Option<Duration>,
    /// What a reply subject begins with: those that receipts are sent to, and
    /// those that we ask receipts for.
    pub reply_prefix: String,
    /// The stream of durable mode; none in live mode.
    pub stream: Option<stream::Config>,
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
    /// A user's JWT and seed, in a file that is read at each connection.
    Credentials(PathBuf),
}
