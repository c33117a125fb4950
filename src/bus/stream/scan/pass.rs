//! One pass over a part of the stream: what a scan reads.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{Index, Scans};
use crate::bus::stream::{
    ANSWER, LeaderState, Stream, StreamError,
    bad_subjects::is_odd,
    batch::{Ended, batch},
    lock,
};

/// Messages of one question at most. Others on the connection wait for as long as one takes.
const BATCH: usize = 1000;
/// Bytes of one question at most.
const BATCH_BYTES: usize = 1 << 20;
/// How long a replica that lags gets before it is asked again.
const LAG_PAUSE: Duration = Duration::from_millis(25);
/// How often a replica that lags is asked again.
const LAG_TRIES: u32 = 10;
/// A scan goes on when it has come to its end and the stream has this many more messages by then.
const NEAR: u64 = 16;
/// How often it goes on. Each time there is less, unless the stream grows faster than scans go.
const MORE: u32 = 4;

/// Goes through what is after a sequence: at least up to the first of these, at most up to the
/// second.
pub(super) async fn pass(
    stream: &Stream,
    after: u64,
    (least, most): (u64, u64),
    leader: &LeaderState,
) -> Result<Index, StreamError> {
    let _under_way = UnderWay::new(&stream.0.scans, (after, least));
    let room = stream.0.scans.make_room(least.saturating_sub(after));
    let (mut least, mut more) = (least, MORE);
    let mut part = Index::new(leader, after);
    loop {
        see(stream, (least, most), (room, leader), &mut part).await?;
        let now = stream.leader().await?;
        // What came meanwhile could be of any channel, and have removed as much of it.
        if now.last.min(most) > part.up_to() + NEAR && more > 0 {
            (least, more) = (now.last, more - 1);
            continue;
        }
        return match part.end(&now) {
            true => Ok(part),
            false => Err(StreamError::Odd("it is not what it was".to_owned())),
        };
    }
}

/// Sees messages until what was seen reaches up to `least`.
async fn see(
    stream: &Stream,
    (least, most): (u64, u64),
    (room, leader): (usize, &LeaderState),
    part: &mut Index,
) -> Result<(), StreamError> {
    let mut lags = 0;
    while part.up_to() < least {
        if part.bytes() > room {
            return Err(stream.0.scans.gives_up(part));
        }
        let read = timeout(ANSWER, from(stream, (least, most), room, part)).await;
        let read = match read.unwrap_or(Err(StreamError::TimedOut))? {
            Ended::Whole(read) => Some(read),
            // The messages at its end are gone.
            Ended::Nothing if !leader.replicated => {
                part.advance(least);
                None
            }
            Ended::Nothing | Ended::TooMuch => None,
        };
        if let Some(read) = read {
            part.advance(read.last.min(most));
        }
        if part.up_to() >= least || read.is_some_and(|read| read.pending > 0) {
            continue;
        }
        if read.is_some() && !leader.replicated {
            // The messages at its end are gone.
            part.advance(least);
        } else if lags < LAG_TRIES {
            lags += 1;
            sleep(LAG_PAUSE).await;
        } else {
            return Err(StreamError::TimedOut);
        }
    }
    Ok(())
}

/// A scan is under way, for as long as this lives.
struct UnderWay<'a>(&'a Scans);

impl<'a> UnderWay<'a> {
    fn new(scans: &'a Scans, range: (u64, u64)) -> Self {
        *lock(&scans.under_way) = Some(range);
        Self(scans)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *lock(&self.0.under_way) = None;
    }
}

/// One batch of a pass.
async fn from(
    stream: &Stream,
    (least, most): (u64, u64),
    room: usize,
    part: &mut Index,
) -> Result<Ended, StreamError> {
    let from = part.up_to() + 1;
    let count = usize::try_from(least + 1 - from)
        .unwrap_or(BATCH)
        .min(BATCH);
    // Without a subject it would be that very message that is asked for, which may be gone.
    let metrics = &stream.0.metrics;
    let question = json!({
        "seq": from,
        "next_by_subj": ">",
        "batch": count,
        "max_bytes": BATCH_BYTES,
    });
    let mut count_seen = 0;
    let ended = batch(stream, &question, count, |seq, _, reply| {
        count_seen += 1;
        if seq <= most && part.see(seq, reply) {
            let subject = reply.headers.last("Nats-Subject").unwrap_or_default();
            if is_odd(&stream.0.subjects, subject) {
                metrics.odd_subjects.inc();
            }
        }
        part.let_go(room / 8 * 7);
    });
    let ended = ended.await;
    metrics.rounds.scanned.inc_by(count_seen);
    ended
}
