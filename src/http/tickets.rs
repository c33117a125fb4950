//! `POST /tickets`: a ticket for whoever brings a good token of their login.

use std::{future::ready, net::IpAddr, sync::Arc, time::Duration};

use warp::{
    Filter as _, Rejection,
    filters::BoxedFilter,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL},
    },
    reply::{Reply as _, Response},
};

use super::{admit::Admissions, mint_rate::MintRate, refusal::Refusal, request::Request};
use crate::{
    bus::stream::{self, Stream},
    tickets::{IssueError, Order, Tickets},
    tokens::Tokens,
};

/// Issues tickets for logins.
#[derive(Debug)]
pub struct Mint {
    /// Who somebody is.
    pub tokens: Tokens,
    /// Where tickets go.
    pub tickets: Tickets,
    /// What is published is kept here, in durable mode.
    pub stream: Option<Stream>,
    /// How long a ticket waits.
    pub ticket_ttl: Duration,
    /// A session ends when the token that opened it expires.
    pub session_ends_with_token: bool,
    /// How often one user may have one.
    pub rate: MintRate,
}

/// Checks in this order: refusals of the address, origin, token, tickets of the user; then
/// Redis.
pub(super) async fn mint(
    client: IpAddr,
    admissions: Arc<Admissions>,
    request: Request,
    mint: Arc<Mint>,
) -> Result<Response, Rejection> {
    match mint.mint(&admissions, client, &request.headers).await {
        Ok(body) => {
            let body = warp::reply::json(&body);
            let mut response = warp::reply::with_status(body, StatusCode::CREATED).into_response();
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(CACHE_CONTROL, no_store);
            Ok(response)
        }
        Err(refusal) => Err(admissions.refuse(client, &request.headers, refusal).into()),
    }
}

/// The path where nothing mints.
pub(super) fn none_here() -> BoxedFilter<(Response,)> {
    let refuse = || ready(Err::<Response, _>(Rejection::from(Refusal::NoMint)));
    warp::any().and_then(refuse).boxed()
}

impl Mint {
    async fn mint(
        &self,
        admissions: &Admissions,
        client: IpAddr,
        headers: &HeaderMap,
    ) -> Result<serde_json::Value, Refusal> {
        admissions.check_rate(client)?;
        admissions.check_origin(headers)?;
        let identity = self.tokens.verify(bearer(headers)?).await?;
        if !self.rate.takes(&identity.user) {
            return Err(Refusal::TooManyTickets);
        }
        let ends = self.session_ends_with_token;
        let order = Order {
            user: identity.user,
            expires_at: ends.then_some(identity.expires_at),
            origin: None,
            grants: identity.grants,
        };
        issue(&self.tickets, &order, self.ticket_ttl, self.stream.as_ref()).await
    }
}

/// Issues a ticket. Returns the body of the answer.
pub(super) async fn issue(
    tickets: &Tickets,
    order: &Order,
    ttl: Duration,
    stream: Option<&Stream>,
) -> Result<serde_json::Value, Refusal> {
    let position = async { Ok(stream::end(stream).await) };
    let issued = tokio::try_join!(tickets.issue(order, ttl), position);
    let (ticket, position) = issued.map_err(|error| match error {
        IssueError::Unavailable(_) => {
            Refusal::Unavailable("Redis is away, or took no ticket; try again")
        }
        IssueError::NoStore => Refusal::Unavailable("this gateway has no Redis, so no tickets"),
    })?;
    let mut body = serde_json::json!({
        "ticket": ticket.expose(),
        "expires_in": ttl.as_secs(),
    });
    if let Some(position) = position {
        body["position"] = position.to_string().into();
    }
    Ok(body)
}

/// The token of `Authorization: Bearer` (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Refusal::BadRequest("send Authorization once")),
    };
    value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or(Refusal::TokenMissing)
}
