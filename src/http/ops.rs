//! The operators' listener: health, readiness, metrics, status, and a page for people.

mod page;
mod user;

use std::{sync::Arc, time::Instant};

use serde::Serialize;
use warp::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    reply::{Reply, Response},
};

pub(super) use self::{
    page::{own_host, page},
    user::user,
};
use super::session::Sessions;
use crate::{
    control::Control,
    metrics::Metrics,
    readiness::{Readiness, Reason},
    registry::Registry,
    tickets::Tickets,
};

/// What there is to say about this gateway.
#[derive(Debug)]
pub struct Status {
    /// This gateway's name.
    pub gateway: String,
    /// When it began.
    pub started: Instant,
    /// Who is here.
    pub registry: Arc<Registry>,
    /// Asks the other gateways.
    pub control: Control,
    /// Whether the bus is in this process, so that there is no NATS.
    pub embedded: bool,
    /// The open sessions.
    pub sessions: Arc<Sessions>,
    /// The ticket store.
    pub tickets: Tickets,
    /// Whether it should get new sessions.
    pub readiness: Readiness,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

#[derive(Serialize)]
struct Body<'a> {
    gateway: &'a str,
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    reasons: Vec<Reason>,
    warnings: Vec<Reason>,
    /// `None` if there is no NATS.
    nats_connected: Option<bool>,
    /// `None` if there is no Redis.
    redis_connected: Option<bool>,
    sessions: i64,
    users: usize,
    topics: usize,
    subscriptions: i64,
    queued_bytes: usize,
}

/// The status alone: the reasons are the operators'.
pub(super) fn health(good: bool) -> Response {
    match good {
        true => StatusCode::OK.into_response(),
        false => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// `/readyz`: whether this gateway should get new sessions, and why not.
pub(super) fn readyz(status: Arc<Status>) -> Response {
    let readiness = &status.readiness;
    let (reasons, warnings) = (readiness.reasons(), readiness.warnings());
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(
        &serde_json::json!({
            "ready": reasons.is_empty(),
            "reasons": reasons,
            "warnings": warnings,
        }),
        status,
    )
}

/// `/metrics`, as Prometheus reads it.
pub(super) fn metrics(status: Arc<Status>) -> Response {
    status.metrics.users.set(status.registry.users() as i64);
    let topics = status.registry.topics();
    status.metrics.topics.followed.set(topics as i64);
    status
        .metrics
        .queued_bytes
        .set(status.registry.queued_bytes() as i64);
    let runtime = tokio::runtime::Handle::current().metrics();
    status.metrics.tasks.set(runtime.num_alive_tasks() as i64);
    let (reasons, warnings) = (status.readiness.reasons(), status.readiness.warnings());
    let ready = reasons.is_empty();
    let findings = serde_json::json!([reasons, warnings].concat());
    let findings = findings.as_array().into_iter().flatten();
    let findings = findings.filter_map(|finding| finding.as_str());
    status.metrics.service.set(ready, findings);
    let (text, content_type) = status.metrics.render();
    let mut response = text.into_response();
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// `/status`.
pub(super) fn status(status: Arc<Status>) -> Response {
    json(&body(&status), StatusCode::OK)
}

fn body(status: &Status) -> Body<'_> {
    let reasons = status.readiness.reasons();
    Body {
        gateway: &status.gateway,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: status.started.elapsed().as_secs(),
        ready: reasons.is_empty(),
        reasons,
        warnings: status.readiness.warnings(),
        nats_connected: (!status.embedded).then(|| status.registry.is_connected()),
        redis_connected: status.tickets.is_connected(),
        sessions: status.sessions.open(),
        users: status.registry.users(),
        topics: status.registry.topics(),
        subscriptions: status.metrics.subscriptions.get(),
        queued_bytes: status.registry.queued_bytes(),
    }
}

fn json(body: &impl Serialize, status: StatusCode) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}
