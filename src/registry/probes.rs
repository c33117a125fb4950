//! Questions who has everything up to some sequence, where nobody has yet: what is asked
//! for may be under way on another road than the question.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

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
pub(super) struct Probes(VecDeque<Waiting>);

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
        if self.0.len() >= MAX {
            self.0.pop_front();
        }
        let until = Instant::now() + PATIENCE;
        self.0.push_back(Waiting {
            to,
            probe,
            request,
            until,
        });
    }

    /// Ready when it is time to look again; never, where none waits.
    pub(super) async fn tick(&self) {
        match self.0.is_empty() {
            true => std::future::pending().await,
            false => sleep(TICK).await,
        }
    }

    /// Drops those that `answered` answers, and those that wait no longer.
    pub(super) fn sift(&mut self, mut answered: impl FnMut(&Entry, Probe, &Request) -> bool) {
        if self.0.is_empty() {
            return;
        }
        let now = Instant::now();
        self.0.retain(|waiting| {
            let Waiting {
                to,
                probe,
                request,
                until,
            } = waiting;
            *until > now && !answered(to, *probe, request)
        });
    }
}
