//! The bus: how messages reach this gateway, and how pushes leave it.
//!
//! Our own NATS client (`interest::link`, `interest::wire`) reads bytes that strangers wrote,
//! because no odd byte of theirs may end the connection. Four connections use it: the interest
//! connection ([`Interest`]), the one that reads stored messages ([`stream`]), the one with
//! services' answers to clients' calls ([`Calls`]), and the one with callers' requests to the
//! service API ([`Service`]). Everything else that the gateway says or
//! asks goes through async-nats: pushes ([`Publisher`]) and JetStream's administration. With
//! `--embedded` no NATS is used: what is published in this process arrives in it.

mod asking;
mod auth;
mod caller;
mod calls;
mod check;
mod client;
mod embedded;
#[cfg(fuzzing)]
#[path = "../fuzz/reach/bus.rs"]
pub mod fuzzing;
mod health;
mod interest;
mod publisher;
mod refusal;
mod servers;
mod service;
pub mod stream;
mod subject;

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use url::Url;

pub use self::{
    asking::Elsewhere,
    auth::{Auth, AuthError},
    calls::{CallError, Calls, Config as CallsConfig, SessionCalls},
    check::{Seen, Server, check},
    client::{Answers, Listener, Peers, Said, Topic},
    interest::{
        Command, Commands, DialError, Event, Interest, Probe, Request, Subscriber, Subscriptions,
    },
    publisher::{PublishError, Published, Publisher, Push, Receipt, To, UnderWay},
    service::{Endpoint, GROUP, Reply, Service, ServiceAnswers, ServiceRequest},
    subject::Subjects,
};
use self::{
    caller::Caller,
    health::Health,
    interest::{Dialer, Reader, Supervisor},
    publisher::{Durable, Way},
    servers::Servers,
    stream::Stream,
};
pub use crate::supervision::Task;
use crate::{
    metrics::Metrics,
    readiness::{Part, Readiness},
    telemetry::Tracer,
    tls::ClientFiles,
};

/// How long servers of a cluster on one site take to learn of a subscription.
pub const AUTO_SETTLE: Duration = Duration::from_millis(20);

/// The parts of a bus over NATS.
#[derive(Debug)]
pub struct Nats<K> {
    /// What is published to the channels held here.
    pub interest: Interest<K>,
    /// Pushes.
    pub publisher: Publisher,
    /// The other gateways.
    pub peers: Peers,
    /// The service API.
    pub service: Service,
    /// Calls of clients, which services answer.
    pub calls: Calls,
    /// Whether the others hold a user, and what services are told of that.
    pub elsewhere: Elsewhere,
    /// In durable mode.
    pub stream: Option<Stream>,
    /// What has to be polled.
    pub tasks: Vec<Task>,
}

/// A bus over NATS, with a stream in durable mode. The interest connects with its first
/// `next`.
///
/// # Errors
///
/// async-nats does not accept the URL of a server.
pub async fn nats<K: Subscriber>(
    config: Config,
    commands: Commands<K>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
) -> Result<Nats<K>, async_nats::Error> {
    let subjects = config.subjects();
    let servers = Servers::new(&config.servers);
    let durable = config.stream.is_some();
    let health = |name, part| Health::new(name, part, durable, metrics.clone(), readiness.clone());
    let supervised = |name, part| {
        let dialer = Dialer::new(config.clone(), servers.clone());
        Supervisor::new(dialer, health(name, part))
    };
    let pushing = health("push", Part::Push);
    let (client, task) = client::start(&config, servers.clone(), subjects.clone(), pushing).await?;
    let mut tasks = vec![Task::new("the push connection", task)];
    let (service, task) = service::start(
        supervised("service", Part::Service),
        (subjects.api(), &config.name, &config.reply_prefix),
        metrics.clone(),
    );
    tasks.push(Task::new("the service connection", task));
    let connection = supervised("calls", Part::Calls).lingering(config.calls.timeout);
    let (caller, task) = Caller::new(connection, &config.reply_prefix, None);
    tasks.push(Task::new("the connection of calls", task));
    let calls = Calls::new(
        config.calls.clone(),
        Some(caller),
        subjects.clone(),
        &config.name,
        (metrics.clone(), config.tracer.clone()),
    );
    let peers = Peers::new(client.clone(), &config.reply_prefix);
    let elsewhere = Elsewhere::new(client.clone(), &config.name);
    let (way, stream) = match config.stream.clone() {
        None => (Way::Live(client), None),
        Some(stream) => {
            readiness.needs(Part::Stream);
            let gone = Arc::new(Notify::new());
            let way = Way::Durable(Durable {
                client: client.clone(),
                stream: stream.name.as_str().into(),
                gone: gone.clone(),
            });
            let (stream, more) = Stream::new(
                stream,
                subjects.clone(),
                supervised("stream", Part::StreamConnection),
                &config.reply_prefix,
                client,
                gone,
                (metrics.clone(), readiness.clone()),
            );
            tasks.extend(more);
            (way, Some(stream))
        }
    };
    let reader = Reader::new(
        supervised("interest", Part::Interest),
        subjects,
        config.stream.map(|stream| stream.name),
        config.settle,
        commands,
        (metrics, config.tracer.clone()),
    );
    Ok(Nats {
        interest: Interest::Nats(Box::new(reader), stream.clone()),
        publisher: Publisher::new(way, config.tracer),
        peers,
        service,
        calls,
        elsewhere,
        stream,
        tasks,
    })
}

/// A bus inside this process: what is published here arrives here.
pub fn embedded<K: Subscriber>(
    reply_prefix: &str,
    commands: Commands<K>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
) -> (Interest<K>, Publisher) {
    let (embedded, sender) = embedded::start(reply_prefix, commands, metrics, tracer.clone());
    (
        Interest::Embedded(Box::new(embedded)),
        Publisher::new(Way::Embedded(sender), tracer),
    )
}

/// Where NATS is, and how to be let in.
#[derive(Debug, Clone)]
pub struct Config {
    /// `nats://host:port`, or `tls://` where it must be encrypted, without credentials;
    /// tried in a random order.
    pub servers: Vec<Url>,
    /// How to log in.
    pub auth: Auth,
    /// Whom to trust and who to be where the servers speak TLS. Where anything
    /// is said here, they must.
    pub tls: ClientFiles,
    /// This gateway's name, which NATS shows for its connections.
    pub name: String,
    /// The first tokens of every subject of ours.
    pub prefix: String,
    /// How long other servers of a cluster take to learn of a subscription; `None` for
    /// [`AUTO_SETTLE`] if there are others.
    pub settle: Option<Duration>,
    /// What a reply subject begins with: those that receipts are sent to, and
    /// those that we ask receipts for.
    pub reply_prefix: String,
    /// The bounds of clients' calls.
    pub calls: CallsConfig,
    /// Whether services are told who comes and goes.
    pub presence_events: bool,
    /// The stream of durable mode; `None` in live mode.
    pub stream: Option<stream::Config>,
    /// Records pushes, and which messages are followed.
    pub tracer: Tracer,
}

impl Config {
    fn subjects(&self) -> Subjects {
        let subjects = Subjects::new(&self.prefix).of(&self.name);
        match self.stream {
            None => subjects,
            Some(_) => subjects.durable(),
        }
    }

    /// Whether a server that speaks no TLS is not to be spoken to.
    fn wants_tls(&self) -> bool {
        self.tls.are_given() || self.servers.iter().any(|server| server.scheme() == "tls")
    }
}

/// Of a gateway in live mode that reaches no server, for tests.
#[cfg(test)]
fn example_config() -> Config {
    Config {
        servers: vec![Url::parse("nats://127.0.0.1:1").expect("a URL")],
        auth: Auth::Anonymous,
        tls: ClientFiles::default(),
        name: "one".to_owned(),
        prefix: "usher".to_owned(),
        settle: None,
        reply_prefix: "_INBOX.".to_owned(),
        calls: CallsConfig {
            timeout: Duration::ZERO,
            max_in_flight: 0,
            max_total: 0,
            echoes: false,
        },
        presence_events: false,
        stream: None,
        tracer: Tracer::default(),
    }
}
