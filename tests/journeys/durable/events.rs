//! Server-sent events in durable mode: the position is each event's id.

use serde_json::{Value, json};

use super::{api, store, timeless, world_with};
use crate::{
    json::posted,
    support::{Client, Events, Gateway, Redis, eventually, sse::Item},
};

const SUBJECT: &str = "usher.user.42";

/// The next frame with its id, comments left out.
async fn next(events: &mut Events) -> (Value, Option<String>) {
    loop {
        match events.next().await {
            Item::Event { data, id } => {
                return (serde_json::from_str(&data).expect("JSON"), id);
            }
            Item::Comment(_) => {}
            Item::End => panic!("the stream is over"),
        }
    }
}

async fn resume(gateway: &Gateway, redis: &Redis, id: &str, since: &str) -> Events {
    let events = Events::builder(gateway, &redis.ticket("42").await);
    events.header("Last-Event-ID", id).since(since).open().await
}

#[tokio::test]
async fn last_event_id_is_where_it_goes_on() {
    let (nats, redis, gateway) =
        world_with(&[("session.ping_interval", "1s"), ("durable.audit", "1s")]).await;
    let nats = nats.client().await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    let epoch = events.welcome()["epoch"]
        .as_str()
        .expect("an epoch")
        .to_owned();
    store(&nats, SUBJECT, 1).await;
    let (event, found) = next(&mut events).await;
    let id = format!("{epoch}.0.1.{}.u1", event["at"]);
    let expected = json!({"event": "message", "seq": 1, "prev": 0, "data": 1});
    assert_eq!((timeless(event), found), (expected, Some(id)));
    // What a ping says is where the client would go on.
    let last = store(&nats, "usher.user.43", 0).await;
    let left_off = loop {
        let (frame, found) = next(&mut events).await;
        assert!(frame["ping"].is_object() && found.is_some(), "{frame}");
        if frame["ping"]["seq"] == last {
            let at = &frame["ping"]["at"];
            assert_eq!(found, Some(format!("{epoch}.{last}.{last}.{at}")));
            break found.expect("an id");
        }
    };
    drop(events);

    store(&nats, SUBJECT, 2).await;
    store(&nats, "usher.broadcast", 3).await;
    // The header goes before the parameter, which is where a new EventSource began.
    let mut events = resume(&gateway, &redis, &left_off, "0").await;
    assert_eq!(events.welcome()["resume"], "complete");
    let at = events.welcome()["at"].clone();
    let (event, found) = next(&mut events).await;
    assert_eq!(found, Some(format!("{epoch}.{last}.4.{at}.u3")));
    let expected = json!({"event": "message", "seq": 3, "prev": 0, "data": 2});
    assert_eq!(timeless(event), expected);
    let (event, found) = next(&mut events).await;
    assert_eq!(event["broadcast"], true);
    assert_eq!(found, Some(format!("{epoch}.{last}.4.{at}.u3.b4")));
    let live = json!({"live": {"seq": 4, "at": at}});
    assert_eq!(
        next(&mut events).await,
        (live, Some(format!("{epoch}.4.4.{at}")))
    );
    // Of the user it has 3, and of the broadcasts nothing.
    let mark = format!("{epoch}.{last}.4.{at}.u3");
    let mut events = resume(&gateway, &redis, "", &mark).await;
    assert_eq!(events.welcome()["resume"], "complete");
    let (event, _) = next(&mut events).await;
    assert_eq!(event["data"], 3);
}

/// Nothing that comes before the end says that a client has anything of the new stream.
#[tokio::test]
async fn a_stream_made_anew_is_a_gap_to_whoever_held_the_old_one() {
    const OLD: u64 = 20;
    const NEW: u64 = 60;
    let (nats, redis, gateway) = world_with(&[("session.ping_interval", "100ms")]).await;
    let nats = nats.client().await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        let ticket = redis.ticket("42").await;
        sessions.push(Events::open(&gateway, &ticket).await);
    }
    for number in 0..OLD {
        store(&nats, SUBJECT, number).await;
    }
    let before = sessions[0].welcome()["epoch"].clone();
    let gone = api(&nats, "STREAM.DELETE.USHER", &json!({})).await;
    assert_eq!(gone["success"], true, "{gone}");
    eventually("the gateway makes it anew", || async {
        let info = api(&nats, "STREAM.INFO.USHER", &json!({})).await;
        info["error"].is_null()
    })
    .await;
    // More than there were, while sessions of the old one are open still.
    for number in 0..NEW {
        store(&nats, SUBJECT, OLD + number).await;
    }
    for mut events in sessions {
        let mut last = None;
        loop {
            match events.next().await {
                Item::Event { id, .. } => last = id.or(last),
                Item::Comment(_) => {}
                Item::End => break,
            }
        }
        let mut events = resume(&gateway, &redis, &last.expect("a position"), "0").await;
        assert_ne!(events.welcome()["epoch"], before);
        assert_eq!(events.welcome()["resume"], "gap");
        for number in 0..NEW {
            assert_eq!(events.next_data().await, OLD + number);
        }
    }
}

/// Both ways of a session have the same frames.
#[tokio::test]
async fn a_slow_stream_catches_up_as_a_websocket_does() {
    let (nats, redis, gateway) = world_with(&[
        ("session.queue_messages", "20"),
        ("session.write_timeout", "10m"),
    ])
    .await;
    let publisher = nats.client().await;
    let slow = Events::builder(&gateway, &redis.ticket("42").await);
    let mut slow = slow.small_buffers().open().await;
    let mut quick = Client::open(&gateway, &redis.ticket("42").await).await;
    let payload = "x".repeat(50_000);
    for number in 0..200 {
        store(&publisher, SUBJECT, format!("[{number},\"{payload}\"]")).await;
        assert_eq!(quick.next_data().await[0], number);
    }
    assert!(gateway.metric("usher_messages_postponed_total").await > 0.0);
    for number in 0..200 {
        assert_eq!(slow.next_data().await[0], number);
    }
}

/// Frames that wait behind one may be taken back, and it says nothing of them.
#[tokio::test]
async fn an_id_speaks_only_of_what_was_sent_before_it() {
    let (nats, redis, gateway) = world_with(&[
        ("session.queue_messages", "20"),
        ("session.write_timeout", "10m"),
    ])
    .await;
    let publisher = nats.client().await;
    let slow = Events::builder(&gateway, &redis.ticket("42").await);
    let mut slow = slow.small_buffers().open().await;
    let payload = "x".repeat(50_000);
    let mut stored = 0;
    let mut publish_until = async |metric: &str, above: f64| {
        while gateway.metric(metric).await <= above {
            assert!(stored < 300, "{metric} is not above {above}");
            store(&publisher, SUBJECT, format!("[{stored},\"{payload}\"]")).await;
            stored += 1;
        }
    };
    publish_until("usher_queued_bytes", 300_000.0).await;
    let body = json!({"follow": ["news"]});
    let answer = posted(&gateway, "/v1/users/42/topics", body).await;
    assert_eq!(answer["sessions"], 1, "{answer}");
    publish_until("usher_messages_postponed_total", 0.0).await;
    let mut had = 0;
    let id = loop {
        let (frame, id) = next(&mut slow).await;
        match frame["following"].is_object() {
            true => break id.expect("an id"),
            false => had += 1,
        }
        assert_eq!(frame["data"][0], had - 1);
    };
    drop(slow);
    let mut events = resume(&gateway, &redis, &id, "0").await;
    assert_eq!(events.welcome()["resume"], "complete");
    for number in had..stored {
        assert_eq!(events.next_data().await[0], number);
    }
}
