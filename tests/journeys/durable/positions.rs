//! Positions that name each channel's own mark, and a stream that was set back.

use serde_json::{Value, json};

use super::{
    loses_what_is_stored, position, proven, replayed, replayed_data, republishes_again, resume,
    store, timeless, world, world_with,
};
use crate::support::{Client, Gateway, Nats, Redis, eventually, wait::patiently};

const SUBJECT: &str = "usher.user.42";

/// A message of the user's is lost on its way, and then a broadcast comes: the client has
/// the broadcast, and not what is before it.
#[tokio::test]
async fn a_broadcast_does_not_hide_a_message_before_it() {
    let (nats, redis, gateway) = world_with(&[("durable.audit", "24h")]).await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let begin = position(&client);
    // The second look at a join is over.
    let seen = store(&nats, SUBJECT, 1).await;
    assert_eq!(client.next_data().await, 1);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    loses_what_is_stored(&nats).await;
    store(&nats, SUBJECT, 2).await;
    republishes_again(&nats).await;
    store(&nats, "usher.broadcast", 3).await;
    let event = client.next_event().await;
    assert_eq!(event["data"], 3);
    let (top, at) = (&event["seq"], &event["at"]);
    drop(client);
    let epoch = begin.split('.').next().expect("an epoch");
    let since = format!("{epoch}.0.{top}.{at}.u{seen}.b{top}");
    let (mut client, told) = resume(&gateway, &redis, "42", &since).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed_data(&mut client).await, [2]);
}

/// Each channel is read after its own mark.
#[tokio::test]
async fn a_mark_counts_for_its_channel_alone() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let client = Client::open(&gateway, &redis.ticket("42").await).await;
    let begin = position(&client);
    for data in 1..=6 {
        let subject = if data % 2 == 0 {
            "usher.broadcast"
        } else {
            SUBJECT
        };
        store(&nats, subject, data).await;
    }
    for (marks, expected) in [
        (".u3", vec![2, 4, 5, 6]),
        (".b4", vec![1, 3, 5, 6]),
        (".u5.b2", vec![4, 6]),
        (".u5.b6", vec![]),
        (".u5.b6.x7.troom=3", vec![]),
    ] {
        let since = proven(&begin, 0) + marks;
        let (mut client, told) = resume(&gateway, &redis, "42", &since).await;
        assert_eq!(told, "complete", "{since}");
        assert_eq!(replayed_data(&mut client).await, expected, "{since}");
    }
}

#[tokio::test]
async fn the_form_of_an_earlier_version_is_a_gap() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    store(&nats, SUBJECT, 1).await;
    let epoch = begin.split('.').next().expect("an epoch");
    let (mut client, told) = resume(&gateway, &redis, "42", &format!("{epoch}.1")).await;
    assert_eq!(told, "gap");
    assert_eq!(replayed_data(&mut client).await, [1]);
}

/// NATS is stopped, and begins again with what it had some messages ago.
async fn set_back(nats: &mut Nats, copy: &tempfile::TempDir) {
    nats.stop().await;
    nats.put_back(copy);
    nats.restart().await;
}

async fn copied(nats: &mut Nats) -> tempfile::TempDir {
    nats.stop().await;
    let copy = nats.copy_of_store();
    nats.restart().await;
    copy
}

async fn is_back(gateway: &Gateway) {
    for connection in ["interest", "push", "stream"] {
        let metric = format!("usher_nats_connected{{connection=\"{connection}\"}}");
        gateway.metric_becomes(&metric, 1.0).await;
    }
    gateway.becomes_ready().await;
}

/// A restored volume: the stream goes on from an older state, past where a client was.
#[tokio::test]
async fn a_stream_that_was_set_back_is_a_gap() {
    let (mut nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    let publisher = nats.client().await;
    for data in 1..=5 {
        store(&publisher, SUBJECT, data).await;
    }
    let copy = copied(&mut nats).await;
    is_back(&gateway).await;
    let publisher = nats.client().await;
    for data in 6..=10 {
        store(&publisher, SUBJECT, data).await;
    }
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let at = position(&client);
    client.close(1000).await;
    set_back(&mut nats, &copy).await;
    is_back(&gateway).await;
    let publisher = nats.client().await;
    for data in 6..=12 {
        store(&publisher, SUBJECT, format!("\"new {data}\"")).await;
    }
    let (mut client, told) = resume(&gateway, &redis, "42", &at).await;
    assert_eq!(told, "gap");
    assert_eq!(
        client.welcome()["epoch"],
        begin.split('.').next().expect("one")
    );
    let seen = replayed_data(&mut client).await;
    assert!(seen.contains(&json!("new 6")), "{seen:?}");
    // One that is of the new state is told so.
    let now = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    let (_, told) = resume(&gateway, &redis, "42", &now).await;
    assert_eq!(told, "complete");
}

/// The message TOP is gone. Then what is before it must not be later than AT.
#[tokio::test]
async fn a_top_that_is_gone_is_judged_by_what_is_before_it() {
    let (nats, redis, gateway) = world().await;
    let publisher = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let begin = position(&client);
    let epoch = begin.split('.').next().expect("an epoch");
    let mut times = Vec::new();
    for data in 1..=3 {
        store(&publisher, SUBJECT, data).await;
        let event = client.next_event().await;
        times.push(event["at"].as_u64().expect("a time"));
    }
    store(&publisher, "usher.user.43", 4).await;
    let stream = super::jetstream(&publisher).get_stream("USHER").await;
    let stream = stream.expect("the stream");
    stream.delete_message(3).await.expect("deleted");
    let (same, earlier) = (times[2], times[1] - 1);
    for (at, expected) in [(same, "complete"), (earlier, "gap"), (u64::MAX, "complete")] {
        let since = format!("{epoch}.2.3.{at}");
        let (_, told) = resume(&gateway, &redis, "42", &since).await;
        assert_eq!(told, expected, "{since}");
    }
}

/// Under living sessions it is found as soon as the stream is looked at.
#[tokio::test]
async fn sessions_of_a_stream_that_was_set_back_are_closed() {
    let (mut nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis)
        .set("durable.audit", "1s")
        .set("drain.window", "1s");
    let gateway = gateway.start().await;
    let copy = copied(&mut nats).await;
    is_back(&gateway).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let publisher = nats.client().await;
    for data in 1..=3 {
        store(&publisher, SUBJECT, data).await;
        assert_eq!(client.next_data().await, data);
    }
    set_back(&mut nats, &copy).await;
    let closed = async {
        loop {
            if let crate::support::Frame::Closed(code, reason) = client.next_frame().await {
                return (code, reason);
            }
        }
    };
    let closed = patiently("the close", closed).await;
    assert_eq!(closed, (4003, "bus_lost".to_owned()));
    let metric = "usher_stream_replaced_total{reason=\"set_back\"}";
    eventually("it is counted", || async {
        gateway.metric(metric).await >= 1.0
    })
    .await;
    gateway.logs("set_back").await;
}

/// A question who is here, where a stream stores it: it is shown to nobody, and is no hole.
#[tokio::test]
async fn a_probe_that_was_stored_is_shown_to_nobody() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let begin = position(&client);
    let probe = async || {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Usher-Probe", "1");
        super::store_with(&nats, SUBJECT, "\"probe\"", headers).await;
    };
    store(&nats, SUBJECT, 1).await;
    probe().await;
    probe().await;
    store(&nats, SUBJECT, 2).await;
    let expected = |seq: u64, prev: u64, data: u64| json!({"event": "message", "seq": seq, "prev": prev, "data": data});
    assert_eq!(timeless(client.next_event().await), expected(1, 0, 1));
    assert_eq!(timeless(client.next_event().await), expected(4, 1, 2));
    let (mut again, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "complete");
    let one = |seq: u64, prev: u64, data: u64| (seq, prev, Value::from(data));
    assert_eq!(replayed(&mut again).await, [one(1, 0, 1), one(4, 1, 2)]);
    probe().await;
    store(&nats, SUBJECT, 3).await;
    for client in [&mut client, &mut again] {
        assert_eq!(timeless(client.next_event().await), expected(6, 4, 3));
    }
}
