//! From a request on a connection to its answer: who may call, what the body may be, and
//! how long the caller waits.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Request, Response, Version,
    header::{CONNECTION, CONTENT_TYPE},
};
use hyper::body::Incoming;
use tokio::{sync::watch, time::timeout};
use tonic::{Status, body::Body, service::Routes};
use tower::Service as _;

use super::{
    bodies::{Bounded, Limit},
    ending::Ending,
    guard::{Guard, is_open, method, streams},
    in_flight::{Held, InFlight},
    json::Json,
    not_published::nothing_done,
    peers::Peer,
};
use crate::metrics::Metrics;

/// The largest health request in bytes: it is a service's name.
const HEALTH_CHECK: usize = 1024;

/// What all requests come to first.
pub(super) struct Entrance {
    /// Where gRPC goes.
    pub(super) routes: Routes,
    /// Where everything else goes.
    pub(super) json: Json,
    pub(super) guard: Guard,
    pub(super) max_message: usize,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) metrics: Arc<Metrics>,
}

/// What a call needs to know that takes a stream of messages, as an extension of its request.
#[derive(Debug, Clone)]
pub(super) struct Streamed {
    /// The bytes of its messages.
    pub(super) held: Arc<Held>,
    /// True from the moment at which its connection was asked to close.
    pub(super) ending: watch::Receiver<bool>,
}

impl Entrance {
    /// Answers one request.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Arc<Peer>,
    ) -> Response<Body> {
        // Of HTTP/1.1 this is the first that is heard.
        peer.spoke();
        let http1 = request.version() < Version::HTTP_2;
        // In boxes, since hyper moves this future several times.
        let mut response = match is_grpc(&request) {
            true => Box::pin(self.answer_grpc(request, &peer)).await,
            false => {
                let answering = Box::pin(self.json.answer(request, &peer));
                answering.await.map(Body::new)
            }
        };
        if http1 && !peer.is_caller() {
            // Frames of HTTP/2 are counted; here it is one request.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    async fn answer_grpc(
        &self,
        mut request: Request<Incoming>,
        peer: &Arc<Peer>,
    ) -> Response<Body> {
        let path = request.uri().path();
        if is_open(path) {
            return self.check_health(request, peer).await;
        }
        let method = method(path);
        if !self.guard.knows(request.headers()) {
            if let Some(method) = method {
                let labels = [method, "UNAUTHENTICATED"];
                self.metrics.grpc_requests.with_label_values(&labels).inc();
            }
            let says = "send one of grpc.tokens as 'authorization: Bearer TOKEN'";
            return nothing_done(method, Status::unauthenticated(says)).into_http();
        }
        peer.called();
        // Until the answer: the message lives on in the call.
        let held = self.in_flight.begin();
        let limit = Limit {
            message: self.max_message,
            key: "grpc.max_message",
            at_once: method.is_some_and(|method| !streams(method)),
            waits: method.is_some_and(streams),
            method,
        };
        if limit.waits {
            let (held, ending) = (held.clone(), peer.ending());
            request.extensions_mut().insert(Streamed { held, ending });
        }
        let response = self.route(request, limit, Some(held.clone())).await;
        match method {
            Some(_) => response,
            None => response.map(|body| Body::new(Ending::new(body, peer, None))),
        }
    }

    async fn check_health(&self, request: Request<Incoming>, peer: &Arc<Peer>) -> Response<Body> {
        let Some(check) = peer.begin_health_check() else {
            self.metrics.grpc_refused("too_many_health_checks");
            let says = "too many health checks are under way on this connection";
            return Status::resource_exhausted(says).into_http();
        };
        let limit = Limit {
            message: HEALTH_CHECK,
            key: "a health check",
            at_once: true,
            waits: false,
            method: None,
        };
        let response = self.route(request, limit, None).await;
        response.map(|body| Body::new(Ending::new(body, peer, Some(check))))
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        limit: Limit,
        held: Option<Arc<Held>>,
    ) -> Response<Body> {
        let patience = callers_timeout(request.headers());
        let metrics = self.metrics.clone();
        let request = request.map(|body| Body::new(Bounded::new(body, limit, held, metrics)));
        let answering = self.routes.clone().call(request);
        let answer = match patience {
            None => answering.await,
            Some(patience) => match timeout(patience, answering).await {
                Ok(answer) => answer,
                Err(_) => return Status::cancelled("the caller's time is over").into_http(),
            },
        };
        answer.unwrap_or_else(|never| match never {})
    }
}

/// Whether a request is gRPC's, which needs HTTP/2. A page whose name was made to point at
/// this machine could send its content type over HTTP/1.1.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let is_so = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
    request.version() == Version::HTTP_2 && request.headers().get(CONTENT_TYPE).is_some_and(is_so)
}

/// How long the caller waits (`grpc-timeout`, up to eight digits and a unit); `None` if
/// it does not say, or nothing that makes sense.
fn callers_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u32 = match number.len() {
        1..=8 => number.parse().ok()?,
        _ => return None,
    };
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_timeout_is_read_as_grpc_writes_it() {
        for (text, timeout) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("10S", Some(Duration::from_secs(10))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("123456789S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            assert_eq!(callers_timeout(&headers), timeout, "{text:?}");
        }
        assert_eq!(callers_timeout(&HeaderMap::new()), None);
    }
}
