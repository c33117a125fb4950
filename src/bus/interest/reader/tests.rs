//! The reader moves from one nats-server to another, both of which are played here.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use url::Url;

use super::*;
use crate::{
    bus::{Auth, CallsConfig, Config, Health, Servers, Subscriptions, interest::Dialer},
    channel::{Audience, Topic},
    readiness::{Part, Readiness},
    tls::ClientFiles,
};

const SETTLE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq)]
struct Follower(Audience);

impl Subscriber for Follower {
    fn audience(&self) -> &Audience {
        &self.0
    }
}

/// A connection, as its server has it.
struct Server(BufReader<TcpStream>);

impl Server {
    /// Admits the next connection.
    async fn admits(listener: &TcpListener) -> Self {
        let (socket, _) = listener.accept().await.expect("a connection");
        let mut server = Self(BufReader::new(socket));
        server
            .says(r#"INFO {"version":"2.15.1","headers":true}"#)
            .await;
        server.hears("CONNECT").await;
        server.pongs().await;
        server
    }

    async fn says(&mut self, line: &str) {
        let line = format!("{line}\r\n");
        let said = self.0.get_mut().write_all(line.as_bytes()).await;
        said.expect("the reader is there");
    }

    /// Waits for the next line that begins so.
    async fn hears(&mut self, verb: &str) {
        let mut line = String::new();
        while !line.starts_with(verb) {
            line.clear();
            let read = self.0.read_line(&mut line).await.expect("a line");
            assert!(read > 0, "the reader has gone");
        }
    }

    /// Answers the next PING.
    async fn pongs(&mut self) {
        self.hears("PING").await;
        self.says("PONG").await;
    }

    /// Returns when the reader has read all that was said.
    async fn is_read(&mut self) {
        self.says("PING").await;
        self.hears("PONG").await;
    }

    /// Answers the PING that was heard, and all further ones.
    fn goes_on(mut self) {
        tokio::spawn(async move {
            loop {
                self.says("PONG").await;
                self.hears("PING").await;
            }
        });
    }

    /// Delivers to the topic `t`, to this subscription.
    async fn delivers(&mut self, id: u64, payload: &str) {
        let length = payload.len();
        let message = format!("MSG usher.topic.t {id} {length}\r\n{payload}");
        self.says(&message).await;
    }
}

/// A reader that holds one topic.
struct World {
    listener: TcpListener,
    id: u64,
    events: mpsc::UnboundedReceiver<Event<Follower>>,
    _subscriptions: Subscriptions<Follower>,
}

impl World {
    /// One that is connected to the returned server.
    async fn new() -> (Self, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = Url::parse(&format!("nats://{address}")).expect("a URL");
        let config = Config {
            servers: vec![server],
            auth: Auth::Anonymous,
            tls: ClientFiles::default(),
            name: "test".to_owned(),
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
        };
        let (subscriptions, commands) = Subscriptions::new();
        let (metrics, readiness) = (Arc::new(Metrics::new()), Readiness::new(Duration::ZERO));
        let part = Part::Interest;
        let health = Health::new("interest", part, false, metrics.clone(), readiness);
        let (subjects, servers) = (config.subjects(), Servers::new(&config.servers));
        let connection = Supervisor::new(Dialer::new(config, servers), health);
        let both = (metrics, Tracer::default());
        let settle = Some(SETTLE);
        let mut reader = Reader::new(connection, subjects, None, settle, commands, both);
        let topic = Topic::parse("t").expect("a topic");
        let id = subscriptions.subscribe(Follower(Audience::Topic(topic)));
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(async move { while sender.send(reader.next().await).is_ok() {} });
        let mut old = Server::admits(&listener).await;
        old.hears("SUB usher.topic.t").await;
        old.pongs().await;
        let mut world = Self {
            listener,
            id,
            events,
            _subscriptions: subscriptions,
        };
        while !matches!(world.next().await, Event::Confirmed(_)) {}
        (world, old)
    }

    async fn next(&mut self) -> Event<Follower> {
        self.events.recv().await.expect("the reader goes on")
    }

    /// The payload of the next message.
    async fn message(&mut self) -> String {
        loop {
            if let Event::Message { message, .. } = self.next().await {
                return String::from_utf8(message.payload.into()).expect("UTF-8");
            }
        }
    }

    /// This server goes into lame-duck mode. The reader has asked the returned one for all
    /// subscriptions, and is not answered yet.
    async fn leaves(&mut self, old: &mut Server) -> Server {
        old.says(r#"INFO {"version":"2.15.1","ldm":true}"#).await;
        let mut new = Server::admits(&self.listener).await;
        new.hears("SUB usher.topic.t").await;
        new
    }
}

/// The old server brings a message before the new one has processed the subscription. The next
/// message that is like it is no copy of it.
#[tokio::test]
async fn a_message_like_one_before_the_move_is_another_one() {
    for before_the_move in [true, false] {
        let (mut world, mut old) = World::new().await;
        let mut new = world.leaves(&mut old).await;
        old.delivers(world.id, "tick").await;
        assert_eq!(world.message().await, "tick");
        new.pongs().await;
        old.hears("PING").await;
        if before_the_move {
            new.delivers(world.id, "tick").await;
            new.is_read().await;
        }
        old.goes_on();
        if !before_the_move {
            new.delivers(world.id, "tick").await;
        }
        new.delivers(world.id, "end").await;
        assert_eq!(world.message().await, "tick");
        assert_eq!(world.message().await, "end");
    }
}

#[tokio::test]
async fn a_message_that_both_servers_bring_comes_once() {
    let (mut world, mut old) = World::new().await;
    let mut new = world.leaves(&mut old).await;
    new.pongs().await;
    old.hears("PING").await;
    old.delivers(world.id, "tick").await;
    assert_eq!(world.message().await, "tick");
    new.delivers(world.id, "tick").await;
    new.is_read().await;
    old.goes_on();
    new.delivers(world.id, "end").await;
    assert_eq!(world.message().await, "end");
}

/// Its sessions would hear nothing after the move.
#[tokio::test]
async fn a_subscription_that_the_next_server_forbids_is_refused() {
    let (mut world, mut old) = World::new().await;
    let mut new = world.leaves(&mut old).await;
    new.says(r#"-ERR 'Permissions Violation for Subscription to "usher.topic.t"'"#)
        .await;
    new.pongs().await;
    old.hears("PING").await;
    old.goes_on();
    new.is_read().await;
    let event = world.events.try_recv();
    let Ok(Event::Refused(refused)) = event else {
        panic!("{event:?}");
    };
    assert_eq!(refused[0].1, world.id);
}
