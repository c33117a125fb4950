//! How a session ends, and what an SDK does then.

use serde_json::json;

use super::{Kind, Sdk, TOKENS, again, durable, speaking, wire::connected, with_tokens};
use crate::support::{Gateway, eventually, grpc::disconnect, network::Network, servers};

/// Waits until something happens after which an SDK that comes again would have done so.
async fn stays_away(sdk: &Sdk, gateway: &Gateway, count: f64) {
    // Its next attempt would come within 300 ms.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(sdk.all("connecting").len(), 1, "{}", sdk.end());
    let admitted = gateway.metric("usher_admissions_total").await;
    assert_eq!(admitted, count);
}

#[tokio::test]
async fn who_is_disconnected_or_replaced_stays_away() {
    stay_away(&Kind::ALL).await;
}

pub(super) async fn stay_away(kinds: &[Kind]) {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("public.max_sessions_per_user", "1")
        .start()
        .await;
    let mut count = 0.0;
    for &kind in kinds {
        let sdk = Sdk::start(kind, &gateway, "42");
        sdk.sees("subscribed", 2).await;
        let mut grpc = gateway.grpc().await;
        let ended = disconnect(&mut grpc, "42", false, "").await.expect("ended");
        assert_eq!(ended.sessions, 1);
        let end = sdk.sees("disconnected", 1).await;
        assert_eq!(
            (&end["code"], &end["reason"]),
            (&json!(3503), &json!("disconnected")),
            "{kind:?}"
        );
        count += 1.0;
        stays_away(&sdk, &gateway, count).await;

        let older = Sdk::start(kind, &gateway, "43");
        older.sees("subscribed", 2).await;
        let newer = Sdk::start(kind, &gateway, "43");
        newer.sees("subscribed", 2).await;
        let end = older.sees("disconnected", 1).await;
        assert_eq!(end["code"], 3504, "{kind:?}");
        count += 2.0;
        stays_away(&older, &gateway, count).await;
        assert_eq!(newer.all("disconnected").len(), 0);
    }
}

#[tokio::test]
async fn who_is_asked_to_reconnect_comes_with_a_fresh_ticket() {
    come_with_fresh_grants(&Kind::RETURNING).await;
}

pub(super) async fn come_with_fresh_grants(kinds: &[Kind]) {
    let (_nats, _redis, gateway) = durable(&TOKENS).await;
    for &kind in kinds {
        let sdk = Sdk::returning(kind, &gateway, "42", &gateway.public, json!({}));
        sdk.sees("subscribed", 2).await;
        let mut grpc = gateway.grpc().await;
        let ended = disconnect(&mut grpc, "42", true, "").await.expect("ended");
        assert_eq!(ended.sessions, 1);
        let connecting = sdk.sees("connecting", 2).await;
        assert_eq!(connecting["code"], 3014, "{kind:?}");
        sdk.sees("connected", 2).await;
        if kind.keeps_its_ticket() {
            sdk.sees("token", 2).await;
        }
        // Some forget where they were, as docs/centrifuge.md says.
        sdk.sees("subscribed", 4).await;
        let keeps = matches!(kind, Kind::GoJson | Kind::GoProtobuf | Kind::Java);
        for one in &sdk.all("subscribed")[2..] {
            assert_eq!(one["recovered"], keeps, "{kind:?}: {one}");
        }
    }
}

#[tokio::test]
async fn a_ticket_that_expires_ends_its_session() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("session.max_lifetime", "2s")
        .start()
        .await;
    for kind in [Kind::JsJson, Kind::PythonJson] {
        let sdk = Sdk::start(kind, &gateway, "42");
        let connecting = sdk.sees("connecting", 2).await;
        assert_eq!(connecting["code"], 3005, "{kind:?}");
        sdk.sees("connected", 2).await;
    }
}

/// Drained, then killed: each time another gateway goes on where it was.
#[tokio::test]
async fn a_drain_and_a_kill_lose_nothing() {
    go_on_elsewhere(&Kind::RETURNING).await;
}

pub(super) async fn go_on_elsewhere(kinds: &[Kind]) {
    let drain = [("drain.delay", "100ms"), ("drain.window", "300ms")];
    let settings = [&drain[..], &TOKENS].concat();
    let (nats, redis, mut gateway) = durable(&settings).await;
    let tickets = again(&nats, &redis, &settings).await;
    let network = Network::to(&format!("ws://{}", gateway.public)).await;
    let sdk = |kind| Sdk::returning(kind, &tickets, "42", network.address(), json!({}));
    let sdks: Vec<_> = kinds.iter().map(|&kind| (kind, sdk(kind))).collect();
    for (_, sdk) in &sdks {
        sdk.sees("subscribed", 2).await;
    }
    let publisher = nats.client().await;
    let mut numbers = 0..;
    let mut publish = async || {
        for number in numbers.by_ref().take(3) {
            let subject = ["usher.user.42", "usher.broadcast"][number % 2];
            crate::durable::store(&publisher, subject, number).await;
        }
    };
    publish().await;
    for kills in [false, true] {
        let next = again(&nats, &redis, &settings).await;
        match kills {
            false => gateway.terminate(),
            true => gateway.kill(),
        }
        if kills {
            publish().await;
        }
        network.lead_to(&format!("ws://{}", next.public));
        gateway.wait().await;
        publish().await;
        gateway = next;
        for (kind, sdk) in &sdks {
            let connected = if kills { 3 } else { 2 };
            sdk.sees("connected", connected).await;
            let connecting = &sdk.all("connecting")[connected - 1];
            let code = if kills { 1 } else { 3001 };
            assert_eq!(connecting["code"], code, "{kind:?}: {connecting}");
            let subscribed = sdk.sees("subscribed", 2 * connected).await;
            assert_eq!(subscribed["recovered"], true, "{kind:?}");
        }
    }
    let expected: Vec<usize> = (0..12).collect();
    for (kind, sdk) in &sdks {
        sdk.sees("publication", 12).await;
        let seen = sdk.publications();
        let numbers = seen.iter().map(|(_, data, _)| match kind.is_protobuf() {
            true => data.as_str().and_then(|text| text.parse().ok()),
            false => data.as_u64().map(|number| number as usize),
        });
        let mut numbers: Vec<_> = numbers.map(|number| number.expect("a number")).collect();
        // Between channels a return has the stream's order too.
        assert_eq!(numbers, expected, "{kind:?}");
        numbers.dedup();
        assert_eq!(numbers.len(), 12);
    }
}

/// Live mode cannot keep what a client does not read.
#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_comes_again() {
    come_again_after_not_reading(&[Kind::JsJson, Kind::PythonJson]).await;
}

pub(super) async fn come_again_after_not_reading(kinds: &[Kind]) {
    let (nats, redis) = servers().await;
    let gateway = with_tokens(Gateway::builder(&nats, &redis))
        .set("session.queue_messages", "20")
        .set("session.write_timeout", "10m")
        .start()
        .await;
    for &kind in kinds {
        let user = format!("{kind:?}");
        let mut sdk = Sdk::returning(kind, &gateway, &user, &gateway.public, json!({}));
        sdk.sees("subscribed", 2).await;
        sdk.process.pause();
        let slow = "usher_session_closes_total{reason=\"slow_consumer\"}";
        let before = gateway.metric(slow).await;
        let payload = json!("x".repeat(100_000)).to_string();
        let subject = format!("usher.user.{user}");
        eventually("the session is closed", || async {
            nats.publish(&subject, &payload).await;
            gateway.metric(slow).await > before
        })
        .await;
        sdk.process.resume();
        let connecting = sdk.sees("connecting", 2).await;
        assert_eq!(connecting["code"], 3008, "{kind:?}");
        sdk.sees("connected", 2).await;
    }
}

/// Live mode cannot show what was published meanwhile.
#[tokio::test]
async fn sdks_come_again_after_nats_was_away() {
    let (mut nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("drain.window", "300ms")
        .start()
        .await;
    let sdks = Kind::RETURNING.map(|kind| (kind, Sdk::start(kind, &gateway, "42")));
    for (_, sdk) in &sdks {
        sdk.sees("subscribed", 2).await;
    }
    nats.restart().await;
    for (kind, sdk) in &sdks {
        let connecting = sdk.sees("connecting", 2).await;
        assert_eq!(
            (&connecting["code"], &connecting["reason"]),
            (&json!(3010), &json!("bus_lost")),
            "{kind:?}"
        );
        sdk.sees("connected", 2).await;
    }
}

/// Neither its pings nor those of the WebSocket are answered.
#[tokio::test]
async fn a_client_that_answers_nothing_is_closed() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("session.ping_interval", "1s")
        .set("session.idle_timeout", "3s")
        .start()
        .await;
    let mut socket = connected(&gateway, &redis, "42").await;
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3012, "idle"));
}
