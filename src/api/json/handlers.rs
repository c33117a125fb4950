//! What the paths do.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use warp::{
    Rejection,
    reply::{Reply as _, Response},
};

use super::{
    call::Call,
    reading::whole,
    refusal::{Refusal, json},
    shape::{self, Broadcasted, Pushed, Ticketed},
};
use crate::api::{BroadcastOrder, Operations, PushOrder};

/// The description of all this (OpenAPI 3.1).
const OPENAPI: &str = include_str!("openapi.json");

/// `POST /v1/push`.
pub(super) async fn push(
    key: Option<String>,
    call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let push: shape::Push<'_> = whole(&body)?;
    let order = PushOrder {
        caller: call.caller.clone(),
        ..push.order(&body, key)?
    };
    let pushed = operations.push(order).await.map(Pushed::from);
    let pushed = pushed.map_err(Refusal::of_publish)?;
    Ok(json(StatusCode::OK, &pushed))
}

/// `POST /v1/broadcast`.
pub(super) async fn broadcast(
    key: Option<String>,
    call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let broadcast: shape::Broadcast<'_> = whole(&body)?;
    let order = BroadcastOrder {
        caller: call.caller.clone(),
        ..broadcast.order(&body, key)?
    };
    let published = operations.broadcast(order).await.map(Broadcasted::from);
    let published = published.map_err(Refusal::of_publish)?;
    Ok(json(StatusCode::OK, &published))
}

/// `POST /v1/topics/TOPIC`.
pub(super) async fn publish_topic(
    topic: String,
    key: Option<String>,
    call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let message: shape::Broadcast<'_> = whole(&body)?;
    let order = BroadcastOrder {
        caller: call.caller.clone(),
        ..message.order(&body, key)?
    };
    let published = operations.publish_topic(&topic, order).await;
    let published = published.map(Broadcasted::from);
    let published = published.map_err(Refusal::of_publish)?;
    Ok(json(StatusCode::OK, &published))
}

/// `POST /v1/users/USER/topics`.
pub(super) async fn update_topics(
    user_id: String,
    _call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let topics: shape::Topics = whole(&body)?;
    let updated = operations.update_topics(topics.order(user_id)?).await;
    let updated = updated.map_err(Refusal::of_other)?;
    Ok(json(StatusCode::OK, &updated))
}

/// `POST /v1/tickets`.
pub(super) async fn issue(
    _call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let ticket: shape::Ticket = whole(&body)?;
    let issued = operations.issue(ticket.order()?).await;
    let issued = issued.map_err(Refusal::of_other)?;
    Ok(json(StatusCode::CREATED, &Ticketed::from(issued)))
}

/// `POST /v1/presence`.
pub(super) async fn presence(
    _call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let asked: shape::Asked = whole(&body)?;
    let found = operations.presence(&asked.user_ids.0).await;
    let found = found.map_err(Refusal::of_other)?;
    Ok(json(StatusCode::OK, &found))
}

/// `POST /v1/disconnect`.
pub(super) async fn disconnect(
    _call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let ended = operations.disconnect(whole(&body)?).await;
    let ended = ended.map_err(Refusal::of_other)?;
    Ok(json(StatusCode::OK, &ended))
}

/// `GET /v1/openapi.json`.
pub(super) fn openapi() -> Response {
    warp::reply::with_header(OPENAPI, "content-type", "application/json").into_response()
}
