//! NATS is away, and comes back.

use super::store;
use crate::support::{Client, Frame, Gateway, Nats, Redis, eventually, network::Network};

const SUBJECT: &str = "usher.user.42";

/// Nobody's connection ends, and nobody is told of a gap: there is none.
#[tokio::test]
async fn sessions_are_brought_up_to_date_by_themselves() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let network = Network::to(&nats.url()).await;
    let gateway =
        Gateway::durable(&nats, &redis).set("nats.url", format!("nats://{}", network.address()));
    let gateway = gateway.start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    let mut idle = Client::open(&gateway, &redis.ticket("43").await).await;
    let publisher = nats.client().await;
    for round in 0..3 {
        network.cut();
        for data in 0..20 {
            let subject = if data == 7 {
                "usher.broadcast"
            } else {
                SUBJECT
            };
            store(&publisher, subject, 100 * round + data).await;
        }
        gateway
            .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
            .await;
        network.mend();
        for data in 0..20 {
            assert_eq!(client.next_data().await, 100 * round + data);
            assert_eq!(raw.next_text().await, (100 * round + data).to_string());
        }
        assert_eq!(idle.next_data().await, 100 * round + 7);
    }
    assert_eq!(gateway.metric("usher_sessions").await, 3.0);
    assert_eq!(gateway.metric("usher_session_closes_total").await, 0.0);
}

/// What it has on disk is there when it is started again.
#[tokio::test]
async fn a_server_that_is_killed_keeps_what_it_has_stored() {
    let (mut nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    for round in 0..3 {
        let publisher = nats.client().await;
        let stored = async {
            for data in 0..50 {
                store(&publisher, SUBJECT, 100 * round + data).await;
            }
        };
        stored.await;
        nats.restart().await;
        for data in 0..50 {
            assert_eq!(client.next_data().await, 100 * round + data);
        }
    }
    let since = super::position(&client);
    eventually("somebody is let in", || async {
        let ticket = redis.ticket("43").await;
        // With a position: the stream is read over a connection of its own.
        let again = Client::builder(&gateway, &ticket).since("0");
        again.try_open().await.is_ok()
    })
    .await;
    let (mut again, told) = super::resume(&gateway, &redis, "42", &since).await;
    assert_eq!(told, "complete");
    assert_eq!(super::replayed(&mut again).await.len(), 150);
}

/// What retention has passed meanwhile is told.
#[tokio::test]
async fn what_is_lost_in_an_outage_is_told() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let network = Network::to(&nats.url()).await;
    let gateway = Gateway::durable(&nats, &redis)
        .set("durable.max_messages_per_channel", "5")
        .set("nats.url", format!("nats://{}", network.address()));
    let gateway = gateway.start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    let publisher = nats.client().await;
    network.cut();
    for data in 0..8 {
        store(&publisher, SUBJECT, data).await;
    }
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    network.mend();
    assert_eq!(client.expect_gap().await["reason"], "retention");
    for data in 3..8 {
        assert_eq!(client.next_data().await, data);
    }
    assert_eq!(raw.expect_close().await, (4003, "bus_lost".to_owned()));
    store(&publisher, SUBJECT, 8).await;
    assert_eq!(client.next_data().await, 8);
}

/// Whoever comes while the stream cannot be asked is told to come later, and nothing
/// that was never checked is called complete.
#[tokio::test]
async fn without_the_stream_nobody_is_let_in() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis)
        .set("durable.manage_stream", "false")
        .start_unready()
        .await;
    gateway.becomes_unready().await;
    let reasons = gateway.ops_get("/readyz").await.text();
    assert!(reasons.contains("stream_not_ready"), "{reasons}");
    let finding = r#"usher_findings{reason="stream_not_ready"}"#;
    assert_eq!(gateway.metric(finding).await, 1.0);
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 1.0)
        .await;
    let ticket = redis.ticket("42").await;
    let refused = Client::builder(&gateway, &ticket).refused().await;
    refused.assert_refused(503, "unavailable");
    assert!(gateway.log().contains("there is no stream USHER"));

    // Somebody else makes it. The refusal has left the ticket as it was.
    let other = Gateway::durable(&nats, &redis).start().await;
    gateway.becomes_ready().await;
    let mut client = Client::open(&gateway, &ticket).await;
    store(&nats.client().await, SUBJECT, 1).await;
    assert_eq!(client.next_data().await, 1);
    assert!(matches!(
        client.next_frame_within(std::time::Duration::ZERO).await,
        None | Some(Frame::Text(_))
    ));
    drop(other);
}

/// The connection stands, and the stream gives nothing out.
#[tokio::test]
async fn who_is_held_back_is_told_of_and_stays() {
    let (nats, redis, first) = super::world().await;
    // It would mend the stream.
    drop(first);
    let gateway = Gateway::durable(&nats, &redis)
        .set("durable.manage_stream", "false")
        .set("durable.max_replay", "4")
        .start()
        .await;
    let publisher = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    store(&publisher, SUBJECT, 1).await;
    assert_eq!(client.next_data().await, 1);
    super::loses_what_is_stored(&publisher).await;
    super::change(&publisher, |config| config["allow_direct"] = false.into()).await;
    for data in 2..=9 {
        store(&publisher, SUBJECT, data).await;
    }
    super::republishes_again(&publisher).await;
    store(&publisher, SUBJECT, 10).await;
    gateway
        .metric_becomes("usher_sessions_held_back", 1.0)
        .await;
    gateway.readyz_lists("warnings", "sessions_held_back").await;
    assert_eq!(gateway.readyz().await, 200);
    super::change(&publisher, |config| config["allow_direct"] = true.into()).await;
    assert_eq!(client.expect_gap().await["reason"], "replay");
    for data in 7..=10 {
        assert_eq!(client.next_data().await, data);
    }
    gateway
        .metric_becomes("usher_sessions_held_back", 0.0)
        .await;
}

/// After an outage that the log tells of, the log says that it is over.
#[tokio::test]
async fn the_log_ends_with_the_all_clear() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let network = Network::to(&nats.url()).await;
    let gateway =
        Gateway::durable(&nats, &redis).set("nats.url", format!("nats://{}", network.address()));
    let gateway = gateway.start().await;
    let connected = |name: &str| format!("usher_nats_connected{{connection=\"{name}\"}}");
    network.cut();
    for name in ["push", "interest", "stream"] {
        gateway.metric_becomes(&connected(name), 0.0).await;
    }
    network.mend();
    for name in ["push", "interest", "stream"] {
        gateway.metric_becomes(&connected(name), 1.0).await;
    }
    eventually("the last word on each part is good", || async {
        let log = gateway.log();
        let last = |word: &str| {
            log.lines()
                .rfind(|line| line.contains(word))
                .map(str::to_owned)
        };
        let stream = last("durable mode");
        let connections = ["push", "interest", "stream"].map(|name| {
            let last = last(&format!("\"connection\":\"{name}\""));
            last.is_some_and(|line| line.contains("connected to NATS"))
        });
        let works = stream.is_none_or(|line| line.contains("durable mode works"));
        works && connections == [true; 3]
    })
    .await;
}
