//! A session too many, whose join fails.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{store, world_with};
use crate::support::{Client, eventually, http};

const SUBJECT: &str = "usher.user.42";

/// The end of the stream can't be asked for, so there is no `welcome`.
#[tokio::test]
async fn a_join_that_fails_replaces_nobody() {
    let (mut nats, redis, gateway) = world_with(&[("public.max_sessions_per_user", "1")]).await;
    let mut first = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    nats.pause();
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    nats.resume();
    store(&nats.client().await, SUBJECT, 1).await;
    assert_eq!(first.next_data().await, 1);
}

/// The same where the client is gone before it is let in.
#[tokio::test]
async fn a_client_that_resets_replaces_nobody() {
    let (mut nats, redis, gateway) = world_with(&[("public.max_sessions_per_user", "1")]).await;
    let mut first = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    nats.pause();
    let mut stream = TcpStream::connect(&gateway.public)
        .await
        .expect("a connection");
    let request = http::head(
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
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is read");
    // The ticket is taken right before the join.
    eventually("it is on its way in", || async {
        !redis.exists(&ticket).await
    })
    .await;
    stream.set_zero_linger().expect("an option of the socket");
    drop(stream);
    nats.resume();
    store(&nats.client().await, SUBJECT, 1).await;
    assert_eq!(first.next_data().await, 1);
}
