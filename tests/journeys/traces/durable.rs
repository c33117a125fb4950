//! Durable mode: what is sent again is recorded too.

use serde_json::Value;

use super::{Collector, USER, caller, calling, sampled};
use crate::{
    durable::{position, replayed_data, store_with},
    support::{Client, Gateway, Nats, Redis, grpc::push},
};

#[tokio::test]
async fn a_client_that_comes_back_is_followed_and_so_is_what_it_missed() {
    let (nats, redis, collector) =
        tokio::join!(Nats::keeping_for_all(), Redis::start(), Collector::start());
    let gateway = collector
        .of(Gateway::durable(&nats, &redis), "0")
        .start()
        .await;
    let nats = nats.client().await;
    let subject = format!("usher.user.{USER}");
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    let begin = position(&client);
    let live = sampled(20);
    store_with(&nats, &subject, 1, live.headers()).await;
    assert_eq!(client.next_data().await, 1);
    let deliver = collector.only("deliver", &live.trace).await;
    assert_eq!(deliver["parent"], *live.span);
    assert_eq!(deliver["attributes"]["usher.seq"], 1);
    drop(client);
    gateway.metric_becomes("usher_users", 0.0).await;

    let (missed, quiet, pushed, returns) =
        (sampled(21), caller(22, "00"), sampled(23), sampled(24));
    store_with(&nats, &subject, 2, missed.headers()).await;
    store_with(&nats, &subject, 3, quiet.headers()).await;
    let request = calling(push(USER, "4"), &[("traceparent", &pushed.header())]);
    let answer = gateway.grpc().await.push_notification(request).await;
    assert_eq!(answer.expect("pushed").into_inner().seq, 4);
    let push = collector.only("push", &pushed.trace).await;
    assert_eq!(push["attributes"]["usher.seq"], 4);

    let ticket = redis.ticket(USER).await;
    let back = Client::builder(&gateway, &ticket).since(&begin);
    let mut client = back.header("traceparent", &returns.header()).open().await;
    assert_eq!(replayed_data(&mut client).await, [1, 2, 3, 4]);
    let admission = collector.only("admission", &returns.trace).await;
    let replay = collector.only("replay", &returns.trace).await;
    assert_eq!(replay["parent"], admission["span"]);
    assert_eq!(replay["attributes"]["usher.reason"], "resumed");
    assert_eq!(replay["attributes"]["usher.messages"], 4);
    assert_eq!(replay["failed"], false);
    for (caller, parent, seq) in [
        (&live, Value::from(&*live.span), 1),
        (&missed, Value::from(&*missed.span), 2),
        (&pushed, push["span"].clone(), 4),
    ] {
        let replay = collector.only("replay", &caller.trace).await;
        assert_eq!(replay["parent"], parent);
        assert_eq!(replay["attributes"]["usher.seq"], seq);
        assert_eq!(replay["attributes"]["usher.transport"], "websocket");
    }
    assert_eq!(collector.of_trace(&quiet.trace), Vec::<Value>::new());
    let output = collector.process.output();
    assert!(!output.contains(USER), "a user in a span: {output}");
}
