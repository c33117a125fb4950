//! A session of durable mode: what the registry offers it, and what a round brings it.
//!
//! The track is locked before the backlog (`registry` has the whole lock order). So no two threads
//! queue, take back or prove something of the stream at the same time. The client's own task
//! takes and writes what is queued without the track.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{
    Durable,
    chain::Compared,
    sync::{Mutex, MutexGuard, lock},
    track::{Beginning, CatchingUp, Track, Waits, Want},
};
use crate::{
    channel::{Channel, Topic},
    close::CloseReason,
    frame::{Framed, Frames, Proof, Protocol},
    message::Stored,
    position::Step,
    registry::{
        self, Arrival, Backlog, Commit, FollowError, Follows, Limits, Outgoing, Pushed, Recovery,
        Source,
    },
    user::UserId,
};

/// In how many rounds in a row the stream may have less than it promised before that counts as
/// lost: a replica that lags has less too. The rounds are [`super::rounds::LAG`] (25 ms) apart,
/// so this is about a second.
const LAGS: u32 = 40;

/// What a session has of its channels.
#[derive(Debug)]
pub(super) struct Covered {
    /// The subject of each channel.
    pub(super) subjects: Vec<Arc<str>>,
    /// For each channel: the session needs nothing up to this sequence.
    pub(super) up_to: Vec<u64>,
    /// [`Track::channels_version`]
    pub(super) channels_version: u32,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    pub(super) user: UserId,
    pub(super) durable: Arc<Durable>,
    backlog: Backlog,
    pub(super) follows: Follows,
    track: Mutex<Track>,
    /// Under which [`Durable`] knows it.
    pub(super) number: u64,
}

impl Session {
    pub(super) fn new(
        user: UserId,
        protocol: Protocol,
        topics: &[Topic],
        durable: Arc<Durable>,
        number: u64,
    ) -> Self {
        let topics = topics.iter().cloned().map(Channel::Topic);
        let channels = [Channel::User, Channel::Broadcast].into_iter();
        let channels = channels.chain(topics);
        Self {
            user,
            durable,
            backlog: Backlog::new(protocol),
            follows: Follows::default(),
            track: Mutex::new(Track::joining(channels)),
            number,
        }
    }

    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    pub(super) fn track(&self) -> MutexGuard<'_, Track> {
        lock(&self.track)
    }

    /// The channels that it follows, in the order in which it numbers them.
    pub(super) fn channels(&self) -> Vec<Channel> {
        let track = self.track();
        let chains = track.chains().iter();
        chains.map(|chain| chain.channel.clone()).collect()
    }

    /// Their subjects in the stream.
    pub(super) fn subjects(&self) -> Vec<Arc<str>> {
        self.subjects_of(&self.channels())
    }

    /// The subjects of these channels in the stream.
    pub(super) fn subjects_of<'a>(
        &self,
        channels: impl IntoIterator<Item = &'a Channel>,
    ) -> Vec<Arc<str>> {
        let stream = &self.durable.stream;
        let channels = channels.into_iter();
        channels
            .map(|channel| stream.subject(&self.user, channel))
            .collect()
    }

    /// What it has of its channels.
    pub(super) fn covered(&self) -> Covered {
        let (up_to, channels_version, channels) = {
            let track = self.track();
            let chains = track.chains().iter();
            let channels: Vec<_> = chains.map(|chain| chain.channel.clone()).collect();
            (track.covered(), track.channels_version(), channels)
        };
        Covered {
            subjects: self.subjects_of(&channels),
            up_to,
            channels_version,
        }
    }

    /// Stores where the session begins. Returns the topics that it follows then, and
    /// [`Track::channels_version`].
    pub(super) fn set_beginning(&self, beginning: Beginning) -> (Vec<Topic>, u32) {
        let mut track = self.track();
        track.start(beginning);
        (track.topics(), track.channels_version())
    }

    /// What it needs from the stream now. `None` if it is over, needs nothing, or has not written
    /// its whole backlog.
    pub(super) fn want(&self) -> Option<Want> {
        let mut track = self.track();
        if self.is_over(&track) || !self.backlog.is_idle() {
            if let Some(catching_up) = track.catching_up() {
                catching_up.queued = false;
            }
            return None;
        }
        track.want()
    }

    /// The stream has less than it should. Whether a replica that lags may be the reason.
    pub(super) fn falls_short(&self) -> bool {
        let short = self.amend(|catching_up| {
            catching_up.short += 1;
            catching_up.short
        });
        short.is_some_and(|short| short < LAGS)
    }

    /// Changes how its catching up stands; nothing where it does not catch up.
    pub(super) fn amend<R>(&self, amend: impl FnOnce(&mut CatchingUp) -> R) -> Option<R> {
        self.track().catching_up().map(amend)
    }

    /// Nothing more of the stream comes to it.
    pub(super) fn is_over(&self, track: &Track) -> bool {
        !self.backlog.is_open() || track.is_disowned()
    }

    /// Sends a live message that is the next one of its channel.
    fn send(
        self: &Arc<Self>,
        mut track: MutexGuard<'_, Track>,
        channel: usize,
        (stored, framed): (Stored, Framed),
        arrival: Arrival,
        limits: &Limits,
    ) -> Pushed {
        let (bytes, whole) = match framed {
            Framed::Whole(bytes) => (bytes, true),
            Framed::TooLarge(Some(gap)) => (gap, false),
            Framed::TooLarge(None) => return self.is_too_large(),
        };
        let source = track.note_sent(channel, stored.seq);
        let outgoing = Outgoing {
            step: self.step(&track, channel, stored),
            ..Outgoing::new(bytes, Some(arrival), source, limits)
        };
        match self.backlog.offer(outgoing, limits) {
            Some(Pushed::Queued | Pushed::NeedsTurn) if !whole => {
                track.was_too_large(channel, stored.seq);
                Pushed::TooLarge
            }
            Some(pushed) => pushed,
            None => {
                track.rewind(source);
                let wants = self.take_back(&mut track, 1);
                self.unlock(track, wants);
                Pushed::NotQueued
            }
        }
    }

    /// Takes the backlog back, and leaves its messages to the stream. `lost` is how many further
    /// messages the caller has left to the stream; they are counted with them. Returns whether
    /// the session has to wait for a round: see [`Session::unlock`].
    pub(super) fn take_back(&self, track: &mut Track, mut lost: usize) -> bool {
        track.take_back();
        for outgoing in self.backlog.take_back() {
            lost += usize::from(matches!(outgoing.source, Source::Kept { .. }));
            track.rewind(outgoing.source);
        }
        self.durable.metrics.postponed(lost);
        self.backlog.is_idle() && track.queue()
    }

    /// Unlocks its track. Then it waits for a round if it `wants` one; it is marked as queued.
    pub(super) fn unlock(self: &Arc<Self>, track: MutexGuard<'_, Track>, wants: bool) {
        drop(track);
        if wants {
            self.durable.want(self.clone());
        }
    }

    /// What a message says of the client's position.
    pub(super) fn step(&self, track: &Track, channel: usize, stored: Stored) -> Option<Box<Step>> {
        let Stored { seq, prev, at } = stored;
        self.tells(|| Step::Event {
            channel: track.chains()[channel].channel.clone(),
            seq,
            prev,
            at,
        })
    }

    /// What a frame says of the client's position, if the client is told that beside it.
    pub(super) fn tells(&self, step: impl FnOnce() -> Step) -> Option<Box<Step>> {
        let tells = self.backlog.protocol() == Protocol::Sse;
        tells.then(|| Box::new(step()))
    }

    /// A session that speaks no frames of its own ends where a message is too large.
    fn is_too_large(&self) -> Pushed {
        self.backlog.end(CloseReason::TooLarge.into());
        Pushed::TooLarge
    }
}

impl registry::Session for Session {
    fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    fn follows(&self) -> &Follows {
        &self.follows
    }

    fn prepare(
        self: Arc<Self>,
        topics: Vec<Topic>,
        since: Option<Recovery>,
    ) -> BoxFuture<'static, Result<Commit, FollowError>> {
        Box::pin(self.prepare_topics(topics, since))
    }

    fn expect(&self, topic: &Topic) {
        self.track().expect(topic);
    }

    fn cease_to_expect(&self, topic: &Topic) {
        self.track().cease_to_expect(topic);
    }

    fn offer(
        self: Arc<Self>,
        frames: &mut Frames<'_>,
        arrival: Arrival,
        limits: &Limits,
    ) -> Pushed {
        let message = frames.message();
        let (protocol, probe) = (self.backlog.protocol(), message.probe);
        let mut track = self.track();
        // The bus hands on only what the stream has stored.
        let Some(stored) = message.stored else {
            return Pushed::NotQueued;
        };
        let Some(index) = track.index(&message.channel) else {
            track.came(&message.channel, stored.seq);
            return Pushed::NotQueued;
        };
        if self.is_over(&track) {
            return Pushed::Over;
        }
        let compared = track.compare(index, stored);
        match compared {
            Some(Compared::Next { prev }) if !probe => {
                let framed = frames.after(prev, protocol);
                return self.send(track, index, (stored, framed), arrival, limits);
            }
            Some(Compared::Next { .. }) => track.note_skipped(index, stored.seq, stored.prev),
            Some(Compared::Duplicate) => {
                drop(track);
                self.durable.look_again();
            }
            None | Some(Compared::Hole) => {
                let wants = compared.is_some() && track.miss(index);
                if !probe {
                    let (bytes, whole) = match frames.get(protocol) {
                        Framed::Whole(bytes) => (bytes, true),
                        Framed::TooLarge(Some(gap)) => (gap, false),
                        Framed::TooLarge(None) => return self.is_too_large(),
                    };
                    // `Track::finish` sets the real source when it queues the frame.
                    let outgoing = Outgoing {
                        step: self.step(&track, index, stored),
                        ..Outgoing::new(bytes, Some(arrival), Source::Own, limits)
                    };
                    let waits = Waits {
                        channel: index,
                        stored,
                        outgoing,
                        whole,
                    };
                    track.hold(waits, limits);
                }
                self.unlock(track, wants);
            }
        }
        Pushed::NotQueued
    }

    fn lost(&self) {
        self.track().lose();
    }

    fn catches_up(self: Arc<Self>) -> bool {
        let mut track = self.track();
        // What was brought before this may lack what came while NATS was away.
        track.lose();
        let wants = self.backlog.is_welcomed() && track.queue();
        self.unlock(track, wants);
        true
    }

    fn left(&self) {
        self.track().leave();
    }

    fn shed(self: Arc<Self>) -> bool {
        let mut track = self.track();
        let frees =
            self.backlog.is_open() && self.backlog.can_take_back() + track.pending_bytes() > 0;
        let wants = frees && self.take_back(&mut track, 0);
        self.unlock(track, wants);
        frees
    }

    fn sheddable(&self) -> usize {
        let pending = self.track().pending_bytes();
        match self.backlog.is_open() {
            true => self.backlog.can_take_back() + pending,
            false => 0,
        }
    }

    fn idle(self: Arc<Self>) {
        let mut track = self.track();
        let wants = track.queue();
        self.unlock(track, wants);
    }

    fn proof(&self) -> Option<Proof> {
        let mut track = self.track();
        let proof = track.proven().filter(|_| self.backlog.is_taken())?;
        track.show(proof);
        Some(proof)
    }

    fn last_proof(&self) -> Option<Proof> {
        self.track().shown().filter(|_| self.backlog.is_taken())
    }

    fn has_up_to(&self, seq: u64) -> bool {
        let track = self.track();
        let user = track
            .index(&Channel::User)
            .map(|index| &track.chains()[index]);
        user.is_some_and(|chain| chain.was_given(seq)) && !self.is_over(&track)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.durable.forget(self.number);
    }
}
