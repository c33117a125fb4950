//! A gateway is subscribed to a user's subject exactly while it holds a session
//! of that user: seen from the NATS server itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::support::{Client, Gateway, Nats, Redis, eventually, servers, world};

async fn becomes(nats: &Nats, subject: &str, count: usize) {
    let what = format!("{subject} has {count} subscriptions");
    eventually(&what, || async {
        nats.subscriptions(subject).await == count
    })
    .await;
}

#[tokio::test]
async fn the_first_session_subscribes_and_the_last_unsubscribes() {
    let (nats, redis, gateway) = world().await;
    let subject = "usher.user.42";
    assert_eq!(nats.subscriptions(subject).await, 0);
    assert_eq!(nats.subscriptions("usher.broadcast").await, 1);

    // Whoever has read the welcome is subscribed: no waiting here.
    let mut first = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(nats.subscriptions(subject).await, 1);
    let second = Client::open(&gateway, &redis.ticket("42").await).await;
    let other = Client::open(&gateway, &redis.ticket("43").await).await;
    assert_eq!(nats.subscriptions(subject).await, 1);
    assert_eq!(nats.subscriptions("usher.user.43").await, 1);
    assert_eq!(gateway.metric("usher_sessions").await, 3.0);
    assert_eq!(gateway.metric("usher_users").await, 2.0);

    first.close(1000).await;
    gateway.metric_becomes("usher_sessions", 2.0).await;
    assert_eq!(nats.subscriptions(subject).await, 1, "one is still here");

    // However it leaves: this one just drops the connection.
    drop(second);
    becomes(&nats, subject, 0).await;
    drop(other);
    becomes(&nats, "usher.user.43", 0).await;
    gateway.metric_becomes("usher_users", 0.0).await;
    assert_eq!(nats.subscriptions("usher.broadcast").await, 1);
}

/// Its inbox, the echo by which it confirms pushes, what gateways say to each other, and the
/// service API.
fn is_the_gateways_own(subject: &str) -> bool {
    let beginnings = ["_INBOX.", "usher.live.user.$", "usher.api."];
    let itself = ["usher.gateways", "usher.control"];
    let begins = |beginning: &&str| subject.starts_with(*beginning);
    beginnings.iter().any(begins) || itself.contains(&subject)
}

#[tokio::test]
async fn there_is_never_a_wildcard_over_users() {
    let (nats, redis, gateway) = world().await;
    let mut sessions = Vec::new();
    for user in ["*", ">", "a.b", "42", "usher", "%"] {
        sessions.push(Client::open(&gateway, &redis.ticket(user).await).await);
    }
    let mut ours = nats.all_subjects().await;
    ours.retain(|subject| !is_the_gateways_own(subject));
    ours.sort();
    let mut expected = ["%25", "%2A", "%3E", "42", "a%2Eb", "usher"]
        .map(|t| format!("usher.user.{t}"))
        .to_vec();
    expected.insert(0, "usher.broadcast".to_owned());
    expected.sort();
    assert_eq!(ours, expected);
}

#[tokio::test]
async fn a_refused_request_subscribes_to_nothing() {
    let (nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    Client::builder(&gateway, &ticket)
        .origin("https://evil.example")
        .refused()
        .await;
    Client::builder(&gateway, &ticket)
        .since("x")
        .refused()
        .await;
    assert_eq!(nats.subscriptions("usher.user.42").await, 0);
    let expected: Vec<String> = vec!["usher.broadcast".to_owned()];
    let mut subjects = nats.all_subjects().await;
    subjects.retain(|subject| !is_the_gateways_own(subject));
    assert_eq!(subjects, expected);
}

#[tokio::test]
async fn two_gateways_subscribe_each_for_itself() {
    let (nats, redis, here) = world().await;
    let mut there = Gateway::start(&nats, &redis).await;
    let subject = "usher.user.42";
    let _here = Client::open(&here, &redis.ticket("42").await).await;
    assert_eq!(nats.subscriptions(subject).await, 1);
    let session = Client::open(&there, &redis.ticket("42").await).await;
    assert_eq!(nats.subscriptions(subject).await, 2);
    drop(session);
    becomes(&nats, subject, 1).await;
    // However a gateway ends, what it held is gone with it.
    let _there = Client::open(&there, &redis.ticket("42").await).await;
    assert_eq!(nats.subscriptions(subject).await, 2);
    there.kill();
    becomes(&nats, subject, 1).await;
}

#[tokio::test]
async fn whoever_is_welcomed_misses_nothing_after_it() {
    let (nats, redis, gateway) = world().await;
    let publisher = nats.client().await;
    for round in 0..200 {
        let subject = format!("usher.user.{round}");
        let mut client = Client::open(&gateway, &redis.ticket(&round.to_string()).await).await;
        // One publish, right after the welcome, on another connection.
        publisher
            .publish(subject, round.to_string().into())
            .await
            .expect("published");
        publisher.flush().await.expect("flushed");
        assert_eq!(client.next_data().await, round);
    }
}

#[tokio::test]
async fn subscriptions_are_taken_up_again_when_nats_comes_back() {
    let (mut nats, redis, gateway) = world().await;
    let mut stays = Client::open(&gateway, &redis.ticket("stays").await).await;
    let leaves = Client::open(&gateway, &redis.ticket("leaves").await).await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    drop(leaves);
    gateway.metric_becomes("usher_sessions", 1.0).await;
    nats.restart().await;
    becomes(&nats, "usher.user.stays", 1).await;
    assert_eq!(nats.subscriptions("usher.user.leaves").await, 0);
    assert_eq!(stays.expect_gap().await["reason"], "bus_lost");
    nats.publish("usher.user.stays", "1").await;
    assert_eq!(stays.next_data().await, 1);
}

/// Few users, many sessions that come and go, and a steady stream of numbers
/// to each user. No session may miss a number between its first and its last,
/// nor one that was published after it had read its welcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_come_and_go_miss_nothing() {
    const USERS: usize = 4;
    const TASKS: usize = 24;
    const TIME: Duration = Duration::from_secs(5);

    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "100000")
        .set("public.max_sessions_per_user", "100")
        .start()
        .await;
    let (gateway, redis) = (Arc::new(gateway), Arc::new(redis));
    // The next number of each user.
    let next: Arc<[AtomicU64; USERS]> = Arc::default();
    let over = Arc::new(AtomicBool::new(false));

    let publisher = tokio::spawn({
        let (client, next, over) = (nats.client().await, next.clone(), over.clone());
        async move {
            while !over.load(Ordering::SeqCst) {
                for (user, next) in next.iter().enumerate() {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let subject = format!("usher.user.{user}");
                    client
                        .publish(subject, number.to_string().into())
                        .await
                        .expect("published");
                }
                client.flush().await.expect("flushed");
                sleep(Duration::from_millis(1)).await;
            }
        }
    });

    let end = Instant::now() + TIME;
    let tasks = (0..TASKS).map(|_| {
        let (gateway, redis, next) = (gateway.clone(), redis.clone(), next.clone());
        tokio::spawn(async move {
            let mut sessions = 0;
            while Instant::now() < end {
                one_session(&gateway, &redis, &*next).await;
                sessions += 1;
            }
            sessions
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut sessions = 0;
    for task in tasks {
        sessions += task.await.expect("no session missed anything");
    }
    over.store(true, Ordering::SeqCst);
    publisher.await.expect("the publisher went on");
    assert!(
        sessions > TASKS * 2,
        "too few came and went to say anything: {sessions}"
    );

    // And then nobody is here, and nothing is held.
    gateway.metric_becomes("usher_sessions", 0.0).await;
    gateway.metric_becomes("usher_users", 0.0).await;
    for user in 0..USERS {
        becomes(&nats, &format!("usher.user.{user}"), 0).await;
    }
}

async fn one_session(gateway: &Gateway, redis: &Redis, next: &[AtomicU64]) {
    let user = rand::random_range(0..next.len());
    let mut client = Client::open(gateway, &redis.ticket(&user.to_string()).await).await;
    // Numbers from here on are published after the welcome was read.
    let after_welcome = next[user].load(Ordering::SeqCst);
    let first = client.next_data().await.as_u64().expect("a number");
    assert!(
        first <= after_welcome,
        "user {user} missed {after_welcome}, got {first} first"
    );
    let mut last = first;
    let until = after_welcome + rand::random_range(0..100);
    while last < until {
        let number = client.next_data().await.as_u64().expect("a number");
        assert_eq!(
            number,
            last + 1,
            "user {user} missed a number, or got one twice"
        );
        last = number;
    }
    // Most say goodbye; the others are just gone.
    if rand::random_range(0..3) > 0 {
        client.close(1000).await;
    }
}

/// Many tasks, one user each: a leave must not undo a join that overtakes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_never_undoes_a_join() {
    let (nats, redis, gateway) = world().await;
    let publisher = nats.client().await;
    let mut session = Client::open(&gateway, &redis.ticket("42").await).await;
    for round in 0..200 {
        // The last session of the user leaves while the next one joins.
        let ticket = redis.ticket("42").await;
        let (_, next) = tokio::join!(session.close(1000), Client::open(&gateway, &ticket));
        session = next;
        publisher
            .publish("usher.user.42", round.to_string().into())
            .await
            .expect("published");
        publisher.flush().await.expect("flushed");
        assert_eq!(session.next_data().await, round);
    }
    assert_eq!(nats.subscriptions("usher.user.42").await, 1);
}

#[tokio::test]
async fn many_users_are_held_at_once() {
    let (nats, redis, gateway) = world().await;
    let users: Vec<String> = (0..300).map(|n| format!("user-{n}")).collect();
    let sessions = join_all(
        users
            .iter()
            .map(|user| async { Client::open(&gateway, &redis.ticket(user).await).await }),
    )
    .await;
    let subjects = nats.all_subjects().await;
    let held = subjects
        .iter()
        .filter(|subject| subject.starts_with("usher.user."))
        .count();
    assert_eq!(held, users.len());
    assert_eq!(gateway.metric("usher_users").await, users.len() as f64);
    drop(sessions);
    gateway.metric_becomes("usher_users", 0.0).await;
    eventually("nothing is held", || async {
        !nats
            .all_subjects()
            .await
            .iter()
            .any(|subject| subject.starts_with("usher.user."))
    })
    .await;
}
