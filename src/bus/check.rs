//! What `usher check` looks at: whether NATS is there, lets this gateway do what it must, and
//! has the stream.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    Config, Health, Servers, Subjects,
    client::{self, Client},
    health::{dies_of_one_byte, is_too_old},
    interest::{DialError, Dialer, Info, Link, Received, Window},
    servers::address,
    stream::{self, Checked, ConsumerError, Leftover, OFFLINE, Odd, Reach, StreamError},
};
use crate::{
    metrics::Metrics,
    readiness::{Part, Readiness},
};

/// NATS answers within this.
const ANSWER: Duration = Duration::from_secs(4);
/// The names of all subjects in the stream are there within this.
const ALL_SUBJECTS: Duration = Duration::from_secs(2);

/// What was seen of NATS.
#[derive(Debug, Default)]
pub struct Seen {
    /// The servers that answered.
    pub servers: Vec<Server>,
    /// Each address that did not, and why.
    pub failed: Vec<(String, DialError)>,
    /// What NATS forbids, in its own words.
    pub forbidden: Vec<String>,
    /// What NATS forbids of what only the service API needs.
    pub service_forbidden: Vec<String>,
    /// What NATS forbids of what only clients' calls need.
    pub calls_forbidden: Vec<String>,
    /// What NATS forbids of what only topics need.
    pub topics_forbidden: Vec<String>,
    /// How long NATS has not answered a PING; `None` if it has answered.
    pub silent: Option<Duration>,
    /// The stream, in durable mode, where a server answered.
    pub stream: Option<Result<Checked, StreamError>>,
    /// What a version before 0.2.0 has left, in durable mode.
    pub leftover: Option<Leftover>,
    /// Streams that store what is published to users, in live mode.
    pub storing: Vec<String>,
    /// NATS forbids the question for one of the last two.
    pub leftovers_forbidden: Option<StreamError>,
    /// Subjects in it that are nobody's; `None` if there were too many subjects to look at.
    pub odd: Option<Odd>,
    /// The consumer of `offline.events`, where that is wanted and the stream is there.
    pub consumer: Option<Result<(), ConsumerError>>,
}

impl Seen {
    /// Without JetStream nothing is left over, and where the stream is away that is told anyway.
    fn not_told(&mut self, error: StreamError) {
        if let StreamError::Forbidden(_) = error {
            self.leftovers_forbidden = Some(error);
        }
    }
}

/// A server of NATS.
#[derive(Debug)]
pub struct Server {
    /// `host:port`
    pub address: String,
    /// Its name.
    pub name: String,
    /// Of nats-server.
    pub version: String,
    /// Whether Usher does not work with this version.
    pub too_old: bool,
    /// Whether a publisher to the stream can make this version panic.
    pub dies_of_one_byte: bool,
    /// Named where it is part of a cluster.
    pub cluster: Option<String>,
}

/// Looks at everything that this configuration needs of NATS; with `apply` makes the stream
/// what the configuration says, also where it keeps less then.
pub async fn check(config: &Config, apply: bool) -> Seen {
    let mut seen = Seen::default();
    let servers = Servers::new(&config.servers);
    let dialer = Dialer::new(config.clone(), servers.clone());
    let mut reached = None;
    for server in &config.servers {
        if let Some(link) = dialer.reach(server, &mut seen.failed).await {
            seen.servers.push(found(address(server), link.info()));
            reached = reached.or(Some(link));
        }
    }
    let Some(link) = reached else { return seen };
    let subjects = config.subjects();
    let publishes = published(config, &subjects);
    let trying = permissions(config, link, &subjects, &publishes, &mut seen);
    seen.silent = timeout(ANSWER, trying).await.is_err().then_some(ANSWER);
    if let Some(stream) = &config.stream {
        match look(config, servers, subjects, (stream, apply), &mut seen).await {
            Ok((checked, odd, consumer)) => {
                (seen.stream, seen.odd) = (Some(Ok(checked)), odd);
                seen.consumer = consumer;
            }
            Err(error) => seen.stream = Some(Err(error)),
        }
    } else {
        let storing = asked(config, servers, subjects, async |client| {
            stream::storing(&client).await
        });
        match storing.await {
            Ok(streams) => seen.storing = streams,
            Err(error) => seen.not_told(error),
        }
    }
    seen
}

fn found(address: String, info: &Info) -> Server {
    Server {
        address,
        name: info.server_name.clone(),
        version: info.version.clone(),
        too_old: is_too_old(&info.version),
        dies_of_one_byte: dies_of_one_byte(&info.version),
        cluster: info.cluster.clone(),
    }
}

/// Where the gateway publishes, each with what does nothing there.
fn published(config: &Config, subjects: &Subjects) -> Vec<(String, &'static [u8])> {
    let mut published = vec![
        (subjects.probe(), &b""[..]),
        (subjects.echo(), b""),
        // Gateways ignore what is empty.
        (subjects.gateways(), b""),
        (subjects.control(), b""),
        (subjects.call_check(), b""),
    ];
    if config.presence_events {
        published.push((subjects.presence("$check"), b""));
    }
    if let Some(stream) = config.stream.as_ref().filter(|it| it.offline_events) {
        let of_consumer = format!("{}.{OFFLINE}", stream.name);
        published.push((subjects.offline("$check"), b""));
        // A pull without a reply subject is none, and there is no message 0.
        published.push((format!("$JS.API.CONSUMER.MSG.NEXT.{of_consumer}"), b""));
        published.push((format!("$JS.ACK.{of_consumer}.1.0.0.0.0"), b"+WPI"));
    }
    published
}

/// Does once what the gateway does all the time, to see what NATS forbids.
async fn permissions(
    config: &Config,
    mut link: Link,
    subjects: &Subjects,
    published: &[(String, &[u8])],
    seen: &mut Seen,
) {
    let inbox = format!("{}check.*", config.reply_prefix);
    let [user, topic] = subjects.heard_checks();
    let heard = [
        user,
        subjects.echo(),
        subjects.heard_broadcast(),
        subjects.gateways(),
        subjects.control(),
        inbox,
    ];
    let service = ["$SRV.PING".to_owned(), format!("{}.*", subjects.api())];
    for (sid, subject) in (1..).zip(heard.iter().chain(&service).chain([&topic])) {
        link.subscribe(sid, subject);
    }
    // A stream stores nothing that it is told to expect elsewhere.
    let headers = [
        ("Usher-Probe", "1"),
        ("Nats-Expected-Stream", "usher-check"),
    ];
    for (subject, payload) in published {
        link.publish(subject, None, &headers, payload);
    }
    link.ping(Window::default());
    loop {
        match link.next().await {
            Ok(Received::Error(text)) => {
                let of_service = service
                    .iter()
                    .any(|subject| text.contains(subject.as_str()));
                let forbidden = match of_service {
                    true => &mut seen.service_forbidden,
                    false if text.contains(&subjects.call_check()) => &mut seen.calls_forbidden,
                    false if text.contains(&topic) => &mut seen.topics_forbidden,
                    false => &mut seen.forbidden,
                };
                forbidden.push(text);
            }
            Ok(Received::Pong(_)) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

async fn look(
    config: &Config,
    servers: Servers,
    subjects: Subjects,
    (stream, apply): (&stream::Config, bool),
    seen: &mut Seen,
) -> Result<(Checked, Option<Odd>, Option<Result<(), ConsumerError>>), StreamError> {
    let reach = match apply {
        true => Reach::All,
        false => Reach::Nothing,
    };
    asked(config, servers, subjects.clone(), async |client| {
        match stream::leftover(&client, stream).await {
            Ok(leftover) => seen.leftover = leftover,
            Err(error) => seen.not_told(error),
        }
        let checked = stream::see_to(&client, stream, reach).await?;
        // A stream of very many subjects is no fault.
        let odd = timeout(ALL_SUBJECTS, stream::odd(&client, &stream.name, &subjects));
        let odd = odd.await.ok().and_then(Result::ok);
        let consumer = match stream.offline_events {
            true => Some(
                stream::see_to_offline(&client, stream, reach)
                    .await
                    .map(drop),
            ),
            false => None,
        };
        Ok((checked, odd, consumer))
    })
    .await
}

/// Asks JetStream these questions, over a connection of its own.
async fn asked<A>(
    config: &Config,
    servers: Servers,
    subjects: Subjects,
    questions: impl AsyncFnOnce(Client) -> Result<A, StreamError>,
) -> Result<A, StreamError> {
    let (metrics, readiness) = (Metrics::new().into(), Readiness::new(Duration::ZERO));
    let health = Health::new("push", Part::Push, false, metrics, readiness);
    let (client, task) = client::start(config, servers, subjects, health)
        .await
        .map_err(|error| StreamError::Odd(error.to_string()))?;
    let answers = async {
        client.ready().await;
        questions(client).await
    };
    tokio::select! {
        answers = timeout(ANSWER, answers) => answers.unwrap_or(Err(StreamError::Away)),
        () = task => Err(StreamError::Away),
    }
}
