//! Connections that are no session yet, or half of one.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Innocent, attacker, nobody_is_pending};
use crate::support::{
    Gateway, http,
    raw_ws::{CLOSE, TEXT, close_payload, frame},
    servers,
    wait::patiently,
    world,
};

/// A connection of which one half is closed is no connection for a WebSocket: it
/// is over, wherever it was, and nobody's subject stays subscribed for it.
#[tokio::test]
async fn half_a_connection_is_none() {
    let (nats, redis, gateway) = world().await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    let ticket = redis.ticket("half").await;
    let handshake = http::head(
        "GET",
        &gateway.public,
        &format!("/ws?ticket={ticket}"),
        &[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ],
    );
    for (name, bytes) in [
        ("nothing", ""),
        ("half a head", "GET /ws HTTP/1.1\r\nHost:"),
        (
            "a request that is refused",
            "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        ("a handshake", &handshake),
    ] {
        let mut stream = TcpStream::connect(&gateway.public)
            .await
            .expect("a connection");
        stream.write_all(bytes.as_bytes()).await.expect("taken");
        stream.shutdown().await.expect("half closed");
        let mut answer = Vec::new();
        let end = patiently(name, stream.read_to_end(&mut answer)).await;
        assert!(end.is_ok() || bytes.len() > 20, "{name}: {end:?}");
    }
    for (name, last) in [
        ("a session", Vec::new()),
        ("half a frame", vec![0x80 | TEXT, 0xFE]),
        ("a goodbye", frame(CLOSE, &close_payload(1000, b""))),
    ] {
        let mut session = attacker(&gateway, &redis).await;
        session.write(&last).await;
        session.half_close().await;
        let (code, _, texts) = session.expect_close().await;
        let said = if name == "a goodbye" { 1000 } else { 1006 };
        assert_eq!(code, said, "{name}: {texts:?}");
    }
    gateway.metric_becomes("usher_sessions", 2.0).await;
    nobody_is_pending(&gateway).await;
    assert_eq!(nats.subscriptions("usher.user.half").await, 0);
    innocent.still_get(&nats).await;
}

/// The beginning of TLS on a plain port is no HTTP from its first byte on, and is
/// not waited out: the time for a head is longer than this test.
#[tokio::test]
async fn tls_on_a_plain_port_is_cut_off() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("public.handshake_timeout", "10m");
    let gateway = builder.start().await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.resize(517, 0xA5);
    for bytes in [
        &hello[..],
        &hello[..1],
        b"\x15\x03\x03\x00\x02\x02\x28",
        &[0x80; 2000],
    ] {
        let mut stream = TcpStream::connect(&gateway.public)
            .await
            .expect("a connection");
        stream.write_all(bytes).await.expect("taken");
        let mut answer = Vec::new();
        let _ = patiently("the connection ends", stream.read_to_end(&mut answer)).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    innocent.still_get(&nats).await;
}

/// A head is bounded in bytes and in lines, and a ticket in it is not looked at.
#[tokio::test]
async fn a_head_without_measure_is_refused() {
    let (nats, redis, gateway) = world().await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    let ticket = redis.ticket("mallory").await;
    let long = "x".repeat(64 << 10);
    for (name, more) in [
        ("countless lines", "X: y\r\n".repeat(2000)),
        ("countless empty ones", "X:\r\n".repeat(4000)),
        ("a long value", format!("X: {long}\r\n")),
        ("a long name", format!("{long}: x\r\n")),
        ("a long cookie", format!("Cookie: a={long}\r\n")),
    ] {
        let head = format!(
            "GET /ws?ticket={ticket} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            gateway.public
        );
        let mut stream = TcpStream::connect(&gateway.public)
            .await
            .expect("a connection");
        // It may be cut off before it is through.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = patiently(name, stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{name}: {answer}"
        );
        assert!(redis.exists(&ticket).await, "{name}");
    }
    innocent.still_get(&nats).await;
}
