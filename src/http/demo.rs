//! The demo: a page on which anyone can be any user, for trying Usher out.
//!
//! Served on loopback only. A page elsewhere that makes its name point here
//! (DNS rebinding) is refused by its Host; one that posts across origins by its
//! Origin.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS,
        },
    },
    path::FullPath,
    reply::{Reply, Response},
};

use super::{refusal::Refusal, request::origin};
use crate::{
    bus::{PublishError, Publisher, Push, Receipt},
    message::EventName,
    origin::AllowedOrigins,
    tickets::{Order, Tickets},
    user::UserId,
};

const PAGE: &str = include_str!("demo/page.html");
const CLIENT: &str = include_str!("../../clients/usher.js");
/// Where the page takes the client in.
const CLIENT_GOES_HERE: &str = "/*USHER_CLIENT*/";
/// The page loads nothing from anywhere, and what it shows is never code.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; img-src data:";
/// A message of NATS's default size, and the JSON around it.
const MAX_BODY: u64 = 1024 * 1024 + 4096;

/// What the demo needs.
#[derive(Debug)]
pub struct Demo {
    /// Where pushes go.
    pub publisher: Publisher,
    /// Where tickets come from.
    pub tickets: Tickets,
    /// How long a ticket waits.
    pub ticket_ttl: std::time::Duration,
    /// What the page says about this gateway, as JSON.
    pub info: serde_json::Value,
}

#[derive(Deserialize)]
struct TicketRequest {
    user_id: String,
}

#[derive(Deserialize)]
struct PushRequest {
    user_id: String,
    event: Option<String>,
    data: Box<RawValue>,
}

/// The demo's paths under `prefix`; anything else is left to others.
pub(super) fn routes(prefix: &str, demo: Arc<Demo>) -> BoxedFilter<(Response,)> {
    let prefix = prefix.to_owned();
    let ours = warp::path::full().and_then(move |path: FullPath| {
        let path = path.as_str().strip_prefix(&prefix).map(str::to_owned);
        async move {
            match path.as_deref() {
                Some("/") => Ok(Path::Page),
                Some("/demo/info") => Ok(Path::Info),
                Some("/demo/tickets") => Ok(Path::Tickets),
                Some("/demo/push") => Ok(Path::Push),
                _ => Err(warp::reject::not_found()),
            }
        }
    });
    let body = warp::body::content_length_limit(MAX_BODY)
        .and(warp::body::bytes())
        .or(warp::any().map(Bytes::new))
        .unify();
    ours.and(warp::method())
        .and(warp::header::headers_cloned())
        .and(body)
        .then(move |path, method, headers, body: Bytes| {
            let demo = demo.clone();
            async move {
                demo.answer(path, &method, &headers, &body)
                    .await
                    .unwrap_or_else(Reply::into_response)
            }
        })
        .boxed()
}

#[derive(Debug, Clone, Copy)]
enum Path {
    Page,
    Info,
    Tickets,
    Push,
}

impl Demo {
    async fn answer(
        &self,
        path: Path,
        method: &Method,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if !host.is_some_and(is_loopback) {
            return Err(Refusal::HostDenied);
        }
        let reads = matches!(path, Path::Page | Path::Info);
        match *method {
            Method::GET if reads => {}
            Method::POST if !reads => {
                if !AllowedOrigins::OwnHost.allow(origin(headers), host) {
                    return Err(Refusal::OriginDenied);
                }
                if !is_json(headers) {
                    return Err(Refusal::MediaType);
                }
            }
            _ => {
                return Err(Refusal::MethodNotAllowed(if reads {
                    "GET"
                } else {
                    "POST"
                }));
            }
        }
        match path {
            Path::Page => Ok(page()),
            Path::Info => Ok(json(StatusCode::OK, &self.info)),
            Path::Tickets => self.ticket(body).await,
            Path::Push => self.push(body).await,
        }
    }

    async fn ticket(&self, body: &[u8]) -> Result<Response, Refusal> {
        let request: TicketRequest = serde_json::from_slice(body)
            .map_err(|_| Refusal::BadRequest("send {\"user_id\":\"42\"}, at most 1 MiB"))?;
        let order = Order {
            user: user(&request.user_id)?,
            expires_at: None,
            origin: None,
        };
        let ticket = self
            .tickets
            .issue(&order, self.ticket_ttl)
            .await
            .map_err(|_| Refusal::Unavailable("Redis is away; try again"))?;
        let body = serde_json::json!({
            "ticket": ticket.expose(),
            "expires_in": self.ticket_ttl.as_secs(),
        });
        Ok(json(StatusCode::CREATED, &body))
    }

    async fn push(&self, body: &[u8]) -> Result<Response, Refusal> {
        let request: PushRequest = serde_json::from_slice(body).map_err(|_| {
            Refusal::BadRequest(
                "send {\"user_id\":\"42\",\"event\":\"…\",\"data\":…}, at most 1 MiB",
            )
        })?;
        let event = match request.event.as_deref() {
            None | Some("") => None,
            Some(name) => Some(EventName::parse(name).map_err(|_| {
                Refusal::BadRequest(
                    "event is 1–64 of A-Z a-z 0-9 . _ : - and does not begin with usher.",
                )
            })?),
        };
        let push = Push {
            user: user(&request.user_id)?,
            event,
            message_id: None,
            payload: Bytes::copy_from_slice(request.data.get().as_bytes()),
        };
        let published = self.publisher.publish(push, true).await;
        let (status, sessions) = match published.map(|published| published.receipt) {
            Ok(Some(Receipt::Queued(sessions))) => ("queued", sessions),
            Ok(Some(Receipt::Offline) | None) => ("offline", 0),
            Err(PublishError::TooLarge { .. }) => {
                return Err(Refusal::BadRequest("data is larger than NATS takes"));
            }
            Err(PublishError::Forbidden) => {
                return Err(Refusal::Unavailable("NATS forbids this user's subject"));
            }
            Err(PublishError::NotStored(_)) => {
                return Err(Refusal::Unavailable("the stream did not store it"));
            }
            Err(PublishError::Unavailable | PublishError::Unconfirmed) => {
                return Err(Refusal::Unavailable("NATS is away; try again"));
            }
        };
        let body = serde_json::json!({ "status": status, "sessions": sessions });
        Ok(json(StatusCode::OK, &body))
    }
}

/// `localhost`, `127.0.0.1` or `[::1]`, with any port.
fn is_loopback(host: &str) -> bool {
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
    UserId::parse(text).map_err(|_| {
        Refusal::BadRequest("user_id is 1–128 bytes of UTF-8 without control characters")
    })
}

fn page() -> Response {
    let mut response = warp::reply::html(PAGE.replace(CLIENT_GOES_HERE, CLIENT)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
