//! `usher listen`: what it prints, and when it comes back.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

use super::{
    event,
    run::{Running, bare},
};
use crate::support::{
    Client, Gateway, Nats, Redis, eventually, gateway::Builder, process::free_port, secret,
    servers, wait::patiently, world,
};

#[tokio::test]
async fn a_listener_prints_each_frame_as_it_came_on_one_line() {
    let (nats, _redis, gateway) = world().await;
    let mut listener = Running::listen(&gateway, &["--user", "42"]).await;
    nats.publish("usher.user.42", "{\"a\":\n  \"b\\n\"}").await;
    assert_eq!(
        listener.line().await,
        "{\"event\":\"message\",\"data\":{\"a\":   \"b\\n\"}}"
    );
    nats.publish("usher.broadcast", "1").await;
    assert_eq!(
        listener.frame().await,
        json!({"event": "message", "data": 1, "broadcast": true})
    );

    // Ctrl-C is a goodbye.
    listener.signal(Signal::INT);
    let (code, err) = listener.end().await;
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("connected as 42"), "{err}");
    gateway.metric_becomes("usher_sessions", 0.0).await;
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"client_left\"}", 1.0)
        .await;
}

#[tokio::test]
async fn a_listener_whose_output_nobody_reads_says_goodbye() {
    let (nats, _redis, gateway) = world().await;
    let mut listener = Running::listen(&gateway, &["--user", "42"]).await;
    listener.stop_reading();
    for _ in 0..3 {
        nats.publish("usher.user.42", "1").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(listener.end().await.0, Some(0));
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"client_left\"}", 1.0)
        .await;
}

#[tokio::test]
async fn a_listener_with_a_ticket_ends_with_its_session() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_sessions_per_user", "1")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let mut listener = Running::listen(&gateway, &["--ticket", &ticket]).await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(listener.frame().await, event(1));
    let _newer = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(listener.until("goodbye").await["reason"], "replaced");
    let (code, err) = listener.end().await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("4101 replaced"), "{err}");
    assert!(!err.contains(&ticket), "{err}");

    // And where it is to come back, it does not.
    let mut listener = Running::listen(&gateway, &["--ticket", &redis.ticket("7").await]).await;
    drop(gateway);
    let (code, err) = listener.end().await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("the connection is lost"), "{err}");
}

#[tokio::test]
async fn a_listener_that_was_sent_away_stays_away() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_sessions_per_user", "1")
        .start()
        .await;
    let mut listener = Running::listen(&gateway, &["--user", "42"]).await;
    let _newer = Client::open(&gateway, &redis.ticket("42").await).await;
    let (code, err) = listener.end().await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("4101 replaced"), "{err}");
}

/// Gateways that come one after the other on the same ports.
struct Ports {
    public: u16,
    grpc: u16,
}

impl Ports {
    fn free() -> Self {
        Self {
            public: free_port(),
            grpc: free_port(),
        }
    }

    fn builder(&self, nats: &Nats, redis: &Redis) -> Builder {
        Gateway::builder(nats, redis)
            .set("public.listen", format!("127.0.0.1:{}", self.public))
            .set("grpc.listen", format!("127.0.0.1:{}", self.grpc))
            .set("drain.delay", "0s")
            .set("drain.window", "1s")
    }
}

#[tokio::test]
async fn a_listener_comes_back_after_a_drain() {
    let (nats, redis) = servers().await;
    let ports = Ports::free();
    let mut gateway = ports.builder(&nats, &redis).start().await;
    let mut listener = Running::listen(&gateway, &["--user", "42"]).await;
    gateway.terminate();
    let goodbye = listener.until("goodbye").await;
    let hint = goodbye["reconnect_after_ms"].as_u64().expect("a hint");
    let told = Instant::now();
    gateway.wait().await;
    let gateway = ports.builder(&nats, &redis).start().await;
    listener.until("welcome").await;
    assert!(
        told.elapsed() >= Duration::from_millis(hint.saturating_sub(50)),
        "{hint}"
    );
    nats.publish("usher.user.42", "1").await;
    assert_eq!(listener.frame().await, event(1));
    assert!(listener.err().contains("1012 drain"), "{}", listener.err());
    listener.signal(Signal::TERM);
    assert_eq!(listener.end().await.0, Some(0));
    drop(gateway);
}

#[tokio::test]
async fn a_listener_comes_back_after_a_power_cut() {
    let (nats, redis) = servers().await;
    let ports = Ports::free();
    let mut gateway = ports.builder(&nats, &redis).start().await;
    let mut listener = Running::listen(&gateway, &["--user", "42"]).await;
    gateway.kill();
    gateway.wait().await;
    eventually("it tries in vain", || {
        std::future::ready(listener.err().contains("no gateway is reached"))
    })
    .await;
    let _gateway = ports.builder(&nats, &redis).start().await;
    listener.until("welcome").await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(listener.frame().await, event(1));
    assert!(
        listener.err().contains("the connection is lost"),
        "{}",
        listener.err()
    );
}

/// A listener that waits to come back can be ended too.
#[tokio::test]
async fn a_listener_that_waits_can_be_interrupted() {
    let (_nats, _redis, mut gateway) = world().await;
    let mut listener = Running::listen(&gateway, &["--user", "42"]).await;
    gateway.kill();
    eventually("it waits", || {
        std::future::ready(listener.err().contains("connecting again in"))
    })
    .await;
    listener.signal(Signal::INT);
    assert_eq!(listener.end().await.0, Some(0));
}

/// A gateway that does and says what a test wants; tickets come from a real one.
struct Scripted {
    listener: TcpListener,
}

impl Scripted {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener }
    }

    fn listen(&self, real: &Gateway, arguments: &[&str]) -> Running {
        let address = self.listener.local_addr().expect("bound");
        let mut listen = bare(&["listen", "--user", "42", "--grpc", &real.grpc]);
        listen
            .args(["--public", &format!("http://{address}/some/prefix/")])
            .args(arguments);
        Running::start(listen)
    }

    /// The next session, and what was asked for.
    #[allow(clippy::result_large_err, reason = "tungstenite's own type")]
    async fn accept(&self) -> (WebSocketStream<TcpStream>, String) {
        let (stream, _) = patiently("a connection", self.listener.accept())
            .await
            .expect("one");
        let mut asked = String::new();
        let answer =
            |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                asked = request.uri().to_string();
                let ticket = request.headers()["authorization"]
                    .to_str()
                    .expect("text")
                    .to_owned();
                secret(ticket.strip_prefix("Usher-Ticket ").expect("a ticket"));
                let protocol = request.headers()["sec-websocket-protocol"].clone();
                assert_eq!(protocol, "usher.v1");
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", protocol);
                Ok(response)
            };
        let socket = accept_hdr_async(stream, answer).await.expect("a handshake");
        (socket, asked)
    }
}

async fn say(socket: &mut WebSocketStream<TcpStream>, frame: Value) {
    socket
        .send(Message::text(frame.to_string()))
        .await
        .expect("taken");
}

fn welcome(ping: f64, position: Option<(&str, u64)>) -> Value {
    let mut welcome =
        json!({"session": "s", "user": "42", "gateway": "g", "ping": ping, "resume": "none"});
    if let Some((epoch, seq)) = position {
        welcome["epoch"] = epoch.into();
        welcome["seq"] = seq.into();
        welcome["at"] = (seq * 10).into();
        welcome["resume"] = "complete".into();
    }
    json!({ "welcome": welcome })
}

async fn close(mut socket: WebSocketStream<TcpStream>, code: u16) {
    let frame = CloseFrame {
        code: code.into(),
        reason: "".into(),
    };
    socket.close(Some(frame)).await.expect("taken");
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test]
async fn a_listener_comes_back_to_where_it_was() {
    let (_nats, _redis, real) = world().await;
    let scripted = Scripted::new().await;
    let mut listener = scripted.listen(&real, &["--since", "k3f9.100.100.1000"]);

    let (mut socket, asked) = scripted.accept().await;
    assert_eq!(asked, "/some/prefix/ws?since=k3f9.100.100.1000");
    // Nothing came before the end, but for the welcome.
    say(&mut socket, welcome(25.0, Some(("k3f9", 120)))).await;
    close(socket, 4000).await;

    let (mut socket, asked) = scripted.accept().await;
    assert_eq!(asked, "/some/prefix/ws?since=k3f9.100.120.1200");
    say(&mut socket, welcome(25.0, Some(("k3f9", 130)))).await;
    let event =
        |seq: u64, prev: u64| json!({"event": "e", "seq": seq, "prev": prev, "at": 1, "data": 1});
    say(&mut socket, event(118, 0)).await;
    say(&mut socket, json!({"live": {"seq": 130, "at": 1300}})).await;
    say(&mut socket, event(131, 118)).await;
    close(socket, 1011).await;

    let (mut socket, asked) = scripted.accept().await;
    assert_eq!(asked, "/some/prefix/ws?since=k3f9.130.131.1.u131");
    let mut anew = welcome(25.0, Some(("n3w", 7)));
    anew["welcome"]["resume"] = "gap".into();
    say(&mut socket, anew).await;
    say(&mut socket, json!({"ping": {"seq": 8, "at": 80}})).await;
    while !listener.line().await.contains("\"seq\":8") {}
    // It is through with a line before it writes the next one.
    say(&mut socket, json!({"ping": {}})).await;
    while !listener.line().await.contains("{}") {}
    listener.signal(Signal::INT);
    let goodbye = patiently("a goodbye", socket.next()).await;
    let Some(Ok(Message::Close(Some(frame)))) = goodbye else {
        panic!("{goodbye:?}")
    };
    assert_eq!(u16::from(frame.code), 1000);
    while let Some(Ok(_)) = socket.next().await {}
    let (code, err) = listener.end().await;
    assert_eq!(code, Some(0));
    assert!(err.contains("--since n3w.8.8.80"), "{err}");
    // `complete` says nothing of what was missed: it is sent.
    let complete = "session s; nothing is lost: what was missed follows\n";
    assert_eq!(err.matches(complete).count(), 2, "{err}");
    assert!(err.contains("session s; messages may be lost\n"), "{err}");
}

/// Pings of the protocol are seen by no browser's script: they don't count.
#[tokio::test]
async fn a_listener_gives_up_on_a_silent_connection() {
    let (_nats, _redis, real) = world().await;
    let scripted = Scripted::new().await;
    let listener = scripted.listen(&real, &[]);
    let (mut socket, asked) = scripted.accept().await;
    assert_eq!(asked, "/some/prefix/ws");
    let welcomed = Instant::now();
    say(&mut socket, welcome(0.25, None)).await;
    let lost = async {
        loop {
            tokio::select! {
                frame = socket.next() => match frame {
                    None | Some(Err(_)) => return welcomed.elapsed(),
                    Some(Ok(_)) => {}
                },
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    let _ = socket.send(Message::Ping(Default::default())).await;
                }
            }
        }
    };
    let lasted = patiently("the end", lost).await;
    assert!(lasted >= Duration::from_millis(500), "{lasted:?}");
    let (_socket, asked) = scripted.accept().await;
    assert_eq!(
        asked, "/some/prefix/ws",
        "without a position there is nothing to ask for"
    );
    assert!(
        listener.err().contains("nothing was heard for 500ms"),
        "{}",
        listener.err()
    );
}
