//! How large a message may be, and how much of all may be under way.

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::Response;
use tokio::net::TcpStream;
use tonic::Code;

use super::{TOKEN, pushes, refused};
use crate::support::{
    Client, Gateway, eventually,
    grpc::{push, pushed, with_token},
    servers,
    wait::patiently,
};

const MIB: usize = 1 << 20;

/// A caller that writes its calls' bodies itself.
struct Caller(SendRequest<Bytes>);

/// A call whose message has not come whole.
struct Call {
    answer: h2::client::ResponseFuture,
    body: SendStream<Bytes>,
}

impl Caller {
    async fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Begins a call whose message is said to have so many bytes.
    async fn announce(&mut self, length: usize) -> Call {
        let request = http::Request::post("http://gateway/usher.v1.Notification/PushNotification")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {TOKEN}"));
        let request = request.body(()).expect("a request");
        let mut sender = self.0.clone().ready().await.expect("a stream");
        let (answer, mut body) = sender.send_request(request, false).expect("sent");
        let length = u32::try_from(length).expect("four bytes").to_be_bytes();
        let prefix = [&[0][..], &length].concat();
        body.send_data(prefix.into(), false).expect("sent");
        Call { answer, body }
    }
}

impl Call {
    /// Sends so many bytes of the message, as far as it is taken.
    async fn send(&mut self, mut bytes: usize) {
        while bytes > 0 {
            self.body.reserve_capacity(bytes.min(64 << 10));
            let room = std::future::poll_fn(|cx| self.body.poll_capacity(cx)).await;
            let Some(Ok(room)) = room else { return };
            let piece = room.min(bytes);
            let piece = Bytes::from(vec![b'x'; piece]);
            bytes -= piece.len();
            if self.body.send_data(piece, false).is_err() {
                return;
            }
        }
    }

    /// The status that it is answered with, though its message has not come whole.
    async fn status(self) -> (String, String) {
        let Self { answer, body } = self;
        let answer: Response<RecvStream> = patiently("an answer", answer).await.expect("one");
        drop(body);
        let header = |name| {
            let value = answer.headers().get(name).expect("it is there");
            value.to_str().expect("text").to_owned()
        };
        (header("grpc-status"), header("grpc-message"))
    }
}

const RESOURCE_EXHAUSTED: &str = "8";
const DEADLINE_EXCEEDED: &str = "4";

#[tokio::test]
async fn a_message_is_refused_before_it_is_read() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .set("grpc.max_message", "100KiB")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut caller = gateway.grpc().await;
    let mut send = async |bytes: usize| {
        let request = with_token(push("42", vec![b'x'; bytes]), TOKEN);
        patiently("an answer", caller.push_notification(request)).await
    };
    // The rest of the message is a user id and the heads of two fields.
    send(100 * 1024 - 10).await.expect("not too large");
    client.next_data().await;
    let status = send(100 * 1024).await.expect_err("too large");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("grpc.max_message"), "{status:?}");

    // Nothing of it has to come.
    let mut caller = Caller::connect(&gateway).await;
    let (status, says) = caller.announce(60 * MIB).await.status().await;
    assert_eq!(status, RESOURCE_EXHAUSTED, "{says}");
    gateway
        .metric_becomes(&refused("message_too_large"), 2.0)
        .await;
    let counted =
        r#"usher_grpc_requests_total{method="PushNotification",code="RESOURCE_EXHAUSTED"}"#;
    assert_eq!(gateway.metric(counted).await, 2.0);
}

/// With a token, one may announce as much as one likes: the gateway holds no more than
/// `grpc.max_in_flight_bytes` of it.
#[tokio::test]
async fn messages_under_way_are_bounded_together() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .set("grpc.max_message", "16MiB")
        .set("grpc.max_in_flight_bytes", "32MiB")
        .start()
        .await;
    let before = gateway.metric("process_resident_memory_bytes").await;
    let mut taken = Vec::new();
    let mut exhausted = 0;
    for number in 0..20 {
        let mut caller = Caller::connect(&gateway).await;
        let mut call = caller.announce(15 * MIB).await;
        if number < 2 {
            patiently("it is taken", call.send(14 * MIB)).await;
            taken.push((caller, call));
        } else {
            let (status, says) = call.status().await;
            assert_eq!(status, RESOURCE_EXHAUSTED, "{says}");
            assert!(says.contains("grpc.max_in_flight_bytes"), "{says}");
            exhausted += 1;
        }
    }
    let held = "usher_grpc_in_flight_bytes";
    assert_eq!(gateway.metric(held).await, (30 * MIB) as f64);
    assert_eq!(
        gateway.metric(&refused("in_flight_bytes")).await,
        f64::from(exhausted)
    );
    let after = gateway.metric("process_resident_memory_bytes").await;
    let grown = (after - before) / MIB as f64;
    assert!(grown < 100.0, "{grown} MiB for 32");
    // A small one finds room.
    assert!(pushes(&gateway).await);

    // A message that does not go on is given up, and so is its room.
    let (_caller, call) = taken.pop().expect("a call");
    let (status, says) = call.status().await;
    assert_eq!(status, DEADLINE_EXCEEDED, "{says}");
    drop(taken);
    gateway.metric_becomes(held, 0.0).await;
    eventually("it is counted", || async {
        gateway.metric(&refused("too_slow")).await >= 1.0
    })
    .await;
}

/// By default a message of the default size of NATS gets through, whole.
#[tokio::test]
async fn a_large_message_gets_through() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_bytes", "4MiB")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut caller = gateway.grpc().await;
    let text = "x".repeat(MIB - 1000);
    pushed(&mut caller, push("42", format!("\"{text}\""))).await;
    assert_eq!(client.next_data().await, text);
}
