//! The commands that are clients, against real gateways: `usher ticket`, `push`
//! and `listen`.

pub(crate) mod run;

use std::{
    collections::BTreeSet,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

use self::run::{Ran, Running, bare, command, on_a_terminal, run, to_end};
use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    gateway::Builder,
    process::{bounded, free_port},
    secret, servers,
    tls::Ca,
    wait::{PATIENCE, patiently},
    world,
};

const TOKEN: &str = "a-token-that-is-long-enough";

fn minted(ran: &Ran) -> String {
    secret(ran.line())
}

fn event(data: impl Into<Value>) -> Value {
    json!({"event": "message", "data": data.into()})
}

#[tokio::test]
async fn a_ticket_from_the_command_line_opens_a_session_once() {
    let (_nats, redis, gateway) = world().await;
    let ticket = minted(&run(&gateway, &["ticket", "bob@example.com"]).await);
    let client = Client::open(&gateway, &ticket).await;
    assert_eq!(client.welcome()["user"], "bob@example.com");
    let again = Client::builder(&gateway, &ticket).refused().await;
    again.assert_refused(401, "ticket_unknown");

    let short = minted(&run(&gateway, &["ticket", "42", "--ttl", "1s"]).await);
    eventually("it expires", || async { !redis.exists(&short).await }).await;
}

#[tokio::test]
async fn the_gateway_is_found_in_its_own_configuration() {
    let (_nats, redis, gateway) = world().await;
    let file = NamedTempFile::new().expect("a file");
    let text = format!(
        "[grpc]\nlisten = \"{}\"\n[public]\nlisten = \"{}\"\n",
        gateway.grpc, gateway.public
    );
    fs::write(&file, text).expect("written");
    let path = file.path().to_str().expect("a path");
    let with_file = |arguments: &[&str]| bare(&[arguments, &["--config", path]].concat());
    let ticket = minted(&to_end(with_file(&["ticket", "42"]), Vec::new()).await);
    let mut client = Client::open(&gateway, &ticket).await;
    let mut listener = Running::start(with_file(&["listen", "--user", "42"]));
    listener.until("welcome").await;
    let push = to_end(with_file(&["push", "42", "1", "--receipt"]), Vec::new()).await;
    assert_eq!(push.json(), json!({"status": "queued", "sessions": 2}));
    assert_eq!(client.next_data().await, 1);
    assert_eq!(listener.frame().await, event(1));
    drop(redis);
}

#[tokio::test]
async fn the_gateway_is_reached_by_tls() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let (server, ours) = (ca.issue(), ca.issue());
    let path = |path: &std::path::Path| path.display().to_string();
    let mut builder = Gateway::builder(&nats, &redis).set("grpc.tls.client_ca_file", ca.file());
    for section in ["public.tls", "grpc.tls"] {
        builder = builder
            .set(
                &format!("{section}.certificate_file"),
                path(&server.certificate_file),
            )
            .set(&format!("{section}.key_file"), path(&server.key_file));
    }
    let gateway = builder.start().await;
    let (grpc, public) = (
        format!("https://{}", gateway.grpc),
        format!("https://{}", gateway.public),
    );
    let place = ["--grpc", &grpc, "--public", &public];
    let (ca_file, certificate, key) = (
        ca.file(),
        path(&ours.certificate_file),
        path(&ours.key_file),
    );
    let trust = ["--ca-file", &ca_file];
    let identity = ["--certificate-file", &certificate, "--key-file", &key];
    let with = |parts: &[&[&str]]| bare(&parts.concat());

    let mut listener = Running::start(with(&[
        &["listen", "--user", "42"],
        &place,
        &trust,
        &identity,
    ]));
    listener.until("welcome").await;
    let push = with(&[&["push", "42", "1", "--receipt"], &place, &trust, &identity]);
    let push = to_end(push, Vec::new()).await;
    assert_eq!(push.json(), json!({"status": "queued", "sessions": 1}));
    assert_eq!(listener.frame().await, event(1));

    let push = ["push", "42", "1"];
    let ran = to_end(with(&[&push, &place]), Vec::new()).await;
    ran.failed(&["no gateway is reached", "invalid peer certificate"]);
    let ran = to_end(with(&[&push, &place, &trust]), Vec::new()).await;
    assert_ne!(ran.code, Some(0), "{}", ran.out);
    let missing = ["--ca-file", "/nowhere"];
    let ran = to_end(with(&[&push, &place, &missing]), Vec::new()).await;
    assert_eq!(ran.code, Some(78), "{}", ran.err);
    assert!(
        ran.err.contains("--ca-file \"/nowhere\" can't be read"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_gateway_with_tokens_wants_one_of_them() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    for arguments in [
        &["push", "42", "x"][..],
        &["ticket", "42"],
        &["listen", "--user", "42"],
    ] {
        let ran = run(&gateway, arguments).await;
        ran.failed(&["wants a token", "--token-file", "grpc.tokens"]);
        let mut wrong = command(&gateway, arguments);
        wrong.env("USHER_GRPC__TOKENS", "another-token-long-enough");
        let ran = to_end(wrong, Vec::new()).await;
        ran.failed(&["does not know the token of grpc.tokens"]);
        assert!(!ran.err.contains("another-token"), "{}", ran.err);
    }
    let mut push = command(&gateway, &["push", "42", "x"]);
    push.env("USHER_GRPC__TOKENS", TOKEN);
    assert_eq!(
        to_end(push, Vec::new()).await.json(),
        json!({"status": "dispatched"})
    );

    // The gateway's own file of tokens will do: the first line counts.
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, format!("{TOKEN}\nand-another-one-of-them\n")).expect("written");
    let path = file.path().to_str().expect("a path");
    let with_file = ["--token-file", path];
    let push = run(&gateway, &[&["push", "42", "x"][..], &with_file].concat()).await;
    assert_eq!(push.json(), json!({"status": "dispatched"}));
    Running::listen(&gateway, &[&["--user", "42"][..], &with_file].concat()).await;
}

#[tokio::test]
async fn a_push_says_what_became_of_it() {
    let (_nats, redis, gateway) = world().await;
    let receipt = [
        "push",
        "42",
        "{\"a\":1}",
        "--receipt",
        "--event",
        "order.completed",
    ];
    let offline = run(&gateway, &receipt).await;
    assert_eq!(offline.json(), json!({"status": "offline", "sessions": 0}));

    let mut one = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut other = Client::open(&gateway, &redis.ticket("42").await).await;
    let queued = run(&gateway, &receipt).await;
    assert_eq!(queued.json(), json!({"status": "queued", "sessions": 2}));
    for client in [&mut one, &mut other] {
        let event = json!({"event": "order.completed", "data": {"a": 1}});
        assert_eq!(client.next_event().await, event);
    }
    let dispatched = run(&gateway, &["push", "42", "-5"]).await;
    assert_eq!(dispatched.json(), json!({"status": "dispatched"}));
    assert_eq!(one.next_event().await, event(-5));
}

#[tokio::test]
async fn errors_name_the_gateway_and_what_to_do() {
    let (mut nats, mut redis, gateway) = world().await;
    // The wrong listener: it speaks another protocol.
    let wrong = bare(&["push", "42", "x", "--grpc", &gateway.public]);
    to_end(wrong, Vec::new())
        .await
        .failed(&[&gateway.public, "grpc.listen"]);
    let wrong = format!("http://{}/nowhere", gateway.public);
    let ticket = redis.ticket("42").await;
    let wrong = bare(&["listen", "--ticket", &ticket, "--public", &wrong]);
    let ran = to_end(wrong, Vec::new()).await;
    ran.failed(&["404", "/nowhere/ws", "public.path_prefix"]);
    assert!(!ran.err.contains(&ticket), "{}", ran.err);

    let ran = run(&gateway, &["listen", "--ticket", "never-issued-by-anybody"]).await;
    ran.failed(&["401", "ticket_unknown", "usher ticket"]);

    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    let ran = run(&gateway, &["push", "42", "x"]).await;
    ran.failed(&[&gateway.grpc, "NATS is away", "usher check"]);
    redis.kill();
    let ran = run(&gateway, &["ticket", "42"]).await;
    ran.failed(&[&gateway.grpc, "Redis is away", "usher check"]);
}

/// 5,000 lines, as fast as it goes, and each in its place on the screen.
#[tokio::test]
async fn lines_arrive_in_their_order() {
    const LINES: u64 = 5_000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "20000")
        .start()
        .await;
    let mut listener = Running::listen(&gateway, &["--user", "42"]).await;
    let input: String = (0..LINES).map(|number| format!("{number}\n")).collect();
    let pushing = to_end(command(&gateway, &["push", "42", "-"]), input.into_bytes());
    let listening = async {
        for number in 0..LINES {
            assert_eq!(
                listener.line().await,
                format!("{{\"event\":\"message\",\"data\":{number}}}")
            );
        }
    };
    let (pushed, ()) = tokio::join!(pushing, listening);
    let summary = pushed.json();
    assert_eq!(summary["messages"], LINES);
    let seconds = summary["seconds"].as_f64().expect("a number");
    let rate = summary["messages_per_second"].as_f64().expect("a number");
    assert!(
        (rate * seconds / LINES as f64 - 1.0).abs() < 0.01,
        "{summary}"
    );
    assert!(summary["queued"].is_null(), "nobody asked: {summary}");
}

#[tokio::test]
async fn unordered_lines_all_arrive_and_are_counted() {
    const LINES: u64 = 2_000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "20000")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let input: String = (0..LINES).map(|number| format!("{number}\n")).collect();
    let push = command(&gateway, &["push", "42", "-", "--unordered", "--receipt"]);
    let summary = to_end(push, input.into_bytes()).await.json();
    // On a machine that stalls a receipt may come later than anybody waits.
    let count = |key: &str| summary[key].as_u64().expect("a number");
    assert_eq!(count("messages"), LINES, "{summary}");
    assert_eq!(count("queued") + count("offline"), LINES, "{summary}");
    assert!(count("queued") > 0, "{summary}");
    let mut arrived = BTreeSet::new();
    for _ in 0..LINES {
        arrived.insert(client.next_data().await.as_u64().expect("a number"));
    }
    assert_eq!(arrived.len() as u64, LINES);

    let push = command(&gateway, &["push", "nobody", "-", "--receipt"]);
    let summary = to_end(push, b"1\n2".to_vec()).await.json();
    assert_eq!(
        (&summary["queued"], &summary["offline"]),
        (&json!(0), &json!(2))
    );
}

#[tokio::test]
async fn lines_are_any_bytes_and_the_first_that_fails_is_named() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    // NATS takes no message of more than 1 MiB.
    let too_long = vec![b'x'; (1 << 20) + 1];
    for how in [
        &["push", "42", "-"][..],
        &["push", "42", "-", "--unordered"],
    ] {
        let input = [b"\"one\"\r\n\n\xff\n", &too_long[..], b"\nafter"].concat();
        let ran = to_end(command(&gateway, how), input).await;
        ran.failed(&["line 4: ", "1048576"]);
        let summary: Value = serde_json::from_str(&ran.out).expect("a summary all the same");
        let ordered = how.len() == 3;
        if ordered {
            assert_eq!(summary["messages"], 3);
            assert_eq!(client.next_event().await, event("one"));
            assert_eq!(client.next_event().await, event(""));
            assert_eq!(
                client.next_event().await,
                json!({"event": "message", "base64": "/w=="})
            );
            client.quiet_for(Duration::from_millis(300)).await;
        }
    }
}

#[tokio::test]
async fn a_pusher_that_is_interrupted_says_how_far_it_got() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut push = command(&gateway, &["push", "42", "-"]);
    let child = push
        .stdin(reader)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("usher runs");
    std::io::Write::write_all(&mut writer, b"1\n2\n3").expect("written");
    for number in 1..=2 {
        assert_eq!(client.next_data().await, number);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::INT).expect("it runs");
    let output = bounded("usher", pid, PATIENCE, move || child.wait_with_output())
        .await
        .expect("usher ends");
    drop(writer);
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&output.stdout).expect("a summary");
    assert_eq!(summary["messages"], 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
}

/// A connection that the gateway ends in good order costs no line.
#[tokio::test]
async fn lines_outlive_a_connection() {
    const LINES: u64 = 2_000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_connection_age", "50ms")
        .set("session.queue_messages", "20000")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let input: String = (0..LINES).map(|number| format!("{number}\n")).collect();
    let pushed = to_end(command(&gateway, &["push", "42", "-"]), input.into_bytes()).await;
    assert_eq!(pushed.json()["messages"], LINES);
    for number in 0..LINES {
        assert_eq!(client.next_data().await, number);
    }
}

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
    let mut listener = scripted.listen(&real, &["--since", "k3f9.100"]);

    let (mut socket, asked) = scripted.accept().await;
    assert_eq!(asked, "/some/prefix/ws?since=k3f9.100");
    // Nothing came before the end: what was sent counts, not the welcome.
    say(&mut socket, welcome(25.0, Some(("k3f9", 120)))).await;
    close(socket, 4000).await;

    let (mut socket, asked) = scripted.accept().await;
    assert_eq!(asked, "/some/prefix/ws?since=k3f9.100");
    say(&mut socket, welcome(25.0, Some(("k3f9", 130)))).await;
    say(
        &mut socket,
        json!({"event": "e", "seq": 118, "prev": 0, "data": 1}),
    )
    .await;
    say(&mut socket, json!({"live": {"seq": 131}})).await;
    say(
        &mut socket,
        json!({"event": "e", "seq": 121, "prev": 118, "data": 2}),
    )
    .await;
    close(socket, 1011).await;

    let (mut socket, asked) = scripted.accept().await;
    assert_eq!(asked, "/some/prefix/ws?since=k3f9.131");
    say(&mut socket, welcome(25.0, Some(("n3w", 7)))).await;
    say(&mut socket, json!({"ping": {"seq": 8}})).await;
    while !listener.line().await.contains("{\"seq\":8}") {}
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
    assert!(err.contains("--since n3w.8"), "{err}");
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

#[tokio::test]
async fn people_on_a_terminal_get_words() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.path_prefix", "/usher")
        .start()
        .await;
    let mut ticket = command(&gateway, &["ticket", "42", "--ttl", "90s"]);
    ticket.env("USHER_PUBLIC__PATH_PREFIX", "/usher");
    let (code, shown) = on_a_terminal(ticket, Stdio::null()).await;
    assert_eq!(code, Some(0), "{shown}");
    let lines: Vec<_> = shown.lines().collect();
    let ticket = secret(lines[0]);
    assert_eq!(
        lines[1],
        format!("ws://{}/usher/ws?ticket={ticket}", gateway.public)
    );
    assert!(lines[2].contains("90 s"), "{shown}");

    let push = || command(&gateway, &["push", "42", "x", "--receipt"]);
    assert_eq!(
        on_a_terminal(push(), Stdio::null()).await,
        (Some(0), "offline\r\n".to_owned())
    );
    let _client = Client::builder(&gateway, &ticket)
        .path("/usher/ws")
        .open()
        .await;
    assert_eq!(
        on_a_terminal(push(), Stdio::null()).await,
        (Some(0), "queued to 1 session\r\n".to_owned())
    );

    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let pushing = on_a_terminal(command(&gateway, &["push", "42", "-"]), reader.into());
    let writing = async {
        for number in 0..3 {
            std::io::Write::write_all(&mut writer, format!("{number}\n").as_bytes())
                .expect("written");
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        drop(writer);
    };
    let ((code, shown), ()) = tokio::join!(pushing, writing);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(" messages, "), "no bar was shown: {shown:?}");
    let summary = shown.lines().last().expect("a summary");
    assert!(
        summary.contains("3 messages in ") && summary.ends_with("a second"),
        "{summary:?}"
    );
}

#[tokio::test]
async fn people_on_a_terminal_see_events_as_they_come() {
    let (nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let listen = command(&gateway, &["listen", "--ticket", &ticket]);
    let listening = on_a_terminal(listen, Stdio::null());
    let rest = async {
        gateway.metric_becomes("usher_sessions", 1.0).await;
        nats.publish("usher.user.42", "{\"order\":123}").await;
        nats.publish("usher.broadcast", "\"\u{9b}2J\u{7f}\"").await;
        gateway
            .metric_becomes("usher_messages_delivered_total", 2.0)
            .await;
        drop(gateway);
    };
    let ((code, shown), ()) = tokio::join!(listening, rest);
    assert_eq!(code, Some(1), "{shown}");
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].contains("Z  connected as 42 to "), "{shown:?}");
    assert!(
        lines[1].ends_with("Z  message  {\"order\":123}"),
        "{shown:?}"
    );
    assert!(
        lines[2].ends_with("Z  message (to everybody)  \"\\u009b2J\\u007f\""),
        "{shown:?}"
    );
    assert!(lines[3].contains("the connection is lost"), "{shown:?}");
}
