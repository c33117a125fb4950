//! `presence.events`: services are told who comes and goes, and of gateways that vanish.

use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{hears, next};
use crate::support::{Builder, Client, Gateway, Nats, Redis, eventually, servers};

fn builder(nats: &Nats, redis: &Redis) -> Builder {
    Gateway::builder(nats, redis)
        .set("presence.events", "true")
        .set("presence.offline_delay", "1s")
}

/// Two gateways that give a client on a busy machine time to move.
async fn two(nats: &Nats, redis: &Redis) -> [Gateway; 2] {
    let one = || {
        let builder = builder(nats, redis).set("presence.offline_delay", "6s");
        builder.start()
    };
    let (one, other) = tokio::join!(one(), one());
    [one, other]
}

fn name(client: &Client) -> String {
    client.welcome()["gateway"]
        .as_str()
        .expect("a name")
        .to_owned()
}

/// What a service hears next: the user, the state, the gateway.
async fn told(heard: &mut Subscriber) -> [String; 3] {
    read(&next(heard).await)
}

fn read(event: &async_nats::Message) -> [String; 3] {
    let said: Value = serde_json::from_slice(&event.payload).expect("JSON");
    let at = said["at"].as_u64().expect("a time");
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    assert!(now.as_millis().abs_diff(at.into()) < 3_600_000, "{said}");
    assert_eq!(
        said.as_object().map(serde_json::Map::len),
        Some(4),
        "{said}"
    );
    let text = |key: &str| said[key].as_str().expect("a text").to_owned();
    let user = usher::user::UserId::parse(&text("user")).expect("a user id");
    let subject = format!("usher.presence.{}", user.subject_token());
    assert_eq!(event.subject.as_str(), subject);
    ["user", "state", "gateway"].map(text)
}

/// The next `offline` that a service hears: `online` may be repeated before it.
async fn offline(heard: &mut Subscriber) -> [String; 3] {
    loop {
        let said = told(heard).await;
        if said[1] == "offline" {
            return said;
        }
    }
}

/// Nothing is said in that time, which is longer than any wait of the gateways.
async fn nothing_is_said(heard: &mut Subscriber, time: Duration) {
    if let Ok(event) = timeout(time, heard.next()).await {
        panic!("{event:?}");
    }
}

fn expected(user: &str, state: &str, gateway: &str) -> [String; 3] {
    [user, state, gateway].map(str::to_owned)
}

async fn settled(gateways: &[Gateway]) {
    for gateway in gateways {
        gateway
            .metric_becomes("usher_presence_deciding_users", 0.0)
            .await;
    }
}

#[tokio::test]
async fn a_user_comes_and_goes() {
    let (nats, redis) = servers().await;
    let gateway = builder(&nats, &redis).start().await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.presence.*").await;
    let first = Client::open(&gateway, &redis.ticket("bob@example.com").await).await;
    let here = name(&first);
    assert_eq!(
        told(&mut heard).await,
        expected("bob@example.com", "online", &here)
    );
    let second = Client::open(&gateway, &redis.ticket("bob@example.com").await).await;
    drop(first);
    eventually("one has left", || async {
        gateway.metric("usher_sessions").await == 1.0
    })
    .await;
    let left = Instant::now();
    drop(second);
    // The second device and its leave are no news.
    assert_eq!(
        told(&mut heard).await,
        expected("bob@example.com", "offline", &here)
    );
    assert!(
        left.elapsed() >= Duration::from_millis(900),
        "the delay has passed"
    );
    let again = Client::open(&gateway, &redis.ticket("bob@example.com").await).await;
    assert_eq!(
        told(&mut heard).await,
        expected("bob@example.com", "online", &here)
    );
    drop(again);
    assert_eq!(
        told(&mut heard).await,
        expected("bob@example.com", "offline", &here)
    );
    settled(&[gateway]).await;
}

/// A page that is loaded again, here or elsewhere, is no leave.
#[tokio::test]
async fn who_moves_within_the_delay_was_never_offline() {
    let (nats, redis) = servers().await;
    let gateways = two(&nats, &redis).await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.presence.*").await;
    let mut client = Client::open(&gateways[0], &redis.ticket("42").await).await;
    let one = name(&client);
    assert_eq!(told(&mut heard).await, expected("42", "online", &one));
    // To the other one, which hears that services know, or says it again.
    let moved = Client::open(&gateways[1], &redis.ticket("42").await).await;
    let other = name(&moved);
    client.close(1000).await;
    client = moved;
    // Here again, on the same gateway.
    client.close(1000).await;
    let client = Client::open(&gateways[1], &redis.ticket("42").await).await;
    settled(&gateways).await;
    drop(client);
    // The first one would have said so before.
    assert_eq!(offline(&mut heard).await, expected("42", "offline", &other));
}

/// A session that has gone before the other joins: the new gateway cannot know that `online`
/// was said, so it says it again, and nobody says `offline`.
#[tokio::test]
async fn who_joins_elsewhere_within_the_delay_is_not_offline() {
    let (nats, redis) = servers().await;
    let gateways = two(&nats, &redis).await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.presence.*").await;
    let mut client = Client::open(&gateways[0], &redis.ticket("42").await).await;
    assert_eq!(
        told(&mut heard).await,
        expected("42", "online", &name(&client))
    );
    client.close(1000).await;
    eventually("nobody is here", || async {
        gateways[0].metric("usher_users").await == 0.0
    })
    .await;
    let client = Client::open(&gateways[1], &redis.ticket("42").await).await;
    assert_eq!(
        told(&mut heard).await,
        expected("42", "online", &name(&client))
    );
    settled(&gateways).await;
    nothing_is_said(&mut heard, Duration::from_millis(100)).await;
}

/// The gateway that the user left first says `offline` while nobody holds the user. So the
/// other one, where the delay still runs, says `online` again when the user comes back.
#[tokio::test]
async fn who_comes_back_after_another_gateway_said_offline_is_online() {
    let (nats, redis) = servers().await;
    let long = builder(&nats, &redis).set("presence.offline_delay", "300s");
    let (first, second) = tokio::join!(builder(&nats, &redis).start(), long.start());
    let said = "usher_presence_events_total{state=\"online\"}";
    let mut client = Client::open(&first, &redis.ticket("42").await).await;
    first.metric_becomes(said, 1.0).await;
    client.close(1000).await;
    first.metric_becomes("usher_users", 0.0).await;
    let mut client = Client::open(&second, &redis.ticket("42").await).await;
    second.metric_becomes(said, 1.0).await;
    client.close(1000).await;
    second.metric_becomes("usher_users", 0.0).await;
    // It has said `offline`, and asked again.
    settled(std::slice::from_ref(&first)).await;
    let _back = Client::open(&second, &redis.ticket("42").await).await;
    second.metric_becomes(said, 2.0).await;
}

/// The user's phone and desk, each at a gateway of its own.
async fn phone_and_desk(nats: &Nats, redis: &Redis, gateways: &[Gateway; 2]) {
    let service = nats.client().await;
    let mut heard = hears(nats, &service, "usher.presence.*").await;
    let mut phone = Client::open(&gateways[0], &redis.ticket("42").await).await;
    assert_eq!(
        told(&mut heard).await,
        expected("42", "online", &name(&phone))
    );
    let mut desk = Client::open(&gateways[1], &redis.ticket("42").await).await;
    settled(gateways).await;
    phone.close(1000).await;
    eventually("the phone has left", || async {
        gateways[0].metric("usher_users").await == 0.0
    })
    .await;
    settled(gateways).await;
    let last = name(&desk);
    desk.close(1000).await;
    assert_eq!(offline(&mut heard).await, expected("42", "offline", &last));
}

#[tokio::test]
async fn two_devices_on_two_gateways_are_one_user() {
    let (nats, redis) = servers().await;
    let gateways = two(&nats, &redis).await;
    phone_and_desk(&nats, &redis, &gateways).await;
}

/// Neither gateway leaves it to the other.
#[tokio::test]
async fn of_two_joins_at_the_same_moment_one_says_so() {
    let (nats, redis) = servers().await;
    let gateways = two(&nats, &redis).await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.presence.*").await;
    let mut sessions = Vec::new();
    for number in 0..20 {
        let user = format!("user-{number}");
        let tickets = [redis.ticket(&user).await, redis.ticket(&user).await];
        let (one, other) = tokio::join!(
            Client::open(&gateways[0], &tickets[0]),
            Client::open(&gateways[1], &tickets[1]),
        );
        sessions.extend([one, other]);
        // The other one may follow, now or behind the next user's.
        while told(&mut heard).await[..2] != [user.clone(), "online".to_owned()] {}
    }
    settled(&gateways).await;
    let said = gateways[0].metric("usher_presence_events_total").await
        + gateways[1].metric("usher_presence_events_total").await;
    assert!((20.0..=40.0).contains(&said), "{said}");
    drop(sessions);
    let mut left: Vec<_> = (0..20).map(|number| format!("user-{number}")).collect();
    while !left.is_empty() {
        let [user, state, _] = told(&mut heard).await;
        if state == "offline" {
            left.retain(|other| *other != user);
        }
    }
}

/// A gateway that is drained has said what becomes of its users before it ends.
#[tokio::test]
async fn a_drain_waits_until_services_are_told() {
    let (nats, redis) = servers().await;
    let drained = builder(&nats, &redis)
        .set("presence.offline_delay", "6s")
        .set("drain.delay", "0s")
        .set("drain.window", "1s");
    let (mut drained, other) = tokio::join!(drained.start(), builder(&nats, &redis).start());
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.presence.*").await;
    let gone = Client::open(&drained, &redis.ticket("gone").await).await;
    let here = name(&gone);
    assert_eq!(told(&mut heard).await, expected("gone", "online", &here));
    let mut moves = Client::open(&drained, &redis.ticket("moves").await).await;
    assert_eq!(told(&mut heard).await, expected("moves", "online", &here));
    drained.terminate();
    moves.expect_close().await;
    let moved = Client::open(&other, &redis.ticket("moves").await).await;
    assert!(drained.wait().await.success());
    // It has ended, so all that it says is said.
    assert!(!drained.log().contains("are not told"), "{}", drained.log());
    let mut said = Vec::new();
    while !said.contains(&expected("gone", "offline", &here)) {
        said.push(told(&mut heard).await);
    }
    assert!(
        !said
            .iter()
            .any(|[user, state, _]| user == "moves" && state == "offline")
    );
    drop((gone, moved));
}

/// Nobody says `offline` for a gateway that is killed; all others say that it is lost.
#[tokio::test]
async fn of_a_gateway_that_is_killed_services_hear_that_it_is_lost() {
    let (nats, redis) = servers().await;
    let [mut killed, other] = two(&nats, &redis).await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.presence.*").await;
    let client = Client::open(&killed, &redis.ticket("42").await).await;
    let lost = name(&client);
    assert_eq!(told(&mut heard).await, expected("42", "online", &lost));
    let stays = Client::open(&other, &redis.ticket("43").await).await;
    told(&mut heard).await;
    // The other one must have heard of it.
    eventually("they know each other", || async {
        other.metric("usher_gateways").await == 2.0
    })
    .await;
    killed.kill();
    let event = next(&mut heard).await;
    assert_eq!(event.subject.as_str(), "usher.presence.$lost");
    let said: Value = serde_json::from_slice(&event.payload).expect("JSON");
    assert_eq!(said, json!({ "gateway": lost }));
    // Whoever comes to the other one is online by it.
    let back = Client::open(&other, &redis.ticket("42").await).await;
    assert_eq!(
        told(&mut heard).await,
        expected("42", "online", &name(&back))
    );
    drop(stays);
}

/// What could not be said while NATS was away is said when it is back.
#[tokio::test]
async fn an_outage_of_nats_loses_no_leave() {
    let (mut nats, redis) = servers().await;
    let gateway = builder(&nats, &redis).start().await;
    let client = Client::open(&gateway, &redis.ticket("42").await).await;
    let here = name(&client);
    let said = "usher_presence_events_total{state=\"online\"}";
    gateway.metric_becomes(said, 1.0).await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"push\"}", 0.0)
        .await;
    drop(client);
    gateway.metric_becomes("usher_users", 0.0).await;
    nats.restart().await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.presence.*").await;
    let offline = "usher_presence_events_total{state=\"offline\"}";
    // Perhaps before the service was there.
    if gateway.metric(offline).await == 0.0 {
        assert_eq!(told(&mut heard).await, expected("42", "offline", &here));
    }
    gateway.metric_becomes(offline, 1.0).await;
}

/// Durable mode asks where the stream republishes.
#[tokio::test]
async fn it_is_the_same_in_durable_mode() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let durable = || {
        builder(&nats, &redis)
            .set("durable.enabled", "true")
            .set("durable.max_bytes", "64MiB")
            .start()
    };
    let (one, other) = tokio::join!(durable(), durable());
    phone_and_desk(&nats, &redis, &[one, other]).await;
}

/// Without the key nothing is said, and without the right it is told.
#[tokio::test]
async fn it_is_off_by_default_and_the_right_is_checked() {
    const PERMISSIONS: &str = include_str!("../../../examples/nats-permissions.conf");
    let (mut nats, redis) = servers().await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.presence.*").await;
    let off = Gateway::start(&nats, &redis).await;
    let client = Client::open(&off, &redis.ticket("42").await).await;
    nothing_is_said(&mut heard, Duration::from_millis(600)).await;
    drop((off, client));
    let (code, said) = builder(&nats, &redis).check().await;
    assert_eq!(code, Some(0), "{said}");
    let less = PERMISSIONS.replacen("    \"usher.presence.*\"\n", "", 1);
    assert_ne!(less, PERMISSIONS);
    nats.write_config(&less);
    nats.reload().await;
    let (code, said) = builder(&nats, &redis).check().await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("usher.presence.$check"), "{said}");
    let gateway = builder(&nats, &redis).start().await;
    let _client = Client::open(&gateway, &redis.ticket("42").await).await;
    gateway
        .metric_becomes("usher_presence_dropped_total", 1.0)
        .await;
}
