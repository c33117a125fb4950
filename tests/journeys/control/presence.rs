//! Who is online, as all gateways know it together.

use std::{collections::HashMap, time::Instant};

use tonic::Code;
use usher::proto::Presence;

use super::{gateways, knows};
use crate::support::{
    Builder, Client, Events, Gateway, eventually,
    grpc::{disconnect, presence},
    servers,
};

/// What an answer says of a user: sessions, and gateways in order.
fn of<'a>(users: &'a HashMap<String, Presence>, user: &str) -> (u32, Vec<&'a str>) {
    let Some(found) = users.get(user) else {
        return (0, Vec::new());
    };
    let mut gateways: Vec<_> = found.gateways.iter().map(String::as_str).collect();
    gateways.sort_unstable();
    (found.sessions, gateways)
}

#[tokio::test]
async fn it_is_right_as_soon_as_somebody_comes_or_goes() {
    let (nats, redis) = servers().await;
    let gateways = gateways(2, (&nats, &redis), &[]).await;
    let [first, second] = &gateways[..] else {
        panic!("two gateways")
    };
    let mut client = Client::open(first, &redis.ticket("42").await).await;
    let mut other = Client::open(second, &redis.ticket("42").await).await;
    let events = Events::open(second, &redis.ticket("42").await).await;
    let raw = redis.ticket("bob@example.com").await;
    let raw = Client::builder(second, &raw).protocols(&["usher.raw.v1"]);
    let raw = raw.open().await;
    let names = [&client, &other].map(|one| one.welcome()["gateway"].as_str().expect("a name"));
    let [one, two] = names.map(str::to_owned);
    let mut both = [&*one, &*two];
    both.sort_unstable();

    let users = ["42", "bob@example.com", "nobody", "42"];
    for gateway in &gateways {
        let mut grpc = gateway.grpc().await;
        let found = presence(&mut grpc, &users).await.expect("an answer");
        assert!(found.complete, "{found:?}");
        assert_eq!(of(&found.users, "42"), (3, both.to_vec()));
        assert_eq!(of(&found.users, "bob@example.com"), (1, vec![&*two]));
        assert_eq!(found.users.len(), 2, "who is offline is not in it");
    }

    // The close has been answered, so the session is over.
    client.close(1000).await;
    let mut grpc = first.grpc().await;
    let found = presence(&mut grpc, &users).await.expect("an answer");
    assert_eq!(of(&found.users, "42"), (2, vec![&*two]));
    other.close(1000).await;
    drop((events, raw));
    eventually("nobody is online", || {
        let mut grpc = grpc.clone();
        async move {
            presence(&mut grpc, &users)
                .await
                .expect("an answer")
                .users
                .is_empty()
        }
    })
    .await;
}

/// An answer is complete only when every gateway has answered that there may be.
#[tokio::test]
async fn it_says_whether_every_gateway_has_answered() {
    let (nats, redis) = servers().await;
    let begun = Instant::now();
    let stays = Gateway::start(&nats, &redis).await;
    let mut grpc = stays.grpc().await;
    let found = presence(&mut grpc, &["42"]).await.expect("an answer");
    assert!(
        !found.complete || begun.elapsed().as_secs() >= 4,
        "{found:?}"
    );
    knows(&stays, 1).await;
    assert!(begun.elapsed().as_secs() >= 4, "before it could know");

    let quick = Gateway::builder(&nats, &redis).set("drain.delay", "0s");
    let mut freezes = quick.set("drain.window", "0s").start().await;
    knows(&stays, 2).await;
    let client = Client::open(&stays, &redis.ticket("42").await).await;
    let _other = Client::open(&freezes, &redis.ticket("42").await).await;
    freezes.pause();
    let asked = Instant::now();
    let found = presence(&mut grpc, &["42"]).await.expect("an answer");
    assert!(asked.elapsed().as_secs() >= 1, "it was waited for");
    assert!(!found.complete, "{found:?}");
    let name = client.welcome()["gateway"].as_str().expect("a name");
    assert_eq!(of(&found.users, "42"), (1, vec![name]));
    let ended = disconnect(&mut grpc, "nobody", false, "").await;
    let ended = ended.expect("an answer");
    assert!(!ended.complete && ended.sessions == 0, "{ended:?}");
    freezes.resume();
    knows(&stays, 2).await;

    // One that has said goodbye is not waited for.
    freezes.terminate();
    assert!(freezes.wait().await.success());
    let found = presence(&mut grpc, &["42"]).await.expect("an answer");
    assert!(found.complete, "{found:?}");
    stays
        .metric_becomes(
            "usher_control_calls_total{op=\"disconnect\",result=\"incomplete\"}",
            1.0,
        )
        .await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_said() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut grpc = gateway.grpc().await;
    let ids = |count: usize| (0..count).map(|id| id.to_string()).collect::<Vec<_>>();
    for (users, says) in [
        (ids(0), "user_ids has 0 ids; a call has 1–1,000"),
        (ids(1001), "user_ids has 1001 ids; a call has 1–1,000"),
        (
            vec!["42".to_owned(), String::new()],
            "user_ids has at index 1",
        ),
        (vec!["x".repeat(129)], "129 bytes"),
    ] {
        let refused = presence(&mut grpc, &users).await.expect_err("a refusal");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(says), "{refused:?}");
    }
    // The longest ids, and characters that JSON escapes.
    let long: Vec<_> = (0..1000)
        .map(|id| format!("{id:0>4}{}", "\"".repeat(124)))
        .collect();
    let found = presence(&mut grpc, &long).await.expect("an answer");
    assert!(found.users.is_empty(), "{found:?}");

    for (user, reason, says) in [
        ("", "", "user_id is empty"),
        (
            "42",
            &*"x".repeat(65),
            "reason has 65 bytes; it has at most 64",
        ),
    ] {
        let refused = disconnect(&mut grpc, user, false, reason).await;
        let refused = refused.expect_err("a refusal");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(says), "{refused:?}");
    }
}

#[tokio::test]
async fn without_nats_nobody_is_asked() {
    let (mut nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    knows(&gateway, 1).await;
    let mut grpc = gateway.grpc().await;
    nats.pause();
    let refused = presence(&mut grpc, &["42"]).await.expect_err("no answer");
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
    nats.resume();
    eventually("it answers again", || {
        let mut grpc = grpc.clone();
        async move { presence(&mut grpc, &["42"]).await.is_ok() }
    })
    .await;
    nats.kill();
    let push = "usher_nats_connected{connection=\"push\"}";
    gateway.metric_becomes(push, 0.0).await;
    for refused in [
        presence(&mut grpc, &["42"])
            .await
            .expect_err("NATS is away"),
        disconnect(&mut grpc, "42", false, "")
            .await
            .expect_err("NATS is away"),
    ] {
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    // What came while it was away may have been missed.
    nats.restart().await;
    eventually("it answers again", || {
        let mut grpc = grpc.clone();
        async move {
            presence(&mut grpc, &["42"])
                .await
                .is_ok_and(|found| !found.complete)
        }
    })
    .await;
    knows(&gateway, 1).await;
}

/// The only gateway answers for itself, at once.
#[tokio::test]
async fn an_embedded_gateway_is_all_there_is() {
    let gateway = Builder::new().argument("--embedded").start().await;
    let mut grpc = gateway.grpc().await;
    let request = usher::proto::IssueTicketRequest {
        user_id: "42".to_owned(),
        ..Default::default()
    };
    let ticket = crate::support::grpc::issue(&mut grpc, request).await;
    let mut client = Client::open(&gateway, &ticket).await;
    let name = client.welcome()["gateway"]
        .as_str()
        .expect("a name")
        .to_owned();
    let found = presence(&mut grpc, &["42", "43"]).await.expect("an answer");
    assert!(found.complete);
    assert_eq!(of(&found.users, "42"), (1, vec![&*name]));
    let ended = disconnect(&mut grpc, "42", false, "enough")
        .await
        .expect("done");
    assert!(ended.complete && ended.sessions == 1, "{ended:?}");
    assert_eq!(client.expect_goodbye().await["message"], "enough");
    assert_eq!(client.expect_close().await.0, 4100);
}
