//! What is decided about each user, from a change until services were told: a state machine
//! without clock, lock or I/O.
//!
//! Users who are online, or were never here, are not in the table. Whether a user is here
//! now is asked for where something depends on it: changes say that there was one, and may
//! come late.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::user::UserId;

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Services know that the user is online: the user's entry has to say so.
    IsOnline,
    /// Ask whether another gateway has said `online`, and else say it.
    Announce,
    /// Say `online`: this gateway has said `offline` last.
    SayOnline,
    /// Ask whether another gateway holds the user, and else say `offline`.
    Check,
    /// Ask whether another gateway holds the user, and then say `online`.
    CheckAgain,
    /// [`Table::due`] after the delay; [`Table::wait`] says when.
    Wait,
    /// [`Table::due`] after the pause; [`Table::wait`] says when.
    AskAgainLater,
}

/// What was found out, and said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Services know that the user is online.
    Online,
    /// Another gateway holds the user; nothing was said.
    Held,
    /// `offline` was said.
    Offline,
    /// Nobody holds the user; nothing was said.
    Nobody,
    /// NATS forbids it.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Others are asked, or `online` is said.
    Coming,
    /// The last session is gone; until then it may come back.
    Leaving(Option<Instant>),
    /// Others are asked before `offline` is said.
    Checked,
    /// `offline` was said; others are asked again then.
    Gone(Option<Instant>),
    /// Others are asked again.
    CheckedAgain,
}

/// All users of whom something is decided.
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<UserId, State>);

impl Table {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, user: &UserId) -> bool {
        self.0.contains_key(user)
    }

    /// The user's first session was welcomed.
    pub(super) fn came(&mut self, user: &UserId) -> Option<Step> {
        match self.0.get(user) {
            None => self.go(user, State::Coming, Step::Announce),
            // Another gateway that the user has left too may have said `offline` meanwhile.
            Some(State::Leaving(_)) => self.go(user, State::Coming, Step::Announce),
            // Another gateway may have said `online` before this one said `offline`, and not
            // since: so this one says it.
            Some(State::Gone(_)) => self.go(user, State::Coming, Step::SayOnline),
            // What is found out is followed by a look who is here.
            Some(State::Coming | State::Checked | State::CheckedAgain) => None,
        }
    }

    /// The user's last session has left.
    pub(super) fn left(&mut self, user: &UserId) -> Option<Step> {
        match self.0.get(user) {
            None => self.go(user, State::Leaving(None), Step::Wait),
            Some(_) => None,
        }
    }

    /// When [`Table::due`] follows.
    pub(super) fn wait(&mut self, user: &UserId, until: Instant) {
        if let Some(State::Leaving(at) | State::Gone(at)) = self.0.get_mut(user) {
            *at = Some(until);
        }
    }

    /// The time has come that was set by [`Table::wait`]; an earlier one means nothing.
    pub(super) fn due(&mut self, user: &UserId, at: Instant, here: bool) -> Option<Step> {
        match self.0.get(user) {
            Some(State::Leaving(until)) if *until == Some(at) => match here {
                true => self.go(user, State::Coming, Step::Announce),
                false => self.go(user, State::Checked, Step::Check),
            },
            Some(State::Gone(until)) if *until == Some(at) => match here {
                true => self.go(user, State::Coming, Step::SayOnline),
                false => self.go(user, State::CheckedAgain, Step::CheckAgain),
            },
            _ => None,
        }
    }

    /// What was asked for is known, or said.
    pub(super) fn found(&mut self, user: &UserId, outcome: Outcome, here: bool) -> Option<Step> {
        let state = *self.0.get(user)?;
        match (state, outcome, here) {
            (_, Outcome::Failed, _) => self.end(user),
            (State::Coming, _, false) => self.go(user, State::Leaving(None), Step::Wait),
            (State::Coming, _, true) => self.online(user),
            (State::Checked, Outcome::Offline, false) => {
                self.go(user, State::Gone(None), Step::AskAgainLater)
            }
            (State::Checked, Outcome::Offline, true) => {
                self.go(user, State::Coming, Step::SayOnline)
            }
            (State::CheckedAgain, _, true) => self.go(user, State::Coming, Step::SayOnline),
            (_, _, true) => self.online(user),
            (_, _, false) => self.end(user),
        }
    }

    fn online(&mut self, user: &UserId) -> Option<Step> {
        self.0.remove(user);
        Some(Step::IsOnline)
    }

    fn end(&mut self, user: &UserId) -> Option<Step> {
        self.0.remove(user);
        None
    }

    fn go(&mut self, user: &UserId, state: State, step: Step) -> Option<Step> {
        self.0.insert(user.clone(), state);
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn user() -> UserId {
        UserId::parse("42").expect("a user id")
    }

    /// A user who has left, when the delay is over.
    fn checked() -> Table {
        let (mut table, user, at) = (Table::default(), user(), Instant::now());
        assert_eq!(table.left(&user), Some(Step::Wait));
        table.wait(&user, at);
        let earlier = at - Duration::from_millis(1);
        assert_eq!(table.due(&user, earlier, false), None);
        assert_eq!(table.due(&user, at, false), Some(Step::Check));
        table
    }

    /// The table of [`checked`] after `offline` was said, when the pause is over.
    fn gone(here: bool) -> (Table, Option<Step>) {
        let (mut table, user, at) = (checked(), user(), Instant::now());
        let step = table.found(&user, Outcome::Offline, false);
        assert_eq!(step, Some(Step::AskAgainLater));
        table.wait(&user, at);
        let step = table.due(&user, at, here);
        (table, step)
    }

    #[test]
    fn a_user_comes_and_goes() {
        let (mut table, user) = (Table::default(), user());
        assert_eq!(table.came(&user), Some(Step::Announce));
        assert_eq!(table.came(&user), None);
        let step = table.found(&user, Outcome::Online, true);
        assert_eq!((step, table.len()), (Some(Step::IsOnline), 0));
        let (mut table, step) = gone(false);
        assert_eq!(step, Some(Step::CheckAgain));
        assert_eq!(table.found(&user, Outcome::Nobody, false), None);
        assert!(table.is_empty());
    }

    #[test]
    fn a_visit_shorter_than_the_question_is_told_of_in_order() {
        let (mut table, user) = (Table::default(), user());
        table.came(&user);
        assert_eq!(table.left(&user), None);
        let step = table.found(&user, Outcome::Online, false);
        assert_eq!(step, Some(Step::Wait));
    }

    /// Another gateway may have said `offline` while nobody held the user.
    #[test]
    fn who_comes_back_in_time_is_announced_again() {
        let (mut table, user, at) = (Table::default(), user(), Instant::now());
        table.left(&user);
        assert_eq!(table.came(&user), Some(Step::Announce));
        let step = table.found(&user, Outcome::Online, true);
        assert_eq!((step, table.len()), (Some(Step::IsOnline), 0));
        // Also where the change has not come yet.
        table.left(&user);
        table.wait(&user, at);
        assert_eq!(table.due(&user, at, true), Some(Step::Announce));
        assert_eq!(table.came(&user), None);
    }

    #[test]
    fn who_is_elsewhere_is_not_offline() {
        let (mut table, user) = (checked(), user());
        assert_eq!(table.found(&user, Outcome::Held, false), None);
        assert!(table.is_empty());
    }

    /// After `offline` the last word is `online` for a user who is here, whatever others have
    /// said before.
    #[test]
    fn who_comes_back_too_late_is_online_again() {
        let user = user();
        let mut table = checked();
        assert_eq!(table.came(&user), None);
        let step = table.found(&user, Outcome::Offline, true);
        assert_eq!(step, Some(Step::SayOnline));
        let mut table = checked();
        table.found(&user, Outcome::Offline, false);
        assert_eq!(table.came(&user), Some(Step::SayOnline));
        assert_eq!(gone(true).1, Some(Step::SayOnline));
        let (mut table, _) = gone(false);
        assert_eq!(table.came(&user), None);
        let step = table.found(&user, Outcome::Nobody, true);
        assert_eq!(step, Some(Step::SayOnline));
    }

    #[test]
    fn what_nats_forbids_ends() {
        let (mut table, user) = (checked(), user());
        assert_eq!(table.found(&user, Outcome::Failed, true), None);
        assert!(table.is_empty());
    }
}
