//! Accepting connections: what hyper leaves to us when the loop is our own.

use std::{io, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use warp::{filters::BoxedFilter, reply::Response};

use super::refusal::{Refusal, retry_after};
use crate::metrics::Metrics;

/// The largest head of a request: ample for two tickets in URL and header.
const MAX_HEAD: usize = 16 * 1024;
/// When the process is out of descriptors, the next try is worth this wait.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections being told that there are too many; one more is just dropped.
const MAX_TURNED_AWAY: usize = 64;

/// Bounds on connections that are not sessions yet.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the accept to the end of a request's head.
    pub handshake: Duration,
    /// Connections at once.
    pub max_pending: usize,
}

/// Serves HTTP/1.1 on a listener for as long as the process lives.
pub async fn serve(
    listener: TcpListener,
    routes: BoxedFilter<(Response,)>,
    deadlines: Deadlines,
    metrics: Arc<Metrics>,
) {
    let pending = Arc::new(Semaphore::new(deadlines.max_pending));
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let Ok(permit) = pending.clone().try_acquire_owned() else {
            metrics
                .admissions
                .with_label_values(&[Refusal::Full.code()])
                .inc();
            if let Ok(permit) = turned_away.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _ = timeout(Duration::from_secs(1), turn_away(stream)).await;
                    drop(permit);
                });
            }
            continue;
        };
        let routes = routes.clone();
        let metrics = metrics.clone();
        tokio::spawn(async move {
            metrics.pending.inc();
            if let Err(error) = connection(stream, routes, deadlines).await {
                tracing::debug!(%error, "an HTTP connection ended early");
            }
            metrics.pending.dec();
            drop(permit);
        });
    }
}

/// Ends with the last answer, or when the connection becomes a WebSocket.
async fn connection(
    stream: TcpStream,
    routes: BoxedFilter<(Response,)>,
    deadlines: Deadlines,
) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.handshake)
        .max_buf_size(MAX_HEAD)
        .serve_connection(
            TokioIo::new(stream),
            TowerToHyperService::new(warp::service(routes)),
        )
        .with_upgrades()
        .await
}

/// Answers 503 without looking at the request.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    let body = Refusal::Full.body();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         cache-control: no-store\r\nretry-after: {}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        retry_after(),
        body.len(),
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Unread bytes would reset the connection, and the answer with it.
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}
