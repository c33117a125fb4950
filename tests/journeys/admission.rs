//! Who is let in: a ticket opens one session of one user, once.

mod tickets;

use std::collections::HashSet;

use futures_util::future::join_all;

use crate::support::{Client, Frame, Gateway, RawWs, eventually, http, raw_ws, servers, world};

#[tokio::test]
async fn a_ticket_opens_one_door_once() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;

    let first = Client::open(&gateway, &ticket).await;
    let welcome = first.welcome();
    assert_eq!(welcome["user"], "42");
    assert_eq!(welcome["ping"], 25);
    assert_eq!(welcome["resume"], "none");
    for text in ["session", "gateway"] {
        assert!(
            welcome[text].as_str().is_some_and(|t| !t.is_empty()),
            "{welcome}"
        );
    }
    for durable in ["epoch", "seq"] {
        assert!(welcome.get(durable).is_none(), "{welcome}");
    }
    assert_eq!(
        first.response.header("sec-websocket-protocol"),
        Some("usher.v1")
    );
    assert!(!redis.exists(&ticket).await, "a used ticket is gone");

    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    assert_eq!(gateway.metric("usher_sessions").await, 1.0);
    assert_eq!(gateway.metric("usher_users").await, 1.0);
    assert_eq!(
        gateway
            .metric("usher_admissions_total{result=\"ticket_unknown\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn of_twenty_racing_connects_one_wins() {
    let (_nats, redis, gateway) = world().await;
    for _ in 0..10 {
        let ticket = redis.ticket("42").await;
        let racers = join_all((0..20).map(|_| Client::try_open(&gateway, &ticket))).await;
        let (winners, losers): (Vec<_>, Vec<_>) = racers.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1);
        for refusal in losers.into_iter().filter_map(Result::err) {
            refusal.assert_refused(401, "ticket_unknown");
        }
    }
}

#[tokio::test]
async fn two_gateways_share_one_set_of_tickets() {
    let (nats, redis, here) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    for _ in 0..10 {
        let ticket = redis.ticket("42").await;
        let (a, b) = tokio::join!(
            Client::try_open(&here, &ticket),
            Client::try_open(&there, &ticket)
        );
        assert!(a.is_ok() ^ b.is_ok(), "exactly one wins");
    }
}

#[tokio::test]
async fn sessions_have_ids_of_their_own_and_gateways_a_name() {
    let (_nats, redis, gateway) = world().await;
    let mut ids = HashSet::new();
    let mut names = HashSet::new();
    for _ in 0..5 {
        let client = Client::open(&gateway, &redis.ticket("42").await).await;
        ids.insert(client.welcome()["session"].to_string());
        names.insert(client.welcome()["gateway"].to_string());
    }
    assert_eq!((ids.len(), names.len()), (5, 1));
}

#[tokio::test]
async fn the_first_known_sub_protocol_is_chosen() {
    let (_nats, redis, gateway) = world().await;
    for (offered, chosen) in [
        (&["usher.v1"][..], Some("usher.v1")),
        (&["usher.raw.v1"], Some("usher.raw.v1")),
        (&["usher.raw.v1", "usher.v1"], Some("usher.raw.v1")),
        (&["usher.v9", "usher.v1", "usher.raw.v1"], Some("usher.v1")),
        (&[], None),
    ] {
        let ticket = redis.ticket("42").await;
        let client = Client::builder(&gateway, &ticket)
            .protocols(offered)
            .open()
            .await;
        assert_eq!(
            client.response.header("sec-websocket-protocol"),
            chosen,
            "{offered:?}"
        );
        let has_welcome = chosen != Some("usher.raw.v1");
        assert_eq!(client.welcome().is_object(), has_welcome, "{offered:?}");
    }
}

#[tokio::test]
async fn a_since_in_live_mode_is_answered_with_a_gap() {
    let (_nats, redis, gateway) = world().await;
    for since in ["0", "k3f9.121", "a.0", "k3f9.140.152.1798000000123.u152"] {
        let ticket = redis.ticket("42").await;
        let client = Client::builder(&gateway, &ticket).since(since).open().await;
        assert_eq!(client.welcome()["resume"], "gap", "{since}");
    }
}

#[tokio::test]
async fn nobody_gets_in_while_redis_is_down() {
    let (nats, mut redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.timeout", "300ms")
        .start()
        .await;
    let mut inside = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("43").await;
    redis.kill();
    refused_in_time(&gateway, &ticket).await;
    assert_eq!(
        gateway.readyz().await,
        200,
        "sessions and pushes need no Redis"
    );

    // Sessions stay, and get what is published.
    nats.publish("usher.user.42", "1").await;
    assert_eq!(inside.next_data().await, 1);

    redis.restart().await;
    eventually("tickets open doors again", || async {
        Client::try_open(&gateway, &redis.ticket("43").await)
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test]
async fn nobody_gets_in_while_redis_is_frozen() {
    let (nats, mut redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.timeout", "300ms")
        .start()
        .await;
    let ticket = redis.ticket("43").await;
    redis.pause();
    refused_in_time(&gateway, &ticket).await;
    redis.resume();
    // Whether the ticket was burnt nobody can tell; a fresh one opens.
    eventually("tickets open doors again", || async {
        Client::try_open(&gateway, &redis.ticket("43").await)
            .await
            .is_ok()
    })
    .await;
}

/// That an answer comes at all, from a Redis that is frozen, is the time limit's.
async fn refused_in_time(gateway: &Gateway, ticket: &str) {
    let sessions = gateway.metric("usher_sessions").await;
    for _ in 0..3 {
        let refusal = Client::builder(gateway, ticket).refused().await;
        refusal.assert_refused(503, "unavailable");
    }
    assert_eq!(gateway.metric("usher_sessions").await, sessions);
}

#[tokio::test]
async fn a_full_gateway_sends_newcomers_elsewhere() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_sessions", "2")
        .start()
        .await;
    let _one = Client::open(&gateway, &redis.ticket("1").await).await;
    let mut two = Client::open(&gateway, &redis.ticket("2").await).await;
    let ticket = redis.ticket("3").await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "full");
    assert!(
        redis.exists(&ticket).await,
        "a ticket is for another gateway"
    );
    two.close(1000).await;
    gateway.metric_becomes("usher_sessions", 1.0).await;
    Client::open(&gateway, &ticket).await;
}

#[tokio::test]
async fn one_session_too_many_replaces_the_oldest() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("public.max_sessions_per_user", "2");
    let gateway = builder.start().await;
    let mut first = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut second = Client::open(&gateway, &redis.ticket("42").await).await;
    let _other = Client::open(&gateway, &redis.ticket("43").await).await;
    let mut third = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(first.expect_goodbye().await["reason"], "replaced");
    assert_eq!(first.expect_close().await, (4101, "replaced".to_owned()));
    let mut fourth = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(second.expect_close().await, (4101, "replaced".to_owned()));

    nats.publish("usher.user.42", "7").await;
    assert_eq!(third.next_data().await, 7);
    assert_eq!(fourth.next_data().await, 7);
}

#[tokio::test]
async fn frames_sent_along_with_the_handshake_are_not_lost() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    // A frame that is no good is proof enough that it was read.
    let mut request = http::head(
        "GET",
        &gateway.public,
        &format!("/ws?ticket={ticket}"),
        &[
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "WebSocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ],
    )
    .into_bytes();
    request.extend(raw_ws::frame(raw_ws::TEXT, b"no object"));
    let mut session = RawWs::after_handshake(&gateway.public, &request).await;
    let (code, reason, texts) = session.expect_close().await;
    assert_eq!((code, &*reason), (4102, "bad_frame"));
    assert!(texts[0].starts_with("{\"welcome\":"), "{texts:?}");
}

#[tokio::test]
async fn paths_can_have_a_prefix() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.path_prefix", "/rt")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let refusal = Client::builder(&gateway, &ticket).refused().await;
    assert_eq!(refusal.status, 404, "{refusal:?}");
    Client::builder(&gateway, &ticket)
        .path("/rt/ws")
        .open()
        .await;
}

#[tokio::test]
async fn a_raw_session_begins_in_silence() {
    let (nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let mut client = Client::builder(&gateway, &ticket)
        .protocols(&["usher.raw.v1"])
        .open()
        .await;
    nats.publish("usher.user.42", "first").await;
    assert_eq!(client.next_frame().await, Frame::Text("first".to_owned()));
}

#[tokio::test]
async fn no_ticket_is_burnt_while_nats_is_away() {
    let (mut nats, redis, gateway) = world().await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    let ticket = redis.ticket("42").await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    assert!(redis.exists(&ticket).await);
    nats.restart().await;
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 1.0)
        .await;
    Client::open(&gateway, &ticket).await;
}
