//! JSON over HTTP: whatever is not gRPC, by HTTP/1.1 and HTTP/2. Here are its paths, one line
//! each. A filter refuses a request by rejecting it with a [`Refusal`], and
//! [`refusal::answer`] turns every rejection into its answer.

mod batch;
mod body;
mod call;
mod entry;
#[cfg(fuzzing)]
#[path = "../../fuzz/reach/api.rs"]
pub mod fuzzing;
mod handlers;
mod position;
mod reading;
mod refusal;
mod shape;

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use tower::Service as _;
use warp::{Filter as _, filters::BoxedFilter, reply::Response};

use self::{
    body::json,
    call::{Call, Counted, TOPICS, USERS},
    entry::{at, given, key, let_in, named, no_key, only},
    refusal::Told,
};
pub(super) use self::{reading::whole, shape::Asked};
use super::{
    Operations,
    guard::Guard,
    in_flight::{Held, InFlight},
    peers::Peer,
};
use crate::{metrics::Metrics, trace::Caller};

/// What the paths are made of.
pub(super) struct Parts {
    pub(super) operations: Operations,
    pub(super) guard: Guard,
    /// Whether it listens on loopback alone: there only names of this machine are answered.
    pub(super) loopback: bool,
    pub(super) max_message: usize,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) metrics: Arc<Metrics>,
}

/// The first of these routes that takes the request.
macro_rules! any_of {
    [$first:expr $(, $next:expr)* $(,)?] => {
        $first$(.or($next).unify())*
    };
}

fn routes(parts: &Parts) -> BoxedFilter<(Response,)> {
    let post = only("POST", warp::post());
    let look = only("GET, HEAD", warp::get().or(warp::head()).unify());
    let asked = post.and(json(parts.max_message));
    let operations = given(&Arc::new(parts.operations.clone()));
    let metrics = given(&parts.metrics);

    let message = key().and(asked.clone()).and(operations.clone());
    let batch = no_key()
        .and(asked.clone())
        .and(operations.clone())
        .and(metrics);
    let other = asked.and(operations);

    let routes = any_of![
        at("/v1/push").and(message.clone()).and_then(handlers::push),
        at("/v1/push/batch").and(batch).and_then(batch::push),
        at("/v1/broadcast")
            .and(message.clone())
            .and_then(handlers::broadcast),
        named(TOPICS.0, TOPICS.1)
            .and(message)
            .and_then(handlers::publish_topic),
        named(USERS.0, USERS.1)
            .and(other.clone())
            .and_then(handlers::update_topics),
        at("/v1/presence")
            .and(other.clone())
            .and_then(handlers::presence),
        at("/v1/disconnect")
            .and(other.clone())
            .and_then(handlers::disconnect),
        at("/v1/tickets").and(other).and_then(handlers::issue),
        at("/v1/openapi.json").and(look).map(handlers::openapi),
    ];
    let_in(&parts.guard, parts.loopback)
        .and(routes)
        .recover(refusal::answer)
        .unify()
        .boxed()
}

/// Answers requests.
pub(super) struct Json {
    routes: BoxedFilter<(Response,)>,
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
}

impl Json {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            routes: routes(&parts),
            in_flight: parts.in_flight,
            metrics: parts.metrics,
        }
    }

    /// Answers a request, and counts it where its path stands for a method of gRPC's.
    /// Dropping the future cancels what it asked for.
    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: &Arc<Peer>,
    ) -> Response {
        let method = call::method(request.uri().path());
        let caller = Caller::of(request.headers());
        let held: Arc<Held> = self.in_flight.begin();
        let call = Arc::new(Call::new(method, peer.clone(), caller, held));
        let mut counted = Counted::whole(self.metrics.clone(), call.clone());
        request.extensions_mut().insert(call);
        let answering = warp::service(self.routes.clone()).call(request);
        let response = answering.await.unwrap_or_else(|never| match never {});
        let Told { code, bound } = refusal::told(&response);
        counted.ends(code);
        if let Some(bound) = bound {
            self.metrics.grpc_refused(bound);
        }
        response
    }
}
