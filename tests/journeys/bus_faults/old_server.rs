//! A nats-server that is older than 2.14.2, the oldest that a gateway is made for.

use crate::support::{
    Builder, Client, Gateway, Nats, Redis, eventually,
    grpc::{push, pushed},
};

const VERSION: &str = "2.10.25";
const JETSTREAM: &str = "jetstream: enabled\n";

async fn servers() -> (Nats, Redis) {
    tokio::join!(Nats::old(JETSTREAM), Redis::start())
}

/// `usher check` fails, with the server's version and the one that is needed.
async fn check_says_too_old(builder: Builder) -> String {
    let (code, said) = builder.check().await;
    assert_eq!(code, Some(69), "{said}");
    let tells = |line: &str| {
        ["FAIL", "NATS", VERSION, "too old", "2.14.2"]
            .iter()
            .all(|part| line.contains(part))
    };
    assert!(said.lines().any(tells), "{said}");
    said
}

#[tokio::test]
async fn check_names_the_version_in_live_mode() {
    let (nats, redis) = servers().await;
    check_says_too_old(Gateway::builder(&nats, &redis)).await;
}

#[tokio::test]
async fn check_names_the_version_in_durable_mode() {
    let (nats, redis) = servers().await;
    check_says_too_old(Gateway::durable(&nats, &redis)).await;
}

/// The server ignores fields of the stream that it does not know. `check --apply` does
/// not claim to have mended them, the first time or later.
#[tokio::test]
async fn apply_does_not_claim_what_it_did_not_do() {
    let (nats, redis) = servers().await;
    for _ in 0..2 {
        let builder = Gateway::durable(&nats, &redis).argument("--apply");
        let said = check_says_too_old(builder).await;
        assert!(!said.contains("mended"), "{said}");
    }
}

/// Live mode works, and the log warns.
#[tokio::test]
async fn live_mode_works_with_a_warning() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).start().await;
    eventually("the log warns", || async {
        gateway.log().lines().any(|line| {
            line.contains(r#""level":"WARN""#) && line.contains(VERSION) && line.contains("2.14.2")
        })
    })
    .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    pushed(&mut gateway.grpc().await, push("42", "1")).await;
    assert_eq!(client.next_data().await, 1);
    nats.publish("usher.broadcast", "2").await;
    assert_eq!(client.next_data().await, 2);
    assert_eq!(gateway.readyz().await, 200);
}

/// Durable mode needs what an old server lacks: the gateway is not ready, and says why.
#[tokio::test]
async fn durable_mode_is_not_ready() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::durable(&nats, &redis).start_unready().await;
    gateway.readyz_lists("reasons", "nats_too_old").await;
    assert_eq!(gateway.readyz().await, 503);
    assert!(!gateway.serves("").await);
    eventually("the log says so", || async {
        let log = gateway.log();
        let tells = |line: &str| line.contains(VERSION) && line.contains("2.14.2");
        log.lines().any(tells)
    })
    .await;
}
