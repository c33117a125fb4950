//! `/`: the page for operators, and which hosts the listener answers for.

use std::future::ready;

use warp::{
    Filter, Rejection,
    http::{
        HeaderMap, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    reply::{Reply, Response},
};

use crate::http::{demo::is_loopback, refusal::Refusal};

const PAGE: &str = include_str!("page.html");
/// The page loads nothing but this listener's own paths, and no other page frames it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Passes requests to this machine by its own names, where the listener is on `loopback`. A
/// page that has made its own name point there (DNS rebinding) asks for a foreign host. A
/// request without a Host comes from no browser.
pub(in crate::http) fn own_host(
    loopback: bool,
) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    let check = move |headers: HeaderMap| {
        let is_own = headers
            .get(HOST)
            .is_none_or(|host| host.to_str().is_ok_and(is_loopback));
        match !loopback || is_own {
            true => ready(Ok(())),
            false => ready(Err(warp::reject::custom(Refusal::HostDenied))),
        }
    };
    let headers = warp::header::headers_cloned();
    headers.and_then(check).untuple_one()
}

/// The page.
pub(in crate::http) fn page() -> Response {
    let mut response = warp::reply::html(PAGE).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
