//! Who may call, judged by the head of a call: whoever may not is answered before
//! anything of the message is read.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{Either, Ready, ready};
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use subtle::ConstantTimeEq as _;
use tonic::{Status, body::Body};
use tower::Service;

use crate::{
    metrics::Metrics,
    secret::{Secret, Secrets},
};

/// Load balancers and Kubernetes ask for the health, and have no token.
const OPEN: &str = "/grpc.health.v1.Health/";
const OURS: &str = "/usher.v1.Notification/";

/// Stands before all services.
#[derive(Debug, Clone)]
pub(super) struct Guard<S> {
    inner: S,
    tokens: Secrets,
    metrics: Arc<Metrics>,
}

impl<S> Guard<S> {
    /// Without tokens anyone may call.
    pub(super) fn new(inner: S, tokens: Secrets, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            tokens,
            metrics,
        }
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let tokens = self.tokens.get();
        if tokens.is_empty() {
            return true;
        }
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim());
        let is = |token: &Secret| bool::from(token.expose().as_bytes().ct_eq(bearer.as_bytes()));
        // All of them are compared, so that time tells nothing of which was near.
        tokens.iter().filter(|token| is(token)).count() > 0
    }
}

impl<S, B> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        if path.starts_with(OPEN) || self.knows(request.headers()) {
            return Either::Right(self.inner.call(request));
        }
        if let Some(method @ ("PushNotification" | "IssueTicket")) = path.strip_prefix(OURS) {
            let labels = [method, "UNAUTHENTICATED"];
            self.metrics.grpc_requests.with_label_values(&labels).inc();
        }
        let status =
            Status::unauthenticated("send one of grpc.tokens as 'authorization: Bearer TOKEN'");
        Either::Left(ready(Ok(status.into_http())))
    }
}
