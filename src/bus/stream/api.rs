//! JetStream's API: questions in JSON, answered in JSON.

use serde::Deserialize;
use serde_json::Value;

use super::StreamError;
use crate::bus::client::{Client, Failure, Outgoing};

/// What the subjects of the API begin with.
pub(super) const PREFIX: &str = "$JS.API.";

/// An error of the API.
#[derive(Deserialize)]
struct ApiError {
    code: u16,
    description: String,
}

/// Asks one question. The stream's leader answers, or nobody.
///
/// # Errors
///
/// [`StreamError`]: `Api` where the answer is an error.
pub(super) async fn ask<A: for<'de> Deserialize<'de>>(
    client: &Client,
    what: &str,
    body: &Value,
) -> Result<A, StreamError> {
    #[derive(Deserialize)]
    struct Refused {
        error: Option<ApiError>,
    }
    let question = Outgoing {
        subject: format!("{PREFIX}{what}"),
        payload: body.to_string().into(),
        ..Outgoing::default()
    };
    let answer = client
        .ask(question)
        .await
        .map_err(|failure| match failure {
            Failure::Away => StreamError::Away,
            Failure::Unknown => StreamError::TimedOut,
            Failure::Forbidden | Failure::TooLarge { .. } => {
                StreamError::Forbidden(what.to_owned())
            }
        })?;
    if answer.status.is_some() {
        return Err(StreamError::NoJetStream);
    }
    let odd = |error: serde_json::Error| StreamError::Odd(error.to_string());
    let Refused { error } = serde_json::from_slice(&answer.payload).map_err(odd)?;
    match error {
        Some(ApiError { code, description }) => Err(StreamError::Api { code, description }),
        None => serde_json::from_slice(&answer.payload).map_err(odd),
    }
}

/// An answer, or `None` where JetStream has nothing of the kind.
pub(super) fn found<A>(answer: Result<A, StreamError>) -> Result<Option<A>, StreamError> {
    match answer {
        Err(StreamError::Api { code: 404, .. }) => Ok(None),
        answer => answer.map(Some),
    }
}

impl StreamError {
    /// Of a question about the stream of this name: where JetStream has nothing of the kind, there
    /// is no such stream.
    pub(super) fn of_stream(self, name: &str) -> Self {
        match self {
            Self::Api { code: 404, .. } => Self::NotThere(name.to_owned()),
            error => error,
        }
    }
}
