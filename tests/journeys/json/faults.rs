//! NATS or Redis are away, or do not answer; and callers that hang up.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{calls, post, posted, refused, request};
use crate::support::{Client, Gateway, Nats, Redis, eventually, world};

#[tokio::test]
async fn what_is_certainly_not_published_says_so() {
    let (mut nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"push\"}", 0.0)
        .await;
    let push = json!({"user_id": "42", "data": "lost"});
    let answer = post(&gateway, "/v1/push", &push).await;
    refused(&answer, 503, "unavailable");
    assert_eq!(answer.json()["error"]["published"], false, "{answer:?}");
    let answer = post(&gateway, "/v1/broadcast", json!({"data": "lost"})).await;
    refused(&answer, 503, "unavailable");
    assert_eq!(answer.json()["error"]["published"], false, "{answer:?}");
    let answer = posted(&gateway, "/v1/push/batch", json!({"pushes": [push, {}]})).await;
    super::failed(&answer["results"][0], "unavailable");
    assert_eq!(
        answer["results"][0]["error"]["published"], false,
        "{answer}"
    );
    super::failed(&answer["results"][1], "bad_request");
    assert_eq!(answer["results"][1]["error"]["published"], Value::Null);
    nats.restart().await;
    client.expect_gap().await;
    eventually("pushes pass again", || async {
        let body = json!({"user_id": "42", "data": "found"});
        post(&gateway, "/v1/push", body).await.status == 200
    })
    .await;
    assert_eq!(client.next_data().await, "found");
}

/// Nobody can say what became of what was sent and not confirmed; the rest of a batch was not
/// sent.
#[tokio::test]
async fn what_is_not_confirmed_says_so() {
    let (mut nats, _redis, gateway) = world().await;
    let push = json!({"user_id": "42", "data": 1});
    posted(&gateway, "/v1/push", &push).await;
    nats.pause();
    let answer = post(&gateway, "/v1/push", &push).await;
    let honest = [503, 504].contains(&answer.status);
    assert!(honest, "{answer:?}");
    let certain = (answer.status == 503).then_some(false);
    assert_eq!(
        answer.json()["error"]["published"],
        json!(certain),
        "{answer:?}"
    );
    if answer.status == 504 {
        refused(&answer, 504, "unconfirmed");
    }
    let answer = posted(
        &gateway,
        "/v1/push/batch",
        json!({"pushes": vec![&push; 1000]}),
    )
    .await;
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), 1000);
    for result in results {
        let certain = result["error"]["code"] != "unconfirmed";
        let published = certain.then_some(false);
        assert_eq!(result["error"]["published"], json!(published), "{result}");
    }
    // The last were not sent behind those that NATS did not confirm.
    super::failed(&results[999], "unavailable");
    nats.resume();
    eventually("pushes pass again", || async {
        post(&gateway, "/v1/push", &push).await.status == 200
    })
    .await;
}

/// A stream that can't say whether it stored one push is asked to store the others.
#[tokio::test]
async fn what_a_stream_leaves_open_stops_no_other_push_of_a_batch() {
    // Without JetStream, so that the answers are this test's.
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start_unready().await;
    let stream = nats.client().await;
    let mut stored = stream.subscribe("usher.user.*").await.expect("heard");
    stream.flush().await.expect("flushed");
    tokio::spawn(async move {
        while let Some(message) = stored.next().await {
            let answer = match message.subject.as_str() {
                "usher.user.busy" => json!({"error": {"code": 409, "err_code": 10158,
                    "description": "duplicate message id is in process"}, "stream": "USHER"}),
                _ => json!({"stream": "USHER", "seq": 7}),
            };
            let reply = message.reply.expect("a question");
            let answered = stream.publish(reply, answer.to_string().into()).await;
            answered.expect("answered");
        }
    });
    let up = "usher_nats_connected{connection=\"push\"}";
    gateway.metric_becomes(up, 1.0).await;
    let busy = json!({"user_id": "busy", "data": 1, "message_id": "a"});
    let mut pushes = vec![json!({"user_id": "42", "data": 1}); 600];
    pushes[0] = busy;
    let answer = posted(&gateway, "/v1/push/batch", json!({"pushes": pushes})).await;
    let results = answer["results"].as_array().expect("results");
    super::failed(&results[0], "unconfirmed");
    for result in &results[1..] {
        assert_eq!(result["seq"], 7, "{result}");
    }
}

#[tokio::test]
async fn a_ticket_is_unavailable_while_redis_is_away() {
    let (_nats, mut redis, gateway) = world().await;
    redis.kill();
    let answer = post(&gateway, "/v1/tickets", json!({"user_id": "42"})).await;
    assert!(refused(&answer, 503, "unavailable").contains("Redis"));
    assert_eq!(answer.json()["error"]["published"], Value::Null);
    let push = json!({"user_id": "42", "data": "pushes need no Redis"});
    posted(&gateway, "/v1/push", push).await;
}

/// A caller that goes away while its body is on its way has done nothing. One that goes
/// away while NATS is asked cancels what was not begun.
#[tokio::test]
async fn a_caller_that_hangs_up_cancels() {
    let (mut nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let body = json!({"user_id": "42", "data": "half"}).to_string();
    let whole = request(&gateway.grpc, "/v1/push", &[], &body);
    let mut stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
    stream
        .write_all(&whole[..whole.len() - 1])
        .await
        .expect("taken");
    let held = "usher_grpc_in_flight_bytes";
    gateway.metric_becomes(held, body.len() as f64).await;
    drop(stream);
    gateway.metric_becomes(held, 0.0).await;
    gateway
        .metric_becomes(&calls("PushNotification", "CANCELLED"), 1.0)
        .await;

    nats.pause();
    let pushes = json!({"pushes": vec![json!({"user_id": "43", "data": 1}); 1000]});
    let whole = request(&gateway.grpc, "/v1/push/batch", &[], &pushes.to_string());
    let mut stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
    stream.write_all(&whole).await.expect("taken");
    gateway
        .metric_becomes(held, pushes.to_string().len() as f64)
        .await;
    drop(stream);
    gateway.metric_becomes(held, 0.0).await;
    // Those that were begun, and no other.
    let cancelled = gateway
        .metric(&calls("PushNotification", "CANCELLED"))
        .await;
    assert!((2.0..1000.0).contains(&cancelled), "{cancelled}");
    nats.resume();
    eventually("pushes pass again", || async {
        let body = json!({"user_id": "42", "data": "whole"});
        post(&gateway, "/v1/push", body).await.status == 200
    })
    .await;
    assert_eq!(client.next_data().await, "whole");
}
