//! What an app sees through an SDK.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::{Kind, Sdk, durable, speaking};
use crate::{
    durable::{store, store_with},
    support::{Gateway, servers},
};

fn named(event: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Event", event);
    headers
}

#[tokio::test]
async fn every_sdk_gets_events_and_broadcasts_with_their_names() {
    get_events(&Kind::ALL).await;
}

pub(super) async fn get_events(kinds: &[Kind]) {
    let (nats, _redis, gateway) = durable(&[]).await;
    let sdk = |kind: &Kind| (*kind, Sdk::start(*kind, &gateway, "bob@example.com"));
    let sdks: Vec<_> = kinds.iter().map(sdk).collect();
    for (_, sdk) in &sdks {
        sdk.sees("subscribed", 2).await;
    }
    let open = "usher_sessions{transport=\"centrifuge\"}";
    gateway.metric_becomes(open, kinds.len() as f64).await;

    let nats = nats.client().await;
    let subject = "usher.user.bob%40example%2Ecom";
    let json = "{\n\"order\":\r\n123, \"ü\":[null]}";
    store_with(&nats, subject, json, named("order.completed")).await;
    store(&nats, subject, "no JSON\n").await;
    let binary = nats.request(subject, vec![0xff, 0, 0xfe].into()).await;
    binary.expect("stored");
    store(&nats, subject, "").await;
    store_with(&nats, "usher.broadcast", "[1]", named("news")).await;

    for (kind, sdk) in &sdks {
        sdk.sees("publication", 5).await;
        let user = "#bob@example.com".to_owned();
        let tags = |event: &str| json!({ "event": event });
        let seen: Vec<Value> = match kind.is_protobuf() {
            false => vec![
                json!({"order": 123, "ü": [null]}),
                json!("no JSON\n"),
                json!({"base64": "/wD+"}),
                json!(""),
                json!([1]),
            ],
            true => {
                let bytes = json.bytes().map(char::from).collect::<String>();
                let texts = [&*bytes, "no JSON\n", "\u{ff}\0\u{fe}", "", "[1]"];
                texts.map(Value::from).to_vec()
            }
        };
        let mut expected: Vec<_> = seen
            .into_iter()
            .map(|data| (user.clone(), data, tags("message")))
            .collect();
        expected[0].2 = tags("order.completed");
        (expected[4].0, expected[4].2) = ("broadcast".to_owned(), tags("news"));
        let mut seen = sdk.publications();
        // The Python SDK has no data for no bytes.
        if *kind == Kind::PythonProtobuf && seen[3].1.is_null() {
            seen[3].1 = json!("");
        }
        assert_eq!(seen, expected, "{kind:?}");
        let offsets = sdk.all("publication").into_iter();
        let offsets = offsets.map(|one| one["offset"].as_u64());
        assert!(offsets.eq((1..=5).map(Some)), "{kind:?}");
    }
    let delivered = "usher_messages_delivered_total{transport=\"centrifuge\"}";
    let all = 5 * kinds.len();
    gateway.metric_becomes(delivered, all as f64).await;
}

/// In live mode nothing is kept, so no subscription is recoverable.
#[tokio::test]
async fn live_mode_has_no_offsets() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    for kind in [Kind::JsJson, Kind::PythonJson] {
        let sdk = Sdk::start(kind, &gateway, "42");
        let subscribed = sdk.sees("subscribed", 2).await;
        assert_eq!(subscribed["recoverable"], false, "{kind:?}");
        assert!(subscribed["streamPosition"].is_null(), "{kind:?}");
        nats.publish("usher.user.42", "{\"a\":1}").await;
        sdk.sees("publication", 1).await;
        assert_eq!(
            sdk.publications(),
            [(
                "#42".to_owned(),
                json!({"a": 1}),
                json!({"event": "message"})
            )]
        );
    }
}

/// An SDK whose every ping is answered stays, however quiet it is.
#[tokio::test]
async fn quiet_sdks_stay_connected() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("session.ping_interval", "1s")
        .set("session.idle_timeout", "4s")
        .start()
        .await;
    let sdks = [Kind::JsJson, Kind::JsProtobuf, Kind::PythonJson]
        .map(|kind| Sdk::start(kind, &gateway, "42"));
    for sdk in &sdks {
        sdk.sees("connected", 1).await;
    }
    // Longer than the gateway, and than an SDK without pings (11 s), would wait.
    tokio::time::sleep(std::time::Duration::from_secs(13)).await;
    for sdk in &sdks {
        assert_eq!(sdk.all("connecting").len(), 1, "{}", sdk.end());
    }
    assert_eq!(gateway.metric("usher_session_closes_total").await, 0.0);
}

#[tokio::test]
async fn what_a_browser_may_not_do_is_answered_with_an_error() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    for kind in [Kind::JsJson, Kind::JsProtobuf] {
        let ask = |channel: &str| {
            let more = json!({ "ask": channel });
            Sdk::with(kind, &gateway, "42", &gateway.public, more)
        };
        let sdk = ask("secret");
        sdk.sees("answer", 6).await;
        let answers = sdk.all("answer").into_iter();
        let answers: Vec<_> = answers
            .map(|one| (one["name"].to_string(), one["code"].as_u64()))
            .collect();
        let expected = [
            ("publish", 108),
            ("history", 108),
            ("presence", 108),
            ("presenceStats", 108),
            ("rpc", 103),
            ("subscribe", 103),
        ];
        let expected = expected.map(|(name, code)| (format!("{name:?}"), Some(code)));
        assert_eq!(answers, expected, "{kind:?}");
        assert_eq!(sdk.all("connecting").len(), 1, "it stays connected");
    }
}
