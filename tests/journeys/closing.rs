//! Every way in which a session ends, seen by a client that is told so: also
//! while there is more underway, in both directions, than anybody has read.

mod backlog;
mod times;

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
        ("one byte too many", frame(TEXT, &object(16_385))),
        ("a big one", frame(TEXT, &object(100_000))),
        ("binary", frame(BINARY, &[0; 16_385])),
        (
            "fragments, together",
            [
                frame_with(TEXT, true, &[b' '; 8193]),
                frame(CONTINUATION, &[b' '; 8192]),
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
        .send_text(&String::from_utf8(object(16_384)).expect("text"))
        .await;
    assert_eq!(client.next_json().await["error"]["code"], "unknown_command");
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
async fn a_raw_session_takes_objects_and_nothing_else() {
    let (nats, redis, gateway) = world().await;
    for bad in ["hello", "", "[1]", "{\"ack\":1"] {
        let ticket = redis.ticket("42").await;
        let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
        let mut raw = raw.open().await;
        for good in ["{}", "{\"ack\":1}", "{\"follow\":1}", "{\"x\":[]}"] {
            raw.send_text(good).await;
        }
        nats.publish("usher.user.42", "1").await;
        assert_eq!(raw.next_text().await, "1");
        raw.send_text(bad).await;
        let close = raw.expect_close().await;
        assert_eq!(close, (4102, "bad_frame".to_owned()), "{bad}");
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
    // It is said once that an object means nothing.
    assert_eq!(client.next_json().await["error"]["code"], "unknown_command");
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
