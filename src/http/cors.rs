//! Pages of other origins that ask by `fetch` (the Fetch standard's CORS): those
//! of `public.allowed_origins` may read the answers, errors included.

use std::net::IpAddr;

use warp::{
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ORIGIN, VARY,
        },
    },
    reply::{Reply as _, Response},
};

use super::{admit::Admissions, request::Request};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const HEADERS: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, Last-Event-ID");
const EXPOSED: HeaderValue = HeaderValue::from_static("Retry-After");
/// As long as Chromium remembers it at most, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Answers what a browser asks beforehand; [`share`] says who may read it.
pub(super) fn preflight(admissions: &Admissions, client: IpAddr, request: &Request) -> Response {
    if let Err(refusal) = admissions.check_origin(&request.headers) {
        return admissions
            .refuse(client, &request.headers, refusal)
            .into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// The origin whose pages may read the answer to a request.
pub(super) fn reader(admissions: &Admissions, headers: &HeaderMap) -> Option<HeaderValue> {
    admissions.check_origin(headers).ok()?;
    headers.get(ORIGIN).cloned()
}

/// Lets the pages of an allowed origin read an answer. The same request of another
/// origin gets another one, which caches must know.
pub(super) fn share(reader: Option<HeaderValue>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = reader {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}
