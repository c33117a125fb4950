//! An SDK comes back, and each of its channels is judged by its own offset.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::{Map, Value, json};

use super::{
    Kind, Sdk, TOKENS, again, durable,
    wire::{connect_with, reply},
};
use crate::{
    durable::{api, store, store_with},
    support::{eventually, network::Network},
};

/// The user's channel lost something, the broadcast did not.
#[tokio::test]
async fn each_channel_is_recovered_by_itself() {
    recover_each_channel(&Kind::RETURNING).await;
}

pub(super) async fn recover_each_channel(kinds: &[Kind]) {
    let limits = [("durable.max_messages_per_channel", "5")];
    let settings = [&limits[..], &TOKENS].concat();
    let (nats, redis, mut gateway) = durable(&settings).await;
    let tickets = again(&nats, &redis, &settings).await;
    let network = Network::to(&format!("ws://{}", gateway.public)).await;
    let publisher = nats.client().await;
    store(&publisher, "usher.broadcast", 1).await;
    store(&publisher, "usher.user.42", 2).await;
    let sdk = |kind| Sdk::returning(kind, &tickets, "42", network.address(), json!({}));
    let sdks: Vec<_> = kinds.iter().map(|&kind| (kind, sdk(kind))).collect();
    for (_, sdk) in &sdks {
        sdk.sees("subscribed", 2).await;
    }
    store(&publisher, "usher.broadcast", 3).await;
    store(&publisher, "usher.user.42", 4).await;
    for (_, sdk) in &sdks {
        sdk.sees("publication", 2).await;
    }
    gateway.kill();
    gateway.wait().await;
    for number in 5..15 {
        store(&publisher, "usher.user.42", number).await;
    }
    store(&publisher, "usher.broadcast", 15).await;
    let next = again(&nats, &redis, &settings).await;
    network.lead_to(&format!("ws://{}", next.public));

    for (kind, sdk) in &sdks {
        sdk.sees("subscribed", 4).await;
        let subscribed = sdk.all("subscribed");
        for one in &subscribed[2..] {
            assert_eq!(one["wasRecovering"], true, "{kind:?}");
            let (recovered, offset) = match one["channel"].as_str() {
                Some("broadcast") => (true, 3),
                // Its end: nothing older is sent.
                _ => (false, 15),
            };
            assert_eq!(one["recovered"], recovered, "{kind:?}: {one}");
            // The SDK for Java shows no position.
            if *kind != Kind::Java {
                assert_eq!(one["streamPosition"]["offset"], offset, "{kind:?}: {one}");
            }
        }
    }
    store(&publisher, "usher.user.42", 16).await;
    for (kind, sdk) in &sdks {
        sdk.sees("publication", 4).await;
        let offsets: Vec<_> = sdk
            .all("publication")
            .iter()
            .map(|one| one["offset"].as_u64())
            .collect();
        assert_eq!(offsets, [3, 4, 15, 16].map(Some), "{kind:?}");
    }
}

/// Also where more was missed than is sent again: that is told of the channel alone.
#[tokio::test]
async fn more_than_max_replay_is_not_recovered() {
    let settings = [("durable.max_replay", "5")];
    let (nats, redis, mut gateway) = durable(&settings).await;
    let tickets = again(&nats, &redis, &settings).await;
    let network = Network::to(&format!("ws://{}", gateway.public)).await;
    let publisher = nats.client().await;
    store(&publisher, "usher.user.42", 1).await;
    let sdk = Sdk::with(Kind::JsJson, &tickets, "42", network.address(), json!({}));
    sdk.sees("subscribed", 2).await;
    gateway.kill();
    gateway.wait().await;
    for number in 2..=6 {
        store(&publisher, "usher.user.42", number).await;
        store(&publisher, "usher.broadcast", number).await;
    }
    store(&publisher, "usher.broadcast", 7).await;
    let next = again(&nats, &redis, &settings).await;
    network.lead_to(&format!("ws://{}", next.public));
    sdk.sees("subscribed", 4).await;
    let recovered: Vec<_> = sdk.all("subscribed")[2..]
        .iter()
        .map(|one| (one["channel"].clone(), one["recovered"].clone()))
        .collect();
    let as_wanted = |channel: &str, is: bool| recovered.contains(&(json!(channel), json!(is)));
    assert!(
        as_wanted("#42", true) && as_wanted("broadcast", false),
        "{recovered:?}"
    );
    sdk.sees("publication", 5).await;
    store(&publisher, "usher.broadcast", "\"end\"").await;
    sdk.sees("publication", 6).await;
    let data: Vec<_> = sdk.publications().into_iter().map(|one| one.1).collect();
    assert_eq!(
        data,
        [
            json!(2),
            json!(3),
            json!(4),
            json!(5),
            json!(6),
            json!("end")
        ]
    );
}

/// A stream that was made anew has another epoch.
#[tokio::test]
async fn nothing_of_another_stream_is_recovered() {
    let (nats, redis, mut gateway) = durable(&[]).await;
    let tickets = again(&nats, &redis, &[]).await;
    let network = Network::to(&format!("ws://{}", gateway.public)).await;
    let publisher = nats.client().await;
    store(&publisher, "usher.user.42", 1).await;
    let sdk = Sdk::with(Kind::JsJson, &tickets, "42", network.address(), json!({}));
    sdk.sees("subscribed", 2).await;
    gateway.kill();
    gateway.wait().await;
    let jetstream = async_nats::jetstream::new(publisher.clone());
    jetstream.delete_stream("USHER").await.expect("deleted");
    let next = again(&nats, &redis, &[]).await;
    for number in 0..3 {
        store(&publisher, "usher.user.42", number).await;
    }
    network.lead_to(&format!("ws://{}", next.public));
    sdk.sees("subscribed", 4).await;
    for one in &sdk.all("subscribed")[2..] {
        assert_eq!(one["recovered"], false, "{one}");
        assert_eq!(one["streamPosition"]["offset"], 3, "{one}");
    }
    store(&publisher, "usher.user.42", "\"new\"").await;
    sdk.sees("publication", 1).await;
    assert_eq!(sdk.publications()[0].1, json!("new"));
}

/// NATS goes and comes: durable sessions are caught up, and stay.
#[tokio::test]
async fn an_outage_of_nats_closes_no_durable_session() {
    let (mut nats, _redis, gateway) = durable(&[]).await;
    let sdk = Sdk::start(Kind::JsJson, &gateway, "42");
    sdk.sees("subscribed", 2).await;
    nats.restart().await;
    let publisher = nats.client().await;
    let mut number = 0;
    eventually("messages arrive again", || {
        number += 1;
        let (publisher, sdk) = (publisher.clone(), &sdk);
        async move {
            store(&publisher, "usher.user.42", number).await;
            !sdk.all("publication").is_empty()
        }
    })
    .await;
    sdk.sees("publication", number).await;
    let data: Vec<Value> = sdk.publications().into_iter().map(|one| one.1).collect();
    assert!(
        data.iter()
            .eq(&(1..=number).map(Value::from).collect::<Vec<_>>())
    );
    assert_eq!(sdk.all("connecting").len(), 1, "it was never closed");
}

/// A message with `Nats-TTL: never` stays the stream's first, so that the stream's beginning does
/// not show what age has removed. A client with an old offset is told once that its channel is not
/// recovered. Its session goes on then, also while others are sent something all the time.
#[tokio::test]
async fn a_message_that_stays_keeps_no_client_out() {
    let (nats, redis, gateway) = durable(&[("durable.max_age", "3s")]).await;
    let publisher = nats.client().await;
    let mut never = HeaderMap::new();
    never.insert("Nats-TTL", "never");
    store_with(&publisher, "usher.user.other", 0, never).await;
    let offset = store(&publisher, "usher.user.42", 0).await;
    let ticket = redis.ticket("42").await;
    let (socket, answer) = connect_with(&gateway, &ticket, json!({})).await;
    let epoch = answer["connect"]["subs"]["#42"]["epoch"].clone();
    drop(socket);
    eventually("age has removed all others", || async {
        api(&publisher, "STREAM.INFO.USHER", &json!({})).await["state"]["messages"] == 1
    })
    .await;
    let others = publisher.clone();
    let busy = tokio::spawn(async move {
        loop {
            let publishing = others.publish("usher.user.45", "1".into());
            publishing.await.expect("published");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for data in 1..=3 {
        let ticket = redis.ticket("42").await;
        let mark = json!({"recover": true, "epoch": epoch, "offset": offset});
        let subs = json!({"#42": mark, "broadcast": mark});
        let (mut socket, answer) = connect_with(&gateway, &ticket, subs).await;
        for channel in ["#42", "broadcast"] {
            let sub = &answer["connect"]["subs"][channel];
            assert_eq!(sub["was_recovering"], true, "{answer}");
            assert!(sub["recovered"].is_null(), "{answer}");
        }
        store(&publisher, "usher.user.42", data).await;
        let answer = reply(&mut socket).await;
        assert_eq!(answer["push"]["channel"], "#42", "{answer}");
        assert_eq!(answer["push"]["pub"]["data"], data, "{answer}");
        store(&publisher, "usher.broadcast", data).await;
        assert_eq!(reply(&mut socket).await["push"]["channel"], "broadcast");
    }
    busy.abort();
    let closes = r#"usher_session_closes_total{reason="bus_lost"}"#;
    assert_eq!(gateway.metric(closes).await, 0.0);
}

/// Nothing is recovered of the channels beyond a bound, and the client is told so.
#[tokio::test]
async fn a_client_that_names_too_many_channels_is_told() {
    let (_nats, redis, gateway) = durable(&[]).await;
    let value = json!({"user_id": "42", "topics": ["news"]});
    let ticket = redis.ticket_json(value.clone()).await;
    let (socket, answer) = connect_with(&gateway, &ticket, json!({})).await;
    let epoch = answer["connect"]["subs"]["news"]["epoch"].clone();
    drop(socket);
    let mark = json!({"recover": true, "epoch": epoch});
    let named = |count: u32| {
        let names = (0..count).map(|number| format!("a{number}"));
        let names = names.chain(["#42".to_owned(), "news".to_owned()]);
        let subs: Map<_, _> = names.map(|name| (name, mark.clone())).collect();
        Value::Object(subs)
    };
    for (count, recovered) in [(10, true), (100, false)] {
        let ticket = redis.ticket_json(value.clone()).await;
        let (_socket, answer) = connect_with(&gateway, &ticket, named(count)).await;
        let subs = &answer["connect"]["subs"];
        assert_eq!(subs["#42"]["recovered"], true, "{answer}");
        assert_eq!(subs["news"]["was_recovering"], true, "{answer}");
        assert_eq!(subs["news"]["recovered"] == true, recovered, "{answer}");
    }
}
