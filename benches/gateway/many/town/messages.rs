//! Messages to all sessions of a town, each counted.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{LOOK, Town};
use crate::{
    Outcome,
    many::{Latencies, Order, Run, latencies::stamp, user_id},
    parts::BROADCAST,
    payload::{Numbers, Payload, random_users},
    publisher::Publisher,
};

/// Messages flat out are published in parts of so many, or in so many parts, each when the one
/// before has arrived.
const PART: usize = 5_000;
const PARTS: usize = 20;
/// Nothing new for this long: the rest is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of each user at most so many messages a run, which all fit into the number of a message
/// with a million users.
const EACH: u64 = 900;

/// What came of messages.
pub(crate) struct Delivered {
    pub(crate) wanted: u64,
    pub(crate) messages: u64,
    /// That came twice, after a hole, or to another user.
    pub(crate) wrong: u64,
    /// From the first publish until the last arrived.
    pub(crate) took: Duration,
    pub(crate) latencies: Latencies,
}

impl Delivered {
    /// # Errors
    ///
    /// Where one is missing, or came where it should not.
    pub(crate) fn all(self) -> Outcome<Self> {
        match self.messages == self.wanted && self.wrong == 0 {
            true => Ok(self),
            false => Err(format!(
                "{} of {} messages came, and {} out of their place",
                self.messages, self.wanted, self.wrong
            )
            .into()),
        }
    }
}

impl Town<'_> {
    /// One message to each user: in parts, each of which goes out as fast as it can.
    pub(crate) fn each_user(&mut self, run: u64, payload: &Payload) -> Outcome<Delivered> {
        let numbers = Run {
            number: run,
            each: EACH,
            holes: false,
        };
        let sessions = self.look()?.open as u64;
        self.ask_all(&Order::Expect(numbers))?;
        let mut publisher = Publisher::connect_for(self.servers.nats, payload.clone())?;
        let start = Instant::now();
        let users = self.size.users();
        let parts = users.div_ceil(PART).clamp(1, PARTS);
        for part in 0..parts {
            for user in (part..users).step_by(parts) {
                let message = Numbers {
                    run,
                    seq: user as u64 * EACH,
                    at: stamp(),
                };
                publisher.publish(&subject(user), message)?;
            }
            publisher.confirm()?;
            // Users are evenly spread over the parts, up to the last ones.
            let share = (part + 1) as f64 / parts as f64;
            let slack = self.size.sessions_per_user as u64 * parts as u64;
            let wanted = (sessions as f64 * share) as u64;
            let last = part + 1 == parts;
            self.until(if last {
                sessions
            } else {
                wanted.saturating_sub(slack)
            })?;
        }
        self.delivered(sessions, start)
    }

    /// A message to all.
    pub(crate) fn everybody(&mut self, run: u64, payload: &Payload) -> Outcome<Delivered> {
        let numbers = Run {
            number: run,
            each: 0,
            holes: false,
        };
        let sessions = self.look()?.open as u64;
        self.ask_all(&Order::Expect(numbers))?;
        let mut publisher = Publisher::connect_for(self.servers.nats, payload.clone())?;
        let start = Instant::now();
        let message = Numbers {
            run,
            seq: 0,
            at: stamp(),
        };
        publisher.publish(BROADCAST, message)?;
        publisher.confirm()?;
        self.until(sessions)?;
        self.delivered(sessions, start)
    }

    /// Messages to random users, evenly.
    pub(crate) fn evenly(
        &mut self,
        run: u64,
        payload: &Payload,
        count: usize,
        per_second: u32,
    ) -> Outcome<Delivered> {
        let users = self.size.users();
        // As many as can be told apart.
        let each = (900_000_000 / users as u64).min(count as u64 + 1);
        let numbers = Run {
            number: run,
            each,
            holes: false,
        };
        self.ask_all(&Order::Expect(numbers))?;
        let mut publisher = Publisher::connect_for(self.servers.nats, payload.clone())?;
        let subjects: Vec<_> = (0..users).map(subject).collect();
        let mut next = vec![0; users];
        let start = Instant::now();
        let messages = random_users(run, users, count).map(|user| {
            let seq = user as u64 * each + next[user];
            next[user] += 1;
            let at = Duration::ZERO;
            (&*subjects[user], Numbers { run, seq, at })
        });
        publisher.pace_by(messages, per_second, stamp)?;
        let sessions = |user: usize| {
            let first = user * self.size.sessions_per_user;
            let others = self.size.sessions - first;
            others.min(self.size.sessions_per_user) as u64
        };
        let wanted = next
            .iter()
            .enumerate()
            .map(|(user, messages)| messages * sessions(user))
            .sum();
        self.until(wanted)?;
        self.delivered(wanted, start)
    }

    /// Waits until so many messages have come, or no more come.
    fn until(&mut self, wanted: u64) -> Outcome<()> {
        let mut progress = (0, Instant::now());
        loop {
            let count = self.look()?;
            let seen = count.messages + count.wrong;
            if count.messages >= wanted || progress.1.elapsed() > PATIENCE {
                return Ok(());
            }
            if seen > progress.0 {
                progress = (seen, Instant::now());
            }
            sleep(LOOK / 4);
        }
    }

    fn delivered(&mut self, wanted: u64, start: Instant) -> Outcome<Delivered> {
        let count = self.look()?;
        Ok(Delivered {
            wanted,
            messages: count.messages,
            wrong: count.wrong,
            took: start.elapsed(),
            latencies: count.latencies,
        })
    }
}

fn subject(user: usize) -> String {
    format!("usher.user.{}", user_id(user))
}
