//! Where a session is in the stream: up to where it has everything, and, while it is
//! behind, what it has to be brought from the stream before anything newer.
//!
//! A message names the one before it of its kind, so each next one shows whether one is
//! missing between. This is the state machine of that, without clock, lock or I/O.

use std::{collections::VecDeque, sync::Arc};

use super::outbox::Outgoing;
use crate::{
    frame::Proof,
    message::Stored,
    position::{Channel, Position},
};

/// The two chains of messages that a session follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To its user.
    User,
    /// To all.
    Broadcast,
}

impl Kind {
    /// As a position names it.
    pub fn channel(self) -> Channel {
        match self {
            Self::User => Channel::User,
            Self::Broadcast => Channel::Broadcast,
        }
    }

    /// Both, in the order of what is kept of each.
    pub const ALL: [Self; 2] = [Self::User, Self::Broadcast];
}

/// A session's place in the stream.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Of each kind: everything up to here is sent, queued, or not owed.
    covered: [u64; 2],
    /// Of each kind, the last message that it is sent; 0 where that is none.
    sent: [u64; 2],
    /// Of each kind, the last message that it was covered without being sent it, and the one
    /// before that.
    skipped: [(u64, u64); 2],
    /// Everything of both kinds up to here was compared with the stream.
    proven: Proof,
    /// The position of a client that is told it beside each frame.
    view: Option<Box<View>>,
    /// The user's messages up to here were never its.
    began: u64,
    /// The last message to its user that was too large for it; 0 for none.
    too_large: u64,
    /// It was told where it begins.
    begun: bool,
    /// How often the connection to NATS was lost, or came back: what was read before that
    /// does not show what came to be missed by it.
    losses: u32,
    behind: Option<Box<Behind>>,
}

/// A client's position, as it is after all that is queued.
#[derive(Debug)]
struct View {
    epoch: Arc<str>,
    /// By the last proof that is queued.
    proven: u64,
    top: u64,
    at: u64,
    /// Of each kind, the mark that it came with.
    marks: [u64; 2],
}

impl View {
    fn saw(&mut self, seq: u64, at: u64) {
        if seq > self.top {
            (self.top, self.at) = (seq, at);
        }
    }
}

/// Where a session begins.
#[derive(Debug, Clone)]
pub(super) struct Beginning {
    /// Of each kind: everything up to here is covered, or not owed.
    pub(super) at: [u64; 2],
    pub(super) proven: Proof,
    /// Its position, after its welcome.
    pub(super) position: Position,
}

/// Why a session is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has yet to be told where it begins.
    Joining,
    /// The connection to NATS was lost.
    Lost,
    /// A message did not come that should have.
    Hole,
    /// Its client did not read, and its backlog was given up.
    Slow,
}

impl Why {
    /// The metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "resumed",
            Self::Lost => "lost",
            Self::Hole => "hole",
            Self::Slow => "slow",
        }
    }
}

/// What a session that is behind waits for.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) why: Why,
    /// Kinds of which something may be missing.
    pub(super) doubtful: [bool; 2],
    /// The first read has been judged.
    pub(super) begun: bool,
    /// It was told that something up to here is lost; 0 where it was not.
    pub(super) told: u64,
    /// It is told when it is up to date.
    pub(super) announced: bool,
    /// So many of the oldest are left out.
    pub(super) skip: u64,
    /// Of each kind: so many are there still, or something was lost meanwhile.
    pub(super) expected: [u64; 2],
    /// How often less was there than that; a replica that lags says so too.
    pub(super) short: u32,
    /// The sequence of the last message sent, of each kind; 0 where that is none.
    pub(super) brought: [u64; 2],
    /// Somebody is about to bring it further.
    pub(super) queued: bool,
    /// Live messages, until all before them are sent.
    held: VecDeque<(Kind, Stored, Outgoing)>,
    held_bytes: usize,
    /// Live messages are held; not while the client does not read.
    holds: bool,
    /// Live messages were let go: they are in the stream.
    let_go: bool,
}

/// How it was with a message's kind before that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    covered: u64,
    sent: u64,
}

/// What a live message is to a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// The next one.
    Next(Before),
    /// It has it already.
    Known,
    /// One before it is missing.
    Hole,
    /// It is behind, and has to be brought this in its turn.
    Behind,
}

impl Chain {
    /// Of a session on its way in.
    pub(super) fn joining() -> Self {
        Self {
            behind: Some(Behind::new(Why::Joining, [0; 2])),
            ..Self::default()
        }
    }

    /// A live message comes.
    pub(super) fn offer(&mut self, kind: Kind, stored: Stored) -> Offer {
        let covered = self.covered[kind as usize];
        if self.behind.is_some() {
            // Also what seems known: where it begins may not be known yet.
            Offer::Behind
        } else if stored.seq <= covered {
            Offer::Known
        } else if stored.prev > covered {
            Offer::Hole
        } else {
            Offer::Next(self.send(kind, stored.seq, stored.at))
        }
    }

    /// What a live message has to name as the one before it, where that is one which this
    /// session was not sent.
    pub(super) fn relinked(&self, kind: Kind, stored: Stored) -> Option<u64> {
        let (skipped, before) = self.skipped[kind as usize];
        (skipped > 0 && stored.prev == skipped).then_some(before)
    }

    /// A live message comes that is shown to nobody. Whether one before it is missing.
    pub(super) fn skip(&mut self, kind: Kind, stored: Stored) -> bool {
        let covered = self.covered[kind as usize];
        if self.behind.is_some() || stored.seq <= covered {
            return false;
        }
        if stored.prev > covered {
            return true;
        }
        self.skip_to(kind, stored.seq, stored.prev);
        false
    }

    /// It is covered this message, the one after `prev` of its kind, without being sent it.
    pub(super) fn skip_to(&mut self, kind: Kind, seq: u64, prev: u64) {
        let skipped = &mut self.skipped[kind as usize];
        let before = match prev == skipped.0 && prev > 0 {
            true => skipped.1,
            false => prev,
        };
        *skipped = (seq, before);
        self.cover(kind, seq);
    }

    /// It is sent this message, the next of its kind.
    pub(super) fn send(&mut self, kind: Kind, seq: u64, at: u64) -> Before {
        if let Some(view) = &mut self.view {
            view.saw(seq, at);
        }
        let before = Before {
            covered: self.covered[kind as usize],
            sent: std::mem::replace(&mut self.sent[kind as usize], seq),
        };
        self.cover(kind, seq);
        before
    }

    /// A message that it was about to get is given up.
    pub(super) fn rewind(&mut self, kind: Kind, before: Before) {
        let kind = kind as usize;
        self.covered[kind] = before.covered.min(self.covered[kind]);
        self.sent[kind] = before.sent.min(self.sent[kind]);
        if let Some(behind) = &mut self.behind {
            behind.doubtful[kind] = true;
            // What it was not sent can be nobody's predecessor.
            behind.brought[kind] = self.sent[kind];
        }
    }

    /// It is behind from here on; or already was, for another reason.
    pub(super) fn fall_behind(&mut self, why: Why) -> &mut Behind {
        let sent = self.sent;
        let behind = self.behind.get_or_insert_with(|| Behind::new(why, sent));
        if why == Why::Lost {
            behind.doubtful = [true; 2];
            self.losses = self.losses.wrapping_add(1);
        }
        if why == Why::Slow {
            if self.begun {
                behind.why = Why::Slow;
            }
            behind.let_go_of_all();
            behind.holds = false;
        }
        behind
    }

    pub(super) fn behind(&mut self) -> Option<&mut Behind> {
        self.behind.as_deref_mut()
    }

    /// The same, where it was told where it begins.
    pub(super) fn behind_since_it_began(&mut self) -> Option<&mut Behind> {
        self.behind.as_deref_mut().filter(|_| self.begun)
    }

    /// Whether it was given everything to its user up to `seq`, that one included.
    pub(super) fn was_given(&self, seq: u64) -> bool {
        seq > self.began && seq <= self.covered[Kind::User as usize] && seq != self.too_large
    }

    /// A message to its user was too large for it.
    pub(super) fn was_not_given(&mut self, seq: u64) {
        self.too_large = seq;
    }

    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    pub(super) fn covered(&self) -> [u64; 2] {
        self.covered
    }

    /// Up to where everything of the kind is covered now.
    pub(super) fn cover(&mut self, kind: Kind, seq: u64) {
        let covered = &mut self.covered[kind as usize];
        *covered = seq.max(*covered);
    }

    /// Where it begins; with `shows` its client is told its position beside each frame.
    pub(super) fn begin(&mut self, beginning: Beginning, shows: bool) {
        let Beginning {
            at,
            proven,
            position,
        } = beginning;
        self.covered = at;
        self.began = at[Kind::User as usize];
        self.proven = proven;
        self.begun = true;
        let mark = |channel| position.marks.get(&channel).copied().unwrap_or(0);
        self.view = shows.then(|| {
            Box::new(View {
                marks: [mark(Channel::User), mark(Channel::Broadcast)],
                epoch: position.epoch,
                proven: position.proven,
                top: position.top,
                at: position.at,
            })
        });
    }

    /// The client's position after all that is queued, where it is told that.
    pub(super) fn id(&self) -> Option<String> {
        let view = self.view.as_ref()?;
        let mark = |kind: Kind| match self.sent[kind as usize] {
            0 => view.marks[kind as usize],
            sent => sent,
        };
        let position = Position {
            epoch: view.epoch.clone(),
            proven: view.proven,
            top: view.top,
            at: view.at,
            marks: [
                (Channel::User, mark(Kind::User)),
                (Channel::Broadcast, mark(Kind::Broadcast)),
            ]
            .into(),
        };
        Some(position.to_string())
    }

    /// A proof is about to be queued, or written. Returns the one before it.
    pub(super) fn show(&mut self, proof: Proof) -> u64 {
        match &mut self.view {
            None => 0,
            Some(view) => {
                view.saw(proof.seq, proof.at);
                let proven = proof.seq.max(view.proven);
                std::mem::replace(&mut view.proven, proven)
            }
        }
    }

    /// A proof that was queued is given up.
    pub(super) fn unshow(&mut self, before: u64) {
        if let Some(view) = &mut self.view {
            view.proven = before.min(view.proven);
        }
    }

    /// Everything of both kinds up to `up_to` is covered, as the stream says, and everything
    /// up to the proof was compared with it.
    pub(super) fn prove(&mut self, up_to: u64, proof: Proof) {
        for kind in Kind::ALL {
            self.cover(kind, up_to.max(proof.seq));
        }
        if proof.seq > self.proven.seq {
            self.proven = proof;
        }
    }

    /// How often the connection to NATS was lost or came back by now.
    pub(super) fn losses(&self) -> u32 {
        self.losses
    }

    /// Up to where that was said last.
    pub(super) fn proven(&self) -> Proof {
        self.proven
    }

    /// Everything that there was in the stream is queued: hands over, in order, what
    /// came meanwhile. It stays behind where that is not all.
    pub(super) fn settle(&mut self, mut queue: impl FnMut(Kind, Before, Outgoing, Option<String>)) {
        let Some(mut behind) = self.behind.take() else {
            return;
        };
        let mut settled = !std::mem::take(&mut behind.let_go);
        while settled && let Some((kind, stored, outgoing)) = behind.held.pop_front() {
            match self.offer(kind, stored) {
                Offer::Next(before) => queue(kind, before, outgoing, self.id()),
                Offer::Known => {}
                Offer::Hole | Offer::Behind => {
                    behind.doubtful[kind as usize] = true;
                    behind.held.push_front((kind, stored, outgoing));
                    settled = false;
                }
            }
        }
        behind.held_bytes = behind.held.iter().map(|(_, _, o)| o.bytes.len()).sum();
        if !settled {
            behind.holds = true;
            self.behind = Some(behind);
        }
    }
}

impl Behind {
    fn new(why: Why, sent: [u64; 2]) -> Box<Self> {
        Box::new(Self {
            why,
            doubtful: [matches!(why, Why::Joining | Why::Lost); 2],
            begun: false,
            told: 0,
            announced: false,
            skip: 0,
            expected: [0; 2],
            short: 0,
            brought: sent,
            queued: false,
            held: VecDeque::new(),
            held_bytes: 0,
            holds: true,
            let_go: false,
        })
    }

    /// Holds a live message, within bounds; beyond them all that is held is let go.
    pub(super) fn hold(
        &mut self,
        kind: Kind,
        stored: Stored,
        outgoing: Outgoing,
        messages: usize,
        bytes: usize,
    ) {
        let size = self.held_bytes + outgoing.bytes.len();
        let room = self.held.is_empty() || (self.held.len() < messages && size <= bytes);
        if self.holds && room {
            self.held_bytes = size;
            self.held.push_back((kind, stored, outgoing));
        } else {
            self.let_go_of_all();
            self.doubtful[kind as usize] = true;
        }
    }

    /// Less is there than there was: so many times by now.
    pub(super) fn falls_short(&mut self) -> u32 {
        self.short += 1;
        self.short
    }

    /// Bytes of what is held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Its client reads again: live messages are held from here on.
    pub(super) fn holds_again(&mut self) {
        self.holds = true;
    }

    fn let_go_of_all(&mut self) {
        for (kind, ..) in self.held.drain(..) {
            self.doubtful[kind as usize] = true;
        }
        self.held = VecDeque::new();
        self.held_bytes = 0;
        self.let_go = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::{Limits, outbox::outgoing};

    const LIMITS: fn() -> Limits = || Limits {
        messages: 8,
        bytes: usize::MAX,
        total_bytes: usize::MAX,
        total: Default::default(),
    };

    fn beginning(at: u64) -> Beginning {
        let position = Position {
            epoch: "k".into(),
            proven: at,
            top: at,
            at: 0,
            marks: Default::default(),
        };
        Beginning {
            at: [at; 2],
            proven: Proof { seq: at, at: 0 },
            position,
        }
    }

    /// What happens to a session: its stream has `1..` of alternating kinds.
    #[derive(Debug, Clone)]
    enum Step {
        /// The next messages are stored, and republished.
        Stored(u8),
        /// The next one is stored, and its republish is lost.
        Lost,
        /// The last one comes again.
        Again,
        /// Somebody reads the stream and brings what there is.
        Brought,
        /// What is queued is given up, from this one of the last on.
        GivenUp(u8),
        /// The connection to NATS is lost.
        Down,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..12u8).prop_map(Step::Stored),
            2 => Just(Step::Lost),
            1 => Just(Step::Again),
            3 => Just(Step::Brought),
            1 => (0..4u8).prop_map(Step::GivenUp),
            1 => Just(Step::Down),
        ];
        proptest::collection::vec(step, 0..60)
    }

    fn kind(seq: u64) -> Kind {
        match seq % 3 {
            0 => Kind::Broadcast,
            _ => Kind::User,
        }
    }

    /// Of the same kind, before it.
    fn prev(seq: u64) -> u64 {
        let same = (1..seq).rev().find(|&before| kind(before) == kind(seq));
        same.unwrap_or(0)
    }

    /// A session, and what it was sent: sequence, and what was covered before.
    struct Session {
        chain: Chain,
        sent: Vec<(u64, Before)>,
        stored: u64,
    }

    impl Session {
        fn live(&mut self, seq: u64) {
            let stored = Stored {
                seq,
                prev: prev(seq),
                at: seq,
            };
            match self.chain.offer(kind(seq), stored) {
                Offer::Next(before) => self.sent.push((seq, before)),
                Offer::Known => {}
                Offer::Hole | Offer::Behind => {
                    let behind = self.chain.fall_behind(Why::Hole);
                    let outgoing = outgoing(seq, &LIMITS());
                    behind.hold(kind(seq), stored, outgoing, 8, usize::MAX);
                }
            }
        }

        /// As `recovery` does it: what is stored by now, then what came meanwhile.
        fn bring(&mut self) {
            for _ in 0..3 {
                if !self.chain.is_behind() {
                    return;
                }
                for seq in 1..=self.stored {
                    let covered = self.chain.covered()[kind(seq) as usize];
                    if seq > covered {
                        self.sent.push((seq, self.chain.send(kind(seq), seq, seq)));
                    }
                }
                self.chain.prove(
                    self.stored,
                    Proof {
                        seq: self.stored,
                        at: 0,
                    },
                );
                let sent = &mut self.sent;
                self.chain.settle(|_, before, outgoing, _| {
                    sent.push((outgoing.bytes.len() as u64, before));
                });
            }
        }
    }

    proptest! {
        /// Whatever is lost, doubled and given up: once it was brought up to date, a
        /// session has been sent every message of the stream once, each kind in order.
        #[test]
        fn nothing_is_missing_and_nothing_comes_twice(steps in steps()) {
            let mut session = Session { chain: Chain::joining(), sent: Vec::new(), stored: 0 };
            session.chain.begin(beginning(0), false);
            session.bring();
            for step in steps {
                match step {
                    Step::Stored(count) => for _ in 0..count {
                        session.stored += 1;
                        session.live(session.stored);
                    },
                    Step::Lost => session.stored += 1,
                    Step::Again if session.stored > 0 => session.live(session.stored),
                    Step::Again => {}
                    Step::Brought => session.bring(),
                    Step::GivenUp(count) => {
                        session.chain.fall_behind(Why::Slow);
                        for _ in 0..count {
                            if let Some((seq, before)) = session.sent.pop() {
                                session.chain.rewind(kind(seq), before);
                            }
                        }
                    }
                    Step::Down => drop(session.chain.fall_behind(Why::Lost)),
                }
                // A session goes on by itself wherever it is not behind.
                for kinds in Kind::ALL {
                    let of_kind = session.sent.iter().map(|(seq, _)| *seq);
                    let of_kind: Vec<_> = of_kind.filter(|&seq| kind(seq) == kinds).collect();
                    let whole = (1..).filter(|&seq| kind(seq) == kinds);
                    let whole: Vec<_> = whole.take(of_kind.len()).collect();
                    let last = of_kind.last().copied().unwrap_or(0);
                    prop_assert_eq!(session.chain.sent[kinds as usize], last);
                    prop_assert_eq!(of_kind, whole);
                }
            }
            session.chain.fall_behind(Why::Lost);
            session.bring();
            prop_assert!(!session.chain.is_behind());
            prop_assert_eq!(session.sent.len() as u64, session.stored);
        }
    }

    #[test]
    fn where_it_begins_decides_what_is_known() {
        let mut chain = Chain::joining();
        let stored = |seq, prev| Stored { seq, prev, at: 0 };
        assert_eq!(chain.offer(Kind::User, stored(5, 4)), Offer::Behind);
        chain.begin(beginning(7), false);
        chain.settle(|_, _, _, _| unreachable!("nothing is held"));
        assert_eq!(chain.offer(Kind::User, stored(7, 5)), Offer::Known);
        let next = |covered, sent| Offer::Next(Before { covered, sent });
        assert_eq!(chain.offer(Kind::User, stored(9, 6)), next(7, 0));
        assert_eq!(chain.offer(Kind::Broadcast, stored(10, 8)), Offer::Hole);
        assert_eq!(chain.offer(Kind::User, stored(12, 11)), Offer::Hole);
        assert_eq!(chain.offer(Kind::User, stored(12, 9)), next(9, 9));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut chain = Chain::joining();
        chain.begin(beginning(0), false);
        for seq in 1..=9 {
            let behind = chain.behind().expect("it joins");
            let stored = Stored {
                seq,
                prev: seq - 1,
                at: 0,
            };
            behind.hold(Kind::User, stored, outgoing(seq, &LIMITS()), 8, usize::MAX);
        }
        assert_eq!(chain.behind().expect("it joins").held_bytes(), 0);
        chain.settle(|_, _, _, _| panic!("let go"));
        assert!(chain.is_behind(), "they are in the stream");
    }
}
