//! A NATS account may allow smaller messages than its server does, and a server's own
//! limit may shrink while it runs. A push above the limit is the caller's mistake, and
//! costs nobody a connection.

use serde_json::json;
use tonic::{Code, Status};

use crate::{
    json::{post, refused},
    support::{
        Client, Gateway, Nats, Redis, eventually,
        grpc::{push, pushed},
    },
};

/// A server that allows 1 MiB, and an account that allows so much of it.
fn account(max_payload: usize) -> String {
    format!(
        "jetstream: enabled\naccounts {{ A {{\n  jetstream: enabled\n  \
         users: [{{ user: gateway, password: password }}]\n  \
         limits {{ max_payload: {max_payload} }}\n}} }}\n"
    )
}

/// Text of this length as JSON.
fn text(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length - 2))
}

/// The caller's mistake, with the limit.
fn is_too_large(status: &Status, limit: usize) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let said = status.message();
    assert!(said.contains("message"), "it names the field: {status:?}");
    assert!(
        said.contains(&limit.to_string()),
        "and the limit: {status:?}"
    );
}

async fn refuses_what_is_too_large(nats: &Nats, gateway: &Gateway, redis: &Redis) {
    let mut client = Client::open(gateway, &redis.ticket("42").await).await;
    let mut caller = gateway.grpc().await;
    let before = connections(nats).await;
    for round in 0..3 {
        for length in [4097, 10_000, 900_000] {
            let refused = caller.push_notification(push("42", text(length))).await;
            is_too_large(&refused.expect_err("above the limit"), 4096);
        }
        // On the same connection, with no outage between.
        pushed(&mut caller, push("42", round.to_string())).await;
        assert_eq!(client.next_data().await, round);
    }
    pushed(&mut caller, push("42", text(3000))).await;
    assert_eq!(client.next_data().await, "x".repeat(2998));
    assert_eq!(connections(nats).await, before, "a reconnect");
}

#[tokio::test]
async fn a_push_above_the_accounts_limit_is_refused() {
    let config = account(4096);
    let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.user", "gateway")
        .set("nats.password", "password")
        .start()
        .await;
    refuses_what_is_too_large(&nats, &gateway, &redis).await;
}

#[tokio::test]
async fn a_durable_push_above_the_accounts_limit_is_refused() {
    let config = account(4096);
    let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let gateway = Gateway::durable(&nats, &redis)
        .set("nats.user", "gateway")
        .set("nats.password", "password")
        .start()
        .await;
    refuses_what_is_too_large(&nats, &gateway, &redis).await;
}

/// The first push above a limit that has shrunk may cost a reconnect. It is answered
/// rightly, and no later one costs anything.
#[tokio::test]
async fn a_limit_that_shrinks_is_learnt() {
    let (mut nats, redis) = tokio::join!(Nats::start_with("max_payload: 1MB\n"), Redis::start());
    let gateway = Gateway::builder(&nats, &redis).start().await;
    let mut caller = gateway.grpc().await;
    pushed(&mut caller, push("42", text(10_000))).await;
    nats.write_config("max_payload: 4096\n");
    nats.reload().await;
    eventually("it is refused", || async {
        let mut caller = gateway.grpc().await;
        let refused = caller.push_notification(push("42", text(10_000))).await;
        let status = refused.expect_err("above the limit");
        // A machine that stands still for two seconds does not know yet.
        let known = status.code() != Code::DeadlineExceeded;
        if known {
            is_too_large(&status, 4096);
        }
        known
    })
    .await;
    eventually("pushes pass again", || async {
        let mut caller = gateway.grpc().await;
        caller.push_notification(push("42", "1")).await.is_ok()
    })
    .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let before = connections(&nats).await;
    for round in 0..3 {
        let refused = caller.push_notification(push("42", text(10_000))).await;
        is_too_large(&refused.expect_err("above the limit"), 4096);
        pushed(&mut caller, push("42", round.to_string())).await;
        assert_eq!(client.next_data().await, round);
    }
    assert_eq!(connections(&nats).await, before, "a reconnect");
}

/// What is too large for NATS in a question to all gateways is named by its own field.
#[tokio::test]
async fn a_large_call_to_all_gateways_names_its_field() {
    let (nats, redis) = tokio::join!(Nats::start_with("max_payload: 2048\n"), Redis::start());
    let gateway = Gateway::builder(&nats, &redis).start().await;
    let topics: Vec<_> = (0..32).map(|topic| format!("{topic:0>100}")).collect();
    let users: Vec<_> = (0..32).map(|user| format!("{user:0>100}")).collect();
    for (path, body, field) in [
        (
            "/v1/users/42/topics",
            json!({ "follow": topics }),
            "follow: ",
        ),
        (
            "/v1/users/42/topics",
            json!({ "unfollow": topics }),
            "unfollow: ",
        ),
        ("/v1/presence", json!({ "user_ids": users }), "user_ids: "),
    ] {
        let answer = post(&gateway, path, body).await;
        let says = refused(&answer, 400, "bad_request");
        assert!(says.starts_with(field), "{says}");
    }
}

/// How many connections there ever were.
async fn connections(nats: &Nats) -> u64 {
    let found = nats.monitoring("/varz").await;
    found["total_connections"].as_u64().expect("a number")
}
