//! The one table of refusals: status, code, what metrics call it, and words.

use std::{
    borrow::Cow,
    convert::Infallible,
    future::{Ready, ready},
};

use http::{
    HeaderValue, StatusCode,
    header::{ALLOW, CACHE_CONTROL, WWW_AUTHENTICATE},
};
use serde::Serialize;
use warp::{
    Rejection,
    reject::Reject,
    reply::{Reply as _, Response},
};

use crate::api::{Failure, bodies::ARRIVAL};

/// The longest message: a caller may give a field the name of a megabyte.
const LONGEST: usize = 500;

/// Why a request, or a push of a batch, came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) enum Refusal {
    /// It is not what the path takes; carries what is wrong.
    Bad(String),
    /// A page sent it.
    Origin,
    /// It asks for a foreign host on loopback.
    Host,
    /// It bears no token.
    Token,
    NotFound,
    /// Carries the methods that are allowed.
    Method(&'static str),
    MediaType,
    TooLarge {
        most: usize,
    },
    /// The bytes of all requests under way are too many.
    Busy {
        publishes: bool,
    },
    /// The body took too long.
    TooSlow,
    /// The body broke off.
    NotWhole,
    /// The operation failed.
    Failed {
        failure: Failure,
        publishes: bool,
    },
    /// A push of a batch: NATS did not take or confirm one before it.
    NotSent,
}

impl Reject for Refusal {}

/// What a response says of itself to the metrics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// The code of gRPC's that stands for it.
    pub(super) code: &'static str,
    /// The bound that refused the request.
    pub(super) bound: Option<&'static str>,
}

/// What there is to count of this response.
pub(super) fn told(response: &Response) -> Told {
    let good = Told {
        code: "OK",
        bound: None,
    };
    response.extensions().get().copied().unwrap_or(good)
}

/// `{"error":{…}}`.
#[derive(Debug, Serialize)]
pub(super) struct Body {
    error: Error,
}

#[derive(Debug, Serialize)]
struct Error {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<bool>,
}

impl Refusal {
    /// It is not what the path takes.
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::Bad(why.into())
    }

    /// A message was not published, or is not known to be.
    pub(super) fn of_publish(failure: Failure) -> Self {
        let publishes = true;
        Self::Failed { failure, publishes }
    }

    /// Something else failed.
    pub(super) fn of_other(failure: Failure) -> Self {
        let publishes = false;
        Self::Failed { failure, publishes }
    }

    /// Status, code, and the code of gRPC's.
    fn row(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Bad(_) => (S::BAD_REQUEST, "bad_request", "INVALID_ARGUMENT"),
            Self::TooSlow => (S::BAD_REQUEST, "too_slow", "DEADLINE_EXCEEDED"),
            Self::NotWhole => (S::BAD_REQUEST, "bad_request", "CANCELLED"),
            Self::Token => (S::UNAUTHORIZED, "unauthenticated", "UNAUTHENTICATED"),
            Self::Origin => (S::FORBIDDEN, "origin_denied", "PERMISSION_DENIED"),
            Self::Host => (S::FORBIDDEN, "host_denied", "PERMISSION_DENIED"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "UNIMPLEMENTED"),
            Self::Method(_) => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "UNIMPLEMENTED"),
            Self::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "too_large", "RESOURCE_EXHAUSTED"),
            Self::MediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "INVALID_ARGUMENT",
            ),
            Self::Busy { .. } => (S::SERVICE_UNAVAILABLE, "busy", "RESOURCE_EXHAUSTED"),
            Self::NotSent => (S::SERVICE_UNAVAILABLE, "unavailable", "UNAVAILABLE"),
            Self::Failed { failure, .. } => match failure {
                Failure::Invalid { .. } => (S::BAD_REQUEST, "bad_request", "INVALID_ARGUMENT"),
                Failure::Forbidden(_) => (S::FORBIDDEN, "forbidden", "PERMISSION_DENIED"),
                Failure::Unavailable(_) => (S::SERVICE_UNAVAILABLE, "unavailable", "UNAVAILABLE"),
                Failure::Busy(_) => (S::SERVICE_UNAVAILABLE, "busy", "RESOURCE_EXHAUSTED"),
                Failure::NotServed(_) => (S::NOT_FOUND, "not_found", "FAILED_PRECONDITION"),
                Failure::Unconfirmed(_) => (S::GATEWAY_TIMEOUT, "unconfirmed", "DEADLINE_EXCEEDED"),
            },
        }
    }

    /// The code of gRPC's that stands for it.
    pub(super) fn code(&self) -> &'static str {
        self.row().2
    }

    /// The bound that it stands for, as metrics have it.
    fn bound(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } => Some("message_too_large"),
            Self::Busy { .. } => Some("in_flight_bytes"),
            Self::TooSlow => Some("too_slow"),
            _ => None,
        }
    }

    /// What is wrong, and what to do, for people.
    pub(in crate::api) fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Bad(why) => shortened(why).into(),
            Self::Origin => "web pages may not call this: a request has no Origin".into(),
            Self::Host => "this listener is for this machine alone, and answers only for the \
                           hosts localhost, 127.0.0.1 and [::1]"
                .into(),
            Self::Token => "send one of grpc.tokens as 'Authorization: Bearer TOKEN'".into(),
            Self::NotFound => "there is nothing at this path; /v1/openapi.json says what there \
                               is, and gRPC comes over HTTP/2 as application/grpc"
                .into(),
            Self::Method(_) => "this path does not take this method; see Allow".into(),
            Self::MediaType => "send Content-Type: application/json, in UTF-8 and without \
                                Content-Encoding"
                .into(),
            Self::TooLarge { most } => format!(
                "the body is larger than grpc.max_message allows, {most} bytes; nothing was done"
            )
            .into(),
            Self::Busy { .. } => "requests under way fill grpc.max_in_flight_bytes; nothing was \
                                  done, try again later"
                .into(),
            Self::TooSlow => format!(
                "the body did not arrive within {} s; nothing was done",
                ARRIVAL.as_secs()
            )
            .into(),
            Self::NotWhole => "the body did not arrive whole; nothing was done".into(),
            Self::Failed { failure, .. } => shortened(&failure.to_string()).into(),
            Self::NotSent => "NATS did not take or confirm a push before this one, so this one \
                              was not sent; try again"
                .into(),
        }
    }

    /// Whether it is certain, and worth saying, that nothing was published.
    fn is_certainly_not_published(&self) -> bool {
        match self {
            Self::Busy { publishes } => *publishes,
            Self::Failed { failure, publishes } => {
                *publishes && matches!(failure, Failure::Unavailable(_) | Failure::Busy(_))
            }
            Self::NotSent => true,
            _ => false,
        }
    }

    /// Its JSON, also as an entry of a batch's results.
    pub(super) fn body(&self) -> Body {
        Body {
            error: Error {
                code: self.row().1,
                message: self.message().into_owned(),
                published: self.is_certainly_not_published().then_some(false),
            },
        }
    }
}

/// As much of a text as fits.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The answer to a request that a filter rejected.
pub(super) fn answer(rejection: Rejection) -> Ready<Result<Response, Infallible>> {
    let refusal = match rejection.find::<Refusal>() {
        Some(refusal) => refusal.clone(),
        None if rejection.is_not_found() => Refusal::NotFound,
        // A filter of warp's whose rejection no filter of ours replaces.
        None => Refusal::bad("this path does not take such a request"),
    };
    let (status, ..) = refusal.row();
    let mut response = json(status, &refusal.body());
    response.extensions_mut().insert(Told {
        code: refusal.code(),
        bound: refusal.bound(),
    });
    let headers = response.headers_mut();
    match refusal {
        Refusal::Token => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Refusal::Method(allowed) => {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        _ => {}
    }
    ready(Ok(response))
}

/// An answer that nobody keeps: there are tickets in some.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = warp::reply::json(body).into_response();
    *response.status_mut() = status;
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}
