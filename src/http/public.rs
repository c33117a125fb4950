//! The public listener's paths.

use std::{convert::Infallible, iter, net::IpAddr, sync::Arc};

use hyper::upgrade::OnUpgrade;
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{Method, StatusCode},
    path::FullPath,
    reply::{Reply, Response},
};

use super::{
    admit::Door,
    cors,
    demo::{self, Demo},
    events,
    handover::Handover,
    listen::Peer,
    refusal::Refusal,
    request::Request,
    session::Sessions,
    tickets::Mint,
    upgrade::Upgrade,
    websocket,
};
use crate::{frame::Protocol, readiness::Readiness};

/// Everything under `prefix` (empty, or `/some/path`).
pub fn routes(
    prefix: &str,
    door: Arc<Door>,
    sessions: Arc<Sessions>,
    readiness: Readiness,
    mint: Option<Arc<Mint>>,
    demo: Option<Arc<Demo>>,
) -> BoxedFilter<(Response,)> {
    let real = real_routes(prefix, door, sessions, readiness, mint);
    match demo {
        Some(demo) => demo::routes(prefix, demo).or(real).unify().boxed(),
        None => real,
    }
}

fn real_routes(
    prefix: &str,
    door: Arc<Door>,
    sessions: Arc<Sessions>,
    readiness: Readiness,
    mint: Option<Arc<Mint>>,
) -> BoxedFilter<(Response,)> {
    let prefix = prefix.to_owned();
    warp::path::full()
        .and(request())
        .and(warp::ext::get::<Peer>())
        .then(move |path: FullPath, request: Request, Peer(peer)| {
            let (door, sessions) = (door.clone(), sessions.clone());
            let (readiness, mint) = (readiness.clone(), mint.clone());
            let path = path.as_str().strip_prefix(&prefix).map(str::to_owned);
            async move {
                match (path.as_deref(), mint) {
                    (Some("/ws"), _) => open(&door, &sessions, peer, request).await,
                    (Some("/events"), _) => events(&door, &sessions, peer, &request).await,
                    (Some("/tickets"), Some(mint)) => tickets(&door, &mint, peer, &request).await,
                    (Some("/healthz"), _) => status(&request.method, true),
                    (Some("/readyz"), _) => status(&request.method, readiness.is_ready()),
                    _ => Refusal::NotFound.into_response(),
                }
            }
        })
        .boxed()
}

async fn open(door: &Door, sessions: &Arc<Sessions>, peer: IpAddr, request: Request) -> Response {
    let client = door.client(peer, &request.headers);
    let admitted = async {
        let upgrade = Upgrade::read(request)?;
        let (request, ticket) = (upgrade.request(), upgrade.ticket());
        let (protocol, since) = (upgrade.protocol.0, upgrade.since.as_ref());
        let admitted = door.admit(request, client, ticket, protocol, since);
        let admitted = admitted.await?;
        Ok((upgrade, admitted))
    }
    .await
    .map_err(|refusal| door.judge(client, refusal));
    door.count(&admitted);
    match admitted {
        Ok((upgrade, admitted)) => websocket::begin(sessions, upgrade, admitted),
        Err(refusal) => refusal.into_response(),
    }
}

async fn events(
    door: &Door,
    sessions: &Arc<Sessions>,
    peer: IpAddr,
    request: &Request,
) -> Response {
    let client = door.client(peer, &request.headers);
    if cors::is_preflight(request) {
        return cors::share(door, request, cors::preflight(door, client, request));
    }
    let admitted = async {
        let since = events::read(request)?;
        let ticket = request.ticket(iter::empty());
        let admitted = door.admit(request, client, ticket, Protocol::Sse, since.as_ref());
        admitted.await
    }
    .await
    .map_err(|refusal| door.judge(client, refusal));
    door.count(&admitted);
    match admitted {
        Ok(admitted) => {
            let head = cors::share(door, request, events::head());
            events::begin(sessions, request, head, admitted)
        }
        Err(refusal) => cors::share(door, request, refusal.into_response()),
    }
}

async fn tickets(door: &Door, mint: &Mint, peer: IpAddr, request: &Request) -> Response {
    let client = door.client(peer, &request.headers);
    let response = if cors::is_preflight(request) {
        cors::preflight(door, client, request)
    } else {
        mint.answer(door, client, request).await
    };
    cors::share(door, request, response)
}

/// The status alone: the reasons are the operators'.
fn status(method: &Method, good: bool) -> Response {
    match *method {
        Method::GET | Method::HEAD if good => StatusCode::OK.into_response(),
        Method::GET | Method::HEAD => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => Refusal::MethodNotAllowed("GET, HEAD").into_response(),
    }
}

/// The request as it came.
pub(super) fn request() -> impl Filter<Extract = (Request,), Error = Infallible> + Clone {
    warp::method()
        .and(raw_query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Handover>())
        .map(|method, query, headers, on_upgrade, connection| Request {
            method,
            query,
            headers,
            on_upgrade,
            connection,
        })
}

fn raw_query() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}
