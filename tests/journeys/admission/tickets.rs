//! The value of a ticket, its shape, and how a client shows it.

use deadpool_redis::redis;
use serde_json::json;

use crate::support::{
    Client, Gateway, eventually,
    redis::{key, new_ticket},
    secret, servers, world,
};

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
