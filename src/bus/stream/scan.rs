//! Reading for many sessions together: one pass over the stream for all of them.
//!
//! To find the next message of one subject NATS goes through those of others. Where many
//! sessions come back together, each missed some of the same range, and NATS would go through it
//! once for each message of each of them. A scan goes through it once for all, and what it has
//! seen is kept for the sessions that come next ([`Index`]).
//!
//! A scan answers a session only if it can prove the result complete; otherwise the session
//! reads for itself.

mod pass;
mod share;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::iter};
use tokio::{
    sync::Semaphore,
    task::yield_now,
    time::{Instant, timeout},
};

use self::{pass::pass, share::share};
use super::{Bounds, LeaderState, Reads, Stream, StreamError, Wanted, index::Index, lock};

/// How long a scan may take. After that it is given up.
const SCAN: Duration = Duration::from_secs(10);
/// How long no session uses the index before it is dropped.
const IDLE: Duration = Duration::from_secs(10);
/// What a message costs in the index that is not held, about, in bytes.
const MESSAGE_BYTES: usize = 128;
/// The same of one that is held, if it is small.
const HELD_BYTES: usize = 512;
/// Messages that are read by their sequence at the same time, for one session.
const FETCHES_OF_A_SESSION: usize = 16;
/// Sessions for which messages are read by their sequence at the same time.
const SESSIONS_FETCHING: usize = 8;

/// The index, and the memory that there is.
#[derive(Debug)]
pub(super) struct Scans {
    index: std::sync::Mutex<(Index, Instant)>,
    /// The lowest sequence after which sessions wanted something lately, and since when.
    lowest: std::sync::Mutex<Option<(u64, Instant)>>,
    /// Scans are one after the other.
    turn: tokio::sync::Mutex<()>,
    /// What the scan under way will have seen: after which sequence, up to which.
    under_way: std::sync::Mutex<Option<(u64, u64)>>,
    /// Bytes of the index at most.
    most: usize,
    /// Messages that one scan can go through.
    reach: AtomicU64,
    /// Memory for messages that are handed on, in bytes. What finds no room is only counted,
    /// and read in a later round of its session.
    room: Arc<Semaphore>,
}

/// What is to be read for one session.
#[derive(Debug)]
pub struct Request {
    /// One entry for each of its channels; `None` for a channel of which nothing is wanted.
    pub wanted: Vec<Option<Wanted>>,
    /// How much of each channel is read at most.
    pub bounds: Bounds,
    /// Whether messages that are not held in memory are read too, or only counted.
    pub fetches: bool,
}

/// What was read for one session.
#[derive(Debug)]
pub struct Scanned {
    /// What was read of each channel.
    pub reads: Reads,
    /// For each channel the last message that was seen; 0 if there is no message after what was
    /// wanted.
    pub lasts: Vec<u64>,
    /// Everything of these channels up to here was seen.
    pub up_to: u64,
}

impl Scans {
    /// With this much memory, a third of it for messages that are handed on.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            index: std::sync::Mutex::new((Index::default(), Instant::now())),
            lowest: std::sync::Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            under_way: std::sync::Mutex::default(),
            most: bytes / 3 * 2,
            reach: AtomicU64::new((bytes / 3 * 2 / MESSAGE_BYTES) as u64),
            room: Arc::new(Semaphore::new((bytes / 3).min(Semaphore::MAX_PERMITS))),
        }
    }

    /// What the index covers of the stream at a leader query, or will when the scan under way has
    /// ended: after which sequence, up to which.
    pub(super) fn covers(&self, leader: &LeaderState) -> Option<(u64, u64)> {
        let covered = lock(&self.index).0.covers(leader);
        match (covered, *lock(&self.under_way)) {
            (Some((after, up_to)), Some((from, to))) => Some((after.min(from), up_to.max(to))),
            (covered, under_way) => covered.or(under_way),
        }
    }

    /// When the stream stored the message at a sequence, which has one of these subjects, as far
    /// as scans have seen it.
    pub(super) fn stored_at(
        &self,
        subjects: &[Arc<str>],
        seq: u64,
        leader: &LeaderState,
    ) -> Option<u64> {
        let index = &lock(&self.index).0;
        let mut subjects = subjects.iter();
        subjects.find_map(|subject| index.stored_at(subject, seq, leader))
    }

    /// Messages that one scan can go through.
    pub(super) fn reach(&self) -> u64 {
        self.reach.load(Ordering::Relaxed)
    }

    /// Memory of the index at most while it holds messages; the rest is for sequences.
    fn holds(&self) -> usize {
        self.most / 8 * 7
    }

    /// Lets go of messages so that there is room for a scan of this many. Returns the room.
    fn make_room(&self, messages: u64) -> usize {
        let wanted = usize::try_from(messages).unwrap_or(usize::MAX);
        let wanted = wanted.saturating_mul(HELD_BYTES).min(self.most / 2);
        let mut index = lock(&self.index);
        index.0.let_go(self.most - wanted);
        self.most.saturating_sub(index.0.bytes())
    }

    /// A session wants what is after a sequence. Returns the lowest of these lately: others
    /// that come back may want as much.
    fn wants(&self, after: u64) -> u64 {
        let mut lowest = lock(&self.lowest);
        let now = Instant::now();
        let lately = lowest.filter(|(_, since)| now - *since < 3 * IDLE);
        let low = match lately {
            Some((low, since)) if low <= after => (low, since),
            _ => (after, now),
        };
        *lowest = Some(low);
        low.0
    }

    /// A scan gives up: the index has no room for what it went through. What the index has
    /// already makes way for the next scan; if that is nothing, later scans go less far. Returns
    /// the error of this one.
    fn gives_up(&self, part: &Index) -> StreamError {
        if std::mem::take(&mut lock(&self.index).0).bytes() == 0 {
            let most = u64::try_from(self.most).unwrap_or(u64::MAX);
            let messages = part.messages().saturating_mul(most) / part.bytes().max(1) as u64;
            self.reach.fetch_min(messages / 4 * 3, Ordering::Relaxed);
        }
        StreamError::Odd("more was missed than the index holds; see durable.replay_bytes".into())
    }
}

impl Stream {
    /// Drops the index where no session has used it for some time. Returns when it may next be
    /// idle; `None` if there is no index.
    pub fn drop_idle_index(&self) -> Option<Instant> {
        let mut index = lock(&self.0.scans.index);
        let idle_at = index.1 + IDLE;
        if idle_at <= Instant::now() {
            index.0 = Index::default();
            self.0.metrics.rounds.index_bytes.set(0);
        }
        (index.0.bytes() > 0).then_some(idle_at)
    }
}

/// Reads for these sessions; `leader` is what the leader had before the sessions were found to miss
/// something. `None` for a session for which the scan cannot prove its result complete.
///
/// # Errors
///
/// [`StreamError`]: the scan took more than ten seconds, failed, or is more than the index holds.
pub(super) async fn scan(
    stream: &Stream,
    requests: Vec<Request>,
    leader: &LeaderState,
) -> Result<Vec<Option<Scanned>>, StreamError> {
    let wanted = requests
        .iter()
        .flat_map(|request| &request.wanted)
        .flatten();
    let oldest = wanted.map(|wanted| wanted.after).min().unwrap_or(0);
    {
        let _turn = stream.0.scans.turn.lock().await;
        let extending = timeout(SCAN, extend(stream, oldest, leader)).await;
        extending.unwrap_or(Err(StreamError::TimedOut))?;
    }
    let fetching = iter(requests).map(async |request| {
        // Live messages don't wait until all sessions have theirs.
        yield_now().await;
        let share = {
            let scans = &stream.0.scans;
            let mut index = lock(&scans.index);
            index.1 = Instant::now();
            share(&index.0, request, leader, (&scans.room, scans.most / 2))
        };
        share?.fetched(stream).await
    });
    Ok(fetching.buffered(SESSIONS_FETCHING).collect().await)
}

/// Has the index cover what is after a sequence, up to what the leader had.
///
/// # Errors
///
/// [`StreamError`]; what the index had before is still true then.
async fn extend(stream: &Stream, oldest: u64, leader: &LeaderState) -> Result<(), StreamError> {
    let scans = &stream.0.scans;
    let covered = {
        let mut index = lock(&scans.index);
        let low = scans.wants(oldest);
        if index.0.bytes() > scans.most / 2 {
            index.0.forget(low);
        }
        if index.0.bytes() > scans.most / 16 * 15 {
            index.0 = Index::default();
        }
        // What is far from it is no part of it.
        let covered = index.0.covers(leader);
        covered.filter(|(_, up_to)| *up_to >= oldest)
    };
    let keep = |change: &mut dyn FnMut(&mut Index)| {
        let mut index = lock(&scans.index);
        change(&mut index.0);
        index.0.let_go(scans.holds());
        let bytes = i64::try_from(index.0.bytes()).unwrap_or(i64::MAX);
        stream.0.metrics.rounds.index_bytes.set(bytes);
    };
    let Some((after, up_to)) = covered else {
        let mut part = pass(stream, oldest, (leader.last, u64::MAX), leader).await?;
        keep(&mut |index| *index = std::mem::take(&mut part));
        return Ok(());
    };
    if oldest < after {
        let mut earlier = pass(stream, oldest, (after, after), leader).await?;
        keep(&mut |index| {
            earlier.join(std::mem::take(index));
            *index = std::mem::take(&mut earlier);
        });
    }
    if up_to < leader.last {
        let mut later = pass(stream, up_to, (leader.last, u64::MAX), leader).await?;
        keep(&mut |index| index.join(std::mem::take(&mut later)));
    }
    Ok(())
}
