//! `offline.events` where something is odd, missing, forbidden or gone.

use serde_json::json;

use super::{consumer, hears, next};
use crate::{
    durable::{api, store},
    support::{Builder, Gateway, Nats, RawNats, Redis, eventually},
};

const PERMISSIONS: &str = include_str!("../../../examples/nats-permissions.conf");

fn builder(nats: &Nats, redis: &Redis) -> Builder {
    Gateway::durable(nats, redis).set("offline.events", "true")
}

/// What stands in a stored header is repeated as it is, and stops nobody.
#[tokio::test]
async fn odd_headers_do_not_stop_the_consumer() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = builder(&nats, &redis).start().await;
    gateway.logs("created the consumer").await;
    let mut worker = RawNats::connect(&nats).await;
    worker.subscribe("usher.offline.*").await;
    let mut publisher = RawNats::connect(&nats).await;
    let mut expected = Vec::new();
    for (number, (block, kept)) in [
        (
            &b"NATS/1.0\r\nno colon here\r\n\r\n"[..],
            &b"no colon here\r\n"[..],
        ),
        (
            b"NATS/1.0\r\nA: \xff\xfe\r\nB\xc3: c\r\n\r\n",
            b"A: \xff\xfe\r\nB\xc3: c\r\n",
        ),
        (b"NATS/1.0 404 No Messages\r\nA: b\n\r\n", b"A: b\r\n"),
        (
            b"NATS/1.0\r\nUsher-Seq: 99\r\nNats-Sequence: 7\r\nNats-Msg-Id: x\r\n\r\n",
            b"Nats-Msg-Id: x\r\n",
        ),
        (b"NATS/1.0\r\n\r\nbehind: the end\r\n\r\n", b""),
        (b"no status line", b""),
    ]
    .into_iter()
    .enumerate()
    {
        let subject = format!("usher.user.away-{number}");
        publisher.publish_bytes(&subject, block, b"data").await;
        expected.push((number, kept));
    }
    while !expected.is_empty() {
        let event = worker.next().await;
        let (number, kept) = *expected
            .iter()
            .find(|(number, _)| event.subject == format!("usher.offline.away-{number}"))
            .unwrap_or_else(|| panic!("of nobody: {event:?}"));
        let block = event.headers.strip_prefix(&b"NATS/1.0\r\nUsher-Seq: "[..]);
        let block = block.unwrap_or_else(|| panic!("{event:?}"));
        let ours = format!("{}\r\nUsher-At: ", number + 1);
        assert!(block.starts_with(ours.as_bytes()), "{event:?}");
        let lines = block.splitn(3, |&byte| byte == b'\n').nth(2);
        assert_eq!(lines, Some(&[kept, b"\r\n"].concat()[..]), "{event:?}");
        assert_eq!(event.payload, b"data");
        expected.retain(|(other, _)| *other != number);
    }
    assert_eq!(
        gateway
            .metric("usher_nats_connected{connection=\"stream\"}")
            .await,
        1.0
    );
    assert!(!gateway.log().contains("is lost; reconnecting"));
}

/// A message that leaves no room for what is added is told of without its payload.
#[tokio::test]
async fn a_message_of_full_size_goes_out_without_its_payload() {
    let config = "jetstream: enabled\nmax_payload: 2048\n";
    let (nats, redis) = tokio::join!(Nats::start_with(config), Redis::start());
    let gateway = builder(&nats, &redis).start().await;
    gateway.logs("created the consumer").await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    store(&service, "usher.user.42", "x".repeat(2048)).await;
    let event = next(&mut heard).await;
    assert!(event.payload.is_empty());
    assert_eq!(
        super::header(&event, "Usher-Too-Large").as_deref(),
        Some("1")
    );
    assert_eq!(super::header(&event, "Usher-Seq").as_deref(), Some("1"));
    store(&service, "usher.user.43", 1).await;
    assert_eq!(next(&mut heard).await.subject.as_str(), "usher.offline.43");
}

/// A message that is larger than what one pull brings, since NATS took larger ones once, comes
/// alone and stops nobody.
#[tokio::test]
async fn a_message_that_is_larger_than_a_pull_comes_alone() {
    let config = |limit: &str| format!("jetstream: enabled\nmax_payload: {limit}\n");
    let generous = config("20MB");
    let (mut nats, redis) = tokio::join!(Nats::start_with(&generous), Redis::start());
    let mut gateway = builder(&nats, &redis).start().await;
    gateway.logs("created the consumer").await;
    gateway.kill();
    let service = nats.client().await;
    store(&service, "usher.user.42", "x".repeat(17 << 20)).await;
    store(&service, "usher.user.43", 1).await;
    nats.write_config(&config("1MB"));
    nats.restart().await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    let _gateway = builder(&nats, &redis).start().await;
    let mut users = Vec::new();
    while users.len() < 2 {
        let event = next(&mut heard).await;
        let large = super::header(&event, "Usher-Too-Large").is_some();
        users.push((event.subject.to_string(), large));
    }
    users.sort();
    let large = ("usher.offline.42".to_owned(), true);
    assert_eq!(users, [large, ("usher.offline.43".to_owned(), false)]);
}

/// What retention removed while no gateway was there is counted.
#[tokio::test]
async fn what_retention_removed_first_is_counted() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let builder = || builder(&nats, &redis).set("durable.max_age", "2s");
    let mut gateway = builder().start().await;
    gateway.logs("created the consumer").await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    store(&service, "usher.user.42", 1).await;
    next(&mut heard).await;
    eventually("it is acknowledged", || async {
        consumer(&service).await["ack_floor"]["stream_seq"] == 1
    })
    .await;
    gateway.kill();
    // Else NATS delivers them to the one that is gone.
    eventually("its pull is gone", || async {
        consumer(&service).await["num_waiting"] == 0
    })
    .await;
    for number in 0..5 {
        store(&service, "usher.user.42", number).await;
    }
    eventually("the stream has let go of them", || async {
        let info = api(&service, "STREAM.INFO.USHER", &json!({})).await;
        info["state"]["messages"] == 0
    })
    .await;
    let gateway = builder().start().await;
    gateway
        .metric_becomes("usher_offline_lost_total", 5.0)
        .await;
    store(&service, "usher.user.43", 1).await;
    assert_eq!(next(&mut heard).await.subject.as_str(), "usher.offline.43");
    gateway
        .metric_becomes("usher_offline_pending_messages", 0.0)
        .await;
    assert_eq!(gateway.metric("usher_offline_lost_total").await, 5.0);
}

/// A message that is gone while it waits to be acknowledged is delivered to nobody again.
#[tokio::test]
async fn a_message_that_is_gone_does_not_come_again() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let mut gateway = builder(&nats, &redis).start().await;
    gateway.logs("created the consumer").await;
    let service = nats.client().await;
    gateway.pause();
    store(&service, "usher.user.42", 1).await;
    store(&service, "usher.user.43", 2).await;
    eventually("both are under way", || async {
        consumer(&service).await["num_ack_pending"] == 2
    })
    .await;
    let purged = api(
        &service,
        "STREAM.PURGE.USHER",
        &json!({ "filter": "usher.user.43" }),
    )
    .await;
    assert_eq!(purged["purged"], 1, "{purged}");
    gateway.kill();
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    let gateway = builder(&nats, &redis).start().await;
    assert_eq!(next(&mut heard).await.subject.as_str(), "usher.offline.42");
    eventually("nothing is under way", || async {
        let info = consumer(&service).await;
        info["num_ack_pending"] == 0 && info["num_redelivered"] == 0
    })
    .await;
    let looked = "usher_offline_messages_total";
    assert_eq!(gateway.metric(looked).await, 1.0);
}

/// What NATS forbids is named, and taken up again when it is permitted; nothing is lost.
#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let less = |right: &str| {
        let less = PERMISSIONS.replacen(&format!("    {right}\n"), "", 1);
        assert_ne!(less, PERMISSIONS, "{right}");
        format!("jetstream: enabled\n{less}")
    };
    let (mut nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = builder(&nats, &redis).start().await;
    gateway.logs("created the consumer").await;
    let (code, said) = builder(&nats, &redis).check().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("consumer usher-offline: as it should be"),
        "{said}"
    );
    drop(gateway);
    for (right, names) in [
        ("\"usher.offline.*\"", "usher.offline.$check"),
        (
            "\"$JS.API.CONSUMER.MSG.NEXT.USHER.usher-offline\"",
            "CONSUMER.MSG.NEXT",
        ),
        (
            "\"$JS.API.CONSUMER.INFO.USHER.usher-offline\"",
            "CONSUMER.INFO.USHER.usher-offline",
        ),
        (
            "\"$JS.ACK.USHER.usher-offline.>\", \"$JS.ACK.*.*.USHER.usher-offline.>\"",
            "$JS.ACK.USHER.usher-offline",
        ),
    ] {
        nats.write_config(&less(right));
        nats.reload().await;
        let (_, said) = builder(&nats, &redis).check().await;
        assert!(said.contains(names), "{right}: {said}");
    }
    nats.write_config(&less("\"usher.offline.*\""));
    nats.reload().await;
    let gateway = builder(&nats, &redis).start().await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    store(&service, "usher.user.42", 1).await;
    gateway
        .readyz_lists("warnings", "offline_events_away")
        .await;
    nats.write_config(&format!("jetstream: enabled\n{PERMISSIONS}"));
    nats.reload().await;
    assert_eq!(next(&mut heard).await.subject.as_str(), "usher.offline.42");
    eventually("the warning is gone", || async {
        gateway.ops_get("/readyz").await.json()["warnings"] == json!([])
    })
    .await;
}

/// A consumer that somebody made otherwise is mended, or it is said what to do.
#[tokio::test]
async fn a_consumer_that_is_otherwise_is_mended_or_named() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = builder(&nats, &redis).start().await;
    gateway.logs("created the consumer").await;
    let service = nats.client().await;
    drop(gateway);
    let make = async |config: serde_json::Value| {
        api(&service, "CONSUMER.DELETE.USHER.usher-offline", &json!({})).await;
        let body = json!({ "stream_name": "USHER", "config": config });
        let made = api(&service, "CONSUMER.CREATE.USHER.usher-offline", &body).await;
        assert!(made["error"].is_null(), "{made}");
    };
    make(json!({
        "durable_name": "usher-offline", "ack_policy": "explicit", "max_ack_pending": 7,
        "filter_subject": "usher.user.42",
    }))
    .await;
    let gateway = builder(&nats, &redis).start().await;
    eventually("it is mended", || async {
        consumer(&service).await["config"]["filter_subject"] == "usher.user.*"
    })
    .await;
    assert_eq!(consumer(&service).await["config"]["max_ack_pending"], 7);
    drop(gateway);
    make(json!({ "durable_name": "usher-offline", "ack_policy": "none" })).await;
    let (code, said) = builder(&nats, &redis).check().await;
    assert_eq!(code, Some(0), "sessions work: {said}");
    assert!(
        said.contains("has ack_policy \"none\" and needs \"explicit\""),
        "{said}"
    );
    let gateway = builder(&nats, &redis).start().await;
    gateway
        .readyz_lists("warnings", "offline_events_away")
        .await;
    gateway
        .logs("delete the consumer, and Usher makes it anew")
        .await;
    // As it was told, somebody deletes it.
    api(&service, "CONSUMER.DELETE.USHER.usher-offline", &json!({})).await;
    gateway.logs("created the consumer").await;
    gateway.logs("events on usher.offline again").await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    store(&service, "usher.user.42", 1).await;
    assert_eq!(next(&mut heard).await.subject.as_str(), "usher.offline.42");
}

/// Without a stream there is nothing to read.
#[tokio::test]
async fn it_needs_durable_mode() {
    let builder = Builder::new().set("offline.events", "true");
    let (code, said) = builder.fails().await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("set durable.enabled = true"), "{said}");
}
