//! Every way in which a session ends, seen by a client that is told so: also
//! while there is more underway, in both directions, than anybody has read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    Client, Gateway, Nats, RawWs, Redis, eventually,
    raw_ws::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload, frame, frame_with},
    servers, world,
};

/// A session written and read by hand.
async fn raw_session(gateway: &Gateway, redis: &Redis) -> RawWs {
    Client::builder(gateway, &redis.ticket("42").await)
        .raw()
        .await
}

/// Publishes so much that a session which does not read holds it unread.
async fn publish_unread(nats: &Nats, gateway: &Gateway, count: u32) {
    let before = gateway.metric("usher_messages_received_total").await;
    let publisher = nats.client().await;
    for number in 0..count {
        publisher
            .publish("usher.user.42", number.to_string().into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    gateway
        .metric_becomes("usher_messages_received_total", before + f64::from(count))
        .await;
}

/// Sends `offence` to a session that has unread messages, with a lot more on
/// its heels, and reads only when the gateway is through with the session: a
/// socket closed in haste would have lost the close frame by then.
async fn ends_with(nats: &Nats, redis: &Redis, gateway: &Gateway, offence: &[u8]) -> (u16, String) {
    let closes = gateway.metric("usher_session_closes_total").await;
    let mut session = raw_session(gateway, redis).await;
    gateway.metric_becomes("usher_sessions", 1.0).await;
    publish_unread(nats, gateway, 50).await;
    let more = frame(TEXT, &[b'x'; 1000]).repeat(200);
    session.write(&[offence, &more].concat()).await;
    gateway.metric_becomes("usher_sessions", 0.0).await;
    gateway
        .metric_becomes("usher_session_closes_total", closes + 1.0)
        .await;
    let (code, reason, texts) = session.expect_close().await;
    assert!(
        texts
            .first()
            .is_some_and(|text| text.starts_with("{\"welcome\":")),
        "{texts:?}"
    );
    (code, reason)
}

#[tokio::test]
async fn a_client_says_goodbye() {
    let (_nats, redis, gateway) = world().await;
    for code in [1000, 1001, 3000, 4999] {
        let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
        assert_eq!(
            client.close(code).await.0,
            code,
            "the answer repeats the code"
        );
    }
    let mut session = raw_session(&gateway, &redis).await;
    session.write(&frame(CLOSE, b"")).await;
    let (code, _, _) = session.expect_close().await;
    assert!([1000, 1005].contains(&code), "{code}");
    gateway.metric_becomes("usher_sessions", 0.0).await;
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"client_left\"}", 5.0)
        .await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_noticed() {
    let (_nats, redis, gateway) = world().await;
    drop(Client::open(&gateway, &redis.ticket("42").await).await);
    gateway
        .metric_becomes(
            "usher_session_closes_total{reason=\"connection_lost\"}",
            1.0,
        )
        .await;
    assert_eq!(gateway.metric("usher_sessions").await, 0.0);
}

#[tokio::test]
async fn breaking_the_protocol_is_1002() {
    let (nats, redis, gateway) = world().await;
    let offences: [(&str, Vec<u8>); 14] = [
        ("an unmasked frame", frame_with(0x80 | TEXT, false, b"{}")),
        ("a reserved bit", frame_with(0xC0 | TEXT, true, b"{}")),
        ("another one", frame_with(0xA0 | TEXT, true, b"{}")),
        ("and the third", frame_with(0x90 | TEXT, true, b"{}")),
        ("a reserved opcode", frame(0x3, b"")),
        ("a reserved control opcode", frame(0xB, b"")),
        ("a ping in fragments", frame_with(PING, true, b"x")),
        ("a ping that is too long", frame(PING, &[b'x'; 126])),
        ("a continuation of nothing", frame(CONTINUATION, b"{}")),
        (
            "a message inside another",
            [frame_with(TEXT, true, b"{"), frame(TEXT, b"}")].concat(),
        ),
        ("a close with half a code", frame(CLOSE, b"\x03")),
        (
            "a close code that is never sent",
            frame(CLOSE, &close_payload(1006, b"")),
        ),
        (
            "a close code below all",
            frame(CLOSE, &close_payload(999, b"")),
        ),
        (
            "a close code that nobody gave away",
            frame(CLOSE, &close_payload(2999, b"")),
        ),
    ];
    for (name, offence) in &offences {
        let close = ends_with(&nats, &redis, &gateway, offence).await;
        assert_eq!(close, (1002, "protocol_error".to_owned()), "{name}");
    }
    let counted = gateway
        .metric("usher_session_closes_total{reason=\"protocol_error\"}")
        .await;
    assert_eq!(counted, offences.len() as f64);
}

#[tokio::test]
async fn text_that_is_not_utf8_is_1007() {
    let (nats, redis, gateway) = world().await;
    for (name, offence) in [
        ("a stray byte", frame(TEXT, b"{\"a\":\"\xff\"}")),
        ("half a letter", frame(TEXT, b"\xc3")),
        ("a surrogate", frame(TEXT, b"\xed\xa0\x80")),
        (
            "a letter cut in two, and the wrong half",
            [
                frame_with(TEXT, true, b"\xc3"),
                frame(CONTINUATION, b"\xff"),
            ]
            .concat(),
        ),
        (
            "a close reason",
            frame(CLOSE, &close_payload(1000, b"\xff")),
        ),
    ] {
        let close = ends_with(&nats, &redis, &gateway, &offence).await;
        assert_eq!(close, (1007, "bad_utf8".to_owned()), "{name}");
    }
}

#[tokio::test]
async fn too_many_frames_are_1008() {
    let (nats, redis, gateway) = world().await;
    for (name, frame) in [
        ("texts", frame(TEXT, b"{}")),
        ("pings", frame(PING, b"")),
        ("pongs", frame(PONG, b"")),
        ("fragments of nothing", frame_with(TEXT, true, b"")),
    ] {
        let frames = if name.starts_with("fragments") {
            [frame, frame_with(CONTINUATION, true, b"").repeat(200)].concat()
        } else {
            frame.repeat(200)
        };
        let close = ends_with(&nats, &redis, &gateway, &frames).await;
        assert_eq!(close, (1008, "too_many_frames".to_owned()), "{name}");
    }
}

#[tokio::test]
async fn a_frame_that_is_too_big_is_1009() {
    let (nats, redis, gateway) = world().await;
    let object = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8)).into_bytes();
    let head_alone =
        |length: u64| [&[0x80 | TEXT, 0xFF][..], &length.to_be_bytes(), &[0; 4]].concat();
    for (name, offence) in [
        ("one byte too many", frame(TEXT, &object(4097))),
        ("a big one", frame(TEXT, &object(100_000))),
        ("binary", frame(BINARY, &[0; 4097])),
        (
            "fragments, together",
            [
                frame_with(TEXT, true, &[b' '; 2049]),
                frame(CONTINUATION, &[b' '; 2048]),
            ]
            .concat(),
        ),
        ("one that only says so", head_alone(1 << 20)),
        ("one beyond all memory", head_alone(1 << 60)),
    ] {
        let close = ends_with(&nats, &redis, &gateway, &offence).await;
        assert_eq!(close, (1009, "frame_too_big".to_owned()), "{name}");
    }

    // What just fits is no offence.
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    client
        .send_text(&String::from_utf8(object(4096)).expect("text"))
        .await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);
}

#[tokio::test]
async fn a_frame_that_is_no_object_is_4102() {
    let (nats, redis, gateway) = world().await;
    for (name, offence) in [
        ("no JSON", frame(TEXT, b"hello")),
        ("nothing", frame(TEXT, b"")),
        ("an array", frame(TEXT, b"[1]")),
        ("a string", frame(TEXT, b"\"{}\"")),
        ("a cut object", frame(TEXT, b"{\"ack\":1")),
        ("two objects", frame(TEXT, b"{}{}")),
        ("binary", frame(BINARY, b"{}")),
    ] {
        let close = ends_with(&nats, &redis, &gateway, &offence).await;
        assert_eq!(close, (4102, "bad_frame".to_owned()), "{name}");
    }
}

#[tokio::test]
async fn any_object_is_taken() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    for text in [
        "{}",
        " { } ",
        "{\"ack\":121}",
        "{\"ack\":\"x\"}",
        "{\"new\":{\"in\":\"v2\"}}",
    ] {
        client.send_text(text).await;
    }
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);

    // In fragments too, with a ping in between, which is answered.
    let mut session = raw_session(&gateway, &redis).await;
    let parts = [
        frame_with(TEXT, true, b"{"),
        frame(PING, b"between"),
        frame(CONTINUATION, b"}"),
    ];
    session.write(&parts.concat()).await;
    loop {
        let frame = session.read().await.expect("the session goes on");
        if frame.opcode() == PONG {
            assert_eq!(frame.payload, b"between");
            break;
        }
        assert_eq!(frame.opcode(), TEXT);
    }
}

/// Waits until the gateway has had all messages, or has left the user's subject
/// since its one session is over.
pub(crate) async fn all_arrived(nats: &Nats, gateway: &Gateway, count: f64) {
    eventually("all messages have arrived, or nobody is there", || async {
        gateway.metric("usher_messages_received_total").await == count
            || nats.subscriptions("usher.user.42").await == 0
    })
    .await;
}

/// 19 MB to a session that does not read: more than the kernel and the queue
/// take. It is told why, behind what was already on its way.
#[tokio::test]
async fn a_slow_consumer_is_4000() {
    let (nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let mut slow = Client::builder(&gateway, &ticket)
        .small_buffers()
        .raw()
        .await;
    let mut quick = Client::open(&gateway, &redis.ticket("43").await).await;
    let publisher = nats.client().await;
    let payload = "x".repeat(64 << 10);
    for _ in 0..300 {
        publisher
            .publish("usher.user.42", payload.clone().into())
            .await
            .expect("published");
    }
    publisher
        .publish("usher.user.43", "1".into())
        .await
        .expect("published");
    publisher.flush().await.expect("flushed");
    assert_eq!(
        quick.next_data().await,
        1,
        "the others are not kept waiting"
    );
    all_arrived(&nats, &gateway, 301.0).await;

    let (code, reason, texts) = slow.expect_close().await;
    assert_eq!((code, &*reason), (4000, "slow_consumer"));
    assert!(texts.len() < 300, "{}", texts.len());
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"slow_consumer\"}", 1.0)
        .await;
    gateway.metric_becomes("usher_queued_bytes", 0.0).await;
}

#[tokio::test]
async fn a_backlog_is_bounded_in_messages_too() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.queue_messages", "4");
    let gateway = builder.set("session.queue_bytes", "64MiB").start().await;
    let ticket = redis.ticket("42").await;
    let mut slow = Client::builder(&gateway, &ticket)
        .small_buffers()
        .raw()
        .await;
    let publisher = nats.client().await;
    for _ in 0..100 {
        publisher
            .publish("usher.user.42", "x".repeat(200_000).into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    all_arrived(&nats, &gateway, 100.0).await;
    let (code, reason, _) = slow.expect_close().await;
    assert_eq!((code, &*reason), (4000, "slow_consumer"));
}

/// A message larger than the whole queue still goes to a session whose backlog
/// is empty.
#[tokio::test]
async fn one_message_larger_than_the_queue_passes() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.queue_bytes", "16KiB");
    let gateway = builder.start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let publisher = nats.client().await;
    for _ in 0..5 {
        publisher
            .publish("usher.user.42", "x".repeat(500_000).into())
            .await
            .expect("published");
        assert_eq!(
            client.next_data().await.as_str().map(str::len),
            Some(500_000)
        );
        gateway.metric_becomes("usher_queued_bytes", 0.0).await;
    }
}

/// Of all sessions together, the one with the largest backlog goes first.
#[tokio::test]
async fn the_largest_backlog_goes_first() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "100000")
        .set("session.queue_bytes", "64MiB")
        .set("session.total_queue_bytes", "8MiB")
        .start()
        .await;
    let big = redis.ticket("big").await;
    let mut big = Client::builder(&gateway, &big).small_buffers().raw().await;
    let small = redis.ticket("small").await;
    let mut small = Client::builder(&gateway, &small)
        .small_buffers()
        .raw()
        .await;
    let publisher = nats.client().await;
    for _ in 0..10 {
        publisher
            .publish("usher.user.small", "x".repeat(1000).into())
            .await
            .expect("published");
    }
    for _ in 0..400 {
        publisher
            .publish("usher.user.big", "x".repeat(100_000).into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    // Only then does it read: who reads along is nobody to close.
    eventually("a backlog is given up", || async {
        let lost = "usher_messages_dropped_total{reason=\"slow_consumer\"}";
        gateway.metric(lost).await > 0.0
    })
    .await;
    let (code, reason, _) = big.expect_close().await;
    assert_eq!((code, &*reason), (4000, "slow_consumer"));
    publisher
        .publish("usher.user.small", "\"last\"".into())
        .await
        .expect("published");
    loop {
        let frame = small.read().await.expect("the small backlog stays");
        assert_eq!(frame.opcode(), TEXT);
        if frame.text().contains("last") {
            break;
        }
    }
}

/// A broadcast of five times what all backlogs may hold closes nobody who reads.
#[tokio::test]
async fn a_large_broadcast_closes_nobody_who_reads() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.total_queue_bytes", "1MiB");
    let gateway = builder.start().await;
    let mut clients = Vec::new();
    for number in 0..50 {
        let ticket = redis.ticket(&format!("user-{number}")).await;
        clients.push(Client::open(&gateway, &ticket).await);
    }
    let publisher = nats.client().await;
    let payload = "x".repeat(100_000);
    let broadcast = publisher.publish("usher.broadcast", payload.clone().into());
    broadcast.await.expect("published");
    publisher.flush().await.expect("flushed");
    for client in &mut clients {
        assert_eq!(client.next_data().await, payload.as_str());
    }
    let closed = "usher_session_closes_total{reason=\"slow_consumer\"}";
    assert_eq!(gateway.metric(closed).await, 0.0);
}

/// Somebody who never reads again does not even hear that it is over.
#[tokio::test]
async fn a_write_that_makes_no_progress_ends_the_session() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.write_timeout", "500ms");
    let gateway = builder.start().await;
    let ticket = redis.ticket("42").await;
    let _frozen = Client::builder(&gateway, &ticket)
        .small_buffers()
        .raw()
        .await;
    let publisher = nats.client().await;
    for _ in 0..150 {
        publisher
            .publish("usher.user.42", "x".repeat(64 << 10).into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"slow_consumer\"}", 1.0)
        .await;
    gateway.metric_becomes("usher_sessions", 0.0).await;
    eventually("nothing is held", || async {
        nats.subscriptions("usher.user.42").await == 0
    })
    .await;
}

fn in_seconds(seconds: u64) -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    now.as_secs() + seconds
}

#[tokio::test]
async fn a_session_ends_when_its_ticket_says() {
    let (nats, redis, gateway) = world().await;
    let end = in_seconds(3);
    let ticket = redis
        .ticket_json(json!({"user_id": "42", "expires_at": end}))
        .await;
    let mut client = Client::open(&gateway, &ticket).await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);
    assert_eq!(client.expect_goodbye().await["reason"], "session_expired");
    assert_eq!(
        client.expect_close().await,
        (4001, "session_expired".to_owned())
    );
    assert!(in_seconds(0) >= end, "not before its time");
}

#[tokio::test]
async fn no_session_lives_longer_than_it_may() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.max_lifetime", "1s");
    let gateway = builder.start().await;
    let start = Instant::now();
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(client.expect_goodbye().await["reason"], "session_expired");
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        client.expect_close().await,
        (4001, "session_expired".to_owned())
    );
}

#[tokio::test]
async fn silence_is_4002() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.ping_interval", "500ms");
    let gateway = builder.set("session.idle_timeout", "4s").start().await;
    // This one reads, and answers no ping.
    let mut silent = raw_session(&gateway, &redis).await;
    // This one has nothing to say either, but its WebSocket answers.
    let mut alive = Client::open(&gateway, &redis.ticket("43").await).await;
    assert_eq!(alive.welcome()["ping"], 0.5);
    let start = Instant::now();
    let listening = tokio::spawn(async move {
        while start.elapsed() < Duration::from_secs(7) {
            alive.next_frame().await;
        }
        alive
    });
    let (code, reason, texts) = silent.expect_close().await;
    assert_eq!((code, &*reason), (4002, "idle"));
    assert!(
        texts.iter().any(|text| text.starts_with("{\"ping\":")),
        "{texts:?}"
    );
    assert!(
        start.elapsed() >= Duration::from_millis(3500),
        "{:?}",
        start.elapsed()
    );

    let mut alive = listening
        .await
        .expect("a session whose client answers goes on");
    nats.publish("usher.user.43", "1").await;
    assert_eq!(alive.next_data().await, 1);
}

/// A protocol ping comes every interval, whatever else was sent; the frame that
/// scripts can see comes only when nothing else did.
#[tokio::test]
async fn pings_come_in_both_forms() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.ping_interval", "1s");
    let gateway = builder.start().await;
    let mut busy = raw_session(&gateway, &redis).await;
    let other = redis.ticket("quiet").await;
    let mut quiet = Client::builder(&gateway, &other).raw().await;
    let publisher = nats.client().await;
    let over = tokio::spawn(async move {
        loop {
            publisher
                .publish("usher.user.42", "1".into())
                .await
                .expect("published");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut pings = 0;
    while pings < 4 {
        let ping = busy.read().await.expect("the session goes on");
        match ping.opcode() {
            PING => {
                pings += 1;
                busy.write(&frame(PONG, &ping.payload)).await;
            }
            _ => assert!(!ping.text().starts_with("{\"ping\":"), "{}", ping.text()),
        }
    }
    over.abort();
    let (mut pings, mut frames) = (0, 0);
    while pings < 3 || frames < 3 {
        let frame = quiet.read().await.expect("the session goes on");
        match frame.opcode() {
            PING => pings += 1,
            _ => frames += usize::from(frame.text().starts_with("{\"ping\":")),
        }
    }
}

#[tokio::test]
async fn a_drain_is_1012_with_a_hint() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("drain.delay", "0s");
    let mut gateway = builder.set("drain.window", "1s").start().await;
    let mut clients = Vec::new();
    for user in 0..10 {
        clients.push(Client::open(&gateway, &redis.ticket(&user.to_string()).await).await);
    }
    let ticket = redis.ticket("raw").await;
    let mut raw = Client::builder(&gateway, &ticket)
        .protocols(&["usher.raw.v1"])
        .open()
        .await;
    let publisher = nats.client().await;
    for _ in 0..20 {
        publisher
            .publish("usher.broadcast", "1".into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    gateway
        .metric_becomes("usher_messages_received_total", 20.0)
        .await;

    gateway.terminate();
    let mut hints = std::collections::HashSet::new();
    for client in &mut clients {
        for _ in 0..20 {
            assert_eq!(client.next_data().await, 1, "what was there is flushed");
        }
        let goodbye = client.expect_goodbye().await;
        assert_eq!(goodbye["reason"], "drain");
        let hint = goodbye["reconnect_after_ms"].as_u64().expect("a hint");
        assert!(hint <= 60_000, "{hint}");
        hints.insert(hint);
        assert_eq!(client.expect_close().await, (1012, "drain".to_owned()));
    }
    assert!(hints.len() > 1, "each session has its own hint");
    let (code, reason) = raw.expect_close().await;
    let hint = reason
        .strip_prefix("drain ")
        .and_then(|hint| hint.parse::<u64>().ok());
    assert!(code == 1012 && hint.is_some(), "{code} {reason}");
    assert_eq!(gateway.wait().await.code(), Some(0));
}

/// A drain does not wait for a client that is stuck.
#[tokio::test]
async fn a_stuck_client_does_not_hold_up_a_drain() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("drain.delay", "0s")
        .set("drain.window", "500ms")
        .set("session.write_timeout", "1s")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let _stuck = Client::builder(&gateway, &ticket)
        .small_buffers()
        .raw()
        .await;
    let publisher = nats.client().await;
    for _ in 0..12 {
        publisher
            .publish("usher.user.42", "x".repeat(1_000_000).into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    all_arrived(&nats, &gateway, 12.0).await;
    gateway.terminate();
    assert_eq!(gateway.wait().await.code(), Some(0));
}
