//! `POST /tickets`: a ticket for whoever brings a good token of their login.

use std::{net::IpAddr, sync::Arc, time::Duration};

use warp::{
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL},
    },
    reply::{Reply as _, Response},
};

use super::{admit::Door, refusal::Refusal, request::Request};
use crate::{
    metrics::Metrics,
    tickets::{Order, Tickets},
    tokens::{TokenError, Tokens},
};

/// Mints tickets.
#[derive(Debug)]
pub struct Mint {
    /// Who somebody is.
    pub tokens: Tokens,
    /// Where tickets go.
    pub tickets: Tickets,
    /// How long a ticket waits.
    pub ticket_ttl: Duration,
    /// A session ends when the token that opened it expires.
    pub session_ends_with_token: bool,
    /// Where the outcomes are counted.
    pub metrics: Arc<Metrics>,
}

impl Mint {
    /// Checks in this order: method, rate, origin, token; then Redis.
    pub(super) async fn answer(&self, door: &Door, client: IpAddr, request: &Request) -> Response {
        let outcome = self.mint(door, client, request).await;
        let outcome = outcome.map_err(|refusal| door.judge(client, refusal));
        let refusal = outcome.as_ref().err();
        let result = refusal.map_or("minted", |refusal| refusal.code());
        self.metrics.mints.with_label_values(&[result]).inc();
        match outcome {
            Ok(body) => {
                let body = warp::reply::json(&body);
                let mut response =
                    warp::reply::with_status(body, StatusCode::CREATED).into_response();
                let no_store = HeaderValue::from_static("no-store");
                response.headers_mut().insert(CACHE_CONTROL, no_store);
                response
            }
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn mint(
        &self,
        door: &Door,
        client: IpAddr,
        request: &Request,
    ) -> Result<serde_json::Value, Refusal> {
        if request.method != Method::POST {
            return Err(Refusal::MethodNotAllowed("OPTIONS, POST"));
        }
        door.check_rate(client)?;
        door.check_origin(request)?;
        let identity = self
            .tokens
            .verify(bearer(&request.headers)?)
            .await
            .map_err(|error| match error {
                TokenError::Invalid(why) => Refusal::TokenInvalid(why),
                TokenError::NoKeys => Refusal::Unavailable(
                    "the keys that tokens are signed with cannot be fetched now; try again",
                ),
            })?;
        let ends = self.session_ends_with_token;
        let order = Order {
            user: identity.user,
            expires_at: ends.then_some(identity.expires_at),
            origin: None,
        };
        let ticket = self
            .tickets
            .issue(&order, self.ticket_ttl)
            .await
            .map_err(|_| Refusal::Unavailable("Redis is away; try again"))?;
        Ok(serde_json::json!({
            "ticket": ticket.expose(),
            "expires_in": self.ticket_ttl.as_secs(),
        }))
    }
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
