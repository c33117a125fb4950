//! NATS is away, in each of the ways in which a server can be.

use futures_util::future::join_all;
use tonic::Code;

use crate::support::{
    Client, Frame, Gateway, Nats, Redis, eventually,
    grpc::{push, pushed},
    network::Network,
    servers,
    wait::patiently,
};

/// A gateway that reaches NATS through a network that can be cut.
async fn through(nats: &Nats, redis: &Redis) -> (Network, Gateway) {
    let network = Network::to(&nats.url()).await;
    let url = format!("nats://{}", network.address());
    let gateway = Gateway::builder(nats, redis).set("nats.url", url);
    (network, gateway.start().await)
}

/// Nobody's connection ends, nobody is let in, nothing is acknowledged, and
/// whoever may have missed something is told.
#[tokio::test]
async fn a_partition_is_survived_and_told() {
    let (nats, redis) = servers().await;
    let (network, gateway) = through(&nats, &redis).await;
    let mut sessions = Vec::new();
    for user in 0..10 {
        let ticket = redis.ticket(&format!("user-{user}")).await;
        sessions.push(Client::open(&gateway, &ticket).await);
    }
    let ticket = redis.ticket("raw").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    let mut caller = gateway.grpc().await;

    network.cut();
    // Published, and taken by NATS; it may never arrive.
    nats.publish("usher.user.user-0", "\"lost\"").await;
    let status = patiently("an answer", caller.push_notification(push("user-1", "1"))).await;
    let status = status.expect_err("NATS has confirmed nothing");
    // What may be under way has an outcome that nobody knows.
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let ticket = redis.ticket("newcomer").await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");

    // Silence is noticed, without anything being closed.
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    assert_eq!(gateway.readyz().await, 200, "in service all the same");
    assert_eq!(gateway.metric("usher_sessions").await, 11.0);
    eventually("a push is known not to be published", || {
        let mut caller = caller.clone();
        async move {
            let status = caller.push_notification(push("user-1", "2")).await;
            status.is_err_and(|status| status.code() == Code::Unavailable)
        }
    })
    .await;

    network.mend();
    for session in &mut sessions {
        // The one whose message was under way may see it still, before the gap.
        loop {
            let frame = session.next_json().await;
            if frame["gap"]["reason"] == "bus_lost" {
                break;
            }
            assert!(
                frame["data"] == "lost" || frame["data"] == 1 || frame["ping"].is_object(),
                "{frame}"
            );
        }
    }
    assert_eq!(raw.expect_close().await, (4003, "bus_lost".to_owned()));
    // Every held subject is subscribed again, and nothing else is.
    for (user, session) in sessions.iter_mut().enumerate() {
        let subject = format!("usher.user.user-{user}");
        eventually("it is subscribed", || async {
            nats.subscriptions(&subject).await == 1
        })
        .await;
        nats.publish(&subject, &user.to_string()).await;
        assert_eq!(session.next_data().await, user);
    }
    eventually("newcomers are let in", || async {
        let ticket = redis.ticket("newcomer").await;
        Client::try_open(&gateway, &ticket).await.is_ok()
    })
    .await;
    pushed(&mut caller, push("user-1", "3")).await;
    assert_eq!(sessions[1].next_data().await, 3);
}

/// Joins that were under way end in a welcome or in a refusal; neither leaves
/// anything behind.
#[tokio::test]
async fn joins_under_way_finish_or_fail() {
    let (mut nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut tickets = Vec::new();
    for user in 0..40 {
        tickets.push(redis.ticket(&format!("user-{}", user % 20)).await);
    }
    nats.pause();
    let joins = tickets
        .iter()
        .map(|ticket| Client::builder(&gateway, ticket).try_open());
    let joins = join_all(joins);
    let outage = async {
        // When some of them wait for a confirmation.
        eventually("they are on their way", || async {
            gateway.metric("usher_users").await > 0.0
        })
        .await;
        nats.resume();
        nats.kill();
        nats.restart().await;
    };
    let (outcomes, ()) = tokio::join!(joins, outage);
    let mut welcomed = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(client) => welcomed.push(client),
            Err(response) => response.assert_refused(503, "unavailable"),
        }
    }
    let users: std::collections::HashSet<String> = welcomed
        .iter()
        .map(|client| {
            client.welcome()["user"]
                .as_str()
                .expect("a user")
                .to_owned()
        })
        .collect();
    for user in 0..20 {
        let user = format!("user-{user}");
        let subject = format!("usher.user.{user}");
        let held = u64::from(users.contains(&user));
        eventually("a subject is subscribed exactly while held", || async {
            nats.subscriptions(&subject).await as u64 == held
        })
        .await;
    }
    #[allow(clippy::cast_precision_loss, reason = "forty at most")]
    gateway
        .metric_becomes("usher_sessions", welcomed.len() as f64)
        .await;
    for client in &mut welcomed {
        let user = client.welcome()["user"]
            .as_str()
            .expect("a user")
            .to_owned();
        nats.publish(&format!("usher.user.{user}"), "\"after\"")
            .await;
        loop {
            match client.next_frame().await {
                Frame::Text(text) if text.contains("after") => break,
                Frame::Text(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
