//! A task on which delivery depends ends, and with it the process; what fails over one
//! message or in one session ends no more than that. Debug builds alone can be made to
//! panic from outside (`src/provoke.rs`).

use std::fs;

use tempfile::TempDir;

use crate::support::{Builder, Client, Gateway, Nats, Redis, eventually, servers};

/// A gateway in which something panics as soon as that is asked for.
struct Doomed {
    folder: TempDir,
}

impl Doomed {
    fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
        }
    }

    /// Has `what` panic, once [`Doomed::now`] was called.
    fn set(&self, builder: Builder, what: &str) -> Builder {
        let file = self.folder.path().join("now").display().to_string();
        builder
            .environment("USHER_PROVOKE", what)
            .environment("USHER_PROVOKE_WHEN", file)
            // With a delay the test would not end.
            .set("drain.delay", "1h")
            .set("drain.window", "0s")
    }

    fn now(&self) {
        fs::write(self.folder.path().join("now"), "").expect("written");
    }
}

async fn ends_with(builder: Builder, redis: &Redis, task: &str) {
    let doomed = Doomed::new();
    let what = format!("task {task}");
    let mut gateway = doomed.set(builder, &what).start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    doomed.now();
    assert_eq!(client.expect_goodbye().await["reason"], "drain", "{task}");
    assert_eq!(client.expect_close().await.0, 1012, "{task}");
    assert_eq!(gateway.wait().await.code(), Some(70), "{task}");
    let log = gateway.log();
    let tells = |line: &str| line.contains("\"ERROR\"") && line.contains(task);
    assert!(log.lines().any(tells), "{task}: {log}");
}

#[tokio::test]
async fn a_task_that_panics_ends_the_process_after_a_drain() {
    let (nats, redis) = servers().await;
    for task in [
        "the registry",
        "the push connection",
        "the public listener",
        "the operators' listener",
        "the gRPC listener",
        "the keeper of Redis",
        "the reading of files",
        "the clock of sessions",
    ] {
        ends_with(Gateway::builder(&nats, &redis), &redis, task).await;
    }
}

#[tokio::test]
async fn so_does_one_of_durable_mode() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    for task in [
        "the recovery of sessions",
        "the second looks",
        "the audit of the stream",
        "the stream connection",
        "the upkeep of the stream",
    ] {
        ends_with(Gateway::durable(&nats, &redis), &redis, task).await;
    }
}

/// A short task in between: nobody would tell sessions of the gap, or close those that can't
/// be told.
#[tokio::test]
async fn so_does_a_short_task_that_others_depend_on() {
    let (mut nats, redis) = servers().await;
    let doomed = Doomed::new();
    let what = "task what follows a reconnect to NATS";
    let mut gateway = doomed
        .set(Gateway::builder(&nats, &redis), what)
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    doomed.now();
    nats.restart().await;
    assert_eq!(client.expect_goodbye().await["reason"], "drain");
    assert_eq!(gateway.wait().await.code(), Some(70));
    gateway
        .logs("what follows a reconnect to NATS has ended")
        .await;
}

/// One that ends during a drain is no less a failure.
#[tokio::test]
async fn a_task_that_panics_in_a_drain_is_told_too() {
    let (nats, redis) = servers().await;
    let doomed = Doomed::new();
    let builder = doomed.set(Gateway::builder(&nats, &redis), "task the registry");
    let mut gateway = builder.start().await;
    gateway.terminate();
    gateway.becomes_unready().await;
    doomed.now();
    assert_eq!(gateway.wait().await.code(), Some(70));
    gateway.logs("the registry").await;
}

#[tokio::test]
async fn a_panic_over_one_message_drops_that_message() {
    let (nats, redis) = servers().await;
    let keeping = Nats::keeping().await;
    for (nats, builder) in [
        (&nats, Gateway::builder(&nats, &redis)),
        (&keeping, Gateway::durable(&keeping, &redis)),
    ] {
        let doomed = Doomed::new();
        doomed.now();
        let mut gateway = doomed.set(builder, "message boom").start().await;
        let mut alice = Client::open(&gateway, &redis.ticket("alice").await).await;
        let mut bob = Client::open(&gateway, &redis.ticket("bob").await).await;
        let publisher = nats.client().await;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Event", "boom");
        for subject in ["usher.user.alice", "usher.broadcast"] {
            let boom = publisher.publish_with_headers(subject, headers.clone(), "0".into());
            boom.await.expect("published");
        }
        publisher.flush().await.expect("flushed");
        let dropped = r#"usher_messages_dropped_total{reason="panic"}"#;
        eventually("both are dropped", || async {
            gateway.metric(dropped).await >= 2.0
        })
        .await;
        nats.publish("usher.user.bob", "2").await;
        nats.publish("usher.broadcast", "3").await;
        assert_eq!(gateway.readyz().await, 200);
        assert!(gateway.has_ended().is_none());
        // In durable mode what is dropped is found missing, and panics again when it is read
        // from the stream: it stays out, and what comes after it does not.
        nats.publish("usher.user.alice", "1").await;
        assert_eq!(bob.next_data().await, 2);
        assert_eq!(bob.next_data().await, 3);
        assert_eq!(alice.next_data().await, 3);
        assert_eq!(alice.next_data().await, 1);
    }
}

#[tokio::test]
async fn a_session_that_panics_ends_alone() {
    let (nats, redis) = servers().await;
    let doomed = Doomed::new();
    let builder = doomed.set(Gateway::builder(&nats, &redis), "session mallory");
    let mut gateway = builder.start().await;
    let mut alice = Client::open(&gateway, &redis.ticket("alice").await).await;
    let mut mallory = Client::open(&gateway, &redis.ticket("mallory").await).await;
    gateway.metric_becomes("usher_sessions", 2.0).await;
    doomed.now();
    nats.publish("usher.user.mallory", "1").await;
    assert_eq!(mallory.expect_close().await.0, 1011);
    gateway.metric_becomes("usher_sessions", 1.0).await;
    gateway
        .metric_becomes(r#"usher_session_closes_total{reason="internal"}"#, 1.0)
        .await;
    eventually("its subject is left", || async {
        nats.subscriptions("usher.user.mallory").await == 0
    })
    .await;
    nats.publish("usher.user.alice", "2").await;
    assert_eq!(alice.next_data().await, 2);
    assert_eq!(gateway.readyz().await, 200);
    assert!(gateway.has_ended().is_none());
}
