//! Clients that mean harm, each beside one that does not: what the one gets, and
//! that the other still gets its messages. What a single bad frame is answered is
//! in `closing`, and every plain 'no' in `refusals`.

mod connections;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::support::{
    Client, Events, Gateway, Nats, RawWs, Redis, eventually,
    raw_ws::{CONTINUATION, PING, PONG, TEXT, frame, frame_with},
    servers,
    wait::patiently,
    world,
};

/// Somebody's sessions that have nothing to do with it: one of the attacker's own
/// user, and one of another.
struct Innocent([(&'static str, Client); 2]);

impl Innocent {
    async fn beside(gateway: &Gateway, redis: &Redis) -> Self {
        Self([
            (
                "usher.user.mallory",
                Client::open(gateway, &redis.ticket("mallory").await).await,
            ),
            (
                "usher.user.alice",
                Client::open(gateway, &redis.ticket("alice").await).await,
            ),
        ])
    }

    async fn still_get(&mut self, nats: &Nats) {
        for (subject, client) in &mut self.0 {
            nats.publish(subject, "\"still here\"").await;
            assert_eq!(client.next_data().await, "still here", "{subject}");
        }
    }
}

/// An attacker that has a ticket.
async fn attacker(gateway: &Gateway, redis: &Redis) -> RawWs {
    Client::builder(gateway, &redis.ticket("mallory").await)
        .raw()
        .await
}

/// Sends `bytes` again and again, one at a time, until the connection ends.
async fn drip(stream: TcpStream, bytes: &[u8], pause: Duration) {
    let (mut reader, mut writer) = stream.into_split();
    let dripping = async {
        for byte in bytes.iter().cycle() {
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(pause).await;
        }
    };
    let mut answer = Vec::new();
    patiently("the connection ends", async {
        tokio::select! {
            () = dripping => {}
            // A reset is an end too.
            _ = reader.read_to_end(&mut answer) => {}
        }
    })
    .await;
}

/// Nobody but the one that asks.
async fn nobody_is_pending(gateway: &Gateway) {
    gateway
        .metric_becomes("usher_pending_connections", 0.0)
        .await;
}

/// A head is cut off when its time is over, however steadily it comes.
#[tokio::test]
async fn a_head_in_drips_is_cut_off() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("public.handshake_timeout", "500ms");
    let gateway = builder.start().await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    let connect = || async {
        TcpStream::connect(&gateway.public)
            .await
            .expect("a connection")
    };
    let pause = Duration::from_millis(20);

    drip(connect().await, b"GET", pause).await;
    let mut stream = connect().await;
    let start = b"GET /ws HTTP/1.1\r\nHost: x\r\n";
    stream.write_all(start).await.expect("taken");
    drip(stream, b"X: y\r\n", pause).await;

    innocent.still_get(&nats).await;
    nobody_is_pending(&gateway).await;
}

/// Bytes of a frame that never ends say nothing, nor does a message that gets
/// fragment after fragment of nothing: such a client is idle.
#[tokio::test]
async fn a_message_that_never_ends_is_4002() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.ping_interval", "500ms")
        .set("session.idle_timeout", "2s")
        .start()
        .await;
    // The header of a text of 4096 bytes; the first byte of one, alone; a fragment.
    let long = &[0x80 | TEXT, 0xFE, 0x10, 0, 1, 2, 3, 4][..];
    let fragments = frame_with(CONTINUATION, true, b"");
    for (start, rest) in [
        (long, vec![b' '; 1]),
        (&[0x80 | TEXT], Vec::new()),
        (&frame_with(TEXT, true, b"")[..], fragments),
    ] {
        let mut session = attacker(&gateway, &redis).await;
        session.write(start).await;
        // Ten a second, half of what it may send.
        let close = session.drip(&rest, Duration::from_millis(100)).await;
        assert_eq!(close, (4002, "idle".to_owned()), "{start:?}");
    }
}

/// However small its fragments, a message is at most as large as one may be.
#[tokio::test]
async fn endless_fragments_are_1009() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.frames_per_second", "1000000");
    let gateway = builder.start().await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    let mut session = attacker(&gateway, &redis).await;
    session.write(&frame_with(TEXT, true, b"[")).await;
    // Each with a ping behind it, as if that made it a conversation.
    let piece = [frame_with(CONTINUATION, true, b"["), frame(PING, b"")].concat();
    let close = session
        .drip(&piece.repeat(50), Duration::from_millis(1))
        .await;
    assert_eq!(close, (1009, "frame_too_big".to_owned()));
    innocent.still_get(&nats).await;
}

/// Who is told to go and goes on instead is not read for ever: its place is free
/// long before it is through.
#[tokio::test]
async fn a_flood_that_goes_on_is_cut_off() {
    let (nats, redis, gateway) = world().await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    for flood in [
        frame(PING, &[b'x'; 125]).repeat(100),
        frame_with(TEXT, true, b"").repeat(100),
        frame_with(0xF0 | TEXT, true, b"{}").repeat(100),
        frame(TEXT, b"\xff").repeat(100),
        vec![0xFF; 10_000],
    ] {
        let mut session = attacker(&gateway, &redis).await;
        let (code, _) = session.drip(&flood, Duration::from_millis(1)).await;
        assert!([1002, 1007, 1008].contains(&code), "{code}");
        // It does not even listen.
        patiently("the connection ends", async {
            while session.try_write(&flood).await {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        gateway.metric_becomes("usher_sessions", 2.0).await;
        innocent.still_get(&nats).await;
    }
}

/// A stream of events takes nothing from its client but its end: one that sends on is
/// not read for ever.
#[tokio::test]
async fn an_upload_behind_a_request_for_events_is_cut_off() {
    let (nats, redis, gateway) = world().await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    let mut events = Events::open(&gateway, &redis.ticket("mallory").await).await;
    // What a client may send by mistake.
    events.send(&[b'\n'; 1000]).await;
    nats.publish("usher.user.mallory", "1").await;
    assert_eq!(events.next_data().await, 1);
    innocent.0[0].1.next_data().await;

    let sent = patiently("it is cut off", events.upload(256 << 20)).await;
    assert!(sent < 256 << 20, "all of it was taken");
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"protocol_error\"}", 1.0)
        .await;
    gateway.metric_becomes("usher_sessions", 2.0).await;
    innocent.still_get(&nats).await;
}

/// Pings are answered as long as the answers are read.
#[tokio::test]
async fn pings_of_one_that_does_not_read_pile_up_nowhere() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.frames_per_second", "1000000")
        .set("session.write_timeout", "1s")
        .start()
        .await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    let ticket = redis.ticket("mallory").await;
    let builder = Client::builder(&gateway, &ticket).small_buffers();
    let mut session = builder.raw().await;
    let pings = frame(PING, &[b'x'; 125]).repeat(1000);
    patiently("it is cut off", async {
        while session.try_write(&pings).await {}
    })
    .await;
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"slow_consumer\"}", 1.0)
        .await;
    gateway.metric_becomes("usher_sessions", 2.0).await;
    innocent.still_get(&nats).await;
}

/// Whoever does not read the answers is not read from either, so that they pile up in no
/// memory of ours; and gets every one of them later.
#[tokio::test]
async fn one_that_reads_late_gets_all_answers() {
    const PINGS: usize = 250_000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.frames_per_second", "1000000")
        .set("session.write_timeout", "10m")
        // Also where everything is logged: there are too many frames to be told of.
        .set("log.filter", "info")
        .start()
        .await;
    let mut innocent = Innocent::beside(&gateway, &redis).await;
    let ticket = redis.ticket("late").await;
    let builder = Client::builder(&gateway, &ticket).small_buffers();
    let mut session = builder.raw().await;
    let mut writer = session.writer();
    let sent = Arc::new(AtomicUsize::new(0));
    let counts = sent.clone();
    let writing = tokio::spawn(async move {
        let pings = frame(PING, &[b'x'; 125]).repeat(1000);
        for _ in 0..PINGS / 1000 {
            writer.write_all(&pings).await.expect("taken");
            counts.fetch_add(1000, Ordering::Relaxed);
        }
    });
    let mut before = usize::MAX;
    eventually("no more is taken", || {
        let now = sent.load(Ordering::Relaxed);
        let same = std::mem::replace(&mut before, now) == now && now > 0;
        async move {
            sleep(Duration::from_secs(1)).await;
            same
        }
    })
    .await;
    assert!(!writing.is_finished(), "all of it was taken");
    innocent.still_get(&nats).await;

    let mut answers = 0;
    while answers < PINGS {
        let frame = session.read().await.expect("the session lives");
        answers += usize::from(frame.opcode() == PONG);
    }
    writing.await.expect("all is taken");
    innocent.still_get(&nats).await;
}
