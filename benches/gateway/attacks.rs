//! What hostile clients do, as data: what each writes first, what it writes over
//! and over after that, and how often.
//!
//! The slow ones are as slow as slowloris, ten frames or one byte a second; the
//! floods are 200 frames a second, ten times what a client may send. None waits for
//! an answer, and all go on until they are cut off. On loopback 2,000 of them make
//! 2,000 connections and 6 MB a second, and 1,000 are connected at any moment.

use std::time::Duration;

use crate::{
    attackers::{Attack, Speaks},
    centrifuge::Encoding,
};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;
const PING: u8 = 0x9;
const FINAL: u8 = 0x80;

/// What every request for a WebSocket has.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// All of them. `gateway` is its address, as a Host header names it.
pub(crate) fn all(gateway: &str) -> Vec<Attack> {
    let seconds = Duration::from_secs;
    let millis = Duration::from_millis;
    let get = format!("GET /ws HTTP/1.1\r\nHost: {gateway}\r\n");
    let ask = format!("{UPGRADE}\r\n");
    let guess = format!(
        "GET /ws?ticket={} HTTP/1.1\r\nHost: {gateway}\r\n{ask}",
        "guess".repeat(8)
    );
    let two_hosts = format!("{get}Host: evil.example\r\nOrigin: http://evil.example\r\n{ask}");
    let elsewhere = format!("{get}Origin: http://evil.example\r\n{ask}");
    let smuggled = format!(
        "GET /healthz HTTP/1.1\r\nHost: {gateway}\r\nContent-Length: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{guess}",
        guess.len() + 5
    );
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.resize(517, 0xA5);
    let mut all = centrifuge(gateway);
    all.extend([
        // Before a request.
        Attack::on_http("says nothing", b"", b"", seconds(1)),
        Attack::on_http("a head in drips", get.as_bytes(), b"X", seconds(1)),
        Attack::on_http(
            "a head beyond measure",
            get.as_bytes(),
            &[b'x'; 4096],
            millis(20),
        ),
        Attack::on_http(
            "countless headers",
            get.as_bytes(),
            &b"X: y\r\n".repeat(20),
            millis(20),
        ),
        Attack::on_http("TLS on a plain port", &hello, &hello, millis(100)),
        // Requests that are refused, and more of them.
        Attack::on_http("a smuggled request", smuggled.as_bytes(), b"", millis(100)),
        Attack::on_http(
            "two hosts",
            two_hosts.as_bytes(),
            two_hosts.as_bytes(),
            millis(200),
        ),
        Attack::on_http(
            "another origin",
            elsewhere.as_bytes(),
            elsewhere.as_bytes(),
            millis(200),
        ),
        Attack::on_http(
            "guessed tickets",
            guess.as_bytes(),
            guess.as_bytes(),
            millis(200),
        ),
        // With a ticket.
        Attack::on_session(
            "a frame in drips",
            &head(FINAL | TEXT, 4096),
            b" ",
            seconds(1),
        ),
        Attack::on_session(
            "fragments without end, slowly",
            &frame(TEXT, b""),
            &frame(CONTINUATION, b" "),
            millis(100),
        ),
        Attack::on_session(
            "fragments without end",
            &frame(TEXT, b""),
            &frame(CONTINUATION, b"").repeat(10),
            millis(50),
        ),
        Attack::on_session(
            "a flood of pings",
            b"",
            &frame(FINAL | PING, &[b'x'; 125]).repeat(10),
            millis(50),
        ),
        Attack::on_session(
            "no UTF-8",
            b"",
            &frame(FINAL | TEXT, b"{\"a\":\"\xff\"}"),
            millis(50),
        ),
        Attack::on_session(
            "reserved bits",
            b"",
            &frame(FINAL | 0x70 | TEXT, b"{}"),
            millis(50),
        ),
        Attack::on_session(
            "a frame beyond measure",
            &head(FINAL | TEXT, 1 << 20),
            &[b'x'; 4096],
            millis(20),
        ),
        Attack::on_session("no JSON", b"", &frame(FINAL | TEXT, b"hello"), millis(50)),
        Attack::on_session("half a connection", b"", b"", millis(50)).half_closed(),
        // The push listener, which speaks TLS.
        Attack::on_grpc("gRPC: says nothing", b""),
        Attack::on_grpc("gRPC: half of TLS", &hello[..300]),
        Attack::on_http2("gRPC: nothing behind TLS", b"", b"", seconds(1)),
        Attack::on_http2(
            "gRPC: a flood of PING",
            &http2::HELLO.concat(),
            &http2::frame(http2::PING, 0, 0, &[0; 8]).repeat(10),
            millis(50),
        ),
        Attack::on_http2(
            "gRPC: a flood of SETTINGS",
            &http2::HELLO.concat(),
            &http2::frame(http2::SETTINGS, 0, 0, b"").repeat(10),
            millis(50),
        ),
        Attack::on_http2(
            "gRPC: a message that is announced and drips",
            &http2::push(gateway, 1 << 20),
            &http2::frame(http2::DATA, 0, 1, &[b'x'; 64]),
            millis(50),
        ),
        Attack::on_http2(
            "gRPC: a message beyond measure",
            &http2::push(gateway, 60 << 20),
            &http2::frame(http2::DATA, 0, 1, &[b'x'; 4096]),
            millis(50),
        ),
    ]);
    all
}

/// Those of the Centrifuge protocol, before a session and in one.
fn centrifuge(gateway: &str) -> Vec<Attack> {
    let millis = Duration::from_millis;
    let [json, protobuf] = [Encoding::Json, Encoding::Protobuf];
    let ask = |encoding| opening(Speaks::Centrifuge(encoding), gateway, "").0;
    let with = |encoding, first: &[u8]| [ask(encoding).as_bytes(), first].concat();
    let thousands = text("{}\n".repeat(5000));
    let deep = text(format!(
        "{{\"id\":2,\"rpc\":{{\"data\":{}",
        "[".repeat(10_000)
    ));
    // The message, `connect` and its `data` promise 2 GiB.
    let promises = binary(&[0x0A, 0x08, 1, 0x22, 6, 0x12, 0xFF, 0xFF, 0xFF, 0xFF, 7]);
    let length = binary(&[0xFF, 0xFF, 0xFF, 0xFF, 7, 0x08, 1]);
    let early = |name, encoding, frame: &[u8]| {
        Attack::on_http(name, &with(encoding, frame), b"", millis(100))
    };
    let late = |name, encoding, frame: &[u8]| {
        Attack::on_session(name, b"", frame, millis(50)).speaking(Speaks::Centrifuge(encoding))
    };
    vec![
        Attack::on_http(
            "Centrifuge: no connect",
            &with(json, b""),
            &frame(FINAL | PING, b""),
            Duration::from_secs(1),
        ),
        early("Centrifuge: deep JSON for a connect", json, &deep),
        early("Centrifuge: 5,000 commands for a connect", json, &thousands),
        early(
            "Centrifuge: false lengths for a connect",
            protobuf,
            &promises,
        ),
        late("Centrifuge: 5,000 commands in a frame", json, &thousands),
        late("Centrifuge: deep JSON", json, &deep),
        late("Centrifuge: false lengths", protobuf, &promises),
        late("Centrifuge: a length of 2 GiB", protobuf, &length),
        late(
            "Centrifuge: a flood of commands",
            json,
            &text("{}\n".repeat(10)),
        ),
    ]
}

/// The request that opens a session, and what its client says first.
pub(crate) fn opening(speaks: Speaks, gateway: &str, ticket: &str) -> (String, Vec<u8>) {
    let (path, protocol, says) = match speaks {
        Speaks::Usher => (format!("/ws?ticket={ticket}"), "", Vec::new()),
        Speaks::Centrifuge(encoding) => (
            "/connection/websocket".to_owned(),
            encoding.protocol(),
            encoding.connect(ticket),
        ),
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {gateway}\r\n{protocol}{UPGRADE}\r\n");
    (request, says)
}

/// A client's text frame.
pub(crate) fn text(text: String) -> Vec<u8> {
    frame(FINAL | TEXT, text.as_bytes())
}

/// A client's binary frame.
pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    frame(FINAL | BINARY, bytes)
}

/// What callers of the push listener must know; some attackers do.
pub(crate) const TOKEN: &str = "a-token-that-some-attackers-know";

/// HTTP/2 by hand (RFC 9113), with headers as literals (RFC 7541 §6.2.2).
mod http2 {
    pub(super) const DATA: u8 = 0x0;
    pub(super) const HEADERS: u8 = 0x1;
    pub(super) const SETTINGS: u8 = 0x4;
    pub(super) const PING: u8 = 0x6;
    const END_HEADERS: u8 = 0x4;

    /// The preface, and empty settings.
    pub(super) const HELLO: [&[u8]; 2] = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0],
    ];

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [&head, payload].concat()
    }

    /// A call with the token, whose message is said to have so many bytes.
    pub(super) fn push(authority: &str, bytes: u32) -> Vec<u8> {
        let mut headers = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/usher.v1.Notification/PushNotification"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", &format!("Bearer {}", super::TOKEN)),
        ] {
            headers.push(0);
            for text in [name, value] {
                // One byte for a length below 127.
                headers.push(text.len() as u8);
                headers.extend(text.as_bytes());
            }
        }
        let prefix = [&[0][..], &bytes.to_be_bytes()].concat();
        [
            HELLO.concat(),
            frame(HEADERS, END_HEADERS, 1, &headers),
            frame(DATA, 0, 1, &prefix),
        ]
        .concat()
    }
}

/// A client's frame; its mask is zeros, which changes no byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&head(first, payload.len() as u64), payload].concat()
}

fn head(first: u8, length: u64) -> Vec<u8> {
    let length = match length {
        ..126 => vec![0x80 | length as u8],
        126..65_536 => [&[0xFE][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[0xFF][..], &length.to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4]].concat()
}
