//! A client comes back, and says where it left off.

use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::{
    api, jetstream, position, proven, replayed, replayed_data, resume, store, store_with, timeless,
    world, world_with,
};
use crate::support::{Client, eventually};

const SUBJECT: &str = "usher.user.42";

#[tokio::test]
async fn what_was_missed_comes_in_order_before_anything_new() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(client.welcome()["resume"], "none");
    assert_eq!(client.welcome()["seq"], 0);
    store(&nats, SUBJECT, 1).await;
    let event = client.next_event().await;
    assert_eq!(
        timeless(event),
        json!({"event": "message", "seq": 1, "prev": 0, "data": 1})
    );
    store(&nats, "usher.user.43", 0).await;
    store(&nats, SUBJECT, 2).await;
    let event = client.next_event().await;
    assert_eq!(
        timeless(event),
        json!({"event": "message", "seq": 3, "prev": 1, "data": 2})
    );
    let begin = position(&client);
    client.close(1000).await;

    for data in [3, 4] {
        store(&nats, SUBJECT, data).await;
    }
    store(&nats, "usher.broadcast", "\"all\"").await;
    store(&nats, "usher.user.43", 0).await;
    store(&nats, SUBJECT, 5).await;
    let (mut client, told) = resume(&gateway, &redis, "42", &proven(&begin, 3)).await;
    assert_eq!(told, "complete");
    assert_eq!(client.welcome()["seq"], 8);
    let expected = [(4, 0, 3), (5, 4, 4), (6, 0, -1), (8, 5, 5)].map(|(seq, prev, data)| {
        let data = if data < 0 { json!("all") } else { json!(data) };
        (seq, prev, data)
    });
    assert_eq!(replayed(&mut client).await, expected);
    store(&nats, SUBJECT, 6).await;
    let event = client.next_event().await;
    assert_eq!(
        timeless(event),
        json!({"event": "message", "seq": 9, "prev": 8, "data": 6})
    );
    let (mut client, told) = resume(&gateway, &redis, "42", &proven(&begin, 9)).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed(&mut client).await, [], "nothing was missed");
    assert_eq!(gateway.metric("usher_replayed_messages_total").await, 4.0);
}

/// A message that is stored between the join and the end of the replay comes once.
#[tokio::test]
async fn messages_keep_arriving_while_a_client_catches_up() {
    const MESSAGES: u64 = 6000;
    let (nats, redis, gateway) = world_with(&[
        ("durable.max_messages_per_channel", "20000"),
        ("durable.max_replay", "20000"),
    ])
    .await;
    let first = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut since = position(&first);
    drop(first);
    let nats = nats.client().await;
    let publishing = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let subject = if number % 5 == 0 {
                "usher.broadcast"
            } else {
                SUBJECT
            };
            let published = nats.publish(subject, number.to_string().into()).await;
            published.expect("published");
            if number % 20 == 0 {
                nats.flush().await.expect("flushed");
                sleep(Duration::from_millis(1)).await;
            }
        }
        nats.flush().await.expect("flushed");
    });
    let mut seen = Vec::new();
    while seen.last() != Some(&(MESSAGES - 1)) {
        let (mut client, told) = resume(&gateway, &redis, "42", &since).await;
        assert_eq!(told, "complete");
        // Cut off in the middle of whatever it is doing.
        for _ in 0..400 {
            let frame = client.next_json().await;
            let Some(seq) = frame["seq"].as_u64() else {
                continue;
            };
            seen.push(frame["data"].as_u64().expect("a number"));
            since = proven(&since, seq);
            if seen.last() == Some(&(MESSAGES - 1)) {
                break;
            }
        }
    }
    publishing.await.expect("published");
    let expected: Vec<u64> = (0..MESSAGES).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn retention_that_has_passed_a_position_is_a_gap() {
    let settings = [("durable.max_messages_per_channel", "5")];
    let (nats, redis, gateway) = world_with(&settings).await;
    let nats = nats.client().await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    for data in 1..=4 {
        store(&nats, SUBJECT, data).await;
    }
    let (mut client, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed_data(&mut client).await, [1, 2, 3, 4]);
    for data in 5..=8 {
        store(&nats, SUBJECT, data).await;
    }
    let (mut client, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "gap");
    assert_eq!(replayed_data(&mut client).await, [4, 5, 6, 7, 8]);
    // Whoever has the last one that is kept no longer has not missed anything.
    let third = proven(&begin, 4);
    let (mut client, told) = resume(&gateway, &redis, "42", &third).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed_data(&mut client).await, [5, 6, 7, 8]);
}

/// The limit holds for each channel, so broadcasts do not push out a user's messages.
#[tokio::test]
async fn broadcasts_have_a_limit_of_their_own() {
    let settings = [("durable.max_messages_per_channel", "5")];
    let (nats, redis, gateway) = world_with(&settings).await;
    let nats = nats.client().await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    store(&nats, SUBJECT, 0).await;
    for data in 1..=4 {
        store(&nats, "usher.broadcast", data).await;
    }
    let (mut client, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed_data(&mut client).await, [0, 1, 2, 3, 4]);
    for data in 5..=20 {
        store(&nats, "usher.broadcast", data).await;
    }
    let (mut client, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "gap");
    assert_eq!(replayed_data(&mut client).await, [0, 16, 17, 18, 19, 20]);
}

#[tokio::test]
async fn of_more_than_max_replay_the_newest_come() {
    let (nats, redis, gateway) = world_with(&[("durable.max_replay", "10")]).await;
    let nats = nats.client().await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    for data in 1..=10 {
        store(&nats, SUBJECT, data).await;
    }
    let (mut client, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed_data(&mut client).await.len(), 10);
    store(&nats, "usher.broadcast", 11).await;
    let (mut client, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "gap");
    let events = replayed(&mut client).await;
    assert_eq!(events.len(), 10);
    assert_eq!(events[0], (2, 0, json!(2)), "the first that it gets");
    assert_eq!(events[9], (11, 0, json!(11)));
}

#[tokio::test]
async fn from_the_beginning_is_all_that_is_kept() {
    let (nats, redis, gateway) = world().await;
    let client = nats.client().await;
    for data in 1..=3 {
        store(&client, SUBJECT, data).await;
    }
    let (mut session, told) = resume(&gateway, &redis, "42", "0").await;
    assert_eq!(told, "complete", "the stream has lost nothing yet");
    assert_eq!(replayed_data(&mut session).await, [1, 2, 3]);
    let stream = jetstream(&client).get_stream("USHER").await.expect("it");
    stream.purge().keep(1).await.expect("purged");
    let (mut session, told) = resume(&gateway, &redis, "42", "0").await;
    assert_eq!(told, "gap");
    assert_eq!(replayed_data(&mut session).await, [3]);
}

/// Whatever its sequences say: another stream's positions mean nothing here.
#[tokio::test]
async fn a_stream_made_anew_is_a_gap() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    for data in 1..=3 {
        store(&nats, SUBJECT, data).await;
        assert_eq!(client.next_data().await, data);
    }
    let before = proven(&position(&client), 3);
    for stream in ["USHER"] {
        let context = jetstream(&nats);
        context.delete_stream(stream).await.expect("deleted");
    }
    eventually("the gateway makes it again", || async {
        // Whoever wants to come in finds that it is gone.
        let ticket = redis.ticket("43").await;
        Client::try_open(&gateway, &ticket).await.is_ok()
    })
    .await;
    assert_eq!(client.expect_close().await, (4003, "bus_lost".to_owned()));
    for data in 4..=9 {
        store(&nats, SUBJECT, data).await;
    }
    let (mut client, told) = resume(&gateway, &redis, "42", &before).await;
    assert_eq!(told, "gap");
    let epoch = client.welcome()["epoch"].as_str().expect("an epoch");
    assert_ne!(before.split('.').next(), Some(epoch));
    assert_eq!(replayed_data(&mut client).await, [4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_position_beyond_the_stream_is_a_gap() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    store(&nats, SUBJECT, 1).await;
    let now = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    let beyond = proven(&now, 1_000_000);
    let (_, told) = resume(&gateway, &redis, "42", &beyond).await;
    assert_eq!(told, "gap");
    let (_, told) = resume(&gateway, &redis, "42", &now).await;
    assert_eq!(told, "complete");
}

/// A message that is to live for a second only, and has, is no loss.
#[tokio::test]
async fn what_was_not_to_be_kept_is_no_loss() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    store(&nats, SUBJECT, 1).await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-TTL", "1s");
    store_with(&nats, SUBJECT, 2, headers).await;
    store(&nats, SUBJECT, 3).await;
    eventually("it is gone", || async {
        let info = api(&nats, "STREAM.INFO.USHER", &json!({})).await;
        info["state"]["messages"] == 2
    })
    .await;
    let (mut client, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed_data(&mut client).await, [1, 3]);
}

/// One that is larger than all that is read at once, where a client left off and after it.
#[tokio::test]
async fn large_messages_hold_up_nothing() {
    let (nats, redis, gateway) = world_with(&[("session.queue_bytes", "1KiB")]).await;
    let nats = nats.client().await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    let large = format!("\"{}\"", "x".repeat(5000));
    for data in [large.as_str(), "1", &large, &large, "2"] {
        store(&nats, SUBJECT, data).await;
    }
    for left_off in 0..=5 {
        let since = proven(&begin, left_off);
        let (mut client, told) = resume(&gateway, &redis, "42", &since).await;
        assert_eq!(told, "complete", "{left_off}");
        let seqs: Vec<_> = replayed(&mut client).await.iter().map(|e| e.0).collect();
        assert_eq!(seqs, (left_off + 1..=5).collect::<Vec<u64>>());
    }
    let (mut client, _) = resume(&gateway, &redis, "42", &proven(&begin, 4)).await;
    assert_eq!(replayed_data(&mut client).await, [2]);
    store(&nats, SUBJECT, 3).await;
    assert_eq!(client.next_data().await, 3);
}

/// A client keeps one position for both kinds, so neither may go ahead of the other.
#[tokio::test]
async fn both_kinds_come_in_one_order_while_a_client_catches_up() {
    let (nats, redis, gateway) = world().await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let publishing = {
        let (nats, stop) = (nats.client().await, stop.clone());
        tokio::spawn(async move {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for subject in ["usher.broadcast", SUBJECT] {
                    let published = nats.publish(subject, number.to_string().into()).await;
                    published.expect("published");
                    number += 1;
                }
                nats.flush().await.expect("flushed");
                sleep(Duration::from_micros(300)).await;
            }
        })
    };
    let mut since = begin;
    for _ in 0..150 {
        let (mut client, _) = resume(&gateway, &redis, "42", &since).await;
        let mut before = 0;
        let mut live = false;
        for _ in 0..40 {
            let frame = client.next_json().await;
            live |= frame["live"].is_object();
            let Some(seq) = frame["seq"].as_u64() else {
                continue;
            };
            assert!(seq > before, "{seq} after {before}");
            before = seq;
        }
        let welcome = client.welcome()["seq"].as_u64().expect("a sequence");
        since = proven(&since, if live { before } else { welcome });
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    publishing.await.expect("published");
}

/// In `usher.raw.v1` there is no way to say where one left off; what is lost on the way
/// is brought all the same.
#[tokio::test]
async fn a_raw_session_has_no_position() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    raw.since("0")
        .refused()
        .await
        .assert_refused(400, "since_malformed");
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    super::loses_what_is_stored(&nats).await;
    store(&nats, SUBJECT, "one").await;
    super::republishes_again(&nats).await;
    store(&nats, SUBJECT, "two").await;
    assert_eq!(raw.next_text().await, "one");
    assert_eq!(raw.next_text().await, "two");
}

/// A join that waits to be caught up is no pending connection: others come in meanwhile.
#[tokio::test]
async fn joins_that_wait_keep_nobody_out() {
    let settings = [("public.max_pending", "2")];
    let (mut nats, redis, gateway) = world_with(&settings).await;
    let publisher = nats.client().await;
    let client = Client::open(&gateway, &redis.ticket("42").await).await;
    store(&publisher, SUBJECT, 1).await;
    let begin = position(&client);
    let tickets = [(); 6].map(|()| redis.ticket("42"));
    let tickets = join_all(tickets).await;

    // The stream is asked in vain for a moment.
    nats.pause();
    let joining = tickets.iter().map(async |ticket| {
        let builder = Client::builder(&gateway, ticket).since(&begin);
        builder.try_open().await.map(drop)
    });
    let joining = join_all(joining);
    let thawing = async {
        let all_wait = || async {
            let refused = gateway
                .metric("usher_admissions_total{result=\"full\"}")
                .await;
            refused > 0.0 || redis.command::<u64>(&["DBSIZE"]).await == 0
        };
        eventually("every ticket is redeemed", all_wait).await;
        nats.resume();
    };
    let (joined, ()) = tokio::join!(joining, thawing);
    let full = gateway.metric("usher_admissions_total{result=\"full\"}");
    assert_eq!(full.await, 0.0, "{joined:?}");
}
