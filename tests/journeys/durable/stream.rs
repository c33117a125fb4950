//! The stream is made, kept right, and explained.

use std::process::Command;

use serde_json::{Value, json};

use super::{api, change};
use crate::support::{Gateway, Nats, Redis, eventually, nats::Role};

const PERMISSIONS: &str = include_str!("../../../examples/nats-permissions.conf");

/// Gateways have their role, and this test may do anything.
async fn with_roles() -> Nats {
    let any = "users: [\n    { user: any, password: any }";
    let config = PERMISSIONS.replacen("users: [", any, 1);
    let nats = Nats::start_with(&format!("jetstream: enabled\n{config}")).await;
    nats.log_in_as("any", "any")
}

async fn config(nats: &async_nats::Client, stream: &str) -> Value {
    api(nats, &format!("STREAM.INFO.{stream}"), &json!({})).await["config"].take()
}

/// What `usher check` says of a NATS and a Redis, in the gateway's role, and how it ends.
fn check(nats: &Nats, redis: &Redis, settings: &[(&str, &str)], apply: bool) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    let (user, password) = Role::Gateway.login();
    command
        .arg("check")
        .env("USHER_NATS__URL", nats.url())
        .env("USHER_NATS__USER", user)
        .env("USHER_NATS__PASSWORD", password)
        .env("USHER_REDIS__URL", redis.url())
        .env("USHER_DURABLE__ENABLED", "true")
        .env("USHER_DURABLE__MAX_BYTES", "64MiB");
    for (key, value) in settings {
        let name = format!("USHER_{}", key.replace('.', "__").to_uppercase());
        command.env(name, value);
    }
    if apply {
        command.arg("--apply");
    }
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), said)
}

/// Versions before 0.2.0 kept broadcasts in a second stream.
#[tokio::test]
async fn what_an_older_version_left_is_named() {
    let (nats, redis) = tokio::join!(with_roles(), Redis::start());
    let client = nats.client().await;
    let old = [("durable.max_broadcasts", "5")];
    for (subject, code, says) in [
        ("usher.broadcast", 69, "captures usher.broadcast"),
        ("other", 0, "nats stream rm USHER_BROADCASTS"),
    ] {
        let stream = json!({"name": "USHER_BROADCASTS", "subjects": [subject]});
        api(&client, "STREAM.CREATE.USHER_BROADCASTS", &stream).await;
        let (exited, said) = check(&nats, &redis, &old, false);
        assert_eq!(exited, code, "{said}");
        assert!(
            said.contains("stream USHER_BROADCASTS: left over"),
            "{said}"
        );
        assert!(said.contains(says), "{said}");
        assert!(
            said.contains("warn  USHER_DURABLE__MAX_BROADCASTS"),
            "{said}"
        );
        api(&client, "STREAM.DELETE.USHER_BROADCASTS", &json!({})).await;
    }
}

/// Gateways never delete a stream.
#[tokio::test]
async fn what_durable_mode_has_left_is_named_in_live_mode() {
    let (nats, redis) = tokio::join!(with_roles(), Redis::start());
    let live = [("durable.enabled", "false")];
    let names = "warn  stream USHER: stores what is published to users";
    for (mode, apply, named) in [
        (&live[..], false, false),
        (&[], true, false),
        (&live, false, true),
    ] {
        let (code, said) = check(&nats, &redis, mode, apply);
        assert_eq!(code, 0, "{said}");
        assert_eq!(said.contains(names), named, "{said}");
    }
}

#[tokio::test]
async fn it_is_made_as_the_configuration_says() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let (code, said) = check(&nats, &redis, &[], false);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("stream USHER: absent"), "{said}");
    let gateway = Gateway::durable(&nats, &redis)
        .set("durable.max_age", "1h")
        .set("durable.max_messages_per_channel", "7")
        .set("durable.storage", "memory")
        .set("durable.duplicate_window", "2h");
    let _gateway = gateway.start().await;
    let client = nats.client().await;
    let found = config(&client, "USHER").await;
    let hour = 3_600_000_000_000_u64;
    for (field, value) in [
        (
            "subjects",
            json!(["usher.user.*", "usher.broadcast", "usher.topic.*"]),
        ),
        (
            "republish",
            json!({"src": "usher.>", "dest": "usher.live.>"}),
        ),
        ("max_age", json!(hour)),
        ("max_msgs_per_subject", json!(7)),
        ("max_bytes", json!(64 << 20)),
        ("storage", json!("memory")),
        ("num_replicas", json!(1)),
        ("duplicate_window", json!(hour)),
        ("allow_direct", json!(true)),
        ("allow_msg_ttl", json!(true)),
    ] {
        assert_eq!(found[field], value, "{field}");
    }
}

/// A gateway that starts later changes it where that keeps more, and says the rest.
#[tokio::test]
async fn it_is_changed_only_where_it_keeps_more() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let client = nats.client().await;
    drop(Gateway::durable(&nats, &redis).start().await);
    change(&client, |config| {
        config["subjects"] = json!(["orders.*", "usher.user.*"]);
        config["allow_direct"] = false.into();
        config["republish"] = Value::Null;
        config["max_age"] = 60_000_000_000_u64.into();
        config["duplicate_window"] = 30_000_000_000_u64.into();
        config["max_msgs_per_subject"] = 5000.into();
        config["description"] = "ours".into();
    })
    .await;
    let settings = [("durable.max_messages_per_channel", "1000")];
    let (code, said) = check(&nats, &redis, &settings, false);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("FAIL  stream USHER"), "{said}");
    assert!(
        said.contains("allow_direct is false and should be true"),
        "{said}"
    );

    let gateway = Gateway::durable(&nats, &redis).start().await;
    let found = config(&client, "USHER").await;
    assert_eq!(
        found["subjects"],
        json!([
            "orders.*",
            "usher.user.*",
            "usher.broadcast",
            "usher.topic.*"
        ])
    );
    assert_eq!(found["allow_direct"], true);
    assert_eq!(found["republish"]["dest"], "usher.live.>");
    assert_eq!(found["max_age"], 86_400_000_000_000_u64);
    assert_eq!(found["max_msgs_per_subject"], 5000, "it keeps more");
    assert_eq!(found["description"], "ours");
    assert!(gateway.log().contains("max_msgs_per_subject is 5000"));

    let (code, said) = check(&nats, &redis, &settings, true);
    assert_eq!(code, 0, "{said}");
    assert_eq!(config(&client, "USHER").await["max_msgs_per_subject"], 1000);
    let (code, said) = check(&nats, &redis, &settings, false);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ok    stream USHER: 0 messages"), "{said}");
}

/// `manage_stream = false`: it is only looked at.
#[tokio::test]
async fn what_it_may_not_change_it_says() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let client = nats.client().await;
    drop(Gateway::durable(&nats, &redis).start().await);
    change(&client, |config| config["allow_direct"] = false.into()).await;
    let gateway = Gateway::durable(&nats, &redis).set("durable.manage_stream", "false");
    let gateway = gateway.start_unready().await;
    eventually("it says so", || async {
        gateway
            .log()
            .contains("allow_direct is false and should be true")
    })
    .await;
    gateway.becomes_unready().await;
    assert_eq!(config(&client, "USHER").await["allow_direct"], false);
    change(&client, |config| config["allow_direct"] = true.into()).await;
    gateway.becomes_ready().await;
}

/// Once it was as it must be: sessions stay, and operators are warned.
#[tokio::test]
async fn a_stream_that_takes_no_more_messages_is_warned_of() {
    let (mut nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let client = nats.client().await;
    change(&client, |config| config["sealed"] = true.into()).await;
    // It looks again after each reconnect.
    nats.restart().await;
    gateway.readyz_lists("warnings", "stream_away").await;
    gateway.logs("sealed").await;
}

#[tokio::test]
async fn without_jetstream_it_says_what_to_do() {
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    let (code, said) = check(&nats, &redis, &[], false);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("start nats-server with -js"), "{said}");
    let gateway = Gateway::durable(&nats, &redis).start_unready().await;
    eventually("it says so", || async {
        gateway.log().contains("start nats-server with -js")
    })
    .await;
    gateway.becomes_unready().await;
}

#[tokio::test]
async fn nothing_is_kept_in_one_process() {
    let (code, said) = crate::support::Builder::new()
        .argument("--embedded")
        .set("durable.enabled", "true")
        .fails()
        .await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("durable.enabled = true needs"), "{said}");
}
