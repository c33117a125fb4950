//! Servers of a cluster go into lame-duck mode one after another, as in every update of
//! NATS. Two connections overlap meanwhile, and nothing may be lost or counted twice.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all};
use serde_json::Value;
use tokio::time::timeout;
use usher::proto::PushStatus;

use crate::{
    durable::store,
    support::{
        Client, Gateway, Nats, Redis, eventually,
        grpc::{push_with_receipt, pushed},
        wait::patiently,
    },
};

const SUBJECT: &str = "usher.user.42";
const MESSAGES: u64 = 300;
const GATEWAYS: usize = 3;

/// Each node retires, ends and comes back, and the stream's replicas are current again
/// before the next one retires.
async fn retire_one_after_another(nodes: &mut [Nats]) {
    for index in 0..nodes.len() {
        nodes[index].retire();
        let node = &mut nodes[index];
        eventually("the node has ended", || {
            std::future::ready(node.has_ended())
        })
        .await;
        node.restart().await;
        Nats::reach_each_other(nodes).await;
        let client = nodes[index].client().await;
        eventually("all replicas are current", || replicas_are_current(&client)).await;
    }
}

async fn replicas_are_current(client: &async_nats::Client) -> bool {
    let asking = client.request("$JS.API.STREAM.INFO.USHER", "".into());
    let Ok(Ok(answer)) = timeout(Duration::from_secs(2), asking).await else {
        return false;
    };
    let info: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    let replicas = info["config"]["num_replicas"].as_u64();
    let others = info["cluster"]["replicas"].as_array();
    let current = |one: &Value| one["current"] == true && one["offline"] != true;
    replicas == Some(3) && others.is_some_and(|o| o.len() == 2 && o.iter().all(current))
}

/// Whoever is told `complete` and then `live` has every message that was stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_join_misses_nothing_while_servers_retire() {
    let (mut nodes, redis) = tokio::join!(
        Nats::cluster_with(3, "jetstream: enabled\n"),
        Redis::start()
    );
    let servers: Vec<String> = nodes.iter().map(Nats::url).collect();
    // Several, so that several connections move each time.
    let gateways = (0..GATEWAYS).map(|_| {
        Gateway::durable(&nodes[0], &redis)
            .set("durable.replicas", "3")
            .set("nats.url", servers.join(","))
            .start()
    });
    let gateways = join_all(gateways).await;
    let publisher = nodes[0].client().await;
    for data in 0..MESSAGES {
        store(&publisher, SUBJECT, data).await;
    }
    drop(publisher);
    let done = AtomicBool::new(false);
    let (complete, disordered) = (AtomicU64::new(0), AtomicU64::new(0));
    let (redis, done, complete, disordered) = (&redis, &done, &complete, &disordered);
    let joins = (0..GATEWAYS).map(|number| {
        let gateway = &gateways[number];
        async move {
            while !done.load(Ordering::Relaxed) {
                let ticket = redis.ticket("42").await;
                let builder = Client::builder(gateway, &ticket).since("0");
                let mut client = match builder.try_open().await {
                    Ok(client) => client,
                    Err(refusal) => {
                        refusal.assert_refused(503, "unavailable");
                        continue;
                    }
                };
                let told = client.welcome()["resume"].clone();
                assert_eq!(told, "complete", "nothing was removed from the stream");
                let mut seen = Vec::new();
                let live = loop {
                    let frame = client.next_json().await;
                    if frame["live"].is_object() {
                        break frame;
                    }
                    assert!(frame["event"].is_string(), "{frame}");
                    seen.push(frame["data"].as_u64().expect("a number"));
                };
                let missing = (0..MESSAGES).filter(|number| !seen.contains(number));
                let missing: Vec<u64> = missing.collect();
                let joined = complete.load(Ordering::Relaxed);
                assert!(
                    missing.is_empty(),
                    "after {joined} good joins: told complete, then {live}, and {} of {MESSAGES} \
                 messages are missing: {missing:?}",
                    missing.len()
                );
                if seen != (0..MESSAGES).collect::<Vec<_>>() {
                    disordered.fetch_add(1, Ordering::Relaxed);
                }
                complete.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let rolling = async {
        // Joins are under way before the first one retires.
        eventually("clients join", || {
            std::future::ready(complete.load(Ordering::Relaxed) > 20)
        })
        .await;
        for _ in 0..2 {
            retire_one_after_another(&mut nodes).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(rolling, join_all(joins));
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let (complete, disordered) = (count(complete), count(disordered));
    assert_eq!(
        disordered, 0,
        "of {complete} joins that miss nothing, so many had a message twice or out of order"
    );
}

/// A gateway that moves to another server is connected to two of them for a moment, and
/// each session counts once all the same: in a push's receipt, and in an answer to a
/// publisher.
#[tokio::test]
async fn a_receipt_counts_each_session_once_while_a_server_retires() {
    let (mut nodes, redis) = tokio::join!(Nats::cluster_with(3, ""), Redis::start());
    let servers: Vec<String> = nodes.iter().map(Nats::url).collect();
    let gateway = Gateway::builder(&nodes[0], &redis)
        .set("nats.url", servers.join(","))
        .set("nats.settle", "300ms")
        .start()
        .await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(Client::open(&gateway, &redis.ticket("42").await).await);
    }
    let mut caller = gateway.grpc().await;
    let mut number = 0;
    // Whichever of them a connection is at.
    for retiring in 0..3 {
        let publisher = nodes[(retiring + 1) % 3].client().await;
        let inbox = publisher.new_inbox();
        let mut answers = publisher
            .subscribe(inbox.clone())
            .await
            .expect("subscribed");
        nodes[retiring].retire();
        let (first, mut after) = (number, 0);
        while after < 20 {
            number += 2;
            let request = push_with_receipt("42", (number - 1).to_string());
            let response = pushed(&mut caller, request).await;
            assert_eq!(response.status(), PushStatus::Queued, "push {number}");
            assert_eq!(
                response.sessions, 2,
                "push {number}, node {retiring} retires"
            );
            let payload = number.to_string().into();
            let asked = publisher.publish_with_reply(SUBJECT, inbox.clone(), payload);
            asked.await.expect("published");
            for session in &mut sessions {
                if number > 2 && number == first + 2 {
                    assert_eq!(session.next_data().await, "last");
                }
                assert_eq!(session.next_data().await, number - 1);
                assert_eq!(session.next_data().await, number);
            }
            after += u32::from(nodes[retiring].has_ended());
        }
        answered_once_each(&publisher, &mut answers, (number - first) / 2).await;
        nodes[retiring].restart().await;
        Nats::reach_each_other(&nodes).await;
    }
}

/// So many questions were answered by two sessions each, and once.
async fn answered_once_each(
    publisher: &async_nats::Client,
    answers: &mut async_nats::Subscriber,
    questions: usize,
) {
    let read = |answer: &async_nats::Message| -> Value {
        serde_json::from_slice(&answer.payload).expect("JSON")
    };
    for _ in 0..questions {
        let answer = patiently("an answer", answers.next()).await;
        assert_eq!(read(&answer.expect("an answer"))["sessions"], 2);
    }
    // The answer to a last question comes after all others of the same gateway.
    let last = publisher.request(SUBJECT, "\"last\"".into()).await;
    assert_eq!(read(&last.expect("an answer"))["sessions"], 2);
    let more = futures_util::FutureExt::now_or_never(answers.next());
    assert!(more.is_none(), "an answer twice: {more:?}");
}
