//! The last sessions that ended here, for operators. Kept in memory, and bounded.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use ulid::Ulid;

use crate::{close::CloseReason, user::UserId};

/// Ends that are remembered; a further one replaces the oldest.
const MAX: usize = 1000;

/// The end of a session. It has no ticket and no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Close {
    pub(in crate::http) user: UserId,
    /// As in `welcome`.
    pub(in crate::http) session: Ulid,
    /// The metrics' label.
    pub(in crate::http) transport: &'static str,
    /// The close code that the client is sent, if it is still there to get one.
    pub(in crate::http) code: Option<u16>,
    pub(in crate::http) reason: CloseReason,
    pub(in crate::http) at: SystemTime,
}

impl Close {
    /// How long the session lived, by the machine's clock.
    pub(in crate::http) fn lived(&self) -> Duration {
        let lived = self.at.duration_since(self.session.datetime());
        lived.unwrap_or(Duration::ZERO)
    }
}

/// The last ends, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Closes(Mutex<VecDeque<Close>>);

impl Closes {
    pub(super) fn add(&self, close: Close) {
        let mut closes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if closes.len() >= MAX {
            closes.pop_front();
        }
        closes.push_back(close);
    }

    /// Those of one user, the newest first.
    pub(super) fn of(&self, user: &UserId) -> Vec<Close> {
        let closes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = closes.iter().rev().filter(|close| close.user == *user);
        of_user.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: usize) -> UserId {
        UserId::parse(&id.to_string()).expect("a user id")
    }

    fn close(id: usize, reason: CloseReason) -> Close {
        Close {
            user: user(id),
            session: Ulid::new(),
            transport: "websocket",
            code: reason.code(),
            reason,
            at: SystemTime::now(),
        }
    }

    #[test]
    fn the_last_thousand_are_kept() {
        let closes = Closes::default();
        for id in 0..MAX + 10 {
            closes.add(close(id, CloseReason::Drain));
        }
        assert_eq!(closes.0.lock().expect("a lock").len(), MAX);
        assert_eq!(closes.of(&user(9)), []);
        assert_eq!(closes.of(&user(10)).len(), 1);
    }

    #[test]
    fn the_newest_of_a_user_comes_first() {
        let closes = Closes::default();
        for reason in [CloseReason::Drain, CloseReason::Idle] {
            closes.add(close(1, reason));
            closes.add(close(2, CloseReason::ClientLeft));
        }
        let reasons: Vec<_> = closes.of(&user(1)).iter().map(|c| c.reason).collect();
        assert_eq!(reasons, [CloseReason::Idle, CloseReason::Drain]);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_life_negative() {
        let mut close = close(1, CloseReason::Idle);
        close.at = SystemTime::UNIX_EPOCH;
        assert_eq!(close.lived(), Duration::ZERO);
    }
}
