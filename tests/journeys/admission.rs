//! Who is let in: a ticket opens one session of one user, once.

use std::collections::HashSet;

use deadpool_redis::redis;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    Client, Frame, Gateway, RawWs, eventually, http, raw_ws,
    redis::{key, new_ticket},
    secret, servers, world,
};

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
async fn a_ticket_may_be_plain_or_json() {
    let (_nats, redis, gateway) = world().await;
    let far = 4_102_444_800u64;
    for (value, user) in [
        ("42".to_owned(), "42"),
        ("bob@example.com".to_owned(), "bob@example.com"),
        ("zoë von größe".to_owned(), "zoë von größe"),
        (r#""42""#.to_owned(), r#""42""#),
        (r#"{"user_id":"42"}"#.to_owned(), "42"),
        (json!({"user_id": "a{}"}).to_string(), "a{}"),
        (
            json!({"user_id": "42", "expires_at": far}).to_string(),
            "42",
        ),
        ("{ \"user_id\" :\n\"4\\u0032\" }".to_owned(), "42"),
    ] {
        let client = Client::open(&gateway, &redis.ticket_value(&value).await).await;
        assert_eq!(client.welcome()["user"], user, "{value}");
    }
}

#[tokio::test]
async fn a_value_that_is_no_user_is_an_unknown_ticket() {
    let (_nats, redis, gateway) = world().await;
    let too_long = "x".repeat(129);
    let values: [&[u8]; 19] = [
        b"",
        b"a\nb",
        b"a\x7fb",
        b"\x00",
        "a\u{85}b".as_bytes(),
        b"\xff\xfe",
        too_long.as_bytes(),
        b"{",
        b"{}",
        b"{\"user_id\":42}",
        b"{\"user_id\":null}",
        b"{\"user_id\":\"\"}",
        b"{\"user_id\":\"a\\nb\"}",
        b"{\"user_id\":\"42\",\"admin\":true}",
        b"{\"user_id\":\"42\",\"expires_at\":\"soon\"}",
        b"{\"user_id\":\"42\",\"origin\":7}",
        b"{\"user_id\":\"42\"} and more",
        b" {\"user_id\":\"42\"}",
        b"{\"user_id\":\"{\\\"user_id\\\":\\\"1\\\"}\"}",
    ];
    for value in values {
        let ticket = redis.ticket_value(value).await;
        let refusal = Client::builder(&gateway, &ticket).refused().await;
        refusal.assert_refused(401, "ticket_unknown");
        assert!(!redis.exists(&ticket).await, "a shown ticket is burnt");
    }
    says_what_is_stored(&gateway, values.len()).await;
}

/// Whoever issues tickets learns that these open nothing.
async fn says_what_is_stored(gateway: &Gateway, times: usize) {
    eventually("it is said in the log, for each", || {
        let log = gateway.log();
        let said = log.matches("a ticket was stored that opens nothing");
        std::future::ready(said.count() == times)
    })
    .await;
}

#[tokio::test]
async fn a_key_of_another_type_is_an_unknown_ticket() {
    let (_nats, redis, gateway) = world().await;
    let ticket = new_ticket();
    let () = redis::cmd("RPUSH")
        .arg(key(&ticket))
        .arg("42")
        .query_async(&mut redis.client().await)
        .await
        .expect("redis-server stores a list");
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    says_what_is_stored(&gateway, 1).await;
    // Nothing is broken by it.
    Client::open(&gateway, &redis.ticket("42").await).await;
}

#[tokio::test]
async fn an_expired_ticket_is_an_unknown_one() {
    let (_nats, redis, gateway) = world().await;
    let ticket = new_ticket();
    let () = redis::cmd("SET")
        .arg(key(&ticket))
        .arg("42")
        .arg("PX")
        .arg(50)
        .query_async(&mut redis.client().await)
        .await
        .expect("redis-server stores a ticket");
    eventually("the ticket expires", || async {
        !redis.exists(&ticket).await
    })
    .await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
}

#[tokio::test]
async fn plain_tickets_can_be_switched_off() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("tickets.accept_plain", "false");
    let gateway = builder.start().await;
    let plain = redis.ticket("42").await;
    Client::builder(&gateway, &plain)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    let json = redis.ticket_json(json!({"user_id": "42"})).await;
    assert_eq!(Client::open(&gateway, &json).await.welcome()["user"], "42");
}

#[tokio::test]
async fn the_key_prefix_is_the_operators() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("tickets.key_prefix", "door/");
    let gateway = builder.start().await;
    let ticket = redis.ticket("42").await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    assert!(redis.exists(&ticket).await);
    let ticket = new_ticket();
    let () = redis::cmd("SET")
        .arg(format!("door/{ticket}"))
        .arg("42")
        .query_async(&mut redis.client().await)
        .await
        .expect("redis-server stores a ticket");
    Client::open(&gateway, &ticket).await;
}

#[tokio::test]
async fn a_ticket_has_a_shape() {
    let (_nats, redis, gateway) = world().await;
    let mut client = redis.client().await;
    let random = new_ticket();
    for good in [
        &random[..16],
        &format!("{random}-_.~"),
        &random.repeat(12)[..512],
    ] {
        let ticket = secret(good);
        let () = redis::cmd("SET")
            .arg(key(&ticket))
            .arg("42")
            .query_async(&mut client)
            .await
            .expect("redis-server stores a ticket");
        Client::open(&gateway, &ticket).await;
    }
    for bad in [
        "0123456789abcde",
        &"x".repeat(513),
        "0123456789abcdef%20",
        "0123456789abcdef%0A",
        "0123456789abcdef%00",
        "0123456789abcdef+",
        "0123456789abcdef%2F",
        "0123456789abcdef*",
        "0123456789abcdef%C3%BC",
        "0123456789abcdef%FF",
    ] {
        let refusal = Client::builder(&gateway, "")
            .no_ticket()
            .query("ticket", bad)
            .refused()
            .await;
        refusal.assert_refused(400, "ticket_malformed");
    }
    Client::builder(&gateway, "")
        .no_ticket()
        .refused()
        .await
        .assert_refused(401, "ticket_missing");
}

#[tokio::test]
async fn a_ticket_can_be_shown_in_three_ways() {
    let (_nats, redis, gateway) = world().await;

    let ticket = redis.ticket("42").await;
    let client = Client::builder(&gateway, &ticket)
        .ticket_in_protocol()
        .open()
        .await;
    assert_eq!(client.welcome()["user"], "42");
    assert_eq!(
        client.response.header("sec-websocket-protocol"),
        Some("usher.v1")
    );

    // Whichever comes first, the ticket is never what is chosen.
    let ticket = redis.ticket("42").await;
    let in_protocol = format!("usher.ticket.{ticket}");
    let builder = Client::builder(&gateway, "")
        .no_ticket()
        .protocols(&[&in_protocol, "usher.v1"]);
    let client = builder.open().await;
    assert_eq!(
        client.response.header("sec-websocket-protocol"),
        Some("usher.v1")
    );

    let ticket = redis.ticket("42").await;
    let header = format!("Usher-Ticket {ticket}");
    let builder = Client::builder(&gateway, "")
        .no_ticket()
        .header("Authorization", &header);
    assert_eq!(builder.open().await.welcome()["user"], "42");
}

#[tokio::test]
async fn a_ticket_is_shown_in_one_way_only() {
    let (_nats, redis, gateway) = world().await;
    let (one, two) = (redis.ticket("42").await, redis.ticket("42").await);
    let header = format!("Usher-Ticket {two}");
    let in_protocol = format!("usher.ticket.{two}");
    let start = || Client::builder(&gateway, &one);
    for builder in [
        start().header("Authorization", &header),
        start().protocols(&["usher.v1", &in_protocol]),
        start()
            .ticket_in_protocol()
            .header("Authorization", &header),
        start().query("ticket", &two),
        start().query("ticket", &one),
        start()
            .ticket_in_protocol()
            .protocols(&["usher.v1", &in_protocol]),
    ] {
        builder.refused().await.assert_refused(400, "bad_request");
    }
    assert!(
        redis.exists(&one).await && redis.exists(&two).await,
        "neither is burnt"
    );
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
