//! Clients that mean harm.

use std::fs;

use serde_json::json;
use tokio::time::Instant;

use super::{
    speaking,
    wire::{connect_in_protobuf, connected, raw, raw_protobuf, reply, say},
};
use crate::support::{
    Client, Gateway, RawWs, Redis, eventually,
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
        let mut socket = raw_protobuf(&gateway).await;
        socket.write(&frame(BINARY, bad)).await;
        let (code, reason, _) = socket.expect_close().await;
        assert_eq!((code, &*reason), (3501, "bad_frame"), "{bad:?}");
    }
    let mut socket = raw_protobuf(&gateway).await;
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
    for text in [&*flood, &vec!["{\"id\":9,\"rpc\":{}}"; 300].join("\n")] {
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

/// What a hostile client sends.
struct Attack {
    name: &'static str,
    protobuf: bool,
    /// In a session, or in the place of its `connect`.
    in_session: bool,
    frame: Vec<u8>,
    /// The reason of its close.
    reason: &'static str,
}

fn attacks() -> Vec<Attack> {
    let text = |text: String| frame(TEXT, text.as_bytes());
    let thousands = text("{}\n".repeat(5000));
    let deep = text(format!(
        "{{\"id\":2,\"rpc\":{{\"data\":{}",
        "[".repeat(15_000)
    ));
    // Each promises 2 GiB: the `data` of a `connect`, and the message itself.
    let inside = [0x0A, 0x08, 1, 0x22, 6, 0x12, 0xFF, 0xFF, 0xFF, 0xFF, 7];
    let whole = [0xFF, 0xFF, 0xFF, 0xFF, 7, 0x08, 1];
    let mut all = Vec::new();
    for in_session in [false, true] {
        for (name, protobuf, frame, reason) in [
            (
                "5,000 commands",
                false,
                thousands.clone(),
                "too_many_frames",
            ),
            ("deep JSON", false, deep.clone(), "bad_frame"),
            (
                "5,000 commands",
                true,
                frame(BINARY, &[0; 5000]),
                "too_many_frames",
            ),
            (
                "a false length inside",
                true,
                frame(BINARY, &inside),
                "bad_frame",
            ),
            ("a false length", true, frame(BINARY, &whole), "bad_frame"),
        ] {
            all.push(Attack {
                name,
                protobuf,
                in_session,
                frame,
                reason,
            });
        }
    }
    all
}

/// The most memory that a process has had, in MiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes
        .and_then(|number| number.parse::<u64>().ok())
        .expect("a number")
        / 1024
}

/// Each is closed by its code, a hundred of each together cost little memory, and a session
/// beside them notices nothing.
#[tokio::test]
async fn hostile_messages_are_closed_and_cost_no_memory() {
    const CLIENTS: usize = 100;
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    let mut innocent = connected(&gateway, &redis, "alice").await;
    let before = peak(gateway.id());
    for attack in attacks() {
        let Attack { name, protobuf, .. } = attack;
        let mut sockets = Vec::new();
        for client in 0..CLIENTS {
            // One user may have only some sessions.
            let user = format!("mallory-{client}");
            let mut socket = match protobuf {
                true => raw_protobuf(&gateway).await,
                false => raw(&gateway).await,
            };
            match (attack.in_session, protobuf) {
                (false, _) => {}
                (true, true) => connect_in_protobuf(&mut socket, &redis, &user).await,
                (true, false) => socket = connected(&gateway, &redis, &user).await,
            }
            socket.write(&attack.frame).await;
            sockets.push(socket);
        }
        for mut socket in sockets {
            let (code, reason, _) = socket.expect_close().await;
            assert_eq!((code, &*reason), (3501, attack.reason), "{name}");
        }
        nats.publish("usher.user.alice", "1").await;
        assert_eq!(reply(&mut innocent).await["push"]["pub"]["data"], 1);
    }
    gateway.metric_becomes("usher_sessions", 1.0).await;
    let grown = peak(gateway.id()) - before;
    assert!(grown < 64, "{grown} MiB");
}

/// So nobody holds more connections than are counted.
#[tokio::test]
async fn who_is_refused_counts_until_the_connection_is_closed() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("public.max_pending", "2")
        .start()
        .await;
    let mut refused = Vec::new();
    for _ in 0..2 {
        let mut socket = raw(&gateway).await;
        socket.write(&frame(TEXT, b"x")).await;
        refused.push(socket);
    }
    for socket in &mut refused {
        let (code, _, _) = socket.expect_close().await;
        assert_eq!(code, 3501);
    }
    // They are told, and have not closed their side.
    assert_eq!(gateway.metric("usher_pending_connections").await, 2.0);
    drop(refused);
    gateway
        .metric_becomes("usher_pending_connections", 0.0)
        .await;
}

/// An SDK that has waited for 5 s comes again, and is not to be kept out, or replaced, by the
/// session that it has left.
#[tokio::test]
async fn who_leaves_on_the_way_in_leaves_nothing_behind() {
    let (mut nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("public.max_sessions", "1")
        .start()
        .await;
    nats.pause();
    for (way, reason) in [(None, "connection_lost"), (Some(8), "client_left")] {
        let mut socket = raw(&gateway).await;
        connects(&mut socket, &redis).await;
        if let Some(opcode) = way {
            socket.write(&frame(opcode, &1000_u16.to_be_bytes())).await;
        }
        drop(socket);
        let cut = format!("usher_connections_cut_total{{reason=\"{reason}\"}}");
        gateway.metric_becomes(&cut, 1.0).await;
    }
    // What comes early is answered afterwards.
    let mut socket = raw(&gateway).await;
    connects(&mut socket, &redis).await;
    say(&mut socket, "{\"id\":2,\"rpc\":{}}").await;
    nats.resume();
    for id in 1..=2 {
        assert_eq!(reply(&mut socket).await["id"], id);
    }
    drop(socket);
    gateway.metric_becomes("usher_users", 0.0).await;
}

/// What comes before the answer to `connect` waits for it, so it is a burst at most.
#[tokio::test]
async fn who_waits_for_the_answer_to_connect_sends_a_burst_at_most() {
    let (mut nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    nats.pause();
    let mut socket = raw(&gateway).await;
    connects(&mut socket, &redis).await;
    for _ in 0..6 {
        say(&mut socket, &["{\"id\":2,\"rpc\":{}}"; 10].join("\n")).await;
    }
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3501, "too_many_frames"));
    nats.resume();
}

/// Says `connect`, and is on its way in.
async fn connects(socket: &mut RawWs, redis: &Redis) {
    let ticket = redis.ticket("42").await;
    let connect = json!({"id": 1, "connect": {"data": {"ticket": ticket}}});
    say(socket, &connect.to_string()).await;
    eventually("its ticket is used", || async {
        !redis.exists(&ticket).await
    })
    .await;
}
