//! How many connections there may be, and who has to go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};

use super::{TOKEN, cut, pushes, pushes_at, raw_h2};
use crate::support::{
    Client, Gateway, eventually,
    grpc::{push, with_token},
    servers,
    tls::{Ca, tunnel},
    wait::patiently,
};

#[tokio::test]
async fn a_further_connection_is_closed_at_accept() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_connections", "3")
        .start()
        .await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = gateway.grpc().await;
        let answer = caller.push_notification(push("42", "1"));
        patiently("an answer", answer).await.expect("a push");
        callers.push(caller);
    }
    gateway.metric_becomes("usher_grpc_connections", 3.0).await;
    let mut further = raw_h2::silent(&gateway.grpc).await;
    raw_h2::closes(&mut further).await;
    gateway.metric_becomes(&cut("too_many"), 1.0).await;
    for caller in &mut callers {
        let answer = caller.push_notification(push("42", "1"));
        patiently("an answer", answer).await.expect("a push");
    }
    callers.pop();
    gateway.metric_becomes("usher_grpc_connections", 2.0).await;
    assert!(pushes(&gateway).await);
}

/// A connection that says nothing, or half of something, is closed by itself.
#[tokio::test]
async fn a_silent_connection_is_closed() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let server = ca.issue();
    let path = |path: &std::path::Path| path.display().to_string();
    let plain = Gateway::start(&nats, &redis).await;
    let encrypted = Gateway::builder(&nats, &redis)
        .set("grpc.tls.certificate_file", path(&server.certificate_file))
        .set("grpc.tls.key_file", path(&server.key_file))
        .start()
        .await;
    let hello = raw_h2::hello();
    // A record of TLS that says that 512 bytes follow.
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for (gateway, first) in [
        (&plain, &b""[..]),
        (&plain, &hello[..20]),
        (&plain, &hello[..28]),
        (&plain, b"POST / HTTP/1.1\r\nHost:"),
        (&encrypted, b""),
        (&encrypted, client_hello),
    ] {
        let mut stream = raw_h2::silent(&gateway.grpc).await;
        stream.write_all(first).await.expect("taken");
        raw_h2::closes(&mut stream).await;
        gateway.metric_becomes("usher_grpc_connections", 0.0).await;
    }
    assert!(plain.metric(&cut("too_slow")).await >= 3.0);
    gateway_counts(&encrypted, "too_slow", 2.0).await;
}

async fn gateway_counts(gateway: &Gateway, reason: &str, times: f64) {
    gateway.metric_becomes(&cut(reason), times).await;
}

/// Silent connections, one after the other.
struct Flood {
    over: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
}

impl Flood {
    fn start(address: &str, first: &'static [u8]) -> Self {
        let flood = Self {
            over: Arc::default(),
            made: Arc::default(),
        };
        let (over, made) = (flood.over.clone(), flood.made.clone());
        let address = address.to_owned();
        tokio::spawn(async move {
            let mut held = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                if let Ok(mut stream) = TcpStream::connect(&address).await {
                    let _ = stream.write_all(first).await;
                    held.push_back(stream);
                    made.fetch_add(1, Ordering::Relaxed);
                }
                // As many as the test may have open.
                if held.len() > 4000 {
                    held.pop_front();
                }
                // At most 200 a second: of 300 that may be there, most have had their time.
                sleep(Duration::from_millis(5)).await;
            }
        });
        flood
    }

    async fn has_made(&self, connections: usize) {
        eventually("the flood is on", || {
            std::future::ready(self.made.load(Ordering::Relaxed) >= connections)
        })
        .await;
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Silent connections make room for good callers, and these wait for none of them: 5 s
/// is what a silent one has.
#[tokio::test]
async fn good_callers_do_not_wait_behind_silent_ones() {
    const PUSHES: usize = 20;
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let server = ca.issue();
    let path = |path: &std::path::Path| path.display().to_string();
    let encrypted = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .set("grpc.max_connections", "300")
        .set("grpc.tls.certificate_file", path(&server.certificate_file))
        .set("grpc.tls.key_file", path(&server.key_file))
        .start()
        .await;
    let plain = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .set("grpc.max_connections", "300")
        .start()
        .await;
    let door = tunnel(&encrypted.grpc, ca.client(None)).await;
    for (gateway, door) in [(&encrypted, &door), (&plain, &plain.grpc)] {
        let flood = Flood::start(&gateway.grpc, b"");
        flood.has_made(300).await;
        eventually("all places are taken", || async {
            gateway.metric(&cut("made_room")).await > 0.0
        })
        .await;
        let mut good = 0;
        for _ in 0..PUSHES {
            good += usize::from(pushes_at(door).await);
        }
        assert_eq!(good, PUSHES);
        assert!(gateway.metric("usher_grpc_connections").await <= 300.0);
    }
}

/// Where few files may be open, connections of callers take none that sessions or the
/// operators need.
#[tokio::test]
async fn a_flood_keeps_no_session_out() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .descriptors(256)
        .start()
        .await;
    let lowered = |line: &str| {
        line.contains("grpc.max_connections is lowered") && line.contains("\"max_connections\":32")
    };
    assert!(gateway.log().lines().any(lowered), "{}", gateway.log());

    let mut flood = Vec::new();
    for _ in 0..600 {
        if let Ok(mut stream) = TcpStream::connect(&gateway.grpc).await {
            let _ = stream.write_all(&raw_h2::hello()).await;
            flood.push(stream);
        }
    }
    eventually("the flood is there", || async {
        gateway.metric(&cut("too_many")).await + gateway.metric(&cut("made_room")).await > 400.0
    })
    .await;
    assert!(gateway.metric("usher_grpc_connections").await <= 32.0);
    assert_eq!(gateway.readyz().await, 200);
    let mut sessions = Vec::new();
    for _ in 0..40 {
        let ticket = redis.ticket(&format!("user-{}", sessions.len())).await;
        sessions.push(Client::open(&gateway, &ticket).await);
    }
    nats.publish("usher.user.user-39", "1").await;
    assert_eq!(sessions[39].next_data().await, 1);
    drop(flood);
    // What still waits to be accepted may push out a caller that has said nothing yet.
    eventually("the flood is gone", || async {
        gateway.metric("usher_grpc_connections").await < 1.0
    })
    .await;
    let mut caller = gateway.grpc().await;
    let answer = caller.push_notification(with_token(push("user-39", "2"), TOKEN));
    patiently("an answer", answer).await.expect("a push");
    assert_eq!(sessions[39].next_data().await, 2);
}
