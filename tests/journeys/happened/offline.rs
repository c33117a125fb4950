//! `offline.events`: a message that no session was given is told to services.

use std::{collections::HashSet, time::Duration};

use async_nats::HeaderMap;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{consumer, header, hears, next};
use crate::{
    durable::{api, position, store},
    support::{Builder, Client, Gateway, Nats, Redis, eventually, wait::patiently},
};

fn builder(nats: &Nats, redis: &Redis) -> Builder {
    Gateway::durable(nats, redis).set("offline.events", "true")
}

/// A NATS with the rights of the example file, Redis, and a gateway that reads its consumer.
async fn world() -> (Nats, Redis, Gateway) {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = started(builder(&nats, &redis)).await;
    (nats, redis, gateway)
}

/// The gateway, when its consumer is there: what is stored before is not its.
async fn started(builder: Builder) -> Gateway {
    let gateway = builder.start().await;
    gateway.logs("created the consumer").await;
    gateway
}

/// Holds the consumer back, or lets it go on.
async fn pause(nats: &async_nats::Client, until: &str) {
    let name = "USHER.usher-offline";
    let answer = api(
        nats,
        &format!("CONSUMER.PAUSE.{name}"),
        &json!({ "pause_until": until }),
    )
    .await;
    assert!(answer["error"].is_null(), "{answer}");
}

const LATER: &str = "2099-01-01T00:00:00Z";
const NOW: &str = "2001-01-01T00:00:00Z";

const GIVEN: &str = "usher_offline_messages_total{result=\"given\"}";
const PUBLISHED: &str = "usher_offline_messages_total{result=\"published\"}";
const SKIPPED: &str = "usher_offline_messages_total{result=\"skipped\"}";

#[tokio::test]
async fn a_message_to_a_user_who_is_away_goes_out() {
    let (nats, redis, gateway) = world().await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    let mut here = Client::open(&gateway, &redis.ticket("here").await).await;
    let mut headers = HeaderMap::new();
    headers.insert("Event", "order.completed");
    headers.insert("Nats-Msg-Id", "order-7");
    headers.insert("Nats-TTL", "1h");
    headers.insert("Usher-Seq", "99");
    headers.insert(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    for subject in ["usher.user.here", "usher.user.bob%40example%2Ecom"] {
        let asking = service.request_with_headers(subject, headers.clone(), "{\"order\":1}".into());
        let stored = patiently("stored", asking).await.expect("stored");
        let stored: Value = serde_json::from_slice(&stored.payload).expect("JSON");
        assert!(stored["error"].is_null(), "{stored}");
        headers.insert("Nats-Msg-Id", "order-8");
    }
    assert_eq!(here.next_data().await["order"], 1);
    let event = next(&mut heard).await;
    assert_eq!(event.subject.as_str(), "usher.offline.bob%40example%2Ecom");
    assert_eq!(&event.payload[..], b"{\"order\":1}");
    assert_eq!(header(&event, "Event").as_deref(), Some("order.completed"));
    assert_eq!(header(&event, "Nats-Msg-Id").as_deref(), Some("order-8"));
    assert!(header(&event, "traceparent").is_some());
    assert_eq!(header(&event, "Nats-TTL"), None);
    let headers = event.headers.as_ref().expect("headers");
    let sequences: Vec<_> = headers
        .get_all("Usher-Seq")
        .map(|seq| seq.as_str())
        .collect();
    assert_eq!(sequences, ["2"]);
    let at: u128 = header(&event, "Usher-At")
        .expect("a time")
        .parse()
        .expect("a time");
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_millis();
    assert!(now.abs_diff(at) < 3_600_000, "{at}");
    // Who is here was given it, and nobody is told of that.
    gateway.metric_becomes(GIVEN, 1.0).await;
    gateway.metric_becomes(PUBLISHED, 1.0).await;
    eventually("everything is acknowledged", || async {
        let info = consumer_by_operator(&nats).await;
        info["num_ack_pending"] == 0 && info["ack_floor"]["stream_seq"] == 2
    })
    .await;
    store(&service, "usher.user.43", 3).await;
    assert_eq!(next(&mut heard).await.subject.as_str(), "usher.offline.43");
}

/// The example file lets a gateway ask, and nobody else.
async fn consumer_by_operator(nats: &Nats) -> Value {
    let (user, password) = crate::support::nats::Role::Gateway.login();
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    let client = options.connect(nats.url()).await.expect("a connection");
    consumer(&client).await
}

/// A probe that somebody had a stream store is no message, and a subject that no user has is
/// nobody's.
#[tokio::test]
async fn what_is_no_message_to_a_user_is_told_to_nobody() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = started(builder(&nats, &redis)).await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.>").await;
    let mut probe = HeaderMap::new();
    probe.insert("Usher-Probe", "1");
    let stored = service
        .request_with_headers("usher.user.42", probe, "".into())
        .await;
    stored.expect("stored");
    store(&service, "usher.user.bob@localhost", 1).await;
    store(&service, "usher.broadcast", 1).await;
    gateway.metric_becomes(SKIPPED, 2.0).await;
    store(&service, "usher.user.43", 2).await;
    assert_eq!(next(&mut heard).await.subject.as_str(), "usher.offline.43");
}

/// Each message is looked at by one of two gateways, whichever has the user.
#[tokio::test]
async fn two_gateways_share_the_work() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateways = [
        started(builder(&nats, &redis)).await,
        builder(&nats, &redis).start().await,
    ];
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    let mut sessions = Vec::new();
    for (user, gateway) in gateways.iter().enumerate() {
        let ticket = redis.ticket(&format!("here-{user}")).await;
        sessions.push(Client::open(gateway, &ticket).await);
    }
    let mut sent = 0;
    let mut told = HashSet::new();
    let both =
        async |metric: &str| gateways[0].metric(metric).await + gateways[1].metric(metric).await;
    eventually("both gateways have published", || {
        let (service, gateways) = (&service, &gateways);
        for _ in 0..20 {
            sent += 1;
        }
        let last = sent;
        async move {
            for number in last - 20..last {
                store(service, &format!("usher.user.away-{number}"), number).await;
                store(service, &format!("usher.user.here-{}", number % 2), number).await;
            }
            gateways[0].metric(PUBLISHED).await > 0.0 && gateways[1].metric(PUBLISHED).await > 0.0
        }
    })
    .await;
    for _ in 0..sent {
        let event = next(&mut heard).await;
        assert!(
            told.insert(event.subject.to_string()),
            "twice: {}",
            event.subject
        );
    }
    eventually("all were looked at", || async {
        both(GIVEN).await == f64::from(sent) && both(PUBLISHED).await == f64::from(sent)
    })
    .await;
}

/// A message whose gateway ends before it has said anything comes to the other one.
#[tokio::test]
async fn a_gateway_that_is_killed_leaves_its_messages_to_the_other() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let mut one = started(builder(&nats, &redis)).await;
    let other = builder(&nats, &redis).start().await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    // It stands still with what it was given.
    one.pause();
    let mut users = HashSet::new();
    eventually("the gateway that stands still has some", || {
        let user = format!("away-{}", users.len());
        users.insert(format!("usher.offline.{user}"));
        let service = &service;
        async move {
            store(service, &format!("usher.user.{user}"), 1).await;
            consumer(service).await["num_ack_pending"].as_u64() > Some(3)
        }
    })
    .await;
    eventually("the other has done its part", || async {
        let done = other.metric(PUBLISHED).await as u64;
        let left = consumer(&service).await["num_ack_pending"].as_u64();
        done > 0 && left == Some(users.len() as u64 - done)
    })
    .await;
    one.kill();
    while !users.is_empty() {
        users.remove(next(&mut heard).await.subject.as_str());
    }
    eventually("everything is acknowledged", || async {
        consumer(&service).await["num_ack_pending"] == 0
    })
    .await;
}

/// A page that joins after its message was stored, and begins beyond it, was not given it.
#[tokio::test]
async fn a_page_that_begins_beyond_the_message_was_not_given_it() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = started(builder(&nats, &redis)).await;
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    let before = Client::open(&gateway, &redis.ticket("43").await).await;
    let since = position(&before);
    drop(before);
    eventually("nobody is there", || async {
        gateway.metric("usher_users").await == 0.0
    })
    .await;
    pause(&service, LATER).await;
    store(&service, "usher.user.42", 1).await;
    store(&service, "usher.user.43", 2).await;
    // One begins now; the other goes on from where it was, and is sent its message.
    let mut begins = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("43").await;
    let mut goes_on = Client::builder(&gateway, &ticket)
        .since(&since)
        .open()
        .await;
    assert_eq!(goes_on.next_data().await, 2);
    pause(&service, NOW).await;
    let event = next(&mut heard).await;
    assert_eq!(event.subject.as_str(), "usher.offline.42");
    gateway.metric_becomes(GIVEN, 1.0).await;
    begins.quiet_for(Duration::from_millis(50)).await;
}

/// Whatever the order is in which a page joins and its message is stored, there is the
/// message or the event.
#[tokio::test]
async fn a_page_that_joins_in_that_moment_has_the_message_or_the_event() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateways = [
        started(builder(&nats, &redis)).await,
        builder(&nats, &redis).start().await,
    ];
    let service = nats.client().await;
    let mut heard = hears(&nats, &service, "usher.offline.*").await;
    const USERS: usize = 60;
    let joining = (0..USERS).map(|number| {
        let (gateway, redis, service) = (&gateways[number % 2], &redis, &service);
        async move {
            let user = format!("user-{number}");
            let ticket = redis.ticket(&user).await;
            // The join of half of them begins first.
            let pause = Duration::from_micros(number as u64 * 100);
            let joins = async {
                if number % 4 > 1 {
                    tokio::time::sleep(pause).await;
                }
                Client::open(gateway, &ticket).await
            };
            let stores = async {
                if number % 4 < 2 {
                    tokio::time::sleep(pause).await;
                }
                store(service, &format!("usher.user.{user}"), number).await
            };
            let (mut client, seq) = tokio::join!(joins, stores);
            let owed = client.welcome()["seq"].as_u64() < Some(seq);
            if owed {
                assert_eq!(client.next_data().await, number);
            }
            (user, owed, client)
        }
    });
    let joined = join_all(joining).await;
    let mut missing: HashSet<_> = joined
        .iter()
        .filter(|(_, owed, _)| !owed)
        .map(|(user, ..)| format!("usher.offline.{user}"))
        .collect();
    while !missing.is_empty() {
        missing.remove(next(&mut heard).await.subject.as_str());
    }
}
