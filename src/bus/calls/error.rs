//! Why a call has no answer, in words for the page's developers, and which answers are errors.

use std::borrow::Cow;

use bytes::Bytes;

use crate::bus::{caller::Unanswered, interest::ServerMessage};

/// A service's own code, where it gives none.
const NO_CODE: &str = "500";

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No service is subscribed to the call's subject.
    #[error("no service answers this call")]
    NoResponders,
    /// The request was sent, and no answer came in time.
    #[error("no answer came in time; the call may have been done, or be done later")]
    TimedOut,
    /// The request was sent, and the connection to NATS was lost before an answer came.
    #[error(
        "the connection to NATS was lost before an answer came; the call may have been done, or \
         be done later"
    )]
    Lost,
    /// The session has as many calls under way as it may.
    #[error("this session has calls.max_in_flight calls under way; wait for their answers")]
    TooManyOfSession,
    /// The gateway has as many calls under way as it may.
    #[error("this gateway has calls.max_total calls under way; try again later")]
    TooManyOfGateway,
    /// NATS takes no message of this size.
    #[error("data is larger than NATS takes (max_payload)")]
    TooLarge,
    /// The connection to NATS is away; the request was not sent.
    #[error("NATS is away; the call was not sent, try again")]
    Unavailable,
    /// NATS does not permit the gateway to publish it.
    #[error("NATS does not permit the gateway to publish this call; see `usher check`")]
    Refused,
    /// A service's own error.
    #[error("{message}")]
    Service {
        /// The service's code.
        code: String,
        /// What it says.
        message: String,
    },
}

impl CallError {
    /// The code of the error, as the client reads it: a service's own, or the contract's.
    pub fn code(&self) -> &str {
        match self {
            Self::Service { code, .. } => code,
            other => other.result(),
        }
    }

    /// The metric's label.
    pub fn result(&self) -> &'static str {
        match self {
            Self::NoResponders => "no_responders",
            Self::TimedOut | Self::Lost => "timeout",
            Self::TooManyOfSession | Self::TooManyOfGateway => "too_many",
            Self::TooLarge => "too_large",
            Self::Unavailable | Self::Refused => "unavailable",
            Self::Service { .. } => "service_error",
        }
    }
}

impl From<Unanswered> for CallError {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Away => Self::Unavailable,
            Unanswered::Lost => Self::Lost,
            Unanswered::TimedOut => Self::TimedOut,
            Unanswered::TooLarge => Self::TooLarge,
            Unanswered::Forbidden(_) => Self::Refused,
        }
    }
}

/// The payload of an answer, or the error that it is. A service says an error by the headers
/// of NATS's ADR-32; what else stands in the headers means nothing here.
pub(super) fn read(answer: ServerMessage) -> Result<Bytes, CallError> {
    let headers = &answer.headers;
    if headers.status() == Some(503) && answer.payload.is_empty() {
        return Err(CallError::NoResponders);
    }
    let [code, message] = ["Nats-Service-Error-Code", "Nats-Service-Error"]
        .map(|name| headers.any(name).map(String::from_utf8_lossy));
    if code.is_none() && message.is_none() {
        return Ok(answer.payload);
    }
    let code = code.filter(|code| !code.is_empty());
    Err(CallError::Service {
        code: code.unwrap_or(Cow::Borrowed(NO_CODE)).into_owned(),
        message: message.unwrap_or_default().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::interest::example_message;

    fn answer(headers: &str) -> Result<Bytes, CallError> {
        read(example_message("inbox", "", headers.as_bytes(), b""))
    }

    #[test]
    fn a_services_error_is_known_by_its_headers() {
        let service = |code: &str, message: &str| {
            Err(CallError::Service {
                code: code.to_owned(),
                message: message.to_owned(),
            })
        };
        for (headers, error) in [
            (
                "Nats-Service-Error-Code: 409\r\nNats-Service-Error: shipped\r\n",
                service("409", "shipped"),
            ),
            (
                "nats-service-error-code:shipped\r\n",
                service("shipped", ""),
            ),
            ("Nats-Service-Error: shipped\r\n", service("500", "shipped")),
            ("Nats-Service-Error-Code:\r\n", service("500", "")),
            (
                "Nats-Service-Error-Codes: 1\r\nno colon\r\n",
                Ok(Bytes::new()),
            ),
            ("", Ok(Bytes::new())),
        ] {
            assert_eq!(
                answer(&format!("NATS/1.0\r\n{headers}\r\n")),
                error,
                "{headers}"
            );
        }
        assert_eq!(answer("NATS/1.0 503\r\n\r\n"), Err(CallError::NoResponders));
        assert_eq!(answer("NATS/1.0 408 Later\r\n\r\n"), Ok(Bytes::new()));
    }
}
