//! Subjects in the stream that look like a user's or a topic's and are nobody's: a publisher did
//! not write the id as a token (`usher.user.bob@localhost`, for `usher.user.bob%40localhost`).
//! Their messages are stored and acknowledged, and reach nobody.

use serde_json::json;

use super::{StreamError, info::info};
use crate::{
    bus::{Subjects, client::Client},
    user::{UserId, from_subject_token, subject_token},
};

/// Subjects in one answer of nats-server.
const PAGE: usize = 100_000;
/// Answers that are asked for at most.
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

/// Whether a subject is under the users' or the topics' and is nobody's.
pub(super) fn is_odd(subjects: &Subjects, subject: &str) -> bool {
    split(subjects, subject).is_some_and(|(_, token)| {
        // A topic has the rule of a user id.
        let name = from_subject_token(token).and_then(|name| UserId::parse(&name).ok());
        // What begins so is a gateway's own.
        name.is_none() && !token.starts_with('$')
    })
}

/// A subject of a user or a topic: what it begins with, and what stands for the name.
fn split<'a>(subjects: &Subjects, subject: &'a str) -> Option<(String, &'a str)> {
    let mut named = subjects.named().into_iter();
    named.find_map(|prefix| {
        let token = subject.strip_prefix(&prefix)?;
        Some((prefix, token))
    })
}

/// Looks for such subjects.
pub(in crate::bus) async fn odd(
    client: &Client,
    stream: &str,
    subjects: &Subjects,
) -> Result<Odd, StreamError> {
    let mut odd = Odd::default();
    for prefix in subjects.named() {
        for page in 0..MAX_PAGES {
            let question = json!({
                "subjects_filter": format!("{prefix}*"),
                "offset": page * PAGE,
            });
            let found = info(client, "INFO", stream, &question)
                .await?
                .state
                .subjects;
            for subject in found.keys().filter(|subject| is_odd(subjects, subject)) {
                odd.count += 1;
                if odd.named.len() < NAMED
                    && let Some((prefix, token)) = split(subjects, subject)
                {
                    let meant = format!("{prefix}{}", subject_token(token));
                    odd.named.push((subject.clone(), meant));
                }
            }
            if found.len() < PAGE {
                break;
            }
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
        assert!(!is_odd(&subjects, "usher.topic.room%207"));
        assert!(is_odd(&subjects, "usher.topic.room 7"));
    }
}
