//! The users of one call.

use std::collections::HashSet;

use crate::user::{UserId, UserIdError};

/// User ids of one call.
pub(super) const MAX_USERS: usize = 1000;

/// The users of one call: 1–1,000, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users(pub(super) Vec<UserId>);

/// Why texts are not the users of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// None, or more than 1,000.
    #[error("has {0} ids; a call has 1–1,000 of them")]
    Count(usize),
    /// One of them is no user id.
    #[error("has at index {0} what is no user id: it {1}")]
    Id(usize, UserIdError),
}

impl Users {
    /// Reads user ids. One that is there several times counts once.
    ///
    /// # Errors
    ///
    /// [`UsersError`]
    pub fn parse<T: AsRef<str>>(ids: &[T]) -> Result<Self, UsersError> {
        if ids.is_empty() || ids.len() > MAX_USERS {
            return Err(UsersError::Count(ids.len()));
        }
        let mut seen = HashSet::with_capacity(ids.len());
        let mut users = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let user = UserId::parse(id.as_ref());
            let user = user.map_err(|error| UsersError::Id(index, error))?;
            if seen.insert(user.clone()) {
                users.push(user);
            }
        }
        Ok(Self(users))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_to_a_thousand_users() {
        let ids = |count: usize| (0..count).map(|id| id.to_string()).collect::<Vec<_>>();
        for (count, good) in [(0, false), (1, true), (1000, true), (1001, false)] {
            let users = Users::parse(&ids(count));
            assert_eq!(users.is_ok(), good, "{count}");
            if let Err(error) = users {
                let words = error.to_string();
                assert!(words.contains(&count.to_string()) && words.contains("1–1,000"));
            }
        }
        assert_eq!(Users::parse(&["a", "b", "a"]), Users::parse(&["a", "b"]));
        let error = Users::parse(&["a", ""]).expect_err("no user id");
        assert!(error.to_string().contains("index 1"), "{error}");
    }
}
