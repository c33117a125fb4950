//! A stream's acknowledgement of what was published to it, as JetStream's API has it.

use serde::Deserialize;

use super::PublishError;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    stream: String,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Refusal {
    /// Whether the message is certainly not stored, and will not be.
    fn is_certain(&self) -> bool {
        match self.err_code {
            // A message with this id is being stored.
            10158 => false,
            // A limit of the stream; anything else went wrong at the leader alone, and
            // the other replicas may have the message.
            10077 => self.description.starts_with("maximum "),
            // The leader has another state than the other replicas.
            10063 => false,
            _ => true,
        }
    }
}

/// Returns where the message is in the stream, and whether it was there already.
pub(super) fn acknowledged(payload: &[u8], stream: &str) -> Result<(u64, bool), PublishError> {
    let body: Result<Body, _> = serde_json::from_slice(payload);
    let not_understood = || PublishError::Undecided("its answer is not understood".to_owned());
    let body = body.map_err(|_| not_understood())?;
    if let Some(refusal) = body.error {
        return Err(match refusal.is_certain() {
            true => PublishError::NotStored(refusal.description),
            false => PublishError::Undecided(refusal.description),
        });
    }
    if body.stream != stream {
        return Err(PublishError::NotStored(format!(
            "the stream {:?} captures it, and durable.stream is {stream:?}",
            body.stream
        )));
    }
    let seq = body.seq.ok_or_else(not_understood)?;
    Ok((seq, body.duplicate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u64, err_code: u64, description: &str) -> PublishError {
        let answer = serde_json::json!({
            "error": {"code": code, "err_code": err_code, "description": description},
            "stream": "USHER",
            "seq": 0,
        });
        acknowledged(answer.to_string().as_bytes(), "USHER").expect_err("it is not stored")
    }

    #[test]
    fn what_is_stored_says_where() {
        let stored = br#"{"stream":"USHER","seq":7}"#;
        assert_eq!(acknowledged(stored, "USHER"), Ok((7, false)));
        let before = br#"{"stream":"USHER","seq":7,"duplicate":true}"#;
        assert_eq!(acknowledged(before, "USHER"), Ok((7, true)));
        let other = acknowledged(br#"{"stream":"ORDERS","seq":7}"#, "USHER");
        assert!(
            matches!(other, Err(PublishError::NotStored(_))),
            "{other:?}"
        );
    }

    #[test]
    fn a_refusal_before_anything_is_stored_is_certain() {
        for (code, err_code, description) in [
            (400, 10054, "message size exceeds maximum allowed"),
            (503, 10077, "maximum bytes exceeded"),
            (503, 10023, "insufficient resources"),
        ] {
            let error = refused(code, err_code, description);
            assert_eq!(error, PublishError::NotStored(description.to_owned()));
        }
    }

    /// Replicas may store the message all the same, or are about to.
    #[test]
    fn a_refusal_that_proves_nothing_is_not_certain() {
        for (code, err_code, description) in [
            (409, 10158, "duplicate message id is in process"),
            (503, 10077, "store is closed"),
            (503, 10063, "expected stream sequence does not match"),
        ] {
            let error = refused(code, err_code, description);
            let undecided = PublishError::Undecided(description.to_owned());
            assert_eq!(error, undecided, "{err_code}");
        }
    }
}
