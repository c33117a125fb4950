//! Clients that mean harm.

use tokio::time::Instant;

use super::{
    speaking,
    wire::{connected, raw, reply, say},
};
use crate::support::{
    Client, Gateway,
    raw_ws::{BINARY, TEXT, frame},
    servers,
};

#[tokio::test]
async fn who_says_nothing_holds_a_place_for_a_bounded_time() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("public.handshake_timeout", "1s")
        .set("public.max_pending", "3")
        .start()
        .await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(raw(&gateway).await);
    }
    gateway
        .metric_becomes("usher_pending_connections", 3.0)
        .await;
    let full = Client::builder(&gateway, &redis.ticket("42").await);
    full.refused().await.assert_refused(503, "full");
    for mut socket in silent {
        // Pings prolong nothing.
        socket.write(&frame(9, b"x")).await;
        let (code, reason, _) = socket.expect_close().await;
        assert_eq!((code, &*reason), (3003, "stale"));
    }
    gateway
        .metric_becomes("usher_pending_connections", 0.0)
        .await;
    drop(connected(&gateway, &redis, "42").await);
}

#[tokio::test]
async fn what_is_no_command_is_a_bad_request() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    let deep = format!("{{\"id\":1,\"connect\":{{\"data\":{}", "[".repeat(10_000));
    let first = [
        "x",
        "[]",
        "{}",
        "{\"id\":1}",
        "{\"id\":1,\"rpc\":{}}",
        "{\"connect\":{}}",
        &deep,
    ];
    for bad in first {
        let mut socket = raw(&gateway).await;
        say(&mut socket, bad).await;
        let (code, reason, _) = socket.expect_close().await;
        assert_eq!((code, &*reason), (3501, "bad_frame"), "{bad:.40}");
    }
    for bad in [
        "x",
        "[]",
        "{\"id\":2,\"connect\":{}}",
        "{\"rpc\":{}}",
        &deep,
    ] {
        let mut socket = connected(&gateway, &redis, "42").await;
        say(&mut socket, bad).await;
        let (code, reason, _) = socket.expect_close().await;
        assert_eq!((code, &*reason), (3501, "bad_frame"), "{bad:.40}");
    }
    let protobuf = || {
        Client::builder(&gateway, "")
            .path("/connection/websocket")
            .no_ticket()
            .protocols(&["centrifuge-protobuf"])
    };
    // Lengths that promise more than comes, or more than there can be.
    for bad in [
        &b""[..],
        &[5, 8],
        &[0xff; 9],
        &[0xff; 300],
        &[4, 0x22, 0xff, 0xff, 3],
        &[0],
        &[2, 8, 1],
    ] {
        let mut socket = protobuf().raw().await;
        socket.write(&frame(BINARY, bad)).await;
        let (code, reason, _) = socket.expect_close().await;
        assert_eq!((code, &*reason), (3501, "bad_frame"), "{bad:?}");
    }
    let mut socket = protobuf().raw().await;
    say(&mut socket, "{\"id\":1,\"connect\":{}}").await;
    assert_eq!(socket.expect_close().await.0, 3501, "text over Protobuf");
    let mut socket = connected(&gateway, &redis, "42").await;
    socket.write(&frame(TEXT, &[0xff])).await;
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3501, "bad_utf8"));
    let mut socket = connected(&gateway, &redis, "42").await;
    say(&mut socket, &" ".repeat(20 << 10)).await;
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3501, "frame_too_big"));
    gateway.metric_becomes("usher_sessions", 0.0).await;
}

/// An SDK that returns sends a burst of commands; thousands are a flood, in one frame or in
/// many.
#[tokio::test]
async fn a_burst_is_answered_and_a_flood_is_closed() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    let ask = |id: usize| format!("{{\"id\":{id},\"subscribe\":{{\"channel\":\"t{id}\"}}}}");
    let mut socket = connected(&gateway, &redis, "42").await;
    for id in 2..60 {
        say(&mut socket, &ask(id)).await;
    }
    for id in 2..60 {
        let answer = reply(&mut socket).await;
        assert_eq!(answer["id"], id);
        assert_eq!(answer["error"]["code"], 103);
    }
    let mut socket = connected(&gateway, &redis, "42").await;
    let all: Vec<_> = (2..60).map(ask).collect();
    say(&mut socket, &all.join("\n")).await;
    for id in 2..60 {
        assert_eq!(reply(&mut socket).await["id"], id);
    }
    let flood = "{}\n".repeat(5000);
    for text in [&*flood, &vec!["{\"id\":9,\"rpc\":{}}"; 100].join("\n")] {
        let mut socket = connected(&gateway, &redis, "42").await;
        say(&mut socket, text).await;
        let (code, reason, _) = socket.expect_close().await;
        assert_eq!((code, &*reason), (3501, "too_many_frames"));
    }
    let mut socket = connected(&gateway, &redis, "42").await;
    let begun = Instant::now();
    let mut sent = 0;
    while socket.try_write(&frame(TEXT, b"{}")).await && sent < 100_000 {
        sent += 1;
    }
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3501, "too_many_frames"));
    assert!(begun.elapsed().as_secs() < 60);
}
