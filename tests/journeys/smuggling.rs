//! Requests that mean one thing to a proxy and another to us, or that come from a
//! page which is not where it says: never does one request get another's answer,
//! and never is a ticket burnt by a request that was refused, or that was only the
//! body of another.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Client, Gateway, RawWs, gateway::Builder, http, wait::patiently, world};

/// Behind it nothing is read.
const LAST: &str = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// A good request for a WebSocket, with other lines about where it goes.
fn handshake(first_line: &str, lines: &str) -> String {
    format!(
        "{first_line}\r\n{lines}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Sends these bytes, and returns the statuses of all that is answered.
async fn statuses(gateway: &Gateway, bytes: &str) -> Vec<u16> {
    let mut stream = TcpStream::connect(&gateway.public)
        .await
        .expect("a connection");
    // It may be cut off before it is through.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answers = Vec::new();
    let _ = patiently("the connection ends", stream.read_to_end(&mut answers)).await;
    let answers = String::from_utf8_lossy(&answers);
    let status = |answer: &str| answer.get(..3).and_then(|status| status.parse().ok());
    answers
        .split("HTTP/1.1 ")
        .skip(1)
        .filter_map(status)
        .collect()
}

/// Each hides a request with a ticket where some reader of HTTP would find one.
#[tokio::test]
async fn what_is_in_a_body_is_no_request() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let hidden = handshake(
        &format!("GET /ws?ticket={ticket} HTTP/1.1"),
        &format!("Host: {}\r\n", gateway.public),
    );
    let length = hidden.len();
    let sized = format!("Content-Length: {length}\r\n");
    let beyond = format!("Content-Length: {}\r\n", length + 5);
    let none = "Content-Length: 0\r\n";
    let te = "Transfer-Encoding: chunked\r\n";
    let chunked = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    let ended = format!("0\r\n\r\n{hidden}");
    let taken = [
        ("a body", sized.clone(), &hidden),
        ("chunks", te.to_owned(), &chunked),
        (
            "a length, and chunks that end before it",
            beyond.clone() + te,
            &ended,
        ),
        (
            "chunks that end, and a length beyond",
            te.to_owned() + &beyond,
            &ended,
        ),
        ("no length, but chunks", none.to_owned() + te, &chunked),
        (
            "a chunk of no size",
            te.to_owned(),
            &format!("ffffffffffffffffff\r\n{hidden}"),
        ),
        (
            "a chunk after a bare LF",
            te.to_owned(),
            &format!("0;a=\n\r\n\r\n{hidden}"),
        ),
    ];
    for (name, headers, body) in taken {
        for (line, status) in [("GET /healthz", 200), ("POST /ws", 405), ("PUT /x", 404)] {
            let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}{LAST}");
            let got = statuses(&gateway, &request).await;
            // The one answer, and at most that to the last.
            assert!(
                !got.is_empty() && [status, 404].starts_with(&got),
                "{name}, {line}: {got:?}"
            );
            assert!(redis.exists(&ticket).await, "{name}: a ticket is burnt");
        }
    }
    let refused = [
        ("two lengths", sized.clone() + none, &hidden),
        (
            "two in one line",
            format!("Content-Length: 0, {length}\r\n"),
            &hidden,
        ),
        (
            "a length with a sign",
            format!("Content-Length: +{length}\r\n"),
            &hidden,
        ),
        (
            "a length in hex",
            format!("Content-Length: 0x{length:x}\r\n"),
            &hidden,
        ),
        (
            "one beyond all numbers",
            format!("Content-Length: 9{}\r\n", "9".repeat(30)),
            &hidden,
        ),
        (
            "a coding that nobody knows",
            "Transfer-Encoding: xchunked\r\n".to_owned(),
            &chunked,
        ),
        (
            "chunks, and then not",
            te.to_owned() + "Transfer-Encoding: identity\r\n",
            &chunked,
        ),
        (
            "a space before a colon",
            "Transfer-Encoding : chunked\r\n".to_owned(),
            &chunked,
        ),
        (
            "a folded line",
            "Transfer-Encoding:\r\n chunked\r\n".to_owned(),
            &chunked,
        ),
        (
            "a bare CR",
            "X: y\rContent-Length: 0\r\n".to_owned(),
            &hidden,
        ),
        ("a NUL", "X: y\0\r\n".to_owned(), &hidden),
        ("a line without a colon", "X\r\n".to_owned(), &hidden),
        ("a space in a name", "X Y: z\r\n".to_owned(), &hidden),
    ];
    for (name, headers, body) in refused {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}{LAST}");
        assert_eq!(statuses(&gateway, &request).await, [400], "{name}");
        assert!(redis.exists(&ticket).await, "{name}: a ticket is burnt");
    }
    // No session was begun, and the ticket is as good as it was.
    assert_eq!(gateway.metric("usher_sessions").await, 0.0);
    Client::open(&gateway, &ticket).await;
}

/// Several requests in one write get their own answers, in their order, or none;
/// what is behind a handshake is no request any more.
#[tokio::test]
async fn answers_keep_the_order_of_requests() {
    let (_nats, redis, gateway) = world().await;
    let host = format!("Host: {}\r\n", gateway.public);
    let ws = |ticket: &str| handshake(&format!("GET /ws?ticket={ticket} HTTP/1.1"), &host);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n{host}\r\n");

    let requests = [get("/healthz"), get("/ws"), get("/x"), ws("malformed*")].concat();
    let got = statuses(&gateway, &(requests + LAST)).await;
    assert!(
        !got.is_empty() && [200, 426, 404, 400, 404].starts_with(&got),
        "{got:?}"
    );

    let (first, second) = (redis.ticket("42").await, redis.ticket("42").await);
    // Long enough to be taken for a whole frame.
    let padded = |line: &str| format!("{line} HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(99));
    for behind in [padded("GET /healthz"), ws(&second), padded("POST /ws")] {
        let ticket = redis.ticket("42").await;
        let requests = (ws(&ticket) + &behind).into_bytes();
        let mut session = RawWs::after_handshake(&gateway.public, &requests).await;
        let (code, reason, texts) = session.expect_close().await;
        assert_eq!((code, &*reason), (1002, "protocol_error"), "{texts:?}");
        assert_eq!(texts.len(), 1, "a welcome, and no answer: {texts:?}");
    }
    assert!(redis.exists(&second).await);

    // A refusal in front of a good handshake burns nothing, whatever it is.
    for refused in [
        ws(&first).replace("Version: 13", "Version: 7"),
        ws(&first).replace("Upgrade: websocket", "Upgrade: h2c"),
        ws(&first).replacen("GET", "POST", 1),
        ws(&first).replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx"),
        ws(&first).replace("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n"),
    ] {
        let got = statuses(&gateway, &(refused.clone() + LAST)).await;
        assert!((400..500).contains(&got[0]), "{got:?}: {refused}");
        assert!(redis.exists(&first).await, "{refused}");
    }
}

/// Where a request says that it goes, it says once.
#[tokio::test]
async fn a_request_names_one_host_and_a_path() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let own = &gateway.public;
    let path = format!("/ws?ticket={ticket}");
    let host = format!("Host: {own}\r\n");
    let twice = host.repeat(2);
    let both = format!("{host}Host: evil.example\r\n");
    for (target, host) in [
        (path.clone(), ""),
        (path.clone(), &twice),
        (path.clone(), &both),
        (path.clone(), "Host: u:p@a.example\r\n"),
        (path.clone(), "Host: a.example/ws\r\n"),
        (path.clone(), "Host: a.example?\r\n"),
        (path.clone(), "Host: a.example#\r\n"),
        (path.clone(), "Host: a.example\\\r\n"),
        (path.clone(), "Host: a.example:80:80\r\n"),
        (path.clone(), "Host: a\texample\r\n"),
        (path.clone(), "Host: http://a.example\r\n"),
        (path.clone(), "Host: [::1\r\n"),
        (path.clone(), "Host: \u{e9}.example\r\n"),
        // A proxy would go by the target, and not by the Host.
        (format!("http://evil.example{path}"), &host),
        (format!("http://u@{own}{path}"), &host),
        // No path at all: for a tunnel, which nobody digs here.
        (own.clone(), &host),
        ("evil.example".to_owned(), &host),
    ] {
        let request = handshake(&format!("GET {target} HTTP/1.1"), host);
        let answer = http::raw(own, request.as_bytes()).await;
        answer.assert_refused(400, "bad_request");
        assert!(redis.exists(&ticket).await, "{target}, {host}");
    }
    for method in ["CONNECT", "GET", "OPTIONS"] {
        let request = format!("{method} {own} HTTP/1.1\r\n{host}\r\n");
        let answer = http::raw(own, request.as_bytes()).await;
        answer.assert_refused(400, "bad_request");
    }
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    // The one that asks.
    gateway
        .metric_becomes("usher_pending_connections", 0.0)
        .await;

    // One that says the same twice is as good as any.
    let target = format!("http://{own}{path}");
    let request = handshake(&format!("GET {target} HTTP/1.1"), &host);
    RawWs::after_handshake(own, request.as_bytes()).await;
}

/// The page's own host is compared as it is written: nothing is mended first.
#[tokio::test]
async fn an_origin_is_not_mended() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let own = &gateway.public;
    for origins in [
        format!("http:{own}"),
        format!("http:/{own}"),
        format!("http:///{own}"),
        format!("http://{own}/"),
        format!("http://{own}\\"),
        format!("http://@{own}"),
        format!("http://evil.example@{own}"),
        format!("http://{own}?"),
        format!("http://{own}#"),
        format!("ht\ttp://{own}"),
        format!("http://{}", own.replace("127", "%31%32%37")),
        format!("http://{own}\r\nOrigin: http://{own}"),
        format!("http://{own}\r\nOrigin: http://evil.example"),
    ] {
        let builder = Client::builder(&gateway, &ticket).origin(&origins);
        let answer = builder.refused().await;
        answer.assert_refused(403, "origin_denied");
    }
    assert!(redis.exists(&ticket).await);
}

/// A page that has made its own name point to this machine reaches the demo, and
/// is told by its name; one that posts from elsewhere, by its origin.
#[tokio::test]
async fn a_rebound_page_gets_nothing_of_the_demo() {
    let gateway = Builder::new().argument("--embedded").argument("--demo");
    let gateway = gateway.start().await;
    let own = &gateway.public;
    let (_, port) = own.rsplit_once(':').expect("a port");
    let ask = async |method: &str, path: &str, host: &str, origin: &str, kind: &str| {
        let body = r#"{"user_id":"42","data":1}"#;
        let origin = match origin {
            "" => String::new(),
            origin => format!("Origin: {origin}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        http::raw(own, request.as_bytes()).await
    };
    let json = "application/json";
    let paths = [
        ("GET", "/"),
        ("GET", "/demo/info"),
        ("POST", "/demo/tickets"),
        ("POST", "/demo/push"),
    ];
    for (method, path) in paths {
        for host in [
            "evil.example".to_owned(),
            format!("evil.example:{port}"),
            format!("localhost.evil.example:{port}"),
            format!("127.0.0.1.evil.example:{port}"),
            format!("evil-localhost:{port}"),
            format!("127.0.0.2:{port}"),
            format!("0.0.0.0:{port}"),
            format!("[::]:{port}"),
            format!("2130706433:{port}"),
            String::new(),
        ] {
            let origin = format!("http://{host}");
            let answer = ask(method, path, &host, &origin, json).await;
            answer.assert_refused(403, "host_denied");
        }
    }
    for (_, path) in &paths[2..] {
        for origin in [
            "http://evil.example".to_owned(),
            format!("http://evil.example:{port}"),
            format!("http://localhost:{port}"),
            "http://127.0.0.1:1".to_owned(),
            format!("https://{own}.evil.example"),
            format!("http://{own}\r\nOrigin: http://evil.example"),
            "null".to_owned(),
        ] {
            let answer = ask("POST", path, own, &origin, json).await;
            answer.assert_refused(403, "origin_denied");
        }
        // What a form can send without asking first.
        let origin = format!("http://{own}");
        for kind in ["text/plain", "application/x-www-form-urlencoded"] {
            let answer = ask("POST", path, own, &origin, kind).await;
            answer.assert_refused(415, "bad_request");
        }
        let answer = ask("POST", path, own, &origin, json).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
    }
}
