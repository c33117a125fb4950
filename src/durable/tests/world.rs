//! A stream, and one client at a gateway.

use std::collections::{BTreeMap, BTreeSet};

use crate::durable::{
    chain::Compared,
    resume,
    rounds::deliver::merge,
    track::{Beginning, Finished, Resumed, Track, Waits, Want},
    verdict::{Shown, shown},
};
use crate::{
    bus::stream::{Bounds, Found, LeaderState, Read},
    channel::{Channel, Topic},
    frame::Proof,
    message::{EventName, Message, Stored},
    position::{Begun, Position, Seen, Tracker},
    registry::{Limits, Outgoing, Source},
};

/// Messages of one channel that are kept.
const LIMIT: usize = 6;
/// Messages of one channel in one read.
const READ: usize = 3;
const MOST: Bounds = Bounds {
    messages: READ,
    bytes: usize::MAX,
};

/// A stored message: its channel, and when it was stored. No two are stored at one time.
pub(super) type Kept = BTreeMap<u64, (usize, u64)>;

#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    pub(super) kept: Kept,
    pub(super) first: u64,
    pub(super) last: (u64, u64),
}

impl Stream {
    pub(super) fn leader(&self) -> LeaderState {
        LeaderState::example(self.first.max(1), self.last, LIMIT as u64)
    }

    pub(super) fn of(&self, channel: usize) -> Vec<u64> {
        let kept = self.kept.iter();
        let of = kept.filter(|(_, (other, _))| *other == channel);
        of.map(|(seq, _)| *seq).collect()
    }

    pub(super) fn last_of(&self, channel: usize) -> u64 {
        self.of(channel).last().copied().unwrap_or(0)
    }

    pub(super) fn remove(&mut self, seq: u64) {
        self.kept.remove(&seq);
        let first = self.kept.keys().next().copied();
        self.first = first.unwrap_or(self.last.0 + 1);
    }

    /// As `bus/stream/read.rs` reads it.
    pub(super) fn read(&self, channel: usize, after: u64) -> Read {
        let of = self.of(channel);
        let proven = of.contains(&after);
        let mut seqs: Vec<_> = of.into_iter().filter(|seq| *seq > after).collect();
        let total = seqs.len();
        seqs.truncate(READ);
        let leader = self.leader();
        let found = seqs.iter().map(|seq| Found {
            seq: *seq,
            at: self.kept[seq].1,
            message: Message {
                event: EventName::default(),
                payload: "x".into(),
                channel: Channel::User,
                stored: None,
                probe: false,
                trace: None,
            },
        });
        Read {
            intact: proven || leader.has_all_after(after, Proof::default()) && total < LIMIT,
            proven,
            found: found.collect(),
            more: (total - seqs.len()) as u64,
        }
    }
}

/// A client: what it has, and what it is owed, each message by its time.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) tracker: Tracker,
    pub(super) has: BTreeSet<u64>,
    pub(super) owed: BTreeSet<u64>,
}

impl Client {
    pub(super) fn forgive(&mut self) {
        self.owed.clear();
    }

    pub(super) fn event(&mut self, channel: Channel, stored: Stored) {
        let Stored { seq, prev, at } = stored;
        if self.tracker.event(channel, seq, prev, at) != Seen::Already {
            assert!(self.has.insert(at), "twice: {stored:?}");
            self.owed.remove(&at);
        }
    }
}

pub(super) struct World {
    pub(super) channels: Vec<Channel>,
    pub(super) stream: Stream,
    pub(super) copy: Option<Stream>,
    /// The stream was set back, and the client has not come since.
    pub(super) is_set_back: bool,
    pub(super) now: u64,
    pub(super) client: Client,
    pub(super) session: Option<Track>,
    /// When the message of each sequence was stored, the last time.
    times: BTreeMap<u64, u64>,
    /// Sent and not written, with what restores the time before.
    pub(super) queued: Vec<(usize, Stored, Source)>,
}

impl World {
    pub(super) fn new(channels: usize) -> Self {
        let topics = (2..channels)
            .map(|topic| Channel::Topic(Topic::parse(&topic.to_string()).expect("a topic")));
        let channels = [Channel::User, Channel::Broadcast].into_iter();
        Self {
            channels: channels.chain(topics).collect(),
            stream: Stream::default(),
            copy: None,
            is_set_back: false,
            now: 0,
            client: Client::default(),
            session: None,
            times: BTreeMap::new(),
            queued: Vec::new(),
        }
    }

    pub(super) fn store(&mut self, channel: usize, republished: bool) {
        let channel = channel % self.channels.len();
        let prev = self.stream.last_of(channel);
        self.now += 1;
        let (seq, at) = (self.stream.last.0 + 1, self.now);
        self.stream.last = (seq, at);
        self.stream.kept.insert(seq, (channel, at));
        self.times.insert(seq, at);
        let of = self.stream.of(channel);
        if of.len() > LIMIT {
            self.stream.remove(of[0]);
        }
        if self.client.tracker.position().is_some() {
            self.client.owed.insert(at);
        }
        let stored = Stored { seq, prev, at };
        if let (true, Some(track)) = (republished, &mut self.session) {
            let offer = track.compare(channel, stored);
            match offer {
                Some(Compared::Next { prev }) => {
                    let source = track.note_sent(channel, seq);
                    let stored = Stored { prev, ..stored };
                    self.queued.push((channel, stored, source));
                }
                Some(Compared::Duplicate) => {}
                None | Some(Compared::Hole) => {
                    if offer.is_some() {
                        track.miss(channel);
                    }
                    // So long a frame that its length names it.
                    let bytes = vec![0; seq as usize].into();
                    let outgoing = Outgoing::new(bytes, None, Source::Own, &limits());
                    track.hold(Waits::whole(channel, stored, outgoing), &limits());
                }
            }
        }
    }

    /// The client is written what is queued.
    pub(super) fn write(&mut self) {
        for (channel, stored, _) in self.queued.drain(..) {
            self.client.event(self.channels[channel].clone(), stored);
        }
    }

    pub(super) fn leave(&mut self) {
        self.session = None;
        self.queued.clear();
    }

    /// As `resume::standing` judges it.
    pub(super) fn is_of(&self, position: &Position, leader: &LeaderState) -> bool {
        let decided = resume::is_of(position, leader);
        decided.unwrap_or_else(|| match self.stream.kept.get(&position.top) {
            Some((_, at)) => *at == position.at,
            None => {
                let mut kept = self.stream.kept.range(..=position.top);
                kept.all(|(_, (_, at))| *at <= position.at)
            }
        })
    }

    pub(super) fn come(&mut self) {
        self.come_while(|_| ());
    }

    /// `meanwhile` is between the leader query of the join and the welcome.
    pub(super) fn come_while(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        self.leave();
        self.is_set_back = false;
        let leader = self.stream.leader();
        let proof = leader.proof();
        let since = self.client.tracker.position().cloned();
        self.session = Some(Track::joining(self.channels.clone()));
        meanwhile(self);
        let mut track = self.session.take().expect("a session");
        let Some(since) = since else {
            self.welcome(Begun::Anew, proof);
            let later = self.stream.kept.range(proof.seq + 1..);
            self.client.owed.extend(later.map(|(_, (_, at))| *at));
            let beginning = self.beginning(vec![proof.seq; self.channels.len()], proof, None);
            track.start(beginning);
            let finished = track.finish(proof.seq, proof, 0);
            self.session = Some(track);
            self.follow_up(finished, proof);
            return;
        };
        let known = self.is_of(&since, &leader);
        let at = |channel: &Channel| if known { since.of(channel) } else { 0 };
        let at: Vec<_> = self.channels.iter().map(at).collect();
        let want = track.want_from(&at);
        let (reads, lasts) = self.reads(&want);
        let intact = self.is_intact(&want, &reads, &lasts);
        let complete = known && intact;
        let begun = if complete {
            Begun::Complete
        } else {
            Begun::Gap
        };
        if !complete {
            self.client.forgive();
            // It forgets what it has, too.
            self.client.has.clear();
        }
        self.welcome(begun, proof);
        let missed = reads
            .iter()
            .map(|read| read.as_ref().map_or(0, Read::total));
        let resumed = Resumed {
            gap_up_to: if complete { 0 } else { proof.seq },
            skip: 0,
            missed: missed.collect(),
        };
        track.start(self.beginning(at, Proof::default(), Some(resumed)));
        self.session = Some(track);
        self.bring(&want, reads, &lasts);
    }

    pub(super) fn welcome(&mut self, begun: Begun, proof: Proof) {
        let epoch = Some("k".into());
        self.client
            .tracker
            .welcome(epoch, proof.seq, proof.at, begun, []);
    }

    pub(super) fn beginning(
        &self,
        at: Vec<u64>,
        proven: Proof,
        resumed: Option<Resumed>,
    ) -> Beginning {
        Beginning {
            at,
            proven,
            known: self.stream.leader().known(),
            resumed,
        }
    }

    pub(super) fn reads(&self, want: &Want) -> (Vec<Option<Read>>, Vec<u64>) {
        let lasts = 0..want.chains.len();
        let lasts: Vec<_> = lasts.map(|channel| self.stream.last_of(channel)).collect();
        let read = |(channel, last): (usize, &u64)| {
            let chain = &want.chains[channel];
            let wants = *last > chain.covered || chain.owed > 0;
            wants.then(|| self.stream.read(channel, chain.covered))
        };
        (lasts.iter().enumerate().map(read).collect(), lasts)
    }

    pub(super) fn is_intact(&self, want: &Want, reads: &[Option<Read>], lasts: &[u64]) -> bool {
        match shown(want, reads, lasts, false) {
            Shown::Intact => true,
            Shown::Lost => false,
            Shown::IfKeptAfter(seq) => self.stream.leader().has_all_after(seq, want.known),
        }
    }

    pub(super) fn round(&mut self) {
        self.write();
        let Some(want) = self.session.as_mut().and_then(Track::want) else {
            return;
        };
        let (reads, lasts) = self.reads(&want);
        let missed = reads
            .iter()
            .map(|read| read.as_ref().map_or(0, Read::total));
        let gone = want
            .chains
            .iter()
            .zip(missed)
            .any(|(chain, total)| chain.owed > total);
        if gone || !self.is_intact(&want, &reads, &lasts) {
            self.client.forgive();
            let told = self.stream.last.0;
            let track = self.session.as_mut().and_then(Track::catching_up);
            track.expect("it catches up").gap_up_to = told;
        }
        self.bring(&want, reads, &lasts);
    }

    /// As `rounds::deliver` does it, and the client is written all of it.
    pub(super) fn bring(&mut self, want: &Want, reads: Vec<Option<Read>>, lasts: &[u64]) {
        let proof = self.stream.leader().proof();
        let merged = merge(reads, want, (lasts, proof.seq), MOST);
        let track = self.session.as_mut().expect("a session");
        let mut prev: Vec<_> = want.chains.iter().map(|chain| chain.sent).collect();
        for (channel, Found { seq, at, .. }) in merged.messages {
            let before = std::mem::replace(&mut prev[channel], seq);
            let source = track.note_sent(channel, seq);
            let stored = Stored {
                seq,
                prev: before,
                at,
            };
            self.queued.push((channel, stored, source));
        }
        track.owe(&merged.remaining);
        let finished = match merged.done {
            true => track.finish(proof.seq, proof, want.connection_changes),
            false => None,
        };
        self.follow_up(finished, proof);
    }

    /// What comes after the last message that was missed.
    fn follow_up(&mut self, finished: Option<Finished>, proof: Proof) {
        self.write();
        let Some(finished) = finished else { return };
        if finished.announced {
            self.client.tracker.proof(proof.seq, proof.at);
        }
        for outgoing in finished.frames {
            let Source::Kept { channel, sent, .. } = outgoing.source else {
                panic!("it is from the stream: {outgoing:?}");
            };
            let seq = outgoing.bytes.len() as u64;
            let at = self.times[&seq];
            let stored = Stored {
                seq,
                prev: sent,
                at,
            };
            self.queued.push((channel, stored, outgoing.source));
        }
    }

    pub(super) fn audit(&mut self) {
        let lasts: Vec<_> = (0..self.channels.len())
            .map(|channel| self.stream.last_of(channel))
            .collect();
        let leader = self.stream.leader();
        let Some(track) = &mut self.session else {
            return;
        };
        let covered = track.covered();
        let removed = |covered: &u64| !leader.has_all_after(*covered, Proof::default());
        let missing = |(covered, last): (&u64, &u64)| covered < last;
        if covered.iter().zip(&lasts).any(missing) || covered.iter().any(removed) {
            track.fall_behind_after_audit();
        } else if track.is_live() {
            track.prove(leader.last, leader.proof());
        }
    }

    pub(super) fn ping(&mut self) {
        self.write();
        if let Some(proof) = self.session.as_ref().and_then(Track::proven) {
            self.client.tracker.proof(proof.seq, proof.at);
        }
    }
}

fn limits() -> Limits {
    Limits::new(4, usize::MAX, usize::MAX)
}
