//! Requests that never become one.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::HANDSHAKE;
use crate::support::{Client, Gateway, eventually, http, servers, wait::patiently, world};

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("public.handshake_timeout", "300ms");
    let gateway = builder.start().await;
    for start in ["", "GET /ws HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(&gateway.public)
            .await
            .expect("a connection");
        stream.write_all(start.as_bytes()).await.expect("taken");
        let mut answer = Vec::new();
        // Whatever it says, or breaks off, it ends.
        let _ = patiently("the connection ends", stream.read_to_end(&mut answer)).await;
    }
    Client::open(&gateway, &redis.ticket("42").await).await;
}

#[tokio::test]
async fn connections_that_wait_are_bounded() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("public.max_pending", "3");
    let gateway = builder.set("public.handshake_timeout", "30s").start().await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(
            TcpStream::connect(&gateway.public)
                .await
                .expect("a connection"),
        );
    }
    let ticket = redis.ticket("42").await;
    let refusal = Client::builder(&gateway, &ticket).refused().await;
    assert_eq!(refusal.status, 503, "{refusal:?}");
    drop(idle);
    eventually("there is room again", || async {
        Client::try_open(&gateway, &ticket).await.is_ok()
    })
    .await;
    // Sessions do not count.
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(Client::open(&gateway, &redis.ticket("42").await).await);
    }
}

#[tokio::test]
async fn what_is_no_http_breaks_nothing() {
    let (_nats, redis, gateway) = world().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET /ws HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 4096],
    ] {
        let mut stream = TcpStream::connect(&gateway.public)
            .await
            .expect("a connection");
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = patiently("the connection ends", stream.read_to_end(&mut answer)).await;
    }
    let long = format!("/ws?ticket={}", "x".repeat(100_000));
    let answer = http::get(&gateway.public, &long, &HANDSHAKE).await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    Client::open(&gateway, &redis.ticket("42").await).await;
}
