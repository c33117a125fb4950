//! Centrifuge's SDK for Java, where `make centrifuge-java` has built its client.

use super::{Kind, calls, cuts, endings, recovery, sdks, tokens, topics};

const KINDS: [Kind; 1] = [Kind::Java];

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn gets_events_and_broadcasts_with_their_names() {
    sdks::get_events(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn follows_topics_and_recovers_them() {
    topics::follow_topics(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn calls_a_service() {
    calls::call_a_service(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn refreshes_and_stays() {
    tokens::refresh_and_stay(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn replaces_an_expired_token() {
    tokens::replace_expired(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn comes_back_by_its_token() {
    tokens::come_back(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn goes_on_after_a_drain_and_a_kill() {
    endings::go_on_elsewhere(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn comes_again_where_it_did_not_read() {
    endings::come_again_after_not_reading(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn comes_with_fresh_grants_where_it_is_asked_to() {
    endings::come_with_fresh_grants(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn stays_away_when_it_is_disconnected_or_replaced() {
    endings::stay_away(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn recovers_each_channel_by_itself() {
    recovery::recover_each_channel(&KINDS).await;
}

#[tokio::test]
#[ignore = "needs Java: make centrifuge-java"]
async fn gets_ten_thousand_messages_through_cuts() {
    cuts::survive_cuts(&KINDS).await;
}
