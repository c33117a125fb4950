//! Encrypted on every side: browsers, push callers, NATS and Redis, each with
//! certificates of an authority that lives as long as the test.

use std::fs;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};
use usher::{
    proto::notification_client::NotificationClient,
    tls::{ClientFiles, Identity},
};

use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{issue, push, pushed},
    http, servers,
    tls::{Ca, Tls as _, front, tunnel},
    wait::patiently,
};

async fn grpc(address: &str) -> Option<NotificationClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = patiently("a connection", endpoint.connect()).await.ok()?;
    Some(NotificationClient::new(channel))
}

/// Whether a push gets through.
async fn may_push(address: &str) -> bool {
    match grpc(address).await {
        Some(mut client) => client.push_notification(push("42", "1")).await.is_ok(),
        None => false,
    }
}

#[tokio::test]
async fn browsers_are_encrypted() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let gateway = Gateway::builder(&nats, &redis).identity("public.tls", &ca.issue());
    let gateway = gateway.set("session.queue_bytes", "32MiB").start().await;
    let door = tunnel(&gateway.public, ca.client(None)).await;

    let ticket = redis.ticket("42").await;
    let mut client = Client::builder(&gateway, &ticket).at(&door).open().await;
    // More than the kernel or the encryption takes at once.
    let large = "x".repeat(700_000);
    for number in 0..20 {
        nats.publish("usher.user.42", &json!([number, large]).to_string())
            .await;
    }
    for number in 0..20 {
        assert_eq!(client.next_data().await, json!([number, large]));
    }
    assert_eq!(client.close(1000).await.0, 1000);
    assert_eq!(http::get(&door, "/readyz", &[]).await.status, 200);

    // Who speaks plainly, or does not know the authority, does not get in.
    let mut plain = TcpStream::connect(&gateway.public).await.expect("accepted");
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    let _ = patiently("the end", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let stranger = TcpStream::connect(&gateway.public).await.expect("accepted");
    let connector = Ca::new().client(None).load().expect("good files");
    assert!(connector.connect("localhost", stranger).await.is_err());
    gateway
        .metric_becomes(r#"usher_connections_cut_total{reason="tls"}"#, 2.0)
        .await;
}

/// A reader that stops is as bounded as without encryption.
#[tokio::test]
async fn a_slow_reader_is_closed_behind_tls_too() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let gateway = Gateway::builder(&nats, &redis)
        .identity("public.tls", &ca.issue())
        .set("session.queue_bytes", "100KiB")
        .set("session.write_timeout", "2s")
        .start()
        .await;
    let stream = TcpStream::connect(&gateway.public).await.expect("accepted");
    let connector = ca.client(None).load().expect("good files");
    let mut stream = connector.connect("localhost", stream).await.expect("TLS");
    let ticket = redis.ticket("42").await;
    let head = format!(
        "GET /ws?ticket={ticket} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    gateway.metric_becomes("usher_sessions", 1.0).await;
    let slow = r#"usher_session_closes_total{reason="slow_consumer"}"#;
    eventually("it is closed", || async {
        nats.publish("usher.user.42", &"x".repeat(50_000)).await;
        gateway.metric(slow).await == 1.0
    })
    .await;
    gateway.metric_becomes("usher_sessions", 0.0).await;
    gateway.metric_becomes("usher_queued_bytes", 0.0).await;
}

#[tokio::test]
async fn new_certificates_are_taken_up_and_bad_ones_are_not() {
    let (nats, redis) = servers().await;
    let (old, new) = (Ca::new(), Ca::new());
    let identity = old.issue();
    let gateway = Gateway::builder(&nats, &redis).identity("public.tls", &identity);
    let gateway = gateway.start().await;
    let trusts = |ca: &Ca| {
        let (files, address) = (ca.client(None), gateway.public.clone());
        async move {
            let connector = files.load().expect("good files");
            let stream = TcpStream::connect(&address).await.expect("accepted");
            connector.connect("localhost", stream).await.is_ok()
        }
    };
    let door = tunnel(&gateway.public, old.client(None)).await;
    let ticket = redis.ticket("42").await;
    let mut client = Client::builder(&gateway, &ticket).at(&door).open().await;
    let reloads =
        |result: &str| format!(r#"usher_tls_reloads_total{{listener="public",result="{result}"}}"#);

    fs::write(&identity.certificate_file, "-----BEGIN NONSENSE-----").expect("written");
    gateway.metric_becomes(&reloads("failed"), 1.0).await;
    let stale = r#"usher_tls_stale{listener="public"}"#;
    assert_eq!(gateway.metric(stale).await, 1.0);
    assert!(trusts(&old).await, "the one before stays in use");
    eventually("the log says so", || async {
        gateway.log().lines().any(|line| {
            ["ERROR", "those before stay in use", "holds no certificate"]
                .iter()
                .all(|part| line.contains(part))
        })
    })
    .await;

    let next = new.issue();
    fs::copy(&next.key_file, &identity.key_file).expect("copied");
    fs::copy(&next.certificate_file, &identity.certificate_file).expect("copied");
    gateway.metric_becomes(&reloads("ok"), 1.0).await;
    assert_eq!(gateway.metric(stale).await, 0.0);
    assert!(trusts(&new).await && !trusts(&old).await);

    // Whoever was in stays in.
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);
}

#[tokio::test]
async fn push_callers_are_encrypted_and_show_certificates() {
    let (nats, redis) = servers().await;
    let (ca, other) = (Ca::new(), Ca::new());
    let identity = ca.issue();
    let gateway = Gateway::builder(&nats, &redis)
        .identity("grpc.tls", &identity)
        .set("grpc.tls.client_ca_file", ca.file())
        .set("grpc.max_connection_age", "0s")
        .start()
        .await;
    let known = tunnel(&gateway.grpc, ca.client(Some(ca.issue()))).await;
    let mut caller = grpc(&known).await.expect("a connection");
    let ticket = issue(
        &mut caller,
        usher::proto::IssueTicketRequest {
            user_id: "42".to_owned(),
            ..Default::default()
        },
    )
    .await;
    let mut client = Client::open(&gateway, &ticket).await;
    pushed(&mut caller, push("42", "1")).await;
    assert_eq!(client.next_data().await, 1);

    let nobody = tunnel(&gateway.grpc, ca.client(None)).await;
    assert!(!may_push(&nobody).await, "no certificate");
    let files = ClientFiles::new(Some(ca.file().into()), Some(other.issue()));
    let stranger = tunnel(&gateway.grpc, files).await;
    assert!(
        !may_push(&stranger).await,
        "another authority's certificate"
    );
    assert!(!may_push(&gateway.grpc).await, "no encryption");

    // Whoever was there goes on; whom a new authority does not know does not.
    fs::copy(other.file(), ca.file()).expect("copied");
    let reloaded = r#"usher_tls_reloads_total{listener="grpc",result="ok"}"#;
    gateway.metric_becomes(reloaded, 1.0).await;
    pushed(&mut caller, push("42", "2")).await;
    assert_eq!(client.next_data().await, 2);
    assert!(!may_push(&nobody).await);
}

/// A gateway between these, in both directions.
async fn carries_messages(gateway: &Gateway, redis: &Redis) {
    let mut client = Client::open(gateway, &redis.ticket("42").await).await;
    let mut caller = gateway.grpc().await;
    pushed(&mut caller, push("42", "[1]")).await;
    assert_eq!(client.next_data().await, json!([1]));
}

#[tokio::test]
async fn nats_is_spoken_to_by_tls_with_a_certificate() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = ca.issue();
    let tls = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        server.certificate_file,
        server.key_file,
        ca.file()
    );
    let (nats, redis) = tokio::join!(Nats::start_with(&tls), Redis::start());
    let ours = ca.issue();
    let builder = || Gateway::builder(&nats, &redis).set("nats.tls.ca_file", ca.file());
    for url in [
        nats.url(),
        nats.url().replace("nats://127.0.0.1", "tls://localhost"),
    ] {
        let gateway = builder().identity("nats.tls", &ours).set("nats.url", url);
        carries_messages(&gateway.start().await, &redis).await;
    }

    for (builder, why) in [
        (builder(), "alert: certificaterequired"),
        (builder().identity("nats.tls", &other.issue()), "alert: "),
        (
            builder()
                .identity("nats.tls", &ours)
                .set("nats.tls.ca_file", other.file()),
            "invalid peer certificate",
        ),
    ] {
        let gateway = builder.start_unready().await;
        eventually("the log says why", || async {
            let log = gateway.log().to_lowercase();
            log.contains("nats cannot be reached") && log.contains(why)
        })
        .await;
        assert_eq!(gateway.readyz().await, 503);
    }
}

/// Whoever asks for encryption does not go without.
#[tokio::test]
async fn a_nats_that_speaks_no_tls_is_not_spoken_to_where_it_is_asked_for() {
    let (nats, redis) = servers().await;
    let url = nats.url().replace("nats://", "tls://");
    let gateway = Gateway::builder(&nats, &redis).set("nats.url", url);
    let gateway = gateway.start_unready().await;
    eventually("the log says why", || async {
        gateway.log().contains("the server speaks no TLS")
    })
    .await;
    assert_eq!(gateway.readyz().await, 503);
}

#[tokio::test]
async fn redis_is_spoken_to_by_tls_with_a_certificate() {
    let (nats, redis) = servers().await;
    let (ca, other) = (Ca::new(), Ca::new());
    // Not every build of Redis speaks TLS itself.
    let plain = redis.url().replace("redis://", "");
    let address = front(ca.acceptor(true), &plain).await;
    let url = format!("rediss://{address}");
    let ours = ca.issue();
    let builder = || Gateway::builder(&nats, &redis).set("redis.url", &url);
    let gateway = builder()
        .identity("redis.tls", &ours)
        .set("redis.tls.ca_file", ca.file())
        .start()
        .await;
    carries_messages(&gateway, &redis).await;

    for builder in [
        builder().set("redis.tls.ca_file", ca.file()),
        builder().identity("redis.tls", &ours),
        builder()
            .identity("redis.tls", &other.issue())
            .set("redis.tls.ca_file", ca.file()),
    ] {
        let gateway = builder.start_unready().await;
        eventually("the log says why", || async {
            gateway.log().contains("Redis cannot be reached")
        })
        .await;
        assert_eq!(gateway.readyz().await, 503);
    }
}

#[tokio::test]
async fn a_file_that_is_not_good_is_named_with_its_key() {
    // One that needs no user, since a credentials file says who it is.
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    let ca = Ca::new();
    let (ours, another) = (ca.issue(), ca.issue());
    let builder = || Gateway::builder(&nats, &redis);
    let mismatch = Identity {
        certificate_file: ours.certificate_file.clone(),
        key_file: another.key_file,
    };
    let swapped = Identity {
        certificate_file: ours.key_file.clone(),
        key_file: ours.certificate_file.clone(),
    };
    let absent = Identity {
        certificate_file: "/nowhere/at/all.pem".into(),
        key_file: ours.key_file.clone(),
    };
    for (builder, key, why) in [
        (
            builder().identity("public.tls", &absent),
            "public.tls.certificate_file = \"/nowhere/at/all.pem\"",
            "can't be read",
        ),
        (
            builder().identity("public.tls", &swapped),
            "public.tls.certificate_file",
            "holds no certificate",
        ),
        (
            builder().identity("grpc.tls", &mismatch),
            "grpc.tls.key_file",
            "does not go with",
        ),
        (
            builder().set("nats.tls.ca_file", "/nowhere"),
            "nats.tls.ca_file",
            "can't be read",
        ),
        (
            builder()
                .set("redis.url", "rediss://127.0.0.1:1")
                .set("redis.tls.ca_file", ours.key_file.display().to_string()),
            "redis.tls.ca_file",
            "holds no certificate",
        ),
        (
            builder().set("nats.credentials_file", ca.file()),
            "nats.credentials_file",
            "is no NATS credentials file",
        ),
        (
            builder().set(
                "tickets.jwt.public_key_file",
                ours.key_file.display().to_string(),
            ),
            "tickets.jwt.public_key_file",
            "holds a private key",
        ),
    ] {
        let (code, output) = builder.fails().await;
        assert_eq!(code, Some(78), "{output}");
        assert!(output.contains(key) && output.contains(why), "{output}");
    }
}
