//! The demo: a page on which anyone can be any user, for trying Usher out.
//!
//! Served on loopback only. A page elsewhere that makes its name point here
//! (DNS rebinding) is refused by its Host; one that posts across origins by its
//! Origin.

mod publish;
mod restart;

use std::{future::ready, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;
use warp::{
    Filter, Rejection,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    reply::{Reply, Response},
};

pub(super) use self::{
    publish::{BROADCAST_FORM, PUSH_FORM, TOPIC_FORM, broadcast, push, to_topic},
    restart::restart,
};
use super::{
    admit::Admissions,
    refusal::Refusal,
    request::{host, origin},
    tickets::issue,
};
use crate::{
    bus::{Publisher, stream::Stream},
    grants::{Grants, Lists},
    origin::AllowedOrigins,
    registry::Registry,
    tickets::{Order, Tickets},
    user::{USER_ID_RULE, UserId},
};

const PAGE: &str = include_str!("demo/page.html");
/// The npm package, bundled by "npm run demo" in `clients/js`. `make js` fails where it is stale.
const CLIENT: &str = include_str!("demo/client.js");
/// Where the page takes the client in.
const CLIENT_GOES_HERE: &str = "/*USHER_CLIENT*/";
/// The page loads nothing from anywhere, what it shows is never code, and no other page frames
/// it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; img-src data:; frame-ancestors 'none'";
/// The largest body in bytes: a message of NATS's default size, and the JSON around it.
pub(super) const MAX_BODY: u64 = 1024 * 1024 + 4096;
/// What a request for a ticket looks like.
pub(super) const TICKET_FORM: &str = "send {\"user_id\":\"42\"}, at most 1 MiB";

/// What the demo needs.
#[derive(Debug)]
pub struct Demo {
    /// Refuses newcomers during a restart.
    pub admissions: Arc<Admissions>,
    /// Has the sessions that a restart closes.
    pub registry: Arc<Registry>,
    /// Where pushes go.
    pub publisher: Publisher,
    /// Where tickets come from.
    pub tickets: Tickets,
    /// What is published is kept here, in durable mode.
    pub stream: Option<Stream>,
    /// How long a ticket waits.
    pub ticket_ttl: std::time::Duration,
    /// What the page says about this gateway, as JSON.
    pub info: serde_json::Value,
}

#[derive(Deserialize)]
struct TicketRequest {
    user_id: String,
}

/// Passes requests to this machine by its own names.
pub(super) fn local() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    let check = |headers: HeaderMap| match host(&headers) {
        Some(host) if is_loopback(host) => ready(Ok(())),
        _ => ready(Err(warp::reject::custom(Refusal::HostDenied))),
    };
    let headers = warp::header::headers_cloned();
    headers.and_then(check).untuple_one()
}

/// Passes JSON that a page of the demo sends, or no page at all.
pub(super) fn from_own_page() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    let refuse = |refusal| ready(Err(warp::reject::custom::<Refusal>(refusal)));
    let check = move |headers: HeaderMap| {
        if !AllowedOrigins::OwnHost.allow(origin(&headers), host(&headers)) {
            return refuse(Refusal::OriginDenied);
        }
        if !is_json(&headers) {
            return refuse(Refusal::MediaType);
        }
        ready(Ok(()))
    };
    let headers = warp::header::headers_cloned();
    headers.and_then(check).untuple_one()
}

/// What the page shows about this gateway.
pub(super) fn info(demo: Arc<Demo>) -> Response {
    json(StatusCode::OK, &demo.info)
}

/// A ticket for anyone.
pub(super) async fn ticket(body: Bytes, demo: Arc<Demo>) -> Result<Response, Rejection> {
    Ok(demo.ticket(&body).await?)
}

impl Demo {
    async fn ticket(&self, body: &[u8]) -> Result<Response, Refusal> {
        let request: TicketRequest =
            serde_json::from_slice(body).map_err(|_| Refusal::BadRequest(TICKET_FORM))?;
        let order = Order {
            user: user(&request.user_id)?,
            expires_at: None,
            origin: None,
            grants: granted(),
        };
        let stream = self.stream.as_ref();
        let body = issue(&self.tickets, &order, self.ticket_ttl, stream).await?;
        Ok(json(StatusCode::CREATED, &body))
    }
}

/// What a session of the demo may do.
fn granted() -> Grants {
    let lists = Lists {
        may_follow_prefix: vec!["demo-".to_owned()],
        calls: vec!["demo.>".to_owned()],
        ..Lists::default()
    };
    Grants::parse(&lists).expect("good lists")
}

/// `localhost`, `127.0.0.1` or `[::1]`, with any port.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|loopback| name.eq_ignore_ascii_case(loopback))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok()?.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn user(text: &str) -> Result<UserId, Refusal> {
    UserId::parse(text).map_err(|_| Refusal::BadRequest(USER_ID_RULE))
}

/// The page.
pub(super) fn page() -> Response {
    let mut response = warp::reply::html(PAGE.replace(CLIENT_GOES_HERE, CLIENT)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = warp::reply::with_status(warp::reply::json(body), status).into_response();
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_answered() {
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil",
            "::1",
            "[::1",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn the_page_has_a_place_for_the_client() {
        assert_eq!(PAGE.matches(CLIENT_GOES_HERE).count(), 1);
        assert!(!CLIENT.contains("</script"));
    }
}
