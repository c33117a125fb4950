//! nats-server divides a line by spaces and tabs alone. What other readers take for
//! white space may stand in a subject, and one publish of it must disturb nobody.

use crate::support::{Client, Gateway, Nats, RawNats, Redis};

/// Each passes through nats-server inside a reply subject.
const ODD: [(&str, &[u8]); 9] = [
    ("a line tabulation", b"\x0b"),
    ("a form feed", b"\x0c"),
    ("a carriage return", b"\r"),
    ("a group separator", b"\x1d"),
    ("a NUL", b"\0"),
    ("a next line in ISO 8859-1", b"\x85"),
    ("a next line in UTF-8", b"\xc2\x85"),
    ("a no-break space in UTF-8", b"\xc2\xa0"),
    ("a byte of no text", b"\xff"),
];

/// The user who is published to gets the message; nobody gets a gap or is closed.
#[tokio::test]
async fn white_space_in_a_reply_subject_disturbs_nobody() {
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    let gateway = Gateway::start(&nats, &redis).await;
    let mut mallory = Client::open(&gateway, &redis.ticket("mallory").await).await;
    let mut alice = Client::open(&gateway, &redis.ticket("alice").await).await;
    let ticket = redis.ticket("alice").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    let mut publisher = RawNats::connect(&nats).await;
    for (number, (name, odd)) in ODD.into_iter().enumerate() {
        let reply = [b"_INBOX.a", odd, b"b"].concat();
        let payload = number.to_string();
        publisher
            .publish("usher.user.mallory", &reply, &payload)
            .await;
        publisher.publish("usher.user.alice", b"", &payload).await;
        publisher.publish("usher.user.mallory", b"", &payload).await;
        for _ in 0..2 {
            assert_eq!(mallory.next_json().await["data"], number, "{name}");
        }
        assert_eq!(alice.next_json().await["data"], number, "{name}");
        assert_eq!(raw.next_text().await, payload, "{name}");
    }
    assert_eq!(gateway.metric("usher_session_closes_total").await, 0.0);
}

/// The same bytes at the end of a reply subject, and two of them alone.
#[tokio::test]
async fn white_space_at_the_end_of_a_reply_subject_disturbs_nobody() {
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    let gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut publisher = RawNats::connect(&nats).await;
    for (number, reply) in [&b"_INBOX.a\x0c"[..], b"\x0c_INBOX.a", b"\x0c", b"\x0c\x0b"]
        .into_iter()
        .enumerate()
    {
        let payload = number.to_string();
        publisher.publish("usher.user.42", reply, &payload).await;
        assert_eq!(client.next_json().await["data"], number, "{reply:?}");
    }
}

/// In durable mode a stream stores what is published to a subject with such bytes,
/// which is no user's. Joins that read past it are complete.
#[tokio::test]
async fn a_stored_subject_with_white_space_spoils_no_join() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let mut publisher = RawNats::connect(&nats).await;
    publisher.publish("usher.user.42", b"", "1").await;
    for (_, odd) in ODD {
        let subject = [b"usher.user.4", odd, b"2"].concat();
        publisher.publish(&subject, b"_INBOX.a\x0cb", "0").await;
    }
    publisher.publish("usher.user.42", b"", "2").await;
    let ticket = redis.ticket("42").await;
    let mut client = Client::builder(&gateway, &ticket).since("0").open().await;
    assert_eq!(client.welcome()["resume"], "complete");
    for data in [1, 2] {
        assert_eq!(client.next_data().await, data);
    }
    publisher.publish("usher.user.42", b"", "3").await;
    loop {
        let frame = client.next_json().await;
        if frame["live"].is_null() {
            assert_eq!(frame["data"], 3, "{frame}");
            break;
        }
    }
}
