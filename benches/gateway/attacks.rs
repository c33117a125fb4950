//! What hostile clients do, as data: what each writes first, what it writes over
//! and over after that, and how often.
//!
//! The slow ones are as slow as slowloris, ten frames or one byte a second; the
//! floods are 200 frames a second, ten times what a client may send. None waits for
//! an answer, and all go on until they are cut off. On loopback 2,000 of them make
//! 2,000 connections and 6 MB a second, and 1,000 are connected at any moment.

use std::time::Duration;

use crate::attackers::Attack;

const TEXT: u8 = 0x1;
const CONTINUATION: u8 = 0x0;
const PING: u8 = 0x9;
const FINAL: u8 = 0x80;

/// All of them. `gateway` is its address, as a Host header names it.
pub(crate) fn all(gateway: &str) -> Vec<Attack> {
    let seconds = Duration::from_secs;
    let millis = Duration::from_millis;
    let get = format!("GET /ws HTTP/1.1\r\nHost: {gateway}\r\n");
    let ask = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
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
    vec![
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
    ]
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
