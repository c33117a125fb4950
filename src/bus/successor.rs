//! The connection that takes over from one whose server retires.

use std::{collections::VecDeque, fmt, pin::Pin, time::Duration};

use tokio::time::{Sleep, sleep};

use super::{
    dial::Dialer,
    link::Link,
    overlap::Overlap,
    reader::{Dialing, Then, Window},
};

/// How far it is, and what it has brought.
pub(super) struct Successor {
    pub(super) step: Step,
    pub(super) overlap: Overlap,
    /// What each PONG under way on it will confirm.
    pub(super) windows: VecDeque<Window>,
}

/// What it does. From the second step on it brings messages, which are held back.
pub(super) enum Step {
    /// Looks for a server; the one that retires takes no more connections.
    Dialing(Dialing),
    /// Waits until everything is subscribed.
    Joining(Dialer, Link),
    /// Waits as long as other servers take to learn of that, and then, without a
    /// timer, for the last messages of the old connection.
    Settling(Dialer, Link, Option<Pin<Box<Sleep>>>),
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.step {
            Step::Dialing(_) => "Dialing",
            Step::Joining(..) => "Joining",
            Step::Settling(..) => "Settling",
        })
    }
}

impl Successor {
    pub(super) fn find(dialer: &Dialer) -> Box<Self> {
        Box::new(Self {
            step: Step::Dialing(Box::pin(dialer.clone().dial())),
            overlap: Overlap::default(),
            windows: VecDeque::new(),
        })
    }

    /// It has been asked to subscribe to everything, and for a PONG.
    pub(super) fn joins(&mut self, dialer: Dialer, link: Link) {
        self.step = Step::Joining(dialer, link);
        self.windows.push_back(Window {
            ids: Vec::new(),
            then: Then::Settle,
        });
    }

    /// That PONG is here.
    pub(super) fn settles(&mut self, settle: Duration) {
        let nothing = Step::Dialing(Box::pin(std::future::pending()));
        self.step = match std::mem::replace(&mut self.step, nothing) {
            Step::Joining(dialer, link) => {
                Step::Settling(dialer, link, Some(Box::pin(sleep(settle))))
            }
            other => other,
        };
    }

    /// Its connection, where it has one.
    pub(super) fn link(&mut self) -> Option<(&mut Link, &mut VecDeque<Window>)> {
        match &mut self.step {
            Step::Dialing(_) => None,
            Step::Joining(_, link) | Step::Settling(_, link, _) => Some((link, &mut self.windows)),
        }
    }
}
