//! What the demo publishes: to anyone, to a topic, to all.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use warp::{Rejection, http::StatusCode, reply::Response};

use super::{Demo, json as answer, user};
use crate::{
    bus::{PublishError, Published, Push, Receipt, To},
    channel::Topic,
    http::refusal::Refusal,
    message::EventName,
    trace::Caller,
};

/// What a push looks like.
pub(in crate::http) const PUSH_FORM: &str =
    "send {\"user_id\":\"42\",\"event\":\"…\",\"data\":…}, at most 1 MiB";
/// What a message to a topic looks like.
pub(in crate::http) const TOPIC_FORM: &str =
    "send {\"topic\":\"demo-room\",\"event\":\"…\",\"data\":…}, at most 1 MiB";
/// What a message to all looks like.
pub(in crate::http) const BROADCAST_FORM: &str = "send {\"event\":\"…\",\"data\":…}, at most 1 MiB";

const TOPIC_RULE: &str = "a topic is 1–128 bytes of UTF-8 without control characters; it neither \
                          begins nor ends with white space or U+FEFF, and does not begin with {";

#[derive(Deserialize)]
struct PushRequest {
    user_id: String,
    event: Option<String>,
    data: Box<RawValue>,
}

#[derive(Deserialize)]
struct TopicRequest {
    topic: String,
    event: Option<String>,
    data: Box<RawValue>,
}

#[derive(Deserialize)]
struct BroadcastRequest {
    event: Option<String>,
    data: Box<RawValue>,
}

/// A push to anyone.
pub(in crate::http) async fn push(body: Bytes, demo: Arc<Demo>) -> Result<Response, Rejection> {
    Ok(demo.push(&body).await?)
}

/// A message to the followers of a topic.
pub(in crate::http) async fn to_topic(body: Bytes, demo: Arc<Demo>) -> Result<Response, Rejection> {
    Ok(demo.to_topic(&body).await?)
}

/// A message to all sessions.
pub(in crate::http) async fn broadcast(
    body: Bytes,
    demo: Arc<Demo>,
) -> Result<Response, Rejection> {
    Ok(demo.broadcast(&body).await?)
}

impl Demo {
    async fn push(&self, body: &[u8]) -> Result<Response, Refusal> {
        let request: PushRequest =
            serde_json::from_slice(body).map_err(|_| Refusal::BadRequest(PUSH_FORM))?;
        let to = To::User(user(&request.user_id)?);
        let published = self.publish(to, request.event, &request.data).await?;
        let (status, sessions) = match published.receipt {
            Some(Receipt::Queued(sessions)) => ("queued", sessions),
            Some(Receipt::Offline) | None => ("offline", 0),
        };
        Ok(answered(json!({ "status": status, "sessions": sessions })))
    }

    async fn to_topic(&self, body: &[u8]) -> Result<Response, Refusal> {
        let request: TopicRequest =
            serde_json::from_slice(body).map_err(|_| Refusal::BadRequest(TOPIC_FORM))?;
        let topic = Topic::parse(&request.topic).map_err(|_| Refusal::BadRequest(TOPIC_RULE))?;
        let to = To::Topic(topic);
        self.publish(to, request.event, &request.data).await?;
        Ok(answered(json!({ "status": "dispatched" })))
    }

    async fn broadcast(&self, body: &[u8]) -> Result<Response, Refusal> {
        let request: BroadcastRequest =
            serde_json::from_slice(body).map_err(|_| Refusal::BadRequest(BROADCAST_FORM))?;
        self.publish(To::All, request.event, &request.data).await?;
        Ok(answered(json!({ "status": "dispatched" })))
    }

    /// Publishes, and asks for a receipt where the message is one user's.
    async fn publish(
        &self,
        to: To,
        event: Option<String>,
        data: &RawValue,
    ) -> Result<Published, Refusal> {
        let event = match event.as_deref() {
            None | Some("") => None,
            Some(name) => Some(EventName::parse(name).map_err(|_| {
                Refusal::BadRequest(
                    "event is 1–64 of A-Z a-z 0-9 . _ : - and does not begin with usher.",
                )
            })?),
        };
        let receipt = matches!(to, To::User(_));
        let push = Push {
            to,
            event,
            message_id: None,
            payload: Bytes::copy_from_slice(data.get().as_bytes()),
            caller: Caller::default(),
        };
        let published = self.publisher.publish(push, receipt).await;
        published.map_err(|error| match error {
            PublishError::TooLarge { .. } => Refusal::BadRequest("data is larger than NATS takes"),
            PublishError::Forbidden => Refusal::Unavailable("NATS forbids this subject"),
            PublishError::NotStored(_) => Refusal::Unavailable("the stream did not store it"),
            PublishError::Unavailable | PublishError::Unconfirmed | PublishError::Undecided(_) => {
                Refusal::Unavailable("NATS is away; try again")
            }
        })
    }
}

fn answered(body: Value) -> Response {
    answer(StatusCode::OK, &body)
}
