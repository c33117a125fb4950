//! A client whose stream is set back.
//!
//! Frames of both states can be under way when NATS begins again, so each frame says by its
//! time which state it is of. NATS stores nothing while somebody puts the older state back.

use std::time::Duration;

use super::Reader;
use crate::auditor::{CHANNELS, Heard, Resume, SetBack, Stored, What};

impl Reader<'_> {
    /// Goes on to the state of the stream that this frame is of.
    pub(super) fn crosses(&mut self, Heard { at, what }: Heard) {
        while let Some(set_back) = self.next_set_back(at) {
            let newer = match what {
                What::Welcome { end, .. } => !set_back.lost(end),
                What::Event { stored, .. }
                | What::TooLarge { stored, .. }
                | What::Following { stored, .. }
                | What::Live(stored)
                | What::Ping(stored) => stored.at > set_back.time,
                // They say nothing of that.
                _ => false,
            };
            if !newer {
                return;
            }
            self.state += 1;
            self.is_set_back(set_back);
        }
    }

    /// The set-back that ended this state, where it was over by then.
    fn next_set_back(&self, at: Duration) -> Option<SetBack> {
        let next = self.auditor.states.get(self.state + 1)?;
        next.begins.filter(|set_back| at > set_back.at)
    }

    /// A `gap` that came since then tells it too: what retention took there also is all that
    /// could show the set-back. Then it is owed everything else that the stream has.
    fn is_set_back(&mut self, set_back: SetBack) {
        let to = set_back.to;
        let told = self.told.is_some_and(|told| told > set_back.at);
        if self.position.top.seq > to && !told {
            self.ahead_of = Some(set_back);
        }
        self.covered = self.covered.map(|covered| covered.min(to));
        self.times.retain(|seq, _| *seq <= to);
    }

    /// A client that is ahead of the stream gets events of both states until its gateway
    /// closes it. Its position follows the rules, and nothing is owed. Returns whether that
    /// is so.
    pub(super) fn follows_without_judgement(&mut self, what: What) -> bool {
        let Some(set_back) = self.ahead_of else {
            return false;
        };
        match what {
            What::Welcome { .. } => return false,
            What::Event { stored, id, .. } => match self.channels.number(id.to) {
                Some(channel) => self.position.is_marked(channel, stored),
                None => self.complain(format!("{id:?} is for others")),
            },
            What::TooLarge {
                stored, channel, ..
            } => self.position.is_marked(channel, stored),
            What::Following { stored, follows } => {
                let before = std::mem::replace(&mut self.follows, follows);
                if follows != before {
                    self.position.follows(follows, stored);
                }
                self.position.saw(stored);
            }
            What::Live(stored) | What::Ping(stored) => self.is_proven_ahead(set_back, stored),
            What::Gap => self.verdict.gap_frames += 1,
            _ => return false,
        }
        true
    }

    /// A proof of the state before may be under way; one of the newer state is false.
    fn is_proven_ahead(&mut self, set_back: SetBack, stored: Stored) {
        let SetBack { to, time, .. } = set_back;
        if stored.at > time {
            let top = self.position.top.seq;
            self.verdict.false_completes += 1;
            self.complain(format!(
                "{} was proven to a session that read {top} of a stream set back to {to}",
                stored.seq
            ));
        }
        self.position.is_proven(stored);
    }

    /// The first welcome of a client that was ahead of the stream.
    pub(super) fn is_welcomed_after(&mut self, SetBack { to, .. }: SetBack, resume: Resume) {
        match resume {
            Resume::Gap => self.verdict.told_of_set_back += 1,
            Resume::Complete | Resume::None => {
                self.verdict.false_completes += 1;
                self.complain(format!("was told {resume:?} of a stream set back to {to}"));
            }
        }
    }

    /// Whether it may be true that something is lost after what it has of each channel. A
    /// `gap` that was under way may be of any state since.
    pub(super) fn may_be_gap(&self, has: [u64; CHANNELS], at: Duration) -> bool {
        let has = self.of_each(has);
        let states = self.auditor.states.iter().skip(self.state);
        for (number, state) in states.enumerate() {
            let begins = state.begins.filter(|_| number > 0);
            if begins.is_some_and(|begins| at <= begins.at) {
                return false;
            }
            let lost = begins.is_some_and(|begins| self.position.top.seq > begins.to);
            if lost || state.books.is_gap(&has, at) {
                return true;
            }
        }
        false
    }
}
