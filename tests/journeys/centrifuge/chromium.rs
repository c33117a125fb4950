//! The SDK for JavaScript in a page of a real browser: `tests/browser/centrifuge.mjs`.

use serde_json::json;

use super::{Kind, Sdk, calls, cuts, durable, endings, recovery, sdks, tokens, topics};
use crate::durable::store;

const KINDS: [Kind; 2] = [Kind::ChromiumJson, Kind::ChromiumProtobuf];

#[tokio::test]
async fn gets_events_and_broadcasts_with_their_names() {
    sdks::get_events(&KINDS).await;
}

#[tokio::test]
async fn follows_topics_and_recovers_them() {
    topics::follow_topics(&KINDS).await;
}

#[tokio::test]
async fn calls_a_service() {
    calls::call_a_service(&KINDS).await;
}

#[tokio::test]
async fn refreshes_and_stays() {
    tokens::refresh_and_stay(&KINDS).await;
}

#[tokio::test]
async fn goes_on_after_a_drain_and_a_kill() {
    endings::go_on_elsewhere(&KINDS).await;
}

#[tokio::test]
async fn stays_away_when_it_is_disconnected_or_replaced() {
    endings::stay_away(&KINDS).await;
}

#[tokio::test]
async fn recovers_each_channel_by_itself() {
    recovery::recover_each_channel(&KINDS).await;
}

#[tokio::test]
async fn gets_ten_thousand_messages_through_cuts() {
    cuts::survive_cuts(&KINDS).await;
}

/// The page has stored the position of its topic, and goes on from there; the channels of the
/// server begin anew.
#[tokio::test]
async fn goes_on_after_a_reload() {
    for kind in KINDS {
        let (nats, _redis, gateway) = durable(&[]).await;
        let more = json!({"grants": {"may_follow": ["room.7"]}, "follow": "room.7"});
        let sdk = Sdk::with(kind, &gateway, "42", &gateway.public, more);
        sdk.sees("subscribed", 3).await;
        let publisher = nats.client().await;
        store(&publisher, "usher.topic.room%2E7", "1").await;
        store(&publisher, "usher.topic.room%2E7", "\"reload\"").await;
        store(&publisher, "usher.topic.room%2E7", "3").await;
        store(&publisher, "usher.user.42", "4").await;
        sdk.sees("subscribed", 6).await;
        let subscribed = sdk.all("subscribed");
        for one in &subscribed[3..] {
            let is_topic = one["channel"] == "room.7";
            assert_eq!(one["wasRecovering"], is_topic, "{kind:?}: {one}");
            assert_eq!(one["recovered"], is_topic, "{kind:?}: {one}");
        }
        store(&publisher, "usher.topic.room%2E7", "5").await;
        let of_topic = |sdk: &Sdk| {
            let seen = sdk.publications().into_iter();
            let seen = seen.filter(|(channel, ..)| channel == "room.7");
            let seen: Vec<_> = seen.map(|(_, data, _)| text(&data)).collect();
            seen
        };
        sdk.sees_such("the last one", 1, |one| text(&one["data"]) == "5")
            .await;
        let mut seen = of_topic(&sdk);
        // The third may have come before the page was gone, which has then not stored it.
        if seen.len() == 5 {
            assert_eq!(seen.remove(2), "3", "{kind:?}");
        }
        assert_eq!(seen, ["1", "reload", "3", "5"], "{kind:?}");
    }
}

/// Data as text, also where it came as the bytes of JSON.
fn text(data: &serde_json::Value) -> String {
    let text = data.as_str().map_or(data.to_string(), str::to_owned);
    text.trim_matches('"').to_owned()
}
