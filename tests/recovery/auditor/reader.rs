//! One client, as the auditor follows it.

mod set_back;
mod topics;

use std::{collections::HashMap, time::Duration};

use super::{
    Auditor, Books, CHANNELS, Channels, Heard, Id, Position, Resume, SetBack, Stored, TOPIC,
    Verdict, What,
};

/// The client, and what it has to have by now.
pub(super) struct Reader<'a> {
    auditor: &'a Auditor,
    /// The state of the stream that its frames are of.
    state: usize,
    /// The set-back that it has to be told of: it read what the stream lost then.
    ahead_of: Option<SetBack>,
    channels: Channels,
    /// It follows its topic now.
    follows: bool,
    verdict: Verdict,
    /// Up to where it has everything of each channel.
    covered: [u64; CHANNELS],
    /// What the last `welcome` said.
    welcome: Option<(u64, Resume)>,
    /// What it has to come back with.
    position: Position,
    /// The last event of this connection.
    last_event: u64,
    /// When it was last told of a gap.
    told: Option<Duration>,
    /// A `welcome` with `gap` made it forget its position, and nothing was proven since.
    forgot: bool,
    live: bool,
    /// When each message was stored, as it was told.
    times: HashMap<u64, u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(auditor: &'a Auditor, channels: Channels) -> Self {
        Self {
            auditor,
            state: 0,
            ahead_of: None,
            channels,
            follows: false,
            verdict: Verdict::default(),
            covered: [0; CHANNELS],
            welcome: None,
            position: Position::new(0),
            last_event: 0,
            told: None,
            forgot: false,
            live: false,
            times: HashMap::new(),
        }
    }

    /// What is missing at the end has not come at all. `at` is when it read the last frame.
    pub(super) fn ends(mut self, at: Option<Duration>) -> Verdict {
        if let (Some(at), Some(_)) = (at, self.welcome) {
            match self.ahead_of {
                None => self.has_all(self.books().last(), at, "the end"),
                Some(SetBack { to, .. }) => {
                    let top = self.position.top.seq;
                    self.complain(format!(
                        "read {top}, and nobody told it that the stream was set back to {to}"
                    ));
                }
            }
        }
        self.verdict
    }

    /// Of the state that its frames are of.
    fn books(&self) -> &'a Books {
        &self.auditor.states[self.state].books
    }

    fn complain(&mut self, complaint: impl AsRef<str>) {
        let complaint = complaint.as_ref();
        let user = self.channels.user;
        self.verdict
            .complaints
            .push(format!("a client of user {user}: {complaint}"));
    }

    pub(super) fn hears(&mut self, heard: Heard) {
        self.crosses(heard);
        let Heard { at, what } = heard;
        match what {
            What::Welcome {
                since,
                end,
                resume,
                follows,
            } => {
                let anew = self.is_to_follow(follows);
                self.is_welcomed((since, end, resume), anew, at);
            }
            _ if self.welcome.is_none() => self.complain(format!("{what:?} before a welcome")),
            _ if self.follows_without_judgement(what) => {}
            What::Event { stored, prev, id } => self.reads_event(stored, prev, id, at),
            What::TooLarge {
                stored,
                prev,
                channel,
            } => self.reads_too_large(stored, prev, channel, at),
            What::Following { stored, follows } => self.is_following(stored, follows, at),
            What::Live(stored) => {
                self.is_proven(stored, at, "live");
                self.live = true;
            }
            What::Ping(stored) => self.is_proven(stored, at, "a ping"),
            What::Gap => {
                self.verdict.gap_frames += 1;
                // A client that forgot its position gets again what it had, and retention can
                // pass that meanwhile.
                let has = match self.forgot {
                    true => self.position.of_each(),
                    false => self.covered,
                };
                self.is_told(has, at);
            }
            What::Connected { .. }
            | What::Subscribed { .. }
            | What::Unsubscribed { .. }
            | What::Publication { .. } => self.complain(format!("{what:?} is of no such client")),
        }
    }

    /// What it has of its topic is owed from its position where it follows that `anew`.
    fn is_welcomed(
        &mut self,
        (since, end, resume): (Option<Position>, Stored, Resume),
        anew: bool,
        at: Duration,
    ) {
        let first = self.welcome.replace((end.seq, resume)).is_none();
        let position = self.position;
        if !first && since != Some(position) {
            self.complain(format!("came back with {since:?}, and is at {position:?}"));
        }
        match resume {
            Resume::None => self.verdict.begun += 1,
            Resume::Complete => self.verdict.complete += 1,
            Resume::Gap => self.verdict.gap += 1,
        }
        if (resume == Resume::None) != since.is_none() {
            self.complain(format!("{since:?} was answered {resume:?}"));
        }
        // Rule 1.
        self.position = match (since, resume) {
            (Some(since), Resume::Complete) => since,
            (_, Resume::Gap) => Position::new(0),
            _ => Position::new(end.seq),
        };
        let top = self.position.top.seq;
        if top > end.seq {
            self.complain(format!("{top} is beyond the end, {}", end.seq));
        }
        let has = since.map_or([end.seq; CHANNELS], Position::of_each);
        if first {
            self.covered = has;
        }
        let ahead_of = self.ahead_of.take();
        if anew {
            self.covered[TOPIC] =
                ahead_of.map_or(has[TOPIC], |set_back| set_back.to.min(has[TOPIC]));
        }
        if resume == Resume::Gap {
            self.forgot = true;
            match ahead_of {
                Some(_) => self.told = Some(at),
                None => self.is_told(has, at),
            }
        }
        if let Some(set_back) = ahead_of {
            self.is_welcomed_after(set_back, resume);
        }
        self.sees(end, at);
        (self.last_event, self.live) = (0, false);
    }

    fn is_told(&mut self, has: [u64; CHANNELS], at: Duration) {
        let told = self.told.replace(at);
        if !self.may_be_gap(has, at) {
            self.verdict.false_gaps += 1;
            let (welcome, position, state) = (self.welcome, self.position, self.state);
            self.complain(format!(
                "was told at {at:?} of a gap after {has:?}; there is none; told before: {told:?}; \
                 welcome: {welcome:?}; {position:?}; state {state} of the stream"
            ));
        }
    }

    /// Rule 5, and that the time is right.
    fn sees(&mut self, stored: Stored, at: Duration) {
        self.position.saw(stored);
        if let Some(complaint) = self.books().misdates(stored, at) {
            self.complain(complaint);
        }
        let before = *self.times.entry(stored.seq).or_insert(stored.at);
        if before != stored.at {
            let Stored { seq, at } = stored;
            self.complain(format!("{seq} was stored at {before}, and then at {at}"));
        }
    }

    fn reads_event(&mut self, stored: Stored, prev: u64, id: Id, at: Duration) {
        let Some(channel) = self.channels.number(id.to) else {
            return self.complain(format!("{id:?} is for others"));
        };
        let seq = stored.seq;
        let books = self.books();
        if !books.may_be_at(seq, &id) {
            let stored = books.stored.get(&seq);
            return self.complain(format!("{seq} is {stored:?}, and came as {id:?}"));
        }
        if books.sent[&id].large {
            self.complain(format!("{seq} is too large for a frame, and came"));
        }
        self.reads(stored, prev, channel, at);
    }

    fn reads_too_large(&mut self, stored: Stored, prev: u64, channel: usize, at: Duration) {
        let seq = stored.seq;
        if !self
            .books()
            .may_be_too_large(self.channels.to()[channel], seq)
        {
            self.verdict.false_gaps += 1;
            self.complain(format!("was told that {seq} is too large; it is not"));
        }
        self.verdict.too_large += 1;
        self.reads(stored, prev, channel, at);
    }

    fn reads(&mut self, stored: Stored, prev: u64, channel: usize, at: Duration) {
        let seq = stored.seq;
        let before = std::mem::replace(&mut self.last_event, seq);
        self.sees(stored, at);
        if channel == TOPIC && !self.follows {
            return self.complain(format!("{seq} is of a topic that it does not follow"));
        }
        let had = self.position.has(channel);
        if seq <= had {
            self.verdict.duplicates += 1;
            return self.complain(format!("{seq} came twice: all up to {had} was there"));
        }
        // Rule 2.
        self.position.marks[channel] = seq;
        let (_, resume) = self.welcome.expect("checked");
        if before > seq {
            match resume == Resume::Complete && !self.live {
                true => self.complain(format!("{seq} came after {before} in a replay")),
                false => self.verdict.crossed += 1,
            }
        }
        let covered = self.covered[channel];
        if seq <= covered {
            match self.forgot {
                true => self.verdict.duplicates += 1,
                false => self.complain(format!("{seq} came late: all up to {covered} was there")),
            }
            return;
        }
        if prev >= seq {
            self.complain(format!("{prev} is before {seq}"));
        }
        if prev > had && self.told.is_none() {
            self.complain(format!("{had}, then {seq} after {prev}: a gap that shows"));
        }
        self.misses(channel, seq - 1, at, "the next one");
        self.verdict.accepted += 1;
        self.covered[channel] = seq;
    }

    /// Rule 4: it was said that everything of its channels up to here has come.
    fn is_proven(&mut self, stored: Stored, at: Duration, says: &str) {
        self.sees(stored, at);
        self.position.is_proven(stored);
        self.has_all(stored.seq, at, says);
        self.forgot = false;
    }

    fn has_all(&mut self, up_to: u64, at: Duration, says: &str) {
        for channel in self.followed() {
            self.misses(channel, up_to, at, says);
            self.covered[channel] = up_to.max(self.covered[channel]);
        }
    }

    /// What is missing of a channel, up to here.
    fn misses(&mut self, channel: usize, up_to: u64, at: Duration, before: &str) {
        let books = self.books();
        let replay = books.retention.replay;
        let to = self.channels.to()[channel];
        for (seq, begun) in books.of(to, self.covered[channel] + 1..=up_to) {
            let told = self.told.is_some_and(|told| begun < told);
            let newer = || books.after_all(&self.of_each([seq; CHANNELS]), at, replay);
            let gone = books.may_be_gone(seq, at) || newer() >= replay;
            if told && gone {
                self.verdict.forgiven += 1;
                continue;
            }
            self.verdict.lost += 1;
            self.verdict.missing.push(seq);
            let (welcome, resume) = self.welcome.expect("checked");
            if resume == Resume::Complete && seq <= welcome {
                self.verdict.false_completes += 1;
            }
            let (id, told, live) = (books.stored[&seq], self.told, self.live);
            self.complain(format!(
                "{seq}, {id:?} of {begun:?}, is missing before {before} at {at:?}; welcome {welcome}, \
                 {resume:?}; told of a gap: {told:?}; live: {live}; may be gone: {gone}"
            ));
        }
    }
}
