//! Pages of other origins that ask by `fetch` (the Fetch standard's CORS): those
//! of `public.allowed_origins` may read the answers, errors included.

use std::net::IpAddr;

use warp::{
    http::{
        HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
        },
    },
    reply::{Reply as _, Response},
};

use super::{admit::Door, request::Request};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const HEADERS: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, Last-Event-ID");
/// As long as Chromium remembers it at most, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Whether a browser asks beforehand what a page may send.
pub(super) fn is_preflight(request: &Request) -> bool {
    request.method == Method::OPTIONS
        && request.headers.contains_key(ORIGIN)
        && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers that question; [`share`] says who may read it.
pub(super) fn preflight(door: &Door, client: IpAddr, request: &Request) -> Response {
    if let Err(refusal) = door.check_origin(request) {
        return door.judge(client, refusal).into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Lets the page of an allowed origin read an answer. The same request of
/// another origin gets another one, which caches must know.
pub(super) fn share(door: &Door, request: &Request, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let (Some(origin), Ok(())) = (request.headers.get(ORIGIN), door.check_origin(request)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Retry-After"),
        );
    }
    response
}
