//! What a ticket's value says, and what the log says of one that can't be read.

use serde_json::json;

use crate::support::{
    Client, Gateway, Redis, Response,
    gateway::Builder,
    grpc::{issue, push},
    http,
    login::{Login, in_seconds},
    secret, servers, world,
};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// The ticket of this value opens nothing.
async fn opens_nothing(gateway: &Gateway, redis: &Redis, value: &[u8]) {
    let ticket = redis.ticket_value(value).await;
    Client::builder(gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_logged_by_its_field() {
    let (_nats, redis, gateway) = world().await;
    for (value, field) in [
        (
            &br#"{"user_id":987654321}"#[..],
            "user_id is a number; write it as text",
        ),
        (
            br#"{"user_id":"987654321","expires_at":"2031-02-03T04:05:06Z"}"#,
            "expires_at is text; write a whole number of Unix seconds",
        ),
        (
            br#"{"user_id":"987654321","expires_at":1798000000123}"#,
            "expires_at is 10^11 or above, as milliseconds are",
        ),
        (
            br#"{"user_id":"987654321","userid":1}"#,
            "userid is not a key of tickets",
        ),
        (
            br#"{"user_id":"987654321 "}"#,
            "user_id begins or ends with white space",
        ),
        (
            b" {\"user_id\":\"987654321\"}",
            "stands before {; write the JSON without it",
        ),
        (
            b"\xef\xbb\xbf{\"user_id\":\"987654321\"}",
            "stands before {; write the JSON",
        ),
        (b"987654321\n", "control character"),
        (
            br#"{"user_id":"42","topics":"987654321"}"#,
            "topics is not a list of texts",
        ),
        (
            br#"{"user_id":"42","may_follow":["a",987654321]}"#,
            "may_follow has an entry (number 2) that is not a text",
        ),
        (
            br#"{"user_id":"42","may_follow_prefix":[" 987654321"]}"#,
            "may_follow_prefix has an entry (number 1) that begins or ends",
        ),
        (
            br#"{"user_id":"42","calls":["987654321..a"]}"#,
            "calls has an entry (number 1) that names no calls",
        ),
    ] {
        let before = gateway.log().len();
        opens_nothing(&gateway, &redis, value).await;
        gateway.logs(field).await;
        let said = gateway.log().split_off(before);
        for part in ["987654321", "2031", "1798000000", "04:05"] {
            assert!(!said.contains(part), "{part} of {field} is in {said}");
        }
    }
    let many = json!({ "user_id": "42", "topics": vec!["987654321"; 257] });
    opens_nothing(&gateway, &redis, many.to_string().as_bytes()).await;
    gateway
        .logs("topics has 257 entries; it may have 256")
        .await;
    assert!(!gateway.log().contains("987654321"));
    let good = r#"{"user_id":"987654321","expires_at":99999999999,"topics":["news"],
        "may_follow":["room 7"],"may_follow_prefix":["team-"],"calls":["orders.*"]}"#;
    let client = Client::open(&gateway, &redis.ticket_value(good).await).await;
    assert_eq!(client.welcome()["user"], "987654321");
}

/// However somebody names a user, the same rule holds.
#[tokio::test]
async fn no_user_id_begins_or_ends_with_what_is_not_seen() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = Gateway::builder(&nats, &redis)
        .set("tickets.jwt.secret", SECRET)
        .start()
        .await;
    let demo = Builder::new().argument("--embedded").argument("--demo");
    let demo = demo.start().await;
    for bad in [
        " a",
        "a ",
        "\u{a0}a",
        "a\u{2003}",
        "\u{feff}a",
        "a\u{feff}",
        "{",
        "{a}",
    ] {
        opens_nothing(&gateway, &redis, bad.as_bytes()).await;
        let value = json!({ "user_id": bad }).to_string();
        opens_nothing(&gateway, &redis, value.as_bytes()).await;

        let token = json!({ "sub": bad, "exp": in_seconds(600) });
        let token = secret(login.sign_with_secret(SECRET, "HS256", &token));
        let response = post(&gateway, &token).await;
        response.assert_refused(401, "token_invalid");
        assert!(response.text().contains("user id"), "{response:?}");

        let pushed = gateway.grpc().await.push_notification(push(bad, "1")).await;
        let status = pushed.expect_err("no such user");
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{bad:?}");
        assert!(status.message().contains("user_id"), "{status:?}");

        let body = json!({ "user_id": bad }).to_string();
        demo_ticket(&demo, &body)
            .await
            .assert_refused(400, "bad_request");
    }
    for good in ["a b", "a\u{a0}b", "a\u{feff}b", "a{}"] {
        let order = usher::proto::IssueTicketRequest {
            user_id: good.to_owned(),
            ..Default::default()
        };
        let ticket = issue(&mut gateway.grpc().await, order).await;
        let client = Client::open(&gateway, &ticket).await;
        assert_eq!(client.welcome()["user"], good);
        let client = Client::open(&gateway, &redis.ticket(good).await).await;
        assert_eq!(client.welcome()["user"], good);
    }
}

/// However a ticket is issued, its value says what its session may do.
#[tokio::test]
async fn an_issued_ticket_carries_its_grants() {
    let (nats, redis) = servers().await;
    let demo = Gateway::builder(&nats, &redis).argument("--demo");
    let gateway = demo.start().await;
    let lists = json!({
        "topics": ["news"], "may_follow": ["room 7", "größe"], "may_follow_prefix": ["team-"],
        "calls": ["orders.*", "stock.>"],
    });
    let mut asked = lists.clone();
    asked["user_id"] = json!("42");
    let text = |list: &str| serde_json::from_value(lists[list].clone()).expect("texts");
    let order = usher::proto::IssueTicketRequest {
        user_id: "42".to_owned(),
        topics: text("topics"),
        may_follow: text("may_follow"),
        may_follow_prefix: text("may_follow_prefix"),
        calls: text("calls"),
        ..Default::default()
    };
    let by_grpc = issue(&mut gateway.grpc().await, order).await;
    let by_json = post_json(&gateway.grpc, "/v1/tickets", &asked).await;
    assert_eq!(by_json.status, 201, "{by_json:?}");
    let by_json = secret(by_json.json()["ticket"].as_str().expect("a ticket"));
    for ticket in [by_grpc, by_json] {
        assert_eq!(stored(&redis, &ticket).await, asked);
        Client::open(&gateway, &ticket).await;
    }

    let demo = post_json(
        &gateway.public,
        "/demo/tickets",
        &json!({ "user_id": "42" }),
    )
    .await;
    let demo = secret(demo.json()["ticket"].as_str().expect("a ticket"));
    let granted = json!({
        "user_id": "42", "may_follow_prefix": ["demo-"], "calls": ["demo.>"],
    });
    assert_eq!(stored(&redis, &demo).await, granted);

    for (field, bad, rule) in [
        ("topics", json!([""]), "1–128 bytes"),
        ("may_follow", json!(["a", "b\n"]), "control character"),
        ("may_follow_prefix", json!(["x".repeat(129)]), "1–128 bytes"),
        ("calls", json!(["a.>.b"]), "a last > the rest"),
        ("calls", json!(vec!["a"; 257]), "256 at most"),
    ] {
        let mut order = usher::proto::IssueTicketRequest {
            user_id: "42".to_owned(),
            ..Default::default()
        };
        let texts = serde_json::from_value(bad.clone()).expect("texts");
        *match field {
            "topics" => &mut order.topics,
            "may_follow" => &mut order.may_follow,
            "may_follow_prefix" => &mut order.may_follow_prefix,
            _ => &mut order.calls,
        } = texts;
        let refused = gateway.grpc().await.issue_ticket(order).await;
        let status = refused.expect_err("a bad list");
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{field}");
        let by_json = json!({ "user_id": "42", field: bad });
        let by_json = post_json(&gateway.grpc, "/v1/tickets", &by_json).await;
        assert_eq!(by_json.status, 400, "{by_json:?}");
        for says in [status.message(), &by_json.text()] {
            assert!(says.contains(field) && says.contains(rule), "{says}");
        }
    }
}

/// The value of a ticket that waits.
async fn stored(redis: &Redis, ticket: &str) -> serde_json::Value {
    serde_json::from_str(&redis.value(ticket).await).expect("JSON")
}

async fn post_json(address: &str, path: &str, body: &serde_json::Value) -> Response {
    let body = body.to_string();
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
    ];
    let head = http::head("POST", address, path, &headers);
    http::raw(address, (head + &body).as_bytes()).await
}

async fn post(gateway: &Gateway, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Length", "0")];
    http::request("POST", &gateway.public, "/tickets", &headers).await
}

async fn demo_ticket(gateway: &Gateway, body: &str) -> Response {
    let length = body.len().to_string();
    let origin = format!("http://{}", gateway.public);
    let headers = [
        ("Content-Type", "application/json"),
        ("Origin", origin.as_str()),
        ("Content-Length", length.as_str()),
    ];
    let head = http::head("POST", &gateway.public, "/demo/tickets", &headers);
    http::raw(&gateway.public, (head + body).as_bytes()).await
}
