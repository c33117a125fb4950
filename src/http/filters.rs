//! Filters of which routes are made, where warp has none that keeps the contract.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::IpAddr,
    sync::Arc,
};

use bytes::Bytes;
use prometheus::IntCounterVec;
use warp::{
    Filter, Rejection,
    filters::BoxedFilter,
    http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
    path::FullPath,
    reject::{self, Reject},
    reply::{Reply as _, Response},
};

use super::{
    admit::Admissions,
    cors,
    listen::Peer,
    refusal::Refusal,
    request::{Request, request},
};

impl Reject for Refusal {}

/// Why a filter rejected a request.
fn refusal(rejection: &Rejection) -> Refusal {
    match rejection.find::<Refusal>() {
        Some(refusal) => *refusal,
        None if rejection.is_not_found() => Refusal::NotFound,
        // A filter of warp's whose rejection no filter of ours replaces.
        None => Refusal::BadRequest("this path does not take such a request"),
    }
}

/// The answer to a request that a filter rejected.
pub(super) fn answer(rejection: Rejection) -> Ready<Result<Response, Infallible>> {
    ready(Ok(refusal(&rejection).into_response()))
}

/// These routes under `prefix`, with an answer to each request.
///
/// A segment of the prefix costs each request a box; no prefix costs none.
pub(super) fn under<F>(prefix: &str, routes: F) -> BoxedFilter<(Response,)>
where
    F: Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let routes = routes.recover(answer).unify().boxed();
    let segments = prefix.rsplit('/').filter(|segment| !segment.is_empty());
    segments.fold(routes, |routes, segment| {
        let routes = warp::path(segment.to_owned()).and(routes);
        routes.recover(answer).unify().boxed()
    })
}

/// Follows `path!`, which takes `/ws/` for `/ws`: only the latter is a path here.
pub(super) fn exact() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    ends_with_slash(false)
}

/// Follows `path::end()`: the path of a folder, which is not the same without its `/`.
pub(super) fn slash() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    ends_with_slash(true)
}

fn ends_with_slash(wanted: bool) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    let check = move |path: FullPath| {
        let is_so = path.as_str().ends_with('/') == wanted;
        ready(is_so.then_some(()).ok_or_else(reject::not_found))
    };
    warp::path::full().and_then(check).untuple_one()
}

/// A filter of methods; warp's own rejection does not say which are `allowed`.
pub(super) fn only<F>(
    allowed: &'static str,
    methods: F,
) -> impl Filter<Extract = (), Error = Rejection> + Copy
where
    F: Filter<Extract = (), Error = Rejection> + Copy + Send,
{
    methods.or_else(move |_| ready(Err(Refusal::MethodNotAllowed(allowed).into())))
}

/// Something that a handler needs.
pub(super) fn given<T: Send + Sync + 'static>(
    thing: &Arc<T>,
) -> impl Filter<Extract = (Arc<T>,), Error = Infallible> + Clone + use<T> {
    let thing = thing.clone();
    warp::any().map(move || thing.clone())
}

/// A request for admission, and the address that the client has.
pub(super) fn asked(
    admissions: &Arc<Admissions>,
) -> impl Filter<Extract = (IpAddr, Arc<Admissions>, Request), Error = Rejection> + Clone + use<> {
    let client = |admissions: Arc<Admissions>, Peer(peer): Peer, request: Request| {
        (
            admissions.client(peer, &request.headers),
            admissions,
            request,
        )
    };
    given(admissions)
        .and(warp::ext::get::<Peer>())
        .and(request())
        .map(client)
        .untuple_one()
}

/// Counts what becomes of requests: what `filter` extracts as `good`, a refusal by
/// its code.
pub(super) fn counted<T, F>(
    counter: &IntCounterVec,
    good: &'static str,
    filter: F,
) -> impl Filter<Extract = (T,), Error = Rejection> + Clone + use<T, F>
where
    T: Send,
    F: Filter<Extract = (T,), Error = Rejection> + Clone + Send,
{
    let goods = counter.clone();
    let good = move |extracted: T| {
        goods.with_label_values(&[good]).inc();
        extracted
    };
    counted_refusals(counter, filter.map(good))
}

/// Counts refusals alone, by their codes.
pub(super) fn counted_refusals<T, F>(
    counter: &IntCounterVec,
    filter: F,
) -> impl Filter<Extract = (T,), Error = Rejection> + Clone + use<T, F>
where
    T: Send,
    F: Filter<Extract = (T,), Error = Rejection> + Clone + Send,
{
    let refusals = counter.clone();
    filter.or_else(move |rejection| {
        let code = refusal(&rejection).code();
        refusals.with_label_values(&[code]).inc();
        ready(Err(rejection))
    })
}

/// What a browser asks before it lets a page of another origin send its request.
pub(super) fn preflight(
    admissions: &Arc<Admissions>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    warp::options()
        .and(warp::header::value(ORIGIN.as_str()))
        .and(warp::header::value(ACCESS_CONTROL_REQUEST_METHOD.as_str()))
        .and(asked(admissions))
        .map(|_, _, client, admissions: Arc<Admissions>, request| {
            cors::preflight(&admissions, client, &request)
        })
}

/// These routes, with answers that pages of allowed origins may read, refusals too.
/// That is why the routes recover here, where it is known who asked.
pub(super) fn readable<F>(
    admissions: &Arc<Admissions>,
    routes: F,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + use<F>
where
    F: Filter<Extract = (Response,), Error = Rejection> + Clone + Send,
    F::Future: Send,
{
    given(admissions)
        .and(warp::header::headers_cloned())
        .map(|admissions: Arc<Admissions>, headers| cors::reader(&admissions, &headers))
        .and(routes.recover(answer).unify())
        .map(cors::share)
}

/// A body of at most `most` bytes that says its length. Any other is answered with
/// the `form` that it should have.
pub(super) fn body(
    most: u64,
    form: &'static str,
) -> impl Filter<Extract = (Bytes,), Error = Rejection> + Copy {
    let refuse = move |_| ready(Err::<(Bytes,), Rejection>(Refusal::BadRequest(form).into()));
    let limit = warp::body::content_length_limit(most);
    limit.and(warp::body::bytes()).or_else(refuse)
}

/// Routes that are not served.
pub(super) fn nothing() -> BoxedFilter<(Response,)> {
    let reject = || ready(Err::<Response, _>(reject::not_found()));
    warp::any().and_then(reject).boxed()
}
