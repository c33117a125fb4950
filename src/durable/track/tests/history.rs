//! Whatever happens to a session, it is sent what it is owed.

use proptest::prelude::*;

use super::{super::*, beginning, limits};
use crate::{
    durable::chain::Compared,
    registry::{Outgoing, Source},
};

/// What happens to a session, whose stream has `1..` of several channels.
#[derive(Debug, Clone)]
enum Step {
    /// The next messages are stored, and republished.
    Stored(u8),
    /// The next one is stored, and its republish is lost.
    Lost,
    /// The last one comes again.
    Again,
    /// A round brings what there is.
    Round,
    /// A round reads what there is, and brings it after the topics have changed.
    LateRound(u8),
    /// What is queued is taken back, from this one of the last on.
    TakenBack(u8),
    /// The connection to NATS is lost.
    Down,
    /// An audit.
    Audit,
    /// A topic is followed; so many messages are stored between the leader query and that.
    Follow(u8, u8),
    /// A topic is followed no more.
    Unfollow(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..12u8).prop_map(Step::Stored),
        2 => Just(Step::Lost),
        1 => Just(Step::Again),
        3 => Just(Step::Round),
        1 => (0..6u8).prop_map(Step::LateRound),
        1 => (0..4u8).prop_map(Step::TakenBack),
        1 => Just(Step::Down),
        1 => Just(Step::Audit),
        2 => (0..6u8, 0..4u8).prop_map(|(topic, late)| Step::Follow(topic, late)),
        2 => (0..6u8).prop_map(Step::Unfollow),
    ];
    proptest::collection::vec(step, 0..60)
}

/// A session, and what it was sent: sequence, and what restores the time before.
struct Session {
    track: Track,
    all: Vec<Channel>,
    /// Which of them it follows, in the track's order, and from after which sequence on.
    follows: Vec<(usize, u64)>,
    sent: Vec<(u64, Source)>,
    stored: u64,
}

impl Session {
    fn new(channels: usize) -> Self {
        let all = super::channels(channels);
        Self {
            track: Track::joining(all.clone()),
            follows: (0..channels).map(|channel| (channel, 0)).collect(),
            all,
            sent: Vec::new(),
            stored: 0,
        }
    }

    fn channel(&self, seq: u64) -> usize {
        (seq as usize * 7 / 3) % self.all.len()
    }

    /// The message before it in its channel.
    fn prev(&self, seq: u64) -> u64 {
        let same = |before: &u64| self.channel(*before) == self.channel(seq);
        (1..seq).rev().find(same).unwrap_or(0)
    }

    fn store(&mut self, count: u8) {
        for _ in 0..count {
            self.stored += 1;
            self.live(self.stored);
        }
    }

    fn live(&mut self, seq: u64) {
        let (channel, prev) = (self.channel(seq), self.prev(seq));
        let Some(index) = self.track.index(&self.all[channel]) else {
            self.track.came(&self.all[channel], seq);
            return;
        };
        let stored = Stored { seq, prev, at: seq };
        let offer = self.track.compare(index, stored);
        match offer {
            Some(Compared::Next { .. }) => {
                let source = self.track.note_sent(index, seq);
                self.sent.push((seq, source));
            }
            Some(Compared::Duplicate) => {}
            None | Some(Compared::Hole) => {
                if offer.is_some() {
                    self.track.miss(index);
                }
                // So long a frame that its length names it.
                let bytes = vec![0; seq as usize].into();
                let outgoing = Outgoing::new(bytes, None, Source::Own, &limits());
                self.track
                    .hold(Waits::whole(index, stored, outgoing), &limits());
            }
        }
    }

    /// A round: what is stored by now, then what came meanwhile.
    fn round(&mut self) {
        for _ in 0..3 {
            self.round_with(|_| {});
        }
    }

    /// One round, in which something happens between its read and its end.
    fn round_with(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        let Some(want) = self.track.want() else {
            return;
        };
        let up_to = self.stored;
        meanwhile(self);
        if self.track.channels_version() != want.channels_version {
            return;
        }
        for seq in 1..=up_to {
            let channel = &self.all[self.channel(seq)];
            if let Some(index) = self.track.index(channel)
                && seq > self.track.covered()[index]
            {
                let source = self.track.note_sent(index, seq);
                self.sent.push((seq, source));
            }
        }
        let proof = Proof { seq: up_to, at: 0 };
        let finished = self.track.finish(up_to, proof, want.connection_changes);
        let frames = finished.map_or_else(Vec::new, |finished| finished.frames);
        for outgoing in frames {
            let seq = outgoing.bytes.len() as u64;
            self.sent.push((seq, outgoing.source));
        }
    }

    fn take_back(&mut self, count: u8) {
        self.track.take_back();
        let queued = self.sent.len() - usize::from(count).min(self.sent.len());
        let queued = self.sent.split_off(queued);
        let (own, kept): (Vec<_>, Vec<_>) = queued
            .into_iter()
            .partition(|(_, source)| *source == Source::Own);
        self.sent.extend(own);
        for (_, source) in kept.into_iter().rev() {
            self.track.rewind(source);
        }
    }

    fn audit(&mut self) {
        let last = |channel: usize| {
            let of = |seq: &u64| self.channel(*seq) == channel;
            (1..=self.stored).rev().find(of).unwrap_or(0)
        };
        let lasts = self.follows.iter().map(|(channel, _)| last(*channel));
        let lasts: Vec<_> = lasts.collect();
        let covered = self.track.covered();
        if covered
            .iter()
            .zip(&lasts)
            .any(|(covered, last)| covered < last)
        {
            self.track.fall_behind_after_audit();
        }
    }

    fn follow(&mut self, topic: u8, late: u8) {
        let channel = usize::from(topic);
        let Some(Channel::Topic(topic)) = self.all.get(channel).cloned() else {
            return;
        };
        if self.track.index(&self.all[channel]).is_some() {
            return;
        }
        self.track.expect(&topic);
        let leader = Proof {
            seq: self.stored,
            at: 0,
        };
        self.store(late);
        let proof = self.track.not_below_proofs(leader);
        self.track.follow(&topic, proof);
        // What it was sent of an earlier time.
        let mut sent = std::mem::take(&mut self.sent);
        sent.retain(|(seq, _)| self.channel(*seq) != channel);
        self.sent = sent;
        self.follows.push((channel, proof.seq));
    }

    fn unfollow(&mut self, topic: u8) {
        let channel = usize::from(topic);
        let Some(Channel::Topic(topic)) = self.all.get(channel) else {
            return;
        };
        let Some(gone) = self.track.unfollow(topic) else {
            return;
        };
        self.follows.remove(gone);
        for (_, source) in &mut self.sent {
            if let Source::Kept { channel, .. } = source {
                match (*channel).cmp(&gone) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => *source = Source::Own,
                    std::cmp::Ordering::Greater => *channel -= 1,
                }
            }
        }
    }

    /// Nothing is ever sent around one that is missing. How many messages that is.
    fn check(&self) -> usize {
        let mut count = 0;
        for (index, (channel, from)) in self.follows.iter().enumerate() {
            let sent = self.sent.iter().map(|(seq, _)| *seq);
            let sent: Vec<_> = sent.filter(|&seq| self.channel(seq) == *channel).collect();
            let whole = (from + 1..).filter(|&seq| self.channel(seq) == *channel);
            let whole: Vec<_> = whole.take(sent.len()).collect();
            let last = sent.last().copied().unwrap_or(0);
            assert_eq!(self.track.chains()[index].sent, last);
            assert_eq!(sent, whole);
            count += sent.len();
        }
        count
    }

    fn owed(&self) -> usize {
        let follows = self.follows.iter();
        let owed = follows.map(|(channel, from)| {
            let seqs = from + 1..=self.stored;
            seqs.filter(|&seq| self.channel(seq) == *channel).count()
        });
        owed.sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Whatever is lost, doubled, taken back, followed and unfollowed: once it has caught up, a
    /// session has been sent every message of its channels once, those of each in order, of a
    /// topic from the moment on from which it follows it.
    #[test]
    fn nothing_is_missing_and_nothing_comes_twice(steps in steps(), channels in 2..=5usize) {
        let mut session = Session::new(channels);
        session.track.start(beginning(0, channels));
        session.round();
        for step in steps {
            match step {
                Step::Stored(count) => session.store(count),
                Step::Lost => session.stored += 1,
                Step::Again if session.stored > 0 => session.live(session.stored),
                Step::Again => {}
                Step::Round => session.round(),
                Step::LateRound(topic) => session.round_with(|session| {
                    session.store(1);
                    session.unfollow(topic);
                    session.follow(topic, 1);
                }),
                Step::TakenBack(count) => session.take_back(count),
                Step::Down => session.track.lose(),
                Step::Audit => session.audit(),
                Step::Follow(topic, late) => session.follow(topic, late),
                Step::Unfollow(topic) => session.unfollow(topic),
            }
            session.check();
        }
        session.audit();
        session.track.lose();
        session.round();
        prop_assert!(session.track.is_live());
        prop_assert_eq!(session.check(), session.owed());
    }
}
