//! One connection of a caller, from its accept to its end.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Phase,
    entrance::Entrance,
    frames::Frames,
    peers::{Peer, Permit},
};
use crate::{
    jitter,
    tls::{self, Acceptor},
};

/// Callers may take this long to agree on the encryption and to begin with HTTP.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// When the gateway ends, callers have this long for that instead: one that says nothing must
/// not hold up the end.
const FIRST_BYTES: Duration = Duration::from_millis(500);
/// Callers that were let in may take this long from an answer of HTTP/1.1 to the end of the
/// next request's head. It is longer than usual clients keep an idle connection: a request
/// that crosses the end of its connection has no answer.
const HEAD: Duration = Duration::from_secs(120);
/// A caller that is gone without a word is noticed after twice this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Calls under way at the same time on one connection.
const MAX_CALLS: u32 = 1024;
/// Bytes of a call's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Headers of a call.
const MAX_HEADERS: usize = 64;
/// Bytes that a caller may have sent of one call and that the call has not read yet. Calls of one
/// message are read immediately, so in the end streams of pushes alone keep bytes waiting; their
/// number is bounded.
const CALL_WINDOW: u32 = 128 * 1024;
/// Bytes that a caller may have sent of all calls of a connection and that no call has read yet.
///
/// It is large for the sake of small messages. h2 closes a connection whose unread
/// frames lack more than half of it to 256 bytes each
/// (`h2::server::Builder::data_frame_budget`, which hyper does not set), and a caller that
/// writes faster than NATS confirms fills [`CALL_WINDOW`] with frames of a few bytes. One such
/// stream passes with any message; several on one connection with messages of 100 bytes.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// The shortest life of a connection that comes during a drain: its caller goes on looking for a
/// gateway that stays.
const SHORTEST_IN_DRAIN: Duration = Duration::from_secs(1);
/// The longest life of a connection that comes during a drain.
const LONGEST_IN_DRAIN: Duration = Duration::from_secs(2);
/// A connection that was asked to close is cut off after this. A call takes less.
const OVERSTAYED: Duration = Duration::from_secs(60);

/// What all connections share.
pub(super) struct Connections {
    pub(super) entrance: Arc<Entrance>,
    pub(super) tls: Option<Acceptor>,
    /// About how long a connection lives.
    pub(super) age: Option<Duration>,
    pub(super) http: auto::Builder<TokioExecutor>,
}

/// HTTP/1.1 and HTTP/2 with their bounds.
pub(super) fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEADER_BYTES as usize)
        .max_headers(MAX_HEADERS);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(MAX_CALLS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    http
}

/// Why a connection was cut off; the metric's label.
type Cut = &'static str;

impl Connections {
    /// Serves a connection to its end. Dropping the future cuts it off.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        permit: Permit,
        phase: watch::Receiver<Phase>,
    ) {
        let peer = permit.peer().clone();
        tokio::select! {
            // Counted where it was decided.
            () = peer.cut() => {}
            cut = self.connection(stream, &permit, phase) => {
                if let Err(reason) = cut {
                    tracing::debug!(reason, "a connection to the push API is cut off");
                    self.entrance.metrics.grpc_connections_cut(reason);
                }
            }
        }
    }

    async fn connection(
        &self,
        stream: TcpStream,
        permit: &Permit,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Cut> {
        let begun = Instant::now();
        let peer = permit.peer();
        let _ = stream.set_nodelay(true);
        let stream = tokio::select! {
            stream = timeout(HANDSHAKE, self.encrypt(stream)) => {
                stream.map_err(|_| "too_slow")?.map_err(|error| {
                    tracing::debug!(%error, "a caller does not get through TLS");
                    "tls"
                })?
            }
            // No call can be under way yet.
            () = reaches(&mut phase, Phase::Ended) => return Ok(()),
        };
        let (entrance, caller) = (self.entrance.clone(), peer.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (entrance, caller) = (entrance.clone(), caller.clone());
            async move { Ok::<_, Infallible>(entrance.answer(request, caller).await) }
        });
        let io = TokioIo::new(Frames::new(stream, peer.clone()));
        let mut serving = pin!(self.http.serve_connection(io, service));
        let mut silence = pin!(sleep_until(begun + HANDSHAKE));
        let ended = phase.clone();
        let mut goodbye = pin!(goodbye(self.age, phase));
        let mut waits = true;
        loop {
            tokio::select! {
                _ = serving.as_mut() => return flood_cut(peer),
                () = silence.as_mut(), if waits => {
                    if peer.is_silent() {
                        return Err("too_slow");
                    }
                    waits = false;
                }
                () = goodbye.as_mut() => break,
            }
        }
        // There is no way to say goodbye before HTTP has begun, and some clients send
        // calls along with its first bytes.
        if peer.is_silent() {
            tokio::select! {
                _ = serving.as_mut() => return flood_cut(peer),
                () = peer.heard() => {}
                () = sleep_until(begun + HANDSHAKE) => return Err("too_slow"),
                () = long_ended(ended) => return Ok(()),
            }
        }
        // GOAWAY; of HTTP/1.1 the end after the answer under way.
        serving.as_mut().graceful_shutdown();
        peer.end();
        match timeout(OVERSTAYED, serving).await {
            Ok(_) => flood_cut(peer),
            Err(_) => Err("overstayed"),
        }
    }

    async fn encrypt(&self, stream: TcpStream) -> io::Result<tls::Stream> {
        match &self.tls {
            None => Ok(tls::Stream::Plain(stream)),
            Some(tls) => tls.accept(stream).await,
        }
    }
}

/// A connection that ended otherwise than by a bound of ours is not counted: callers come
/// and go. hyper's error does not say whether it was a bound.
fn flood_cut(peer: &Peer) -> Result<(), Cut> {
    match peer.has_flooded() {
        true => Err("too_many_frames"),
        false => Ok(()),
    }
}

/// Returns when a connection that was made now has to be asked to close.
async fn goodbye(age: Option<Duration>, mut phase: watch::Receiver<Phase>) {
    let now = *phase.borrow_and_update();
    let (lives, next) = match now {
        // Spread, so that callers of one start do not return in step.
        Phase::Serving => (
            age.map(|age| jitter::fraction_of(age, 0.9, 1.1)),
            Phase::Leaving,
        ),
        Phase::Leaving | Phase::Ended => (
            Some(jitter::between(SHORTEST_IN_DRAIN, LONGEST_IN_DRAIN)),
            Phase::Ended,
        ),
    };
    let aged = async {
        match lives {
            Some(lives) => sleep(lives).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = aged => {}
        () = reaches(&mut phase, next) => {}
    }
}

/// Returns when the gateway's end has come, and a connection might have been heard since.
async fn long_ended(mut phase: watch::Receiver<Phase>) {
    reaches(&mut phase, Phase::Ended).await;
    sleep(FIRST_BYTES).await;
}

/// Returns when the gateway has come so far; also where it is gone.
pub(super) async fn reaches(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|now| *now >= wanted).await;
}
