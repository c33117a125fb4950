//! Streams of pushes: in order, answered in order, bounded both ways.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use tokio::{net::TcpStream, sync::watch};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use usher::proto::{
    PushRequest, PushStreamRequest, PushStreamResponse, push_stream_response::Result as Answer,
};

use crate::grpc_unavailable::python;
use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, push_with_receipt, pushed},
    servers,
    wait::patiently,
    world,
};

/// Pushes of one stream that are under way or wait for their answers to be read.
const WINDOW: usize = 256;
/// Streams of all callers together.
const STREAMS: usize = 256;

/// Pushes over one stream.
async fn open(
    gateway: &Gateway,
    pushes: impl Stream<Item = PushRequest> + Send + 'static,
) -> Streaming<PushStreamResponse> {
    let mut grpc = gateway.grpc().await;
    let pushes = pushes.map(|push| PushStreamRequest { push: Some(push) });
    let opened = patiently("a stream", grpc.push_stream(pushes)).await;
    opened.expect("a stream").into_inner()
}

/// The answers after those that were read already, each in its place, and how the stream
/// ended.
async fn read(
    mut answers: Streaming<PushStreamResponse>,
    already: usize,
) -> (Vec<Answer>, Result<(), Status>) {
    let mut read = Vec::new();
    loop {
        match patiently("an answer", answers.message()).await {
            Ok(Some(PushStreamResponse { index, result })) => {
                assert_eq!(index, (already + read.len()) as u64);
                read.push(result.expect("a result"));
            }
            Ok(None) => return (read, Ok(())),
            Err(status) => return (read, Err(status)),
        }
    }
}

fn is_ok(answer: &Answer) -> bool {
    matches!(answer, Answer::Response(_))
}

/// By Python's grpcio: order, and errors in the middle.
#[tokio::test]
async fn pushes_are_published_and_answered_in_order_and_an_error_concerns_one() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "20000")
        .set("session.queue_bytes", "16MiB")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut caller = python("stream.py", &gateway, &["numbers", "42", "10000", "7"]);
    let status = caller.wait().await;
    let output = caller.output();
    assert!(status.success(), "{output}");
    let mut lines = output.lines();
    for number in 0..10_000 {
        let status = match number % 7 {
            6 => "INVALID_ARGUMENT",
            _ => {
                assert_eq!(client.next_data().await, number);
                "OK"
            }
        };
        assert_eq!(lines.next(), Some(&*format!("{number} {status}")));
    }
    assert_eq!(lines.next(), Some("end:OK:certain:10000"));
    let counted =
        |code| format!("usher_grpc_requests_total{{method=\"PushStream\",code={code:?}}}");
    assert_eq!(gateway.metric(&counted("INVALID_ARGUMENT")).await, 1428.0);
    assert_eq!(gateway.metric(&counted("OK")).await, 8572.0);
    assert_eq!(gateway.metric("usher_grpc_in_flight_bytes").await, 0.0);
}

/// Each push has its own receipt, its own sequence, its own certainty.
#[tokio::test]
async fn an_answer_says_what_a_call_of_its_own_would_say() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let _session = Client::open(&gateway, &redis.ticket("42").await).await;
    let pushes = [
        push("42", "1"),
        push_with_receipt("42", "2"),
        push("", "no user"),
        push("43", "3"),
    ];
    let (answers, end) = read(open(&gateway, stream::iter(pushes)).await, 0).await;
    end.expect("a good end");
    let seqs = answers.iter().map(|answer| match answer {
        Answer::Response(response) => (response.seq, response.sessions),
        Answer::Error(status) => {
            let code = status.code;
            let details = status.details.iter();
            let kinds: Vec<_> = details.map(|detail| detail.type_url.as_str()).collect();
            assert_eq!((code, status.message.contains("user_id")), (3, true));
            assert_eq!(kinds, ["type.googleapis.com/google.rpc.ErrorInfo"]);
            (0, 0)
        }
    });
    let seqs: Vec<_> = seqs.collect();
    assert_eq!(seqs, [(1, 0), (2, 1), (0, 0), (3, 0)]);
}

#[tokio::test]
async fn a_push_that_is_too_large_ends_the_stream_after_the_answers_before_it() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_message", "10KiB")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let large = push("42", vec![b'x'; 10 * 1024]);
    let pushes = (0..50).map(|number: u32| push("42", number.to_string()));
    let pushes = pushes.chain([large, push("42", "after")]);
    let (answers, end) = read(open(&gateway, stream::iter(pushes)).await, 0).await;
    assert_eq!(answers.iter().filter(|answer| is_ok(answer)).count(), 50);
    let status = end.expect_err("too large");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("grpc.max_message"), "{status:?}");
    assert!(status.get_details_error_info().is_some(), "{status:?}");
    for number in 0..50 {
        assert_eq!(client.next_data().await, number);
    }
    pushed(&mut gateway.grpc().await, push("42", "\"next\"")).await;
    assert_eq!(client.next_data().await, "next", "nothing came after");
}

/// Where there is no room, a stream waits, and no push of it is refused.
#[tokio::test]
async fn a_stream_waits_for_room() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_message", "64KiB")
        .set("grpc.max_in_flight_bytes", "64KiB")
        .set("session.queue_bytes", "16MiB")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let message = format!("\"{}\"", "x".repeat(40 * 1024));
    let streams = (0..3).map(async |_| {
        let pushes: Vec<_> = (0..20).map(|_| push("42", message.clone())).collect();
        read(open(&gateway, stream::iter(pushes)).await, 0).await
    });
    for (answers, end) in futures_util::future::join_all(streams).await {
        end.expect("a good end");
        assert_eq!(answers.iter().filter(|answer| is_ok(answer)).count(), 20);
    }
    for _ in 0..60 {
        client.next_data().await;
    }
    assert_eq!(gateway.metric("usher_grpc_in_flight_bytes").await, 0.0);
}

#[tokio::test]
async fn pushes_fail_one_by_one_while_nats_is_away_and_the_stream_goes_on() {
    let (mut nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let (sender, pushes) = tokio::sync::mpsc::unbounded_channel();
    let pushes = stream::unfold(pushes, async |mut pushes| {
        pushes.recv().await.map(|push| (push, pushes))
    });
    let mut answers = open(&gateway, pushes).await;
    let mut answer = async |message: &str| {
        sender
            .send(push("42", message))
            .expect("the stream is there");
        let answer = patiently("an answer", answers.message()).await;
        let answer = answer.expect("it goes on").expect("an answer");
        answer.result.expect("a result")
    };
    assert!(is_ok(&answer("1").await));
    nats.kill();
    let connected = "usher_nats_connected{connection=\"push\"}";
    gateway.metric_becomes(connected, 0.0).await;
    let Answer::Error(status) = answer("2").await else {
        panic!("NATS is away");
    };
    assert_eq!((status.code, status.details.len()), (14, 1), "{status:?}");
    nats.restart().await;
    gateway.metric_becomes(connected, 1.0).await;
    assert_eq!(client.next_data().await, 1);
    client.expect_gap().await;
    eventually("pushes pass again", || async {
        let mut grpc = gateway.grpc().await;
        grpc.push_notification(push("42", "3")).await.is_ok()
    })
    .await;
    assert!(is_ok(&answer("4").await));
    assert_eq!(client.next_data().await, 3);
    assert_eq!(client.next_data().await, 4);
}

/// By Python's grpcio: what was answered was published, and nothing is left of the rest.
#[tokio::test]
async fn a_caller_that_cancels_leaves_nothing_behind() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "100000")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut caller = python("stream.py", &gateway, &["cancel", "42", "500"]);
    let status = caller.wait().await;
    let output = caller.output();
    assert!(status.success(), "{output}");
    assert!(output.contains("end:CANCELLED:unknown:"), "{output}");
    let answered = output.lines().filter(|line| line.ends_with(" OK")).count();
    assert!(answered >= 500, "{output}");
    gateway
        .metric_becomes("usher_grpc_in_flight_bytes", 0.0)
        .await;
    pushed(&mut gateway.grpc().await, push("42", "\"over\"")).await;
    let mut seen = 0;
    loop {
        let data = client.next_data().await;
        if data == "over" {
            break;
        }
        assert_eq!(data, seen);
        seen += 1;
    }
    assert!(seen >= answered, "{seen} of {answered}");
}

/// A caller that lets no answer come.
#[tokio::test]
async fn a_caller_that_reads_no_answers_is_not_read_on() {
    const PUSHES: usize = 40 * WINDOW;
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let mut caller = Caller::connect(&gateway, &builder).await;
    let (answer, mut body) = caller.begin().await;
    let pushes = message(&push("43", "1")).repeat(PUSHES);
    body.send_data(pushes.into(), false).expect("sent");
    let counted = "usher_grpc_requests_total{method=\"PushStream\",code=\"OK\"}";
    eventually("the first are published", || async {
        gateway.metric(counted).await >= WINDOW as f64
    })
    .await;
    // Others do not notice.
    let mut grpc = gateway.grpc().await;
    for number in 0..50 {
        pushed(&mut grpc, push("42", number.to_string())).await;
        assert_eq!(client.next_data().await, number);
    }
    // Besides the window, what one answer frame holds.
    let published = gateway.metric(counted).await;
    assert!(published < PUSHES as f64 / 2.0, "{published}");
    drop((answer, body, caller));
    let held = "usher_grpc_in_flight_bytes";
    gateway.metric_becomes(held, 0.0).await;
    let published = gateway.metric(counted).await;
    pushed(&mut grpc, push("42", "\"over\"")).await;
    assert_eq!(client.next_data().await, "over");
    assert_eq!(gateway.metric(counted).await, published);
}

/// Thousands of streams: those beyond the bound are refused, and whoever else pushes does
/// not notice.
#[tokio::test]
async fn streams_are_bounded_and_leave_nothing_behind() {
    let (_nats, _redis, gateway) = world().await;
    let mut callers = [gateway.grpc().await, gateway.grpc().await];
    let (go_on, _) = watch::channel(());
    let mut held = Vec::new();
    for number in 0..STREAMS {
        let mut goes_on = go_on.subscribe();
        let one = stream::iter([PushStreamRequest {
            push: Some(push("42", number.to_string())),
        }]);
        let no_more = stream::once(async move { drop(goes_on.changed().await) });
        let pushes = one.chain(no_more.filter_map(async |()| None));
        let opened = callers[number % 2].push_stream(Box::pin(pushes)).await;
        let mut answers = opened.expect("a stream").into_inner();
        let answer = patiently("an answer", answers.message()).await;
        assert!(answer.expect("an answer").is_some());
        held.push(answers);
    }
    let refused = callers[0].push_stream(stream::pending()).await;
    let status = refused.map(drop).expect_err("too many");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.get_details_error_info().is_some(), "{status:?}");
    let counted = "usher_grpc_refused_total{reason=\"too_many_streams\"}";
    assert_eq!(gateway.metric(counted).await, 1.0);
    pushed(&mut gateway.grpc().await, push("42", "another call")).await;
    drop(go_on);
    for answers in held {
        let (more, end) = read(answers, 1).await;
        assert!(more.is_empty());
        end.expect("a good end");
    }
    let again = open(&gateway, stream::iter([push("42", "again")])).await;
    read(again, 0).await.1.expect("a good end");
}

/// Streams that are opened and left at once, thousands of them.
#[tokio::test]
async fn streams_that_are_left_at_once_leave_nothing_behind() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let builder = h2::client::Builder::new();
    let mut caller = Caller::connect(&gateway, &builder).await;
    let one = Bytes::from(message(&push("43", "left")));
    for _ in 0..5000 {
        if caller.has_ended() {
            // A connection that is left too often may be closed.
            caller = Caller::connect(&gateway, &builder).await;
        }
        if let Some((answer, mut body)) = caller.try_begin().await {
            let _ = body.send_data(one.clone(), false);
            body.send_reset(h2::Reason::CANCEL);
            drop(answer);
        }
    }
    drop(caller);
    pushed(&mut gateway.grpc().await, push("42", "\"a good one\"")).await;
    assert_eq!(client.next_data().await, "a good one");
    gateway
        .metric_becomes("usher_grpc_in_flight_bytes", 0.0)
        .await;
    let again = open(&gateway, stream::iter([push("42", "2")])).await;
    read(again, 0).await.1.expect("a good end");
}

/// A caller that writes its streams itself.
struct Caller {
    sender: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
}

impl Caller {
    async fn connect(gateway: &Gateway, builder: &h2::client::Builder) -> Self {
        let stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
        let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self { sender, connection }
    }

    fn has_ended(&self) -> bool {
        self.connection.is_finished()
    }

    async fn begin(&mut self) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_begin().await.expect("a stream")
    }

    /// A stream of pushes; none where the connection has ended.
    async fn try_begin(&mut self) -> Option<(ResponseFuture, SendStream<Bytes>)> {
        let request = http::Request::post("http://gateway/usher.v1.Notification/PushStream")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let request = request.body(()).expect("a request");
        let ready = self.sender.clone().ready();
        let mut sender = patiently("a stream", ready).await.ok()?;
        sender.send_request(request, false).ok()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A push as it is on the wire.
fn message(push: &PushRequest) -> Vec<u8> {
    let push = Some(push.clone());
    let message = prost::Message::encode_to_vec(&PushStreamRequest { push });
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    [&[0][..], &length, &message].concat()
}
