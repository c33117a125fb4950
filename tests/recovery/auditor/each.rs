//! One client of the Centrifuge protocol, as the auditor follows it.
//!
//! Such a client keeps the offset of the last publication of each channel, and is told of each
//! channel by itself whether it gets everything after it:
//!
//! - Where `recovered` is true, the channel's offset is the client's own, and every message
//!   after it is owed. Where it is false, the offset is the stream's end, and what is up to
//!   there is not owed. It is false only where a `gap` would be true of that channel alone.
//! - Nothing comes twice, nothing comes of a channel that the client does not follow, and
//!   nothing is missing between two publications of a channel.
//! - The protocol has no times, so a stream that was set back shows only where it is shorter
//!   than what the client saw. A channel of which the client read what the stream lost owes
//!   nothing until the client comes back; then it owes what is after the answer's offset.
//!
//! A publication shows by its message which state of the stream it is of. An answer is of
//! the newer state where the client asked for it after the set-back.

use std::time::Duration;

use super::{Auditor, Books, CHANNELS, Channels, Heard, Id, SetBack, To, Verdict, What};

/// The client, and what it has to have by now.
pub(super) struct Each<'a> {
    auditor: &'a Auditor,
    /// The state of the stream that its frames are of.
    state: usize,
    channels: Channels,
    of: [Channel; CHANNELS],
    verdict: Verdict,
}

/// One channel of a client.
#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    follows: bool,
    /// What the client has to come back with; none where it has to begin anew.
    offset: Option<u64>,
    /// Up to where it has everything that is owed.
    covered: u64,
    /// The last answer said that it gets everything.
    recovered: bool,
    /// When it asked for that answer.
    asked: Duration,
    /// The client read what the stream lost then, and has not come back since.
    ahead_of: Option<SetBack>,
}

impl<'a> Each<'a> {
    pub(super) fn new(auditor: &'a Auditor, channels: Channels) -> Self {
        Self {
            auditor,
            state: 0,
            channels,
            of: Default::default(),
            verdict: Verdict::default(),
        }
    }

    pub(super) fn hears(&mut self, Heard { at, what }: Heard) {
        self.crosses(what, at);
        match what {
            What::Connected { .. } => {
                for channel in &mut self.of {
                    channel.follows = false;
                }
            }
            What::Subscribed {
                channel,
                since,
                offset,
                recovered,
                asked,
            } => {
                self.is_subscribed(channel, since, (offset, recovered), asked, at);
            }
            What::Unsubscribed { channel } => {
                self.of[channel] = Channel::default();
            }
            What::Publication { channel, seq, id } => self.reads(channel, seq, id, at),
            _ => self.complain(format!("{what:?} is of no such client")),
        }
    }

    /// What is missing at the end has not come at all. `at` is when it read the last frame.
    pub(super) fn ends(mut self, at: Option<Duration>) -> Verdict {
        let Some(at) = at else {
            return self.verdict;
        };
        for number in 0..CHANNELS {
            let Channel {
                follows,
                offset,
                ahead_of,
                ..
            } = self.of[number];
            match ahead_of {
                Some(SetBack { to, .. }) if follows => self.complain(format!(
                    "read up to {offset:?} in channel {number}, and did not come back since the \
                     stream was set back to {to}"
                )),
                None if follows => self.misses(number, self.books().last(), at, "the end"),
                _ => {}
            }
        }
        self.verdict
    }

    fn books(&self) -> &'a Books {
        &self.auditor.states[self.state].books
    }

    fn complain(&mut self, complaint: impl AsRef<str>) {
        let (complaint, user) = (complaint.as_ref(), self.channels.user);
        let complaint = format!("a Centrifuge client of user {user}: {complaint}");
        self.verdict.complaints.push(complaint);
    }

    /// Goes on to the state of the stream that this frame is of.
    fn crosses(&mut self, what: What, at: Duration) {
        while let Some(next) = self.auditor.states.get(self.state + 1) {
            let begins = next.begins.filter(|begins| at > begins.at);
            let Some(set_back) = begins else {
                return;
            };
            let newer = match what {
                What::Connected { asked } | What::Subscribed { asked, .. } => asked > set_back.at,
                What::Publication { channel, seq, id } => {
                    let to = self.channels.to()[channel];
                    let is_of = |books: &Books| {
                        let stored = books.stored.get(&seq);
                        stored.is_some_and(|stored| match id {
                            Some(id) => *stored == id,
                            None => stored.to == to && books.sent[stored].large,
                        })
                    };
                    is_of(&next.books) && !is_of(self.books())
                }
                _ => false,
            };
            if !newer {
                return;
            }
            self.state += 1;
            for channel in &mut self.of {
                if channel.offset.is_some_and(|offset| offset > set_back.to) {
                    channel.ahead_of = Some(set_back);
                }
                channel.covered = channel.covered.min(set_back.to);
            }
        }
    }

    fn is_subscribed(
        &mut self,
        number: usize,
        since: Option<u64>,
        (offset, recovered): (u64, bool),
        asked: Duration,
        at: Duration,
    ) {
        let before = self.of[number];
        if since != before.offset {
            let had = before.offset;
            self.complain(format!(
                "came back to channel {number} with {since:?}, and has {had:?}"
            ));
        }
        if before.follows {
            self.complain(format!("was subscribed to channel {number} twice"));
        }
        // The answer may be of the older state where it was asked for before.
        let ahead_of = before.ahead_of.filter(|set_back| asked <= set_back.at);
        let channel = &mut self.of[number];
        *channel = Channel {
            follows: true,
            offset: Some(offset),
            covered: channel.covered,
            recovered,
            asked,
            ahead_of,
        };
        let Some(since) = since else {
            self.verdict.begun += 1;
            if recovered {
                self.complain(format!("channel {number} was recovered from nowhere"));
            }
            return self.begins(number, offset, at);
        };
        match recovered {
            true => self.is_recovered(number, since, before.ahead_of, at),
            false => self.is_not_recovered(number, since, before.ahead_of, at),
        }
    }

    fn is_recovered(&mut self, number: usize, since: u64, ahead_of: Option<SetBack>, at: Duration) {
        self.verdict.recovered += 1;
        let channel = &mut self.of[number];
        let offset = channel.offset.unwrap_or(0);
        if ahead_of.is_some() {
            channel.covered = offset;
        }
        if offset != since {
            self.complain(format!(
                "channel {number} was recovered from {offset}, and not from {since}"
            ));
        }
        if ahead_of.is_some() && !self.books().may_reach(since, at) {
            self.verdict.false_completes += 1;
            self.complain(format!(
                "channel {number} was recovered from {since}, where the stream did not come to yet"
            ));
        }
    }

    fn is_not_recovered(
        &mut self,
        number: usize,
        since: u64,
        ahead_of: Option<SetBack>,
        at: Duration,
    ) {
        self.verdict.unrecovered += 1;
        let offset = self.of[number].offset.unwrap_or(0);
        if ahead_of.is_some() {
            self.verdict.told_of_set_back += 1;
        } else if !self.may_be_gap(number, since, at) {
            self.verdict.false_gaps += 1;
            let state = self.state;
            self.complain(format!(
                "channel {number} was not recovered at {at:?} from {since}, and begins at \
                 {offset}; there is no gap in state {state} of the stream"
            ));
        }
        self.begins(number, offset, at);
    }

    /// Nothing up to here is owed, but for what was sent after the client knew.
    fn begins(&mut self, number: usize, offset: u64, at: Duration) {
        let channel = &mut self.of[number];
        let covered = std::mem::replace(&mut channel.covered, offset);
        let is_new = covered == 0;
        let to = self.channels.to()[number];
        let left_out = self.books().of(to, covered + 1..=offset);
        for (seq, begun) in left_out.collect::<Vec<_>>() {
            if begun <= at {
                self.verdict.forgiven += usize::from(!is_new);
                continue;
            }
            self.verdict.lost += 1;
            self.verdict.missing.push(seq);
            self.complain(format!(
                "channel {number} begins at {offset}, and {seq} of {begun:?} was sent after that"
            ));
        }
    }

    /// Whether it may be true that something is lost after this offset. An answer that was
    /// under way may be of any state since.
    fn may_be_gap(&self, number: usize, since: u64, at: Duration) -> bool {
        let has = [(self.channels.to()[number], since)];
        let states = self.auditor.states.iter().skip(self.state);
        let begun = states.enumerate().take_while(|(later, state)| {
            *later == 0 || state.begins.is_some_and(|begins| at > begins.at)
        });
        let mut may_be = begun.map(|(later, state)| {
            let begins = state.begins.filter(|_| later > 0);
            begins.is_some_and(|begins| since > begins.to) || state.books.is_gap(&has, at)
        });
        may_be.any(|may_be| may_be)
    }

    fn reads(&mut self, number: usize, seq: u64, id: Option<Id>, at: Duration) {
        let to = self.channels.to()[number];
        let channel = &mut self.of[number];
        if !channel.follows {
            return self.complain(format!(
                "{seq} is of channel {number}, which it does not follow"
            ));
        }
        let had = channel.offset.replace(seq).unwrap_or(0);
        if channel.ahead_of.is_some() {
            return;
        }
        if !self.is_it(to, seq, id) {
            return;
        }
        if seq <= had {
            self.verdict.duplicates += 1;
            return self.complain(format!(
                "{seq} came twice, or late: channel {number} was at {had}"
            ));
        }
        self.misses(number, seq - 1, at, "the next one");
        self.of[number].covered = seq;
        self.verdict.accepted += 1;
    }

    /// Whether the stream may have this message there.
    fn is_it(&mut self, to: To, seq: u64, id: Option<Id>) -> bool {
        let books = self.books();
        let Some(id) = id else {
            self.verdict.too_large += 1;
            let good = books.may_be_too_large(to, seq);
            if !good {
                self.verdict.false_gaps += 1;
                self.complain(format!("was told that {seq} is too large; it is not"));
            }
            return good;
        };
        let sent = books.sent.get(&id);
        let good = id.to == to && books.may_be_at(seq, &id);
        if !good {
            let stored = books.stored.get(&seq);
            self.complain(format!("{seq} is {stored:?}, and came to {to:?} as {id:?}"));
        }
        if sent.is_some_and(|sent| sent.large) {
            self.complain(format!("{seq} is too large for a frame, and came"));
        }
        good
    }

    /// What is missing of a channel, up to here.
    fn misses(&mut self, number: usize, up_to: u64, at: Duration, before: &str) {
        let books = self.books();
        let Channel {
            covered,
            recovered,
            asked,
            offset,
            ..
        } = self.of[number];
        let to = self.channels.to()[number];
        for (seq, begun) in books.of(to, covered + 1..=up_to) {
            self.verdict.lost += 1;
            self.verdict.missing.push(seq);
            if recovered && begun < asked {
                self.verdict.false_completes += 1;
            }
            let id = books.stored[&seq];
            self.complain(format!(
                "{seq}, {id:?} of {begun:?}, is missing in channel {number} before {before} at \
                 {at:?}; asked at {asked:?}, recovered {recovered}, offset {offset:?}"
            ));
        }
    }
}
