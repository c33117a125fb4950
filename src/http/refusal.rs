//! The one table of refusals: status, code, words and headers of each.

use rand::Rng as _;
use warp::http::{
    HeaderValue, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE},
};
use warp::reply::{Reply, Response};

/// Why a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    BadRequest(&'static str),
    TicketMalformed,
    SinceMalformed(&'static str),
    ProtocolUnknown,
    TicketMissing,
    /// Where a token would do, too.
    CredentialMissing,
    TicketUnknown,
    /// There is no Redis.
    NoTickets,
    TokenMissing,
    TokenInvalid(&'static str),
    OriginDenied,
    HostDenied,
    TicketBinding,
    NotFound,
    /// Nothing issues tickets at this gateway for a login's token.
    NoMint,
    MediaType,
    /// Carries what is allowed.
    MethodNotAllowed(&'static str),
    UpgradeRequired,
    TooMany,
    /// Of one user.
    TooManyTickets,
    Unavailable(&'static str),
    Full,
    /// Of `public.max_pending_per_ip`.
    FullForAddress,
    Draining,
}

impl Refusal {
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest(why) => (S::BAD_REQUEST, "bad_request", why),
            Self::TicketMalformed => (
                S::BAD_REQUEST,
                "ticket_malformed",
                "a ticket is 16–512 characters of A-Z a-z 0-9 - _ . ~",
            ),
            Self::SinceMalformed(why) => (S::BAD_REQUEST, "since_malformed", why),
            Self::ProtocolUnknown => (
                S::BAD_REQUEST,
                "protocol_unknown",
                "offer the sub-protocol usher.v1 or usher.raw.v1, or none at all",
            ),
            Self::TicketMissing => (
                S::UNAUTHORIZED,
                "ticket_missing",
                "pass a ticket as ?ticket=T, as the sub-protocol usher.ticket.T, or as \
                 Authorization: Usher-Ticket T",
            ),
            Self::CredentialMissing => (
                S::UNAUTHORIZED,
                "ticket_missing",
                "pass a ticket as ?ticket=T, as the sub-protocol usher.ticket.T, or as \
                 Authorization: Usher-Ticket T; or your login's token as the sub-protocol \
                 usher.token.TOKEN, or as Authorization: Bearer TOKEN",
            ),
            Self::NoTickets => (
                S::UNAUTHORIZED,
                "ticket_unknown",
                "there are no tickets here; pass your login's token as the sub-protocol \
                 usher.token.TOKEN, or as Authorization: Bearer TOKEN",
            ),
            Self::TicketUnknown => (
                S::UNAUTHORIZED,
                "ticket_unknown",
                "this ticket was never issued, was used already, or has expired; get a new one",
            ),
            Self::TokenMissing => (
                S::UNAUTHORIZED,
                "token_missing",
                "send your login's token as Authorization: Bearer TOKEN",
            ),
            Self::TokenInvalid(why) => (S::UNAUTHORIZED, "token_invalid", why),
            Self::OriginDenied => (
                S::FORBIDDEN,
                "origin_denied",
                "this page's origin is not in public.allowed_origins",
            ),
            Self::HostDenied => (
                S::FORBIDDEN,
                "host_denied",
                "this listener answers only for localhost, 127.0.0.1 and [::1]",
            ),
            Self::MediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "bad_request",
                "send Content-Type: application/json",
            ),
            Self::TicketBinding => (
                S::FORBIDDEN,
                "ticket_binding",
                "this ticket was issued for another origin; get a new one",
            ),
            Self::NotFound => (S::NOT_FOUND, "not_found", "there is nothing at this path"),
            Self::NoMint => (
                S::NOT_FOUND,
                "not_found",
                "this gateway issues no tickets here: that needs Redis and the keys of logins' \
                 tokens (tickets.jwt.secret, .public_key_file, .jwks_url or .oidc_issuer)",
            ),
            Self::MethodNotAllowed(_) => (
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take this method; see Allow",
            ),
            Self::UpgradeRequired => (
                S::UPGRADE_REQUIRED,
                "upgrade_required",
                "this path speaks WebSocket, version 13, over HTTP/1.1",
            ),
            Self::TooMany => (
                S::TOO_MANY_REQUESTS,
                "too_many",
                "too many requests from this address were refused; wait a little",
            ),
            Self::TooManyTickets => (
                S::TOO_MANY_REQUESTS,
                "too_many",
                "this user has had too many tickets minted; wait a little",
            ),
            Self::Unavailable(why) => (S::SERVICE_UNAVAILABLE, "unavailable", why),
            Self::Full => (
                S::SERVICE_UNAVAILABLE,
                "full",
                "this gateway holds as many sessions as it may; try again",
            ),
            Self::FullForAddress => (
                S::SERVICE_UNAVAILABLE,
                "full",
                "too many connections from this address wait to be admitted; try again",
            ),
            Self::Draining => (
                S::SERVICE_UNAVAILABLE,
                "draining",
                "this gateway is going away; try again to reach another",
            ),
        }
    }

    /// What happened, and what to do.
    pub(super) fn message(self) -> &'static str {
        self.row().2
    }

    /// Whether it counts against `public.refusals_per_second_per_ip`.
    pub(super) fn is_the_clients_fault(self) -> bool {
        use StatusCode as S;
        matches!(
            self.row().0,
            S::BAD_REQUEST | S::UNAUTHORIZED | S::FORBIDDEN
        )
    }

    /// The code in the body, which is also the metric's label.
    pub(super) fn code(self) -> &'static str {
        self.row().1
    }

    /// The code and what it means, for a person.
    pub(super) fn words(self) -> String {
        let (_, code, message) = self.row();
        format!("{code}: {message}")
    }

    /// The body: `{"error":{"code":"…","message":"…"}}`.
    pub(super) fn body(self) -> String {
        let (_, code, message) = self.row();
        serde_json::json!({ "error": { "code": code, "message": message } }).to_string()
    }
}

impl Reply for Refusal {
    fn into_response(self) -> Response {
        let (status, ..) = self.row();
        let body = warp::reply::with_header(self.body(), "content-type", "application/json");
        let mut response = warp::reply::with_status(body, status).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match status {
            StatusCode::UNAUTHORIZED => {
                let scheme = match self {
                    Self::TokenMissing | Self::TokenInvalid(_) | Self::NoTickets => "Bearer",
                    _ => "Usher-Ticket",
                };
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, retry_after().into());
            }
            StatusCode::UPGRADE_REQUIRED => {
                // `close` too: a connection carries one request.
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade, close"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
            }
            _ => {}
        }
        if let Self::MethodNotAllowed(allow) = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// Seconds, at random, so that those refused together do not return together.
pub(super) fn retry_after() -> u16 {
    rand::rng().random_range(1..=5)
}
