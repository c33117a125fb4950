//! A request as it came, and what all requests for a session say in the same way.

use std::convert::Infallible;

use hyper::upgrade::OnUpgrade;
use warp::{
    Filter,
    http::{
        HeaderMap, HeaderValue,
        header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING},
    },
};

use super::{handover::Handover, handshake::Handshake, refusal::Refusal};
use crate::{
    channel::Topic,
    position::{PositionError, Since},
    trace::Trace,
};

/// What somebody shows to be let in, as it came. No `Debug`: it is a secret.
pub(super) enum Shown {
    /// Said to be a ticket.
    Ticket(String),
    /// Said to be a token.
    Token(String),
}

/// A request. No `Debug`: the query may hold a ticket.
pub(super) struct Request {
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) on_upgrade: Option<OnUpgrade>,
    /// The connection that it came on.
    pub(super) connection: Option<Handover>,
    /// What that has until it is a session's.
    pub(super) handshake: Option<Handshake>,
    /// Its trace, where that is recorded.
    pub(super) trace: Option<Trace>,
}

impl Request {
    /// What a request for a session never has.
    pub(super) fn has_body(&self) -> bool {
        let length = self.headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
        self.headers.contains_key(TRANSFER_ENCODING) || !matches!(length, None | Some(b"0"))
    }

    /// Where the client left off, as the query says it.
    ///
    /// # Errors
    ///
    /// 400 [`Refusal::SinceMalformed`]
    pub(super) fn since(&self) -> Result<Option<Since>, Refusal> {
        let values = query_values(&self.query, "since");
        match &values[..] {
            [] => Ok(None),
            [since] => position(since).map(Some),
            _ => Err(Refusal::SinceMalformed("pass since once")),
        }
    }

    /// The topics that the client wants to follow from the beginning.
    ///
    /// # Errors
    ///
    /// 400 [`Refusal::BadRequest`]
    pub(super) fn follow(&self) -> Result<Vec<Topic>, Refusal> {
        let topics = query_values(&self.query, "follow");
        let topics = topics.iter().map(|topic| Topic::parse(topic));
        let topics: Result<_, _> = topics.collect();
        topics.map_err(|_| Refusal::BadRequest("follow is a topic of 1–128 bytes; see the docs"))
    }

    /// All that the request shows to be let in: of the query (tickets alone: a token can be
    /// used again, and URLs are logged), of `Authorization`, and what is `elsewhere`.
    pub(super) fn shown(&self, elsewhere: impl Iterator<Item = Shown>) -> Vec<Shown> {
        let in_query = query_values(&self.query, "ticket");
        let in_query = in_query.into_iter().map(Shown::Ticket);
        let headers = self.headers.get_all(AUTHORIZATION).iter();
        let in_header = headers.filter_map(|value| {
            let (scheme, shown) = value.to_str().ok()?.split_once(' ')?;
            let shown = shown.trim().to_owned();
            match &*scheme.to_ascii_lowercase() {
                "usher-ticket" => Some(Shown::Ticket(shown)),
                "bearer" => Some(Shown::Token(shown)),
                _ => None,
            }
        });
        in_query.chain(elsewhere).chain(in_header).collect()
    }
}

/// A position, as a client writes it.
pub(super) fn position(text: &str) -> Result<Since, Refusal> {
    Since::parse(text).map_err(|PositionError| {
        Refusal::SinceMalformed(
            "since is a position, such as k3f9.140.152.1798000000123.u152, or 0",
        )
    })
}

/// The request as it came.
pub(super) fn request() -> impl Filter<Extract = (Request,), Error = Infallible> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    query
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Handover>())
        .and(warp::ext::optional::<Handshake>())
        .map(
            |query, headers, on_upgrade, connection, handshake| Request {
                query,
                headers,
                on_upgrade,
                connection,
                handshake,
                trace: None,
            },
        )
}

/// The `Host` header.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok()
}

/// The `Origin` header; an unreadable one, or a second, is one that nothing allows.
pub(super) fn origin(headers: &HeaderMap) -> Option<&str> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next()?;
    let readable = origin.to_str().ok().filter(|_| origins.next().is_none());
    Some(readable.unwrap_or("null"))
}

fn query_values(query: &str, key: &str) -> Vec<String> {
    form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == key)
        .map(|(_, value)| value.into_owned())
        .collect()
}

pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}
