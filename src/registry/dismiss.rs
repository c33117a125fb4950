//! Sessions that a service ends.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{Registry, Session, sync::lock};
use crate::{
    close::{CloseMessage, CloseReason, Ending},
    jitter::{self, spread},
    supervision,
    user::UserId,
};

/// Sessions whose clients are to reconnect are closed across this, and each gets a hint of up to
/// this.
const SPREAD: Duration = Duration::from_secs(2);
/// A ticket that is being redeemed brings its session within this, or never.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Dismissals that are remembered; beyond it the oldest is forgotten.
const MAX_REMEMBERED: usize = 65_536;

/// How a service ends a user's sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dismissal {
    /// Their clients reconnect, with fresh grants; else they stay away.
    pub reconnect: bool,
    /// What their `goodbye` says besides.
    pub message: Option<CloseMessage>,
}

impl Dismissal {
    /// With a hint between these fractions of the longest, if clients are to reconnect.
    fn ending(&self, from: f64, to: f64) -> Ending {
        let hint = || jitter::fraction_of(SPREAD, from, to);
        Ending {
            reason: match self.reconnect {
                true => CloseReason::Reconnect,
                false => CloseReason::Disconnected,
            },
            reconnect_after: self.reconnect.then(hint),
            message: self.message.clone(),
        }
    }
}

/// Dismissals of the last seconds, for sessions whose user was not known yet: their tickets
/// were being redeemed.
#[derive(Debug, Default)]
pub(super) struct Dismissals(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    of_users: HashMap<UserId, (Instant, Dismissal)>,
    /// The oldest first. An entry that is not the user's last says nothing.
    order: VecDeque<(Instant, UserId)>,
}

impl Dismissals {
    fn remember(&self, user: &UserId, dismissal: &Dismissal, now: Instant) {
        let mut remembered = lock(&self.0);
        let Remembered { of_users, order } = &mut *remembered;
        of_users.insert(user.clone(), (now, dismissal.clone()));
        order.push_back((now, user.clone()));
        while let Some((at, _)) = order.front()
            && (order.len() > MAX_REMEMBERED || now.duration_since(*at) > REMEMBERED)
            && let Some((at, user)) = order.pop_front()
        {
            if of_users.get(&user).is_some_and(|(last, _)| *last == at) {
                of_users.remove(&user);
            }
        }
    }

    /// How a session of this user ends that was on its way in since then.
    pub(super) fn ending(&self, user: &UserId, since: Instant) -> Option<Ending> {
        let remembered = lock(&self.0);
        let (at, dismissal) = remembered.of_users.get(user)?;
        (since <= *at).then(|| dismissal.ending(0.0, 1.0))
    }
}

impl Registry {
    /// How many sessions of a user were welcomed and are open.
    pub fn sessions_of(&self, user: &UserId) -> usize {
        let mut count = 0;
        self.each_of(user, |session| {
            let backlog = session.backlog();
            count += usize::from(backlog.is_welcomed() && backlog.is_open());
        });
        count
    }

    /// Ends all sessions of a user, also those on their way in; across 2 s if their clients are to
    /// reconnect. Returns how many there are. A session whose ticket is being redeemed now does not
    /// count, and ends as soon as its user is known.
    pub fn dismiss(&self, user: &UserId, dismissal: Dismissal) -> usize {
        // Before the sessions are listed: a session that is not among them finds this.
        self.dismissals.remember(user, &dismissal, Instant::now());
        let mut sessions = Vec::new();
        self.each_of(user, |session| {
            if session.backlog().is_open() {
                sessions.push(session.clone());
            }
        });
        let count = sessions.len();
        if dismissal.reconnect {
            let closing = spread(sessions, SPREAD, move |session, from, to| {
                session.backlog().end(dismissal.ending(from, to));
            });
            supervision::spawn("the closing of sessions", closing);
        } else {
            for session in sessions {
                session.backlog().end(dismissal.ending(0.0, 1.0));
            }
        }
        count
    }

    pub(super) fn each_of(&self, user: &UserId, mut f: impl FnMut(&Arc<dyn Session>)) {
        let held = self.user(user);
        if let Some(held) = held {
            held.each(&mut f);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).expect("a user id")
    }

    fn dismissal(reconnect: bool) -> Dismissal {
        Dismissal {
            reconnect,
            message: None,
        }
    }

    #[test]
    fn only_sessions_that_were_on_their_way_in_are_dismissed() {
        let (dismissals, now) = (Dismissals::default(), Instant::now());
        let (before, after) = (now, now + Duration::from_secs(2));
        let at = now + Duration::from_secs(1);
        dismissals.remember(&user("42"), &dismissal(false), at);
        assert!(dismissals.ending(&user("42"), before).is_some());
        assert!(dismissals.ending(&user("42"), at).is_some());
        assert_eq!(dismissals.ending(&user("42"), after), None);
        assert_eq!(dismissals.ending(&user("43"), before), None);
    }

    #[test]
    fn the_last_dismissal_of_a_user_counts_and_is_forgotten_in_time() {
        let (dismissals, now) = (Dismissals::default(), Instant::now());
        dismissals.remember(&user("42"), &dismissal(true), now);
        let later = now + Duration::from_secs(20);
        dismissals.remember(&user("42"), &dismissal(false), later);
        // The first one is too old now, the second is not.
        let now = now + Duration::from_secs(31);
        dismissals.remember(&user("43"), &dismissal(true), now);
        let ending = dismissals.ending(&user("42"), later).expect("remembered");
        assert_eq!(ending.reason, CloseReason::Disconnected);
        let now = later + Duration::from_secs(31);
        dismissals.remember(&user("44"), &dismissal(true), now);
        assert_eq!(dismissals.ending(&user("42"), later), None);
        assert_eq!(lock(&dismissals.0).order.len(), 2);
    }

    #[test]
    fn a_flood_of_dismissals_is_bounded() {
        let (dismissals, now) = (Dismissals::default(), Instant::now());
        for number in 0..MAX_REMEMBERED + 10 {
            dismissals.remember(&user(&number.to_string()), &dismissal(false), now);
        }
        let remembered = lock(&dismissals.0);
        assert_eq!(remembered.of_users.len(), MAX_REMEMBERED);
        assert!(!remembered.of_users.contains_key(&user("9")));
    }
}
