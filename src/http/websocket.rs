//! From an accepted request for a WebSocket to its session.

use std::{net::IpAddr, sync::Arc};

use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use warp::{Rejection, reply::Response};

use super::{
    admit::{Admissions, Admitted, conclude},
    frame_rate::FrameRate,
    handover::Handover,
    request::Request,
    session::Sessions,
    socket::Socket,
    transport::Kind,
    upgrade::Upgrade,
};
use crate::tls::Stream;

/// Checks and admits a request. Its ticket is redeemed, and its user joined, before the
/// 101, so that each failure is an HTTP status.
pub(super) async fn admit(
    client: IpAddr,
    admissions: Arc<Admissions>,
    mut request: Request,
) -> Result<(Upgrade, Admitted), Rejection> {
    let span = admissions.record(&mut request, Kind::WebSocket);
    let admitted = async {
        let upgrade = Upgrade::read(&mut request)?;
        let shown = Upgrade::shown(&request);
        let (protocol, since) = (upgrade.protocol.0, upgrade.since.as_ref());
        let admitted = admissions.admit(&request, client, shown, protocol, since);
        let admitted = admitted.await?;
        Ok((upgrade, admitted))
    }
    .await;
    let admitted = admitted.map_err(|refusal| admissions.refuse(client, &request.headers, refusal));
    conclude(span, &admitted);
    admitted.map_err(Rejection::from)
}

/// Answers 101; the session begins once that is written. This is not `warp::ws()`, which
/// gives each session a read buffer of 128 KiB.
pub(super) fn begin((upgrade, admitted): (Upgrade, Admitted), sessions: Arc<Sessions>) -> Response {
    let (response, on_upgrade) = upgrade.accept();
    tokio::spawn(async move {
        // A failed upgrade merely drops the handle.
        let Ok(upgraded) = on_upgrade.await else {
            return;
        };
        let rate = sessions.rate();
        if let Some(socket) = socket(&sessions, upgraded, rate, Kind::WebSocket) {
            sessions.begin(socket, admitted);
        }
    });
    response
}

/// An upgraded connection as a WebSocket.
pub(super) fn socket(
    sessions: &Sessions,
    upgraded: Upgraded,
    rate: FrameRate,
    kind: Kind,
) -> Option<Socket<Stream>> {
    let max_frame = sessions.config.max_frame;
    let parts = upgraded.downcast::<TokioIo<Handover>>().ok();
    let socket = parts.and_then(|Parts { io, read_buf, .. }| {
        let stream = io.into_inner().take()?;
        Some(Socket::new(stream, &read_buf, max_frame, rate, kind))
    });
    if socket.is_none() {
        tracing::error!("an upgraded connection is not the one that was accepted");
    }
    socket
}
