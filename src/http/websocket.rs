//! From an accepted request for a WebSocket to its session.

use std::sync::Arc;

use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use warp::reply::Response;

use super::{
    admit::Admitted, handover::Handover, session::Sessions, socket::Socket, upgrade::Upgrade,
};
use crate::tls::Stream;

/// Answers 101; the session begins once that is written.
pub(super) fn begin(sessions: &Arc<Sessions>, upgrade: Upgrade, admitted: Admitted) -> Response {
    let sessions = sessions.clone();
    let (response, on_upgrade) = upgrade.accept();
    tokio::spawn(async move {
        // A failed upgrade merely drops the seat.
        let Ok(upgraded) = on_upgrade.await else {
            return;
        };
        match socket(&sessions, upgraded) {
            Some(socket) => sessions.begin(socket, admitted),
            None => tracing::error!("an upgraded connection is not the one that was accepted"),
        }
    });
    response
}

fn socket(sessions: &Sessions, upgraded: Upgraded) -> Option<Socket<Stream>> {
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<Handover>>().ok()?;
    let config = &sessions.config;
    Some(Socket::new(
        io.into_inner().take()?,
        &read_buf,
        config.max_frame,
        config.frames_per_second,
    ))
}
