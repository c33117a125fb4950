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
    position::Position,
    refusal::{Refusal, json},
    shape::{self, Pushed, Ticketed, read},
};
use crate::api::{Failure, Operations, PushOrder};

/// The description of all this (OpenAPI 3.1).
const OPENAPI: &str = include_str!("openapi.json");

/// `POST /v1/push`.
pub(super) async fn push(
    key: Option<String>,
    _call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let push: shape::Push<'_> = read(shape::text(&body)?, Position::START)?;
    let order = push.order(&body, key)?;
    let pushed = publish(&operations, order).await?;
    Ok(json(StatusCode::OK, &pushed))
}

/// Publishes one push, a batch's too.
pub(super) async fn publish(operations: &Operations, order: PushOrder) -> Result<Pushed, Refusal> {
    let published = operations.push(order).await;
    published
        .map(Pushed::from)
        .map_err(|failure| failed(failure, true))
}

/// `POST /v1/tickets`.
pub(super) async fn issue(
    _call: Arc<Call>,
    body: Bytes,
    operations: Arc<Operations>,
) -> Result<Response, Rejection> {
    let ticket: shape::Ticket = read(shape::text(&body)?, Position::START)?;
    let issued = operations.issue(ticket.order()?).await;
    let issued = issued.map_err(|failure| failed(failure, false))?;
    Ok(json(StatusCode::CREATED, &Ticketed::from(issued)))
}

/// `GET /v1/openapi.json`.
pub(super) fn openapi() -> Response {
    warp::reply::with_header(OPENAPI, "content-type", "application/json").into_response()
}

fn failed(failure: Failure, publishes: bool) -> Refusal {
    Refusal::Failed { failure, publishes }
}
