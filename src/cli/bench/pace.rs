//! When each message is due, and to whom it goes.

use std::time::Duration;

use tokio::time::Instant;

use super::plan::{Mode, Plan};

/// The order of messages, evenly spaced.
pub(super) struct Pace {
    started: Instant,
    rate: u32,
    /// How many were taken.
    taken: u64,
    messages: u64,
    pub(super) end: Instant,
}

impl Pace {
    pub(super) fn start(plan: &Plan) -> Self {
        let started = Instant::now();
        Self {
            started,
            rate: plan.rate,
            taken: 0,
            messages: plan.messages(),
            end: started + plan.duration,
        }
    }

    /// When the next message is due.
    pub(super) fn due(&self) -> Instant {
        let nanos = u128::from(self.taken) * 1_000_000_000 / u128::from(self.rate);
        self.started + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// All messages were taken, or the time is over.
    pub(super) fn is_over(&self) -> bool {
        self.taken >= self.messages || Instant::now() >= self.end
    }

    /// The next message.
    pub(super) fn take(&mut self) -> u64 {
        self.taken += 1;
        self.taken - 1
    }
}

/// The open sessions, as far as messages are meant for them.
pub(super) struct Targets {
    mode: Mode,
    users: Vec<u32>,
    /// Of each topic.
    followers: Vec<u64>,
}

impl Targets {
    pub(super) fn of(plan: &Plan, mut open: Vec<u32>) -> Self {
        open.sort_unstable();
        let mut followers = vec![0; plan.topics as usize];
        for topic in open.iter().flat_map(|&session| plan.topics_of(session)) {
            followers[topic as usize] += 1;
        }
        Self {
            mode: plan.mode,
            users: open,
            followers,
        }
    }

    /// To whom the message goes: the number of the user or the topic, and which of its
    /// messages this is.
    pub(super) fn of_message(&self, message: u64) -> (u64, u64) {
        let split = |count: usize| (message % count as u64, message / count as u64);
        match self.mode {
            Mode::Users => {
                let (user, number) = split(self.users.len());
                (self.users[user as usize].into(), number)
            }
            Mode::Broadcast => (0, message),
            Mode::Topics => split(self.followers.len()),
        }
    }

    /// How many sessions must get what goes there.
    pub(super) fn sessions(&self, to: u64) -> u64 {
        match self.mode {
            Mode::Users => 1,
            Mode::Broadcast => self.users.len() as u64,
            Mode::Topics => self.followers[to as usize],
        }
    }
}
