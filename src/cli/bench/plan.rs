//! What is to be done, and how a message says which one it is.

use std::time::Duration;

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Arguments;
use crate::cli::failure::Failure;

/// What a message of ours carries besides its padding, at most.
pub(super) const SMALLEST: usize = 64;
/// The largest message in bytes: no NATS server takes more.
pub(super) const LARGEST: usize = 8 << 20;
/// A ticket names no more topics.
const TOPICS_OF_A_SESSION: u32 = 256;

/// To whom messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// To each user in turn.
    Users,
    Broadcast,
    /// To each topic in turn.
    Topics,
}

/// One run.
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) sessions: u32,
    pub(super) topics: u32,
    pub(super) rate: u32,
    pub(super) payload: usize,
    pub(super) duration: Duration,
    /// At random, so that no real user and no other run is meant.
    run: String,
    started: Instant,
}

/// What a message says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The number of the user's session or of the topic; 0 for a broadcast.
    pub(super) to: u64,
    /// Counts from 0 for each of them.
    pub(super) number: u64,
    /// When it was sent, in microseconds since the run began.
    pub(super) sent: u64,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    bench: (&'a str, u64, u64, u64),
}

impl Plan {
    pub(super) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let sessions = arguments.sessions;
        let (mode, topics) = match arguments.topics {
            Some(topics) => (Mode::Topics, topics),
            None if arguments.broadcast => (Mode::Broadcast, 0),
            None => (Mode::Users, 0),
        };
        let most = sessions.saturating_mul(TOPICS_OF_A_SESSION);
        if topics > most {
            return Err(Failure::usage(format_args!(
                "--topics {topics} are too many for --sessions {sessions}: a ticket names \
                 {TOPICS_OF_A_SESSION} topics at most, which is {most}"
            )));
        }
        let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut random = rand::rng();
        let run = (0..8).map(|_| char::from(letters[random.random_range(0..letters.len())]));
        Ok(Self {
            mode,
            sessions,
            topics,
            rate: arguments.rate,
            payload: arguments.payload,
            duration: arguments.duration,
            run: run.collect(),
            started: Instant::now(),
        })
    }

    /// The user of a session.
    pub(super) fn user(&self, session: u32) -> String {
        format!("bench-{}-{session}", self.run)
    }

    pub(super) fn topic(&self, topic: u64) -> String {
        format!("bench-{topic}")
    }

    /// The topics that a session follows: at least one, and each topic has a follower.
    pub(super) fn topics_of(&self, session: u32) -> impl Iterator<Item = u32> + use<> {
        let (topics, sessions) = (self.topics, self.sessions);
        let first = match topics {
            0 => 0,
            topics => session % topics,
        };
        (first..topics).step_by(sessions.max(1) as usize)
    }

    /// How many messages there are.
    pub(super) fn messages(&self) -> u64 {
        let all = u128::from(self.rate) * self.duration.as_millis() / 1000;
        u64::try_from(all).unwrap_or(u64::MAX).max(1)
    }

    /// Microseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The payload of a message that is sent now.
    pub(super) fn message(&self, to: u64, number: u64) -> Vec<u8> {
        let sent = self.now();
        let mut text =
            format!(r#"{{"bench":["{}",{to},{number},{sent}],"pad":""#, self.run).into_bytes();
        text.resize((self.payload - 2).max(text.len()), b'.');
        text.extend_from_slice(b"\"}");
        text
    }

    /// Reads the payload of a message; `None` if it is not of this run.
    pub(super) fn read(&self, payload: &str) -> Option<Stamp> {
        let Payload { bench } = serde_json::from_str(payload).ok()?;
        let (run, to, number, sent) = bench;
        (run == self.run).then_some(Stamp { to, number, sent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sessions: u32, topics: Option<u32>) -> Plan {
        Plan::new(&Arguments::for_tests(sessions, topics)).expect("a plan")
    }

    #[test]
    fn a_message_is_as_large_as_was_asked() {
        let plan = plan(1, None);
        for (to, number) in [(0, 0), (999_999, 86_399_999_999)] {
            let message = plan.message(to, number);
            assert_eq!(message.len(), SMALLEST, "{message:?}");
            let text = String::from_utf8(message).expect("text");
            let stamp = plan.read(&text).expect("a stamp");
            assert_eq!((stamp.to, stamp.number), (to, number));
        }
        let another = Plan::new(&Arguments::for_tests(1, None)).expect("a plan");
        let text = String::from_utf8(another.message(0, 0)).expect("text");
        assert_eq!(plan.read(&text), None, "another run's");
        assert_eq!(plan.read("{\"order\":123}"), None);
    }

    #[test]
    fn each_topic_has_a_follower_and_each_session_a_topic() {
        for (sessions, topics) in [(1, 1), (1, 5), (5, 1), (3, 7), (7, 3), (4, 4)] {
            let plan = plan(sessions, Some(topics));
            let mut followers = vec![0; topics as usize];
            for session in 0..sessions {
                let followed: Vec<_> = plan.topics_of(session).collect();
                assert!(!followed.is_empty(), "{sessions} {topics} {session}");
                followed
                    .iter()
                    .for_each(|&one| followers[one as usize] += 1);
            }
            assert!(followers.iter().all(|&count| count > 0), "{followers:?}");
            let sum: u32 = followers.iter().sum();
            assert_eq!(sum, sessions.max(topics));
        }
        assert_eq!(plan(3, None).topics_of(1).count(), 0);
    }
}
