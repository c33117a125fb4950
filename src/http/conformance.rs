//! An echo made of our own sessions, for a suite that judges how RFC 6455 is kept:
//! it sends, and wants back what it sent. Anyone who asks is let in, so nothing that
//! serves users leads here; `tests/conformance/echo.rs` does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Semaphore, time::Instant};
use tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};
use warp::{
    Filter as _,
    filters::BoxedFilter,
    reply::{Reply as _, Response},
};

use super::{
    admit::Admitted,
    credentials::Credentials,
    join::Joins,
    refusal::Refusal,
    request::{Request, request},
    session::{Config, Sessions},
    upgrade::Upgrade,
    websocket,
};
use crate::{
    bus::{Calls, CallsConfig},
    frame::Protocol,
    metrics::Metrics,
    telemetry::Tracer,
    tickets::Tickets,
    user::UserId,
};

/// Every path is the echo.
pub fn routes(config: Config, metrics: Arc<Metrics>, joins: Joins) -> BoxedFilter<(Response,)> {
    let calls = CallsConfig {
        timeout: Duration::ZERO,
        max_in_flight: 0,
        max_total: 0,
        echoes: false,
    };
    let calls = Calls::embedded(calls, metrics.clone(), Tracer::default());
    let credentials = Arc::new(Credentials::new(Tickets::none(), None));
    let (sessions, clock) = Sessions::new(config, calls, credentials, metrics);
    tokio::spawn(clock);
    let sessions = Arc::new(sessions.echoing(echo));
    let permits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    request()
        .then(move |request| {
            let (sessions, permits, joins) = (sessions.clone(), permits.clone(), joins.clone());
            async move {
                open(request, &sessions, permits, &joins)
                    .await
                    .unwrap_or_else(Refusal::into_response)
            }
        })
        .boxed()
}

async fn open(
    mut request: Request,
    sessions: &Arc<Sessions>,
    permits: Arc<Semaphore>,
    joins: &Joins,
) -> Result<Response, Refusal> {
    let upgrade = Upgrade::read(&mut request)?;
    let permit = permits.try_acquire_owned().map_err(|_| Refusal::Full)?;
    let user = UserId::parse("echo").expect("such an id is good");
    // In the protocol that adds no frames of its own.
    let (handle, opening) = joins
        .join(
            &user,
            (Protocol::RawV1, &[]),
            None,
            Instant::now(),
            (None, None),
        )
        .await?;
    let admitted = Admitted {
        handle,
        opening,
        permit,
        expires_at: None,
        origin: None,
        connect: None,
        grants: None,
    };
    Ok(websocket::begin((upgrade, admitted), sessions.clone()))
}

fn echo(message: &Message) -> Option<Bytes> {
    let (payload, kind) = match message {
        Message::Text(text) => (Bytes::copy_from_slice(text.as_bytes()), Data::Text),
        Message::Binary(bytes) => (bytes.clone(), Data::Binary),
        _ => return None,
    };
    let mut frame = Vec::new();
    Frame::message(payload, OpCode::Data(kind), true)
        .format(&mut frame)
        .expect("a vector takes all that is written");
    Some(frame.into())
}
