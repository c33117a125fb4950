//! Questions who has everything up to some sequence, where nobody has yet: what is asked
//! for may be under way on another road than the question.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::Entry;
use crate::bus::{Probe, Request};

/// Whoever asks waits no longer than this.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often it is looked whether one can be answered.
const TICK: Duration = Duration::from_millis(10);
/// How many questions wait. Beyond it the oldest is dropped.
const MAX: usize = 1024;

/// The questions that wait.
#[derive(Debug, Default)]
pub(super) struct Probes {
    waiting: VecDeque<Waiting>,
    /// When it is time to look again, where one waits.
    look: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    to: Arc<Entry>,
    probe: Probe,
    request: Request,
    until: Instant,
}

impl Probes {
    /// Keeps one for later.
    pub(super) fn wait(&mut self, to: Arc<Entry>, probe: Probe, request: Request) {
        if self.waiting.len() >= MAX {
            self.waiting.pop_front();
        }
        let now = Instant::now();
        self.waiting.push_back(Waiting {
            to,
            probe,
            request,
            until: now + PATIENCE,
        });
        self.look.get_or_insert(now + TICK);
    }

    /// Ready when it is time to look again; never, where none waits. Dropping the future delays
    /// nothing.
    pub(super) async fn tick(&self) {
        match self.look {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Drops those that `answered` answers, and those that wait no longer.
    pub(super) fn sift(&mut self, mut answered: impl FnMut(&Entry, Probe, &Request) -> bool) {
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        self.waiting.retain(|waiting| {
            let Waiting {
                to,
                probe,
                request,
                until,
            } = waiting;
            *until > now && !answered(to, *probe, request)
        });
        self.look = (!self.waiting.is_empty()).then(|| now + TICK);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::{channel::Audience, user::UserId};

    fn ask(probes: &mut Probes) {
        let user = UserId::parse("42").expect("a user id");
        let probe = Probe {
            up_to: None,
            presence: true,
        };
        let request = Request {
            reply: "_INBOX.1".to_owned(),
            probe: Some(probe),
        };
        probes.wait(Arc::new(Entry::new(Audience::User(user))), probe, request);
    }

    #[tokio::test(start_paused = true)]
    async fn more_questions_delay_no_look() {
        let mut probes = Probes::default();
        let begun = Instant::now();
        ask(&mut probes);
        loop {
            tokio::select! {
                () = probes.tick() => break,
                () = sleep(TICK / 4) => ask(&mut probes),
            }
            assert!(begun.elapsed() < PATIENCE, "nobody looks");
        }
        // Nobody waits any more, so nobody looks.
        probes.sift(|_, _, _| true);
        assert_eq!(probes.look, None);
    }
}
