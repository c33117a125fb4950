//! Subjects in the stream that look like a user's and are nobody's: a publisher did not write
//! the user's id as a token (`usher.user.bob@localhost`, for `usher.user.bob%40localhost`).
//! Their messages are stored and acknowledged, and reach nobody.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::{ApiError, StreamError, ask};
use crate::{
    bus::{Subjects, client::Client},
    user::{UserId, from_subject_token, subject_token},
};

/// Subjects in one answer of nats-server, and answers that are asked for.
const PAGE: usize = 100_000;
const MAX_PAGES: usize = 10;
/// Subjects that are named.
const NAMED: usize = 5;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Odd {
    /// How many subjects there are.
    pub count: usize,
    /// Some of them, each with the subject that its publisher may have meant.
    pub named: Vec<(String, String)>,
}

/// Whether a subject is under the users' and is no user's.
pub(super) fn is_odd(subjects: &Subjects, subject: &str) -> bool {
    let token = subject.strip_prefix(&subjects.users());
    token.is_some_and(|token| {
        let user = from_subject_token(token).and_then(|user| UserId::parse(&user).ok());
        // What begins so is a gateway's own.
        user.is_none() && !token.starts_with('$')
    })
}

/// Looks for such subjects.
pub(in crate::bus) async fn odd(
    client: &Client,
    stream: &str,
    subjects: &Subjects,
) -> Result<Odd, StreamError> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<ApiError>,
        state: Option<State>,
    }
    #[derive(Deserialize)]
    struct State {
        #[serde(default)]
        subjects: BTreeMap<String, u64>,
    }
    let mut odd = Odd::default();
    for page in 0..MAX_PAGES {
        let filter = format!("{}*", subjects.users());
        let question = json!({ "subjects_filter": filter, "offset": page * PAGE });
        let answer: Answer = ask(client, &format!("STREAM.INFO.{stream}"), &question).await?;
        let found = match answer {
            Answer {
                error: Some(error), ..
            } => return Err(StreamError::Odd(error.description)),
            Answer { state, .. } => state.map(|state| state.subjects).unwrap_or_default(),
        };
        for subject in found.keys().filter(|subject| is_odd(subjects, subject)) {
            odd.count += 1;
            if odd.named.len() < NAMED {
                let token = subject.strip_prefix(&subjects.users()).unwrap_or_default();
                let meant = format!("{}{}", subjects.users(), subject_token(token));
                odd.named.push((subject.clone(), meant));
            }
        }
        if found.len() < PAGE {
            break;
        }
    }
    Ok(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_users_or_odd() {
        let subjects = Subjects::new("usher");
        for of_somebody in ["42", "bob%40localhost", "a-b_C", "$gateway"] {
            assert!(!is_odd(&subjects, &format!("usher.user.{of_somebody}")));
        }
        for of_nobody in ["bob@localhost", "bob%40Localhost%2", "bob%2D", "%0A", "ü"] {
            assert!(is_odd(&subjects, &format!("usher.user.{of_nobody}")));
        }
        assert!(!is_odd(&subjects, "usher.broadcast"));
    }
}
