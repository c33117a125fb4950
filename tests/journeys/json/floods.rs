//! Abuse of HTTP/2 and HTTP/1.1, with and without a token: nothing is half done, and nobody
//! else notices.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{TOKEN, post_with, request};
use crate::{
    grpc_bounds::raw_h2,
    support::{Client, Gateway, servers, wait::patiently},
};

const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// A frame of a stream.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = raw_h2::frame(kind, flags, payload);
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
    frame
}

/// The fields of a push, none of them in a table (RFC 7541 §6.2.2).
fn fields(token: Option<&str>) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` are in the static table.
    let mut block = vec![0x83, 0x86];
    let bearer = token.map(|token| format!("Bearer {token}"));
    let fields = [
        (":path", "/v1/push"),
        (":authority", "localhost"),
        ("content-type", "application/json"),
    ];
    let token = bearer.as_deref().map(|bearer| ("authorization", bearer));
    for (name, value) in fields.into_iter().chain(token) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Sends again and again, until the connection ends or so many were sent.
async fn flood(gateway: &Gateway, first: &[u8], most: u32, mut next: impl FnMut(u32) -> Vec<u8>) {
    let mut stream = raw_h2::connect(&gateway.grpc).await;
    stream.write_all(first).await.expect("taken");
    let (mut reader, mut writer) = stream.into_split();
    // The answers are read: who does not read them is not read from either.
    let reading = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    });
    patiently("the flood is over", async {
        for number in 0..most {
            if writer.write_all(&next(number)).await.is_err() {
                break;
            }
        }
    })
    .await;
    drop(writer);
    patiently("the end is heard", reading)
        .await
        .expect("no panic");
}

/// A session, and a service that pushes to it: neither notices anything.
struct Innocent<'a>(&'a Gateway, Client);

impl Innocent<'_> {
    async fn is_well(&mut self) {
        let body = json!({"user_id": "alice", "data": "still here"});
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("Authorization", &bearer[..])];
        let answer = post_with(self.0, "/v1/push", &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(self.1.next_data().await, "still here");
    }
}

#[tokio::test]
async fn abuse_of_http_2_ends_with_its_connection() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    let client = Client::open(&gateway, &redis.ticket("alice").await).await;
    let mut innocent = Innocent(&gateway, client);
    let before = gateway.metric("process_resident_memory_bytes").await;
    for token in [None, Some(TOKEN)] {
        let block = fields(token);
        // A call that is let in, or not; what comes after it is another caller's, or a
        // stranger's.
        let call = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);

        // Calls that are taken back at once (CVE-2023-44487).
        let reset = |number: u32| {
            let stream = 3 + 2 * number;
            let head = frame(HEADERS, END_HEADERS, stream, &block);
            [head, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        };
        flood(&gateway, &call, 50_000, reset).await;
        innocent.is_well().await;

        // A head that does not end (CVE-2024-27316).
        let open = [call.clone(), frame(HEADERS, 0, 3, &block)].concat();
        let more = frame(
            CONTINUATION,
            0,
            3,
            &[&[0, 1, b'x', 100][..], &[b'y'; 100]].concat(),
        );
        flood(&gateway, &open, 50_000, |_| more.clone()).await;
        innocent.is_well().await;
        // The same with nothing in it.
        let empty = frame(CONTINUATION, 0, 3, b"").repeat(10);
        flood(&gateway, &open, 20_000, |_| empty.clone()).await;
        innocent.is_well().await;

        let settings = raw_h2::frame(raw_h2::SETTINGS, 0, b"").repeat(10);
        flood(&gateway, &call, 20_000, |_| settings.clone()).await;
        innocent.is_well().await;
    }
    let after = gateway.metric("process_resident_memory_bytes").await;
    let grown = (after - before) / f64::from(1 << 20);
    assert!(grown < 100.0, "{grown} MiB");
    gateway.metric_becomes("usher_grpc_connections", 0.0).await;
    gateway
        .metric_becomes("usher_grpc_in_flight_bytes", 0.0)
        .await;
}

/// What hides in the body of one request is no other, whatever lengths it says.
#[tokio::test]
async fn a_body_is_no_request() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    let client = Client::open(&gateway, &redis.ticket("alice").await).await;
    let bearer = format!("Bearer {TOKEN}");
    let token = ("Authorization", &bearer[..]);
    let push = json!({"user_id": "alice", "data": "hidden"}).to_string();
    let hidden =
        String::from_utf8(request(&gateway.grpc, "/v1/push", &[token], &push)).expect("text");
    let length = hidden.len().to_string();
    let lengths = [
        vec![("Content-Length", &length[..])],
        // Refused, and the rest of the connection with it.
        vec![
            ("Content-Length", &length[..]),
            ("Content-Encoding", "gzip"),
        ],
        vec![("Content-Length", &length[..]), ("Idempotency-Key", "")],
        vec![("Content-Length", "0"), ("Content-Length", &length[..])],
        vec![
            ("Content-Length", &length[..]),
            ("Transfer-Encoding", "chunked"),
        ],
        vec![("Content-Length", "+0")],
    ];
    for framing in lengths {
        let mut headers = vec![token];
        headers.extend(framing);
        let sent = request(&gateway.grpc, "/v1/push", &headers, &hidden);
        let mut stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
        stream.write_all(&sent).await.expect("taken");
        stream.shutdown().await.expect("a socket");
        let mut answers = Vec::new();
        let _ = patiently("the end", stream.read_to_end(&mut answers)).await;
        let answers = String::from_utf8_lossy(&answers);
        assert!(!answers.contains("HTTP/1.1 200"), "{headers:?}: {answers}");
    }
    Innocent(&gateway, client).is_well().await;
}
