//! What the stream's leader has: one question for all who want to know.

mod info;
mod stored;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use self::stored::outlives;
pub(super) use self::stored::{stored, stored_at};
use super::{
    ANSWER, Stream, StreamError,
    info::info,
    limits::{self, Raised},
    lock,
};
use crate::frame::Proof;

/// A leader that was just elected, or that does not know yet that another one was, may have
/// less than was seen of the stream, for no longer than this. A stream that was set back stays
/// so.
const ELECTION: Duration = Duration::from_secs(10);
/// How long it takes from a message's timestamp until the stream's state shows it, in
/// milliseconds.
const STORING_MS: u64 = 1_000;
/// Between two questions, where no leader answers.
const PAUSE: Duration = Duration::from_millis(50);

/// The state of the stream, by its leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderState {
    /// Which stream it is: another one of the same name has another.
    pub epoch: Arc<str>,
    /// The sequence of the oldest message, or of the next one where there is none.
    pub first: u64,
    /// The sequence of the newest message.
    pub last: u64,
    /// When that was stored, in milliseconds since 1970; 0 where there is none.
    pub last_at: u64,
    /// How often, since this process began, the stream was made anew, or set back to an older
    /// state: it no longer had the newest message that this gateway had seen, or another in its
    /// place. Of two leader queries the later one never has less.
    pub replacements: u64,
    /// How often a leader query could not tell whether the stream was set back: the message that
    /// it looked for was gone.
    pub(super) unsure: u64,
    /// Messages of one subject at most; `None` for any number.
    pub per_subject: Option<u64>,
    /// Whether a direct get may be answered by a replica that lags.
    pub(super) replicated: bool,
    /// The stream's oldest message is pinned: it has its own `Nats-TTL` and is older than
    /// `max_age`. Then `first` does not tell which later messages were removed by age.
    pinned: bool,
    /// The server's clock, in milliseconds since 1970.
    now: u64,
    /// How long messages are kept, in milliseconds; 0 for any time.
    max_age: u64,
    /// Limits that were raised since.
    raised: Vec<Raised>,
}

impl LeaderState {
    /// A stream with these sequences, for tests.
    #[cfg(test)]
    pub(crate) fn example(first: u64, (last, last_at): (u64, u64), limit: u64) -> Self {
        Self {
            epoch: "k".into(),
            first,
            last,
            last_at,
            replacements: 0,
            unsure: 0,
            per_subject: Some(limit),
            replicated: false,
            pinned: false,
            now: last_at,
            max_age: 0,
            raised: Vec::new(),
        }
    }

    /// The same of a stream with replicas, for tests.
    #[cfg(test)]
    pub(crate) fn replicated(self) -> Self {
        let replicated = true;
        Self { replicated, ..self }
    }

    /// Of a session that was compared with this.
    pub fn proof(&self) -> Proof {
        let (seq, at) = (self.last, self.last_at);
        Proof { seq, at }
    }

    /// What a session that was compared with this knows: everything after this sequence was
    /// stored at or after this time.
    pub fn known(&self) -> Proof {
        let (seq, at) = (self.last, self.now.saturating_sub(STORING_MS));
        Proof { seq, at }
    }

    /// Whether a leader that was just elected may have less for a moment.
    pub fn may_be_short(&self) -> bool {
        self.replicated
    }

    /// Whether the stream was neither made anew nor set back between two leader queries.
    pub fn is_the_same_as(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.replacements == other.replacements
    }

    /// Which stream it is, for as long as it is certain that it was not set back.
    pub(super) fn history(&self) -> History {
        History(self.epoch.clone(), self.replacements, self.unsure)
    }

    /// Whether nothing after this sequence was removed from the stream's beginning: by
    /// its age, or for want of room. `known`: everything after that sequence was stored at or
    /// after that time.
    pub fn has_all_after(&self, seq: u64, known: Proof) -> bool {
        let nothing_followed = seq >= self.last;
        let is_young = seq >= known.seq && self.keeps(known.at);
        self.first <= seq + 1 && (!self.pinned || nothing_followed || is_young)
    }

    /// Whether what was stored at or after this time has not reached its age.
    pub(super) fn keeps(&self, at: u64) -> bool {
        self.max_age == 0 || self.now.saturating_sub(at) < self.max_age
    }

    /// Whether the stream's oldest message has its own `Nats-TTL` and is older than `max_age`.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// The smallest number of messages that a subject could have of those after a sequence;
    /// `None` for any number.
    pub(super) fn limit_after(&self, seq: u64) -> Option<u64> {
        let before = self.raised.iter().filter(|raised| raised.up_to > seq);
        before
            .map(|raised| raised.limit)
            .chain(self.per_subject)
            .min()
    }
}

/// What was read of the stream at two moments is of one and the same stream if their histories
/// are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History(Arc<str>, u64, u64);

type LeaderQuery = Shared<BoxFuture<'static, Result<LeaderState, StreamError>>>;

/// One leader query serves all who want to know before it begins.
#[derive(Debug, Default)]
pub(super) struct LeaderQueries {
    /// The leader query that has not begun yet.
    next: Mutex<Option<LeaderQuery>>,
    /// Leader queries run one after the other.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    epoch: Option<Arc<str>>,
    replacements: u64,
    unsure: u64,
    /// Since when the leader has less than was seen.
    short_since: Option<Instant>,
    /// The limit of a subject, and those that were raised since this process began.
    per_subject: Option<u64>,
    raised: Vec<Raised>,
}

impl LeaderQueries {
    /// Remembers the stream of this leader query. Returns whether it is that of the one before.
    fn remember_epoch(&self, epoch: &Arc<str>) -> bool {
        let mut state = self.state();
        let before = state.epoch.replace(epoch.clone());
        let same = before.is_none_or(|before| before == *epoch);
        // Immediately: the query may fail after this, and the next one finds nothing new.
        state.replacements += u64::from(!same);
        same
    }

    /// Adds the limits that were raised while this process looked on.
    fn add_raised(&self, leader: &mut LeaderState, same: bool) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.per_subject, leader.per_subject);
        if !same {
            state.raised.clear();
        } else if let Some(limit) = before
            && leader.per_subject.is_none_or(|now| now > limit)
        {
            let up_to = leader.last;
            limits::add(&mut state.raised, Raised { up_to, limit });
        }
        leader.raised.extend(&state.raised);
    }

    /// Whether a leader that has less than was seen has had time enough to catch up.
    fn stays(&self, short: bool) -> bool {
        let mut state = self.state();
        match short {
            false => state.short_since = None,
            true => drop(state.short_since.get_or_insert_with(Instant::now)),
        }
        let since = state.short_since;
        since.is_some_and(|since| since.elapsed() >= ELECTION)
    }

    /// How often it was replaced by now, and how often that was not certain.
    fn count(&self, compared: Compared) -> (u64, u64) {
        let mut state = self.state();
        state.replacements += u64::from(compared == Compared::Other);
        state.unsure += u64::from(compared == Compared::Gone);
        (state.replacements, state.unsure)
    }

    fn next(&self) -> MutexGuard<'_, Option<LeaderQuery>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// What the stream's leader has now: the leader query begins after this call.
    ///
    /// # Errors
    ///
    /// [`StreamError`], after four seconds at the latest: two for the leader query before this
    /// one, and two for its own.
    pub async fn leader(&self) -> Result<LeaderState, StreamError> {
        let leader = {
            let mut next = self.0.leader.next();
            let leader = next.get_or_insert_with(|| begin(self.clone()).boxed().shared());
            leader.clone()
        };
        leader.await
    }
}

async fn begin(stream: Stream) -> Result<LeaderState, StreamError> {
    let _turn = stream.0.leader.turn.lock().await;
    // Who comes from here on waits for the next one.
    *stream.0.leader.next() = None;
    let leader = timeout_at(Instant::now() + ANSWER, leaders(&stream)).await;
    let leader = leader.unwrap_or(Err(StreamError::TimedOut));
    if let Err(StreamError::NotThere(_) | StreamError::TimedOut) = leader {
        stream.0.gone.notify_one();
    }
    leader
}

/// Asks until a leader answers.
async fn leaders(stream: &Stream) -> Result<LeaderState, StreamError> {
    let name = &stream.0.config.name;
    loop {
        // Before the question: what is seen during it may be newer than the answer.
        let top = *stream.top();
        let kept = *stream.kept();
        let answer = match info(&stream.0.client, "INFO", name, &json!({})).await {
            Err(StreamError::NoLeader(_) | StreamError::Api { code: 503, .. }) => {
                sleep(PAUSE).await;
                continue;
            }
            answer => answer?,
        };
        let first_at = answer.first_at();
        let mut leader = answer.leader()?;
        // Of another stream it says nothing.
        let same = stream.0.leader.remember_epoch(&leader.epoch);
        let seen = top.0.max(kept.map_or(0, |kept| kept.0));
        let short = same && leader.replicated && seen > leader.last;
        if short != stream.0.leader.stays(short) {
            let short = "its leader has less than was seen of it, and may be a new one";
            return Err(StreamError::Odd(short.to_owned()));
        }
        let mut compared = Compared::Same;
        if same {
            compared = compare(stream, &leader, top).await?;
            if let Some(kept) = kept
                && kept != top
            {
                compared = compared.max(compare(stream, &leader, kept).await?);
            }
        }
        leader.pinned = !leader.keeps(first_at) && outlives(stream, leader.first).await?;
        // It may have been kept anew since the question.
        let mut now = stream.kept();
        if *now == kept {
            *now = None;
        }
        drop(now);
        let mut seen = stream.top();
        if compared == Compared::Other || !same || leader.last > seen.0 {
            *seen = (leader.last, leader.last_at);
        }
        (leader.replacements, leader.unsure) = stream.0.leader.count(compared);
        stream.0.leader.add_raised(&mut leader, same);
        lock(&stream.0.times).learn(leader.history(), leader.last, leader.last_at);
        return Ok(leader);
    }
}

/// What the stream has where this gateway has seen a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Compared {
    /// That message.
    Same,
    /// None: it was removed, which says nothing.
    Gone,
    /// Another one, or its end: the stream was set back.
    Other,
}

async fn compare(
    stream: &Stream,
    leader: &LeaderState,
    (seq, seen_at): (u64, u64),
) -> Result<Compared, StreamError> {
    Ok(match seq {
        0 => Compared::Same,
        seq if seq > leader.last => Compared::Other,
        seq if (seq, seen_at) == (leader.last, leader.last_at) => Compared::Same,
        // One that is gone says nothing, the last one neither: replicas that were brought up
        // without it know no time of it.
        seq => match stored_at(stream, seq).await? {
            None => Compared::Gone,
            Some(at) if at == seen_at => Compared::Same,
            Some(_) => Compared::Other,
        },
    })
}

#[cfg(test)]
mod tests;
