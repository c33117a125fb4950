//! Accepts connections. warp's own loop bounds neither a request's head nor the time
//! that it takes, and lets nobody take a connection over, so the loop is ours.
//!
//! A connection has the handshake's time to show a request, and as much again
//! to become a session or to be answered. It carries one request: so nobody
//! holds a permit among the pending ones by asking again and again. A join that waits to be
//! caught up holds none, and has the time that this takes.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use hyper::{
    Request,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use warp::{
    filters::BoxedFilter,
    reply::{Reply as _, Response},
};

use super::{
    admit::Admissions,
    cors,
    handover::{HandedOver, Handover},
    handshake::Handshake,
    permits::Permits,
    refusal::{Refusal, retry_after},
    target,
};
use crate::{
    accepting::Accepting,
    tls::{Acceptor, Stream},
};

/// When the process is out of descriptors, the next try is worth this wait.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections being told that there are too many; one more is just dropped.
const MAX_TURNED_AWAY: usize = 64;
/// The metric's label for what `public.max_pending_per_ip` cuts off.
const OF_ONE_ADDRESS: &str = "too_many_pending_per_ip";
const TURNING_AWAY: Duration = Duration::from_secs(1);

/// Bounds on connections that are not sessions yet.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time for TLS and the request's head, from the accept. The upgrade or the answer must follow
    /// within twice this time after the accept.
    pub handshake: Duration,
    /// Connections at the same time that are not admitted yet.
    pub max_pending: usize,
    /// Bytes of a request's head; at least 8 KiB.
    pub max_header_bytes: usize,
    /// Headers of a request.
    pub max_headers: usize,
}

/// The other end of a request's connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Serves HTTP/1.1 on a listener for as long as the process lives. `admissions`: judges and
/// counts the connections of the public one.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Acceptor>,
    routes: BoxedFilter<(Response,)>,
    bounds: Bounds,
    admissions: Option<Arc<Admissions>>,
) {
    let mut accepting = Accepting::new("connections");
    let mut permits = Permits::new(bounds.max_pending);
    let turning_away = TurningAway::new(tls.clone());
    // Of its own, so that one address keeps no answer from others.
    let turning_address_away = TurningAway::new(tls.clone());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                accepting.fails(&error);
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        accepting.works();
        let _ = stream.set_nodelay(true);
        let held = match admissions
            .as_ref()
            .map(|admissions| admissions.pending_peer(peer))
        {
            None => None,
            Some(Ok(held)) => held,
            Some(Err(refusal)) => {
                if let Some(admissions) = &admissions {
                    admissions.count_full(refusal, OF_ONE_ADDRESS);
                }
                turning_address_away.begin(stream, refusal);
                continue;
            }
        };
        let Some(permit) = permits.take().await else {
            if let Some(admissions) = &admissions {
                admissions.count_full(Refusal::Full, "too_many_pending");
            }
            turning_away.begin(stream, Refusal::Full);
            continue;
        };
        let (tls, routes, admissions) = (tls.clone(), routes.clone(), admissions.clone());
        tokio::spawn(async move {
            let handshake = Handshake::new(Instant::now(), bounds.handshake);
            handshake.hold((permit, held, admissions.clone().map(Pending::new)));
            let served = connection(stream, peer, tls, routes, bounds, &admissions, &handshake);
            if let Err(cut) = served.await {
                tracing::debug!(error = %cut.error, reason = cut.reason, "a connection is cut off");
                if let Some(admissions) = admissions {
                    admissions.metrics().connections_cut(cut.reason);
                }
            }
        });
    }
}

/// Counts a connection while it is not admitted, however that ends.
struct Pending(Arc<Admissions>);

impl Pending {
    fn new(admissions: Arc<Admissions>) -> Self {
        admissions.metrics().pending.inc();
        Self(admissions)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.metrics().pending.dec();
    }
}

/// Why a connection ends that brought no good request.
struct Cut {
    /// The metric's label.
    reason: &'static str,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl Cut {
    fn new(reason: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            reason,
            error: error.into(),
        }
    }
}

impl From<hyper::Error> for Cut {
    fn from(error: hyper::Error) -> Self {
        let reason = match &error {
            error if error.is_timeout() => "too_slow",
            error if error.is_parse_too_large() => "head_too_large",
            error if error.is_parse() => "bad_http",
            _ => "connection_lost",
        };
        Self::new(reason, error)
    }
}

/// Ends with the answer, or when the connection becomes a session's.
async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    tls: Option<Acceptor>,
    routes: BoxedFilter<(Response,)>,
    bounds: Bounds,
    admissions: &Option<Arc<Admissions>>,
    handshake: &Handshake,
) -> Result<(), Cut> {
    let begun = Instant::now();
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => timeout(bounds.handshake, tls.accept(stream))
            .await
            .map_err(|error| Cut::new("too_slow", error))?
            .map_err(|error| Cut::new("tls", error))?,
    };
    let routes = TowerToHyperService::new(warp::service(routes));
    let connection = Handover::new(stream);
    let handed = connection.clone();
    let routes = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(handed.clone());
        request.extensions_mut().insert(handshake.clone());
        let checked = target::check(&request);
        let headers = request.headers();
        let refused = match (checked, admissions) {
            (Ok(()), None) => None,
            (Err(refusal), None) => Some(refusal.into_response()),
            (Err(refusal), Some(admissions)) => {
                let client = admissions.client(peer, headers);
                Some(admissions.refuse(client, headers, refusal).into_response())
            }
            (Ok(()), Some(admissions)) => match admissions.pending_client(peer, headers) {
                Ok(held) => {
                    handshake.hold(held);
                    None
                }
                Err(refusal) => {
                    admissions.count_full(refusal, OF_ONE_ADDRESS);
                    let reader = cors::reader(admissions, headers);
                    Some(cors::share(reader, refusal.into_response()))
                }
            },
        };
        let (routes, handed) = (routes.clone(), handed.clone());
        async move {
            let mut response = match refused {
                Some(response) => response,
                None => {
                    let Ok(response) = routes.call(request).await;
                    response
                }
            };
            if handed.is_taken() {
                return Err(HandedOver);
            }
            // An upgrade says something else there, and the advice to ask for one says
            // more.
            let connection = response.headers_mut().entry(CONNECTION);
            connection.or_insert(HeaderValue::from_static("close"));
            Ok(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.handshake.saturating_sub(begun.elapsed()))
        .max_buf_size(bounds.max_header_bytes)
        .max_headers(bounds.max_headers)
        .serve_connection(TokioIo::new(connection.clone()), routes)
        .with_upgrades();
    let served = tokio::select! {
        served = serving => served,
        () = handshake.over() => {
            return Err(Cut::new("too_slow", io::Error::from(io::ErrorKind::TimedOut)));
        }
    };
    match served {
        // Whoever took it goes on with it.
        Err(_) if connection.is_taken() => Ok(()),
        served => Ok(served?),
    }
}

/// Answers connections that there is no room for, a few at the same time; further ones are
/// dropped without an answer.
struct TurningAway {
    tls: Option<Acceptor>,
    permits: Arc<Semaphore>,
}

impl TurningAway {
    fn new(tls: Option<Acceptor>) -> Self {
        Self {
            tls,
            permits: Arc::new(Semaphore::new(MAX_TURNED_AWAY)),
        }
    }

    fn begin(&self, stream: TcpStream, refusal: Refusal) {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            let tls = self.tls.clone();
            tokio::spawn(async move {
                let _ = timeout(TURNING_AWAY, turn_away(stream, tls, refusal)).await;
                drop(permit);
            });
        }
    }
}

/// Answers 503 without looking at the request, so any page may read that.
async fn turn_away(stream: TcpStream, tls: Option<Acceptor>, refusal: Refusal) -> io::Result<()> {
    let mut stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => tls.accept(stream).await?,
    };
    let body = refusal.body();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         cache-control: no-store\r\nretry-after: {}\r\nconnection: close\r\n\
         access-control-allow-origin: *\r\naccess-control-expose-headers: Retry-After\r\n\
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
