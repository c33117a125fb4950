//! Traces: what recorded requests and messages go through, as a real collector is told.

mod collector;
mod durable;
mod faults;

use async_nats::HeaderMap;
use serde_json::{Value, json};
use tonic::{Request, metadata::MetadataValue};

use self::collector::Collector;
use crate::{
    calls::service::{self, Service, call, fails, header, works},
    json::post_with,
    support::{
        Client, Events, Gateway, Nats, Redis,
        grpc::{push, push_with_receipt},
        servers,
        tls::Ca,
        wait::patiently,
    },
};

/// Whose name is in no span.
const USER: &str = "user-in-no-span";

/// A service whose traces are recorded, or not.
struct Caller {
    trace: String,
    span: String,
    flags: &'static str,
}

/// With a trace of its own.
fn caller(number: u8, flags: &'static str) -> Caller {
    Caller {
        trace: format!("{number:032x}"),
        span: format!("{:016x}", 0xca11_0000 + u64::from(number)),
        flags,
    }
}

/// Whose traces are recorded.
fn sampled(number: u8) -> Caller {
    caller(number, "01")
}

impl Caller {
    fn header(&self) -> String {
        format!("00-{}-{}-{}", self.trace, self.span, self.flags)
    }

    fn headers(&self) -> HeaderMap {
        headers(&[("traceparent", &self.header())])
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, *value);
    }
    headers
}

/// A call with this metadata.
fn calling<T>(message: T, pairs: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in pairs {
        let value = MetadataValue::try_from(*value).expect("a value");
        request.metadata_mut().append(*name, value);
    }
    request
}

/// Servers, a collector, and a gateway that begins so many traces of its own.
async fn world(sample_ratio: &str) -> (Nats, Redis, Collector, Gateway) {
    let ((nats, redis), collector) = tokio::join!(servers(), Collector::start());
    let gateway = collector.of(Gateway::builder(&nats, &redis), sample_ratio);
    let gateway = gateway.start().await;
    (nats, redis, collector, gateway)
}

/// Publishes to the user by NATS.
async fn publish(nats: &async_nats::Client, headers: HeaderMap, data: &str) {
    let subject = format!("usher.user.{USER}");
    let payload = data.to_owned().into();
    let published = nats.publish_with_headers(subject, headers, payload).await;
    published.expect("published");
    nats.flush().await.expect("flushed");
}

#[tokio::test]
async fn a_push_is_followed_to_the_browser() {
    let (nats, redis, collector, gateway) = world("0").await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    let operator = nats.operator().await;
    let mut heard = operator.subscribe("usher.user.*").await.expect("heard");
    operator.flush().await.expect("flushed");
    let caller = sampled(1);
    let request = calling(
        push_with_receipt(USER, "{\"order\":1}"),
        &[
            ("traceparent", &caller.header()),
            ("tracestate", "vendor=7"),
        ],
    );
    let answer = gateway.grpc().await.push_notification(request).await;
    answer.expect("pushed");
    assert_eq!(client.next_data().await["order"], 1);

    let push = collector.only("push", &caller.trace).await;
    let deliver = collector.only("deliver", &caller.trace).await;
    assert_eq!(push["parent"], *caller.span);
    assert_eq!(push["kind"], "SPAN_KIND_SERVER");
    assert_eq!(push["state"], "vendor=7");
    assert_eq!(push["failed"], false);
    assert_eq!(push["attributes"]["usher.sessions"], 1);
    assert_eq!(push["attributes"]["usher.payload_bytes"], 11);
    assert_eq!(deliver["parent"], push["span"]);
    assert_eq!(deliver["kind"], "SPAN_KIND_CONSUMER");
    assert_eq!(deliver["attributes"]["usher.transport"], "websocket");
    for span in [&push, &deliver] {
        assert_eq!(span["attributes"]["usher.event"], "message");
        assert_eq!(span["resource"]["service.name"], "usher");
        let instance = &span["resource"]["service.instance.id"];
        assert_eq!(instance, &client.welcome()["gateway"]);
        let number = |key: &str| span[key].as_u64().expect("a number");
        assert!(number("start") <= number("end"), "{span}");
        assert!(number("start") > 1_700_000_000_000_000_000, "{span}");
    }
    // On the message the push is the parent.
    let message = patiently("the message", futures_util::StreamExt::next(&mut heard)).await;
    let headers = message
        .and_then(|message| message.headers)
        .expect("headers");
    let parent = format!(
        "00-{}-{}-01",
        caller.trace,
        push["span"].as_str().expect("an id")
    );
    assert_eq!(
        headers.get("traceparent").map(|value| value.as_str()),
        Some(&*parent)
    );
    assert_eq!(
        headers.get("tracestate").map(|value| value.as_str()),
        Some("vendor=7")
    );
    let output = collector.process.output();
    assert!(!output.contains(USER), "a user in a span: {output}");
}

/// Each push of a batch is followed as a push alone is.
#[tokio::test]
async fn a_batch_is_followed_to_the_browser() {
    let (_nats, redis, collector, gateway) = world("0").await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    let caller = sampled(12);
    let pushes = json!({"pushes": [{"user_id": USER, "data": 1}, {"user_id": USER, "data": 2}]});
    let header = caller.header();
    let headers = [("traceparent", &*header)];
    let answer = post_with(&gateway, "/v1/push/batch", &headers, pushes).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(client.next_data().await, 1);
    assert_eq!(client.next_data().await, 2);
    let wanted = |span: &Value| span["name"] == "push" && span["trace"] == caller.trace;
    for push in collector.expect("two spans", 2, wanted).await {
        assert_eq!(push["parent"], *caller.span);
    }
}

/// A caller that does not record its trace finds its own header on the message.
#[tokio::test]
async fn a_push_that_is_not_recorded_passes_its_header_on() {
    let (nats, _redis, collector, gateway) = world("1").await;
    let operator = nats.operator().await;
    let mut heard = operator.subscribe("usher.user.*").await.expect("heard");
    operator.flush().await.expect("flushed");
    let caller = caller(2, "00");
    let header = caller.header();
    let mut grpc = gateway.grpc().await;
    let request = calling(push(USER, "1"), &[("traceparent", &header)]);
    grpc.push_notification(request).await.expect("pushed");
    let message = patiently("the message", futures_util::StreamExt::next(&mut heard)).await;
    let headers = message
        .and_then(|message| message.headers)
        .expect("headers");
    assert_eq!(
        headers.get("traceparent").map(|value| value.as_str()),
        Some(&*header)
    );
    // What comes later is recorded, so that would be here.
    let later = sampled(3);
    let request = calling(push(USER, "2"), &[("traceparent", &later.header())]);
    grpc.push_notification(request).await.expect("pushed");
    collector.only("push", &later.trace).await;
    assert_eq!(collector.of_trace(&caller.trace), Vec::<Value>::new());
}

#[tokio::test]
async fn a_message_by_nats_is_followed_where_its_header_says_so() {
    let (nats, redis, collector, gateway) = world("0").await;
    let publisher = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    let mut events = Events::open(&gateway, &redis.ticket(USER).await).await;

    let (quiet, doubled) = (caller(4, "00"), sampled(5).header());
    let cut = &sampled(6).header()[..54];
    let upper = "00-0000000000000000000000000000000A-00000000CA11000A-01";
    let unwanted = [
        HeaderMap::new(),
        quiet.headers(),
        headers(&[("traceparent", &doubled), ("Traceparent", &doubled)]),
        headers(&[("traceparent", cut)]),
        headers(&[("traceparent", upper)]),
        headers(&[("traceparent", "")]),
    ];
    let wanted = [
        sampled(7).headers(),
        // As Go's libraries write it.
        headers(&[("Traceparent", &sampled(8).header())]),
    ];
    let all = unwanted.into_iter().chain(wanted);
    for (number, headers) in all.enumerate() {
        publish(&publisher, headers, &number.to_string()).await;
    }
    for number in 0..8 {
        assert_eq!(client.next_data().await, number);
        assert_eq!(events.next_data().await, number);
    }
    for caller in [sampled(7), sampled(8)] {
        let wanted = |span: &Value| span["trace"] == *caller.trace;
        let spans = collector.expect("a span for each session", 2, wanted).await;
        let mut transports: Vec<_> = spans
            .iter()
            .map(|span| {
                span["attributes"]["usher.transport"]
                    .as_str()
                    .unwrap_or("?")
            })
            .collect();
        transports.sort_unstable();
        assert_eq!(transports, ["sse", "websocket"]);
        for span in &spans {
            assert_eq!(span["name"], "deliver");
            assert_eq!(span["parent"], *caller.span);
        }
    }
    // The others came first.
    assert_eq!(collector.spans().len(), 4, "{:#?}", collector.spans());
}

#[tokio::test]
async fn a_broadcast_has_few_spans() {
    let (nats, redis, collector, gateway) = world("0").await;
    let publisher = nats.client().await;
    let mut clients = Vec::new();
    for number in 0..80 {
        let ticket = redis.ticket(&format!("user-{}", number % 40)).await;
        clients.push(Client::open(&gateway, &ticket).await);
    }
    let broadcast = sampled(9);
    let sent = publisher.publish_with_headers("usher.broadcast", broadcast.headers(), "1".into());
    sent.await.expect("published");
    publisher.flush().await.expect("flushed");
    for client in &mut clients {
        assert_eq!(client.next_data().await, 1);
    }
    let last = sampled(10);
    let sent = publisher.publish_with_headers("usher.user.user-1", last.headers(), "2".into());
    sent.await.expect("published");
    publisher.flush().await.expect("flushed");
    let wanted = |span: &Value| span["trace"] == *last.trace;
    collector.expect("what came later", 2, wanted).await;
    let wanted = |span: &Value| span["trace"] == *broadcast.trace;
    collector.expect("spans of the broadcast", 64, wanted).await;
}

#[tokio::test]
async fn an_admission_is_recorded_with_what_became_of_it() {
    let (_nats, redis, collector, gateway) = world("0").await;
    let [socket, stream, refused, malformed] = [11, 12, 13, 14].map(sampled);
    let ticket = redis.ticket(USER).await;
    let quiet = caller(15, "00").header();
    drop(
        Client::builder(&gateway, &ticket)
            .header("traceparent", &quiet)
            .open()
            .await,
    );
    let ticket = redis.ticket(USER).await;
    let client = Client::builder(&gateway, &ticket);
    drop(client.header("traceparent", &socket.header()).open().await);
    let events = Events::builder(&gateway, &redis.ticket(USER).await);
    drop(events.header("traceparent", &stream.header()).open().await);
    // Used up.
    let again = Client::builder(&gateway, &ticket);
    let answer = again
        .header("traceparent", &refused.header())
        .refused()
        .await;
    assert_eq!(answer.status, 401);
    let bad = Client::builder(&gateway, &ticket).since("nonsense");
    let answer = bad
        .header("traceparent", &malformed.header())
        .refused()
        .await;
    assert_eq!(answer.status, 400);
    for (caller, transport, result) in [
        (socket, "websocket", "admitted"),
        (stream, "sse", "admitted"),
        (refused, "websocket", "ticket_unknown"),
        (malformed, "websocket", "since_malformed"),
    ] {
        let span = collector.only("admission", &caller.trace).await;
        assert_eq!(span["parent"], *caller.span);
        assert_eq!(span["kind"], "SPAN_KIND_SERVER");
        assert_eq!(span["attributes"]["usher.transport"], transport);
        assert_eq!(span["attributes"]["usher.result"], result);
    }
    assert_eq!(collector.spans().len(), 4, "{:#?}", collector.spans());
    let output = collector.process.output();
    assert!(!output.contains(USER), "a user in a span: {output}");
}

#[tokio::test]
async fn with_a_ratio_of_1_all_that_has_no_header_is_recorded() {
    let (nats, redis, collector, gateway) = world("1").await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    let mut grpc = gateway.grpc().await;
    grpc.push_notification(push(USER, "1"))
        .await
        .expect("pushed");
    publish(&nats.client().await, HeaderMap::new(), "2").await;
    for number in 1..=2 {
        assert_eq!(client.next_data().await, number);
    }
    let named = |name: &'static str| move |span: &Value| span["name"] == name;
    let admission = collector
        .expect("an admission", 1, named("admission"))
        .await;
    let push = collector.expect("a push", 1, named("push")).await;
    let delivers = collector.expect("deliveries", 2, named("deliver")).await;
    let begun = |span: &Value| span["parent"] == "";
    assert!(begun(&admission[0]) && begun(&push[0]));
    let of_push = |span: &&Value| span["trace"] == push[0]["trace"];
    let pushed = delivers.iter().find(of_push).expect("of the push");
    assert_eq!(pushed["parent"], push[0]["span"]);
    let other = delivers
        .iter()
        .find(|span| !of_push(span))
        .expect("another");
    assert!(begun(other), "{other}");
}

/// A client has no `traceparent`, so the trace of a call begins here; a service goes on with it.
#[tokio::test]
async fn a_call_is_recorded_and_its_service_told() {
    let (nats, redis, collector, gateway) = world("1").await;
    let mut answering = Service::of(&nats, "a").await;
    let mut client = service::caller(&gateway, &redis, USER).await;
    works(&mut client, &mut answering, "a").await;
    call(&mut client, "1", "nobody.here", 1.into()).await;
    fails(&mut client, "1", "no_responders").await;
    call(&mut client, "2", "a", 1.into()).await;
    let told = header(&answering.next().await, "traceparent");
    drop(client);
    let result = |result: &'static str| {
        move |span: &Value| span["name"] == "call" && span["attributes"]["usher.result"] == result
    };
    for ended in ["ok", "no_responders", "client_gone"] {
        let span = collector.expect(ended, 1, result(ended)).await.remove(0);
        assert_eq!(span["parent"], "", "{span}");
        if ended == "client_gone" {
            let text = |key: &str| span[key].as_str().expect("a text").to_owned();
            assert_eq!(told, format!("00-{}-{}-01", text("trace"), text("span")));
            assert_eq!(span["attributes"]["usher.call"], "a", "{span}");
        }
    }
}

#[tokio::test]
async fn traces_go_by_tls() {
    let ca = Ca::new();
    let (nats, redis) = servers().await;
    let collector = Collector::encrypted(&ca.issue()).await;
    let gateway = collector
        .of(Gateway::builder(&nats, &redis), "0")
        .environment("SSL_CERT_FILE", ca.file())
        .start()
        .await;
    let caller = sampled(16);
    let request = calling(push(USER, "1"), &[("traceparent", &caller.header())]);
    let pushed = gateway.grpc().await.push_notification(request).await;
    pushed.expect("pushed");
    collector.only("push", &caller.trace).await;
}
