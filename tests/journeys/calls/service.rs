//! A service that answers calls, and clients that make them.

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Nats, Redis, eventually, wait::patiently};

/// A service with the rights of one, and the calls that come to it.
pub(crate) struct Service {
    nats: async_nats::Client,
    calls: Subscriber,
}

impl Service {
    /// Answers calls of this name, in which NATS's wildcards may stand.
    pub(crate) async fn of(nats: &Nats, name: &str) -> Self {
        let connection = nats.responder().await;
        let subject = format!("usher.call.{name}");
        let calls = connection.subscribe(subject.clone()).await;
        let calls = calls.expect("subscribed");
        eventually("the service is subscribed", || async {
            nats.subscriptions(&subject).await > 0
        })
        .await;
        Self {
            nats: connection,
            calls,
        }
    }

    /// The next call.
    pub(crate) async fn next(&mut self) -> Message {
        let call = patiently("a call", self.calls.next()).await;
        call.expect("the connection is there")
    }

    /// Answers a call.
    pub(crate) async fn answer(&self, call: &Message, answer: impl Into<Bytes>) {
        self.answer_with(call, HeaderMap::new(), answer).await;
    }

    /// Answers a call with headers.
    pub(crate) async fn answer_with(
        &self,
        call: &Message,
        headers: HeaderMap,
        answer: impl Into<Bytes>,
    ) {
        let reply = call.reply.clone().expect("an answer is wanted");
        let answer = answer.into();
        let sent = match headers.is_empty() {
            true => self.nats.publish(reply, answer).await,
            false => self.nats.publish_with_headers(reply, headers, answer).await,
        };
        sent.expect("sent");
        self.nats.flush().await.expect("flushed");
    }

    /// Answers each call with its own data, until it is dropped.
    pub(crate) fn echoes(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            while let Some(call) = self.calls.next().await {
                self.answer(&call, call.payload.clone()).await;
            }
        })
    }
}

/// The value of a header, which must be there once.
pub(crate) fn header(call: &Message, name: &str) -> String {
    let headers = call.headers.as_ref().expect("headers");
    let mut values = headers.get_all(name);
    let value = values.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(values.next().is_none(), "{name} is there twice");
    value.as_str().to_owned()
}

/// A ticket that grants calls.
pub(crate) async fn ticket(redis: &Redis, user: &str, calls: &[&str]) -> String {
    redis
        .ticket_json(json!({"user_id": user, "calls": calls}))
        .await
}

/// A session that may make all calls.
pub(crate) async fn caller(gateway: &Gateway, redis: &Redis, user: &str) -> Client {
    Client::open(gateway, &ticket(redis, user, &[">"]).await).await
}

/// Makes a call with an id.
pub(crate) async fn call(client: &mut Client, id: &str, name: &str, data: Value) {
    let call = json!({"id": id, "call": name, "data": data});
    client.send_text(&call.to_string()).await;
}

/// The next answer to a call, with its id.
pub(crate) async fn answer(client: &mut Client) -> (String, Result<Value, (String, String)>) {
    let frame = client.next_json().await;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    if let Some(error) = frame.get("error") {
        let error = (text(&error["code"]), text(&error["message"]));
        return (text(&frame["error"]["id"]), Err(error));
    }
    let reply = &frame["reply"];
    assert!(reply.is_object(), "no answer to a call: {frame}");
    (text(&reply["id"]), Ok(reply["data"].clone()))
}

/// Asserts that the next answer is an error to the call of this id; returns its message.
pub(crate) async fn fails(client: &mut Client, id: &str, code: &str) -> String {
    let (answered, outcome) = answer(client).await;
    let (found, message) = outcome.expect_err(code);
    assert_eq!((&*answered, &*found), (id, code), "{message}");
    message
}

/// Asserts that a call is made and answered now: nothing before it has hurt the connection.
pub(crate) async fn works(client: &mut Client, service: &mut Service, name: &str) {
    call(client, "works", name, json!(1)).await;
    let asked = service.next().await;
    service.answer(&asked, "2").await;
    assert_eq!(answer(client).await, ("works".to_owned(), Ok(json!(2))));
}
