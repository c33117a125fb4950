//! The last message of each of many subjects, in a few questions.
//!
//! The answer names the sequence up to which the replica that gave it has the stream. It counts
//! only where that is not less than what the leader had before.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    ANSWER, LeaderState, Stream, StreamError,
    batch::{Ended, Whole, batch},
    leader::stored,
};
use crate::message::millis_of;

/// Subjects in one question.
const MAX_SUBJECTS: usize = 128;
/// Between two questions, where the replica that answered lags.
const PAUSE: Duration = Duration::from_millis(5);
/// The last millisecond that NATS can compare, since 1970: it counts nanoseconds in 64 bits.
const LATEST: u64 = i64::MAX as u64 / 1_000_000;

/// The last messages of subjects.
#[derive(Debug)]
pub struct Lasts {
    /// Of each subject that was asked for.
    of: HashMap<Arc<str>, Last>,
    /// No subject has a later message up to this sequence. It is the leader's last at the leader
    /// query, or a later one.
    pub up_to: u64,
}

/// The last message of a subject: its sequence, and when it was stored. 0 where there is none, or
/// where that is not known.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    seq: u64,
    at: u64,
}

impl Lasts {
    /// Nobody was asked.
    pub fn unknown() -> Self {
        Self {
            of: HashMap::new(),
            up_to: u64::MAX,
        }
    }

    /// The sequence of a subject's last message; 0 where there is none.
    pub fn last(&self, subject: &str) -> u64 {
        self.of.get(subject).map_or(0, |last| last.seq)
    }

    /// The same for these subjects, if all of them were asked for.
    pub fn all(&self, subjects: &[Arc<str>]) -> Option<Vec<u64>> {
        let lasts = subjects.iter().map(|subject| self.of.get(subject));
        lasts.map(|last| last.map(|last| last.seq)).collect()
    }

    /// Whether one of these subjects has this last message.
    pub fn has(&self, subjects: &[Arc<str>], seq: u64, at: u64) -> bool {
        let lasts = subjects.iter().filter_map(|subject| self.of.get(subject));
        lasts
            .into_iter()
            .any(|last| (last.seq, last.at) == (seq, at))
    }
}

impl Stream {
    /// The last messages of subjects, by replicas that have all that the leader had (`leader`).
    ///
    /// # Errors
    ///
    /// [`StreamError`]. For each 128 subjects replicas have two seconds to answer with all that
    /// the leader had.
    pub async fn lasts(
        &self,
        subjects: &[Arc<str>],
        leader: &LeaderState,
    ) -> Result<Lasts, StreamError> {
        let none = |subject: &Arc<str>| (subject.clone(), Last::default());
        let mut all = Lasts {
            of: subjects.iter().map(none).collect(),
            up_to: u64::MAX,
        };
        for part in subjects.chunks(MAX_SUBJECTS) {
            let deadline = Instant::now() + ANSWER;
            let found = timeout_at(deadline, async {
                loop {
                    let found = find(self, part, leader).await?;
                    if found.up_to >= leader.last {
                        return Ok(found);
                    }
                    sleep(PAUSE).await;
                }
            });
            let found = found.await.unwrap_or(Err(StreamError::TimedOut))?;
            all.of.extend(found.of);
            all.up_to = all.up_to.min(found.up_to);
        }
        Ok(all)
    }

    /// Whether no message of these subjects that is not above a sequence was stored later than
    /// `at`. A replica that lags may not have what is later, and an answer up to a sequence does
    /// not say how far the replica is. So the stream's leader is asked.
    ///
    /// # Errors
    ///
    /// [`StreamError`], after two seconds at the latest.
    pub async fn nothing_later(
        &self,
        subjects: &[Arc<str>],
        seq: u64,
        at: u64,
    ) -> Result<bool, StreamError> {
        let start_time = time_of(at.saturating_add(1));
        let first = async |subject: &Arc<str>| {
            let question = json!({ "next_by_subj": **subject, "start_time": start_time });
            stored(self, &question).await
        };
        let firsts = timeout(ANSWER, try_join_all(subjects.iter().map(first))).await;
        let firsts = firsts.unwrap_or(Err(StreamError::TimedOut))?;
        Ok(firsts.into_iter().flatten().all(|first| first.seq > seq))
    }
}

/// Asks one replica. What it says is of the moment of its answer.
async fn find(
    stream: &Stream,
    subjects: &[Arc<str>],
    leader: &LeaderState,
) -> Result<Lasts, StreamError> {
    let mut found = Lasts::unknown();
    let mut parts = vec![subjects];
    while let Some(part) = parts.pop() {
        match last_of(stream, part, &mut found.of).await? {
            Ended::Whole(Whole {
                up_to: Some(up_to),
                pending: 0,
                ..
            }) => found.up_to = found.up_to.min(up_to),
            Ended::TooMuch | Ended::Whole(Whole { pending: 1.., .. }) if part.len() > 1 => {
                let (one, other) = part.split_at(part.len() / 2);
                parts.extend([one, other]);
            }
            Ended::TooMuch | Ended::Whole(_) => {
                return Err(StreamError::Odd("one message is too much".to_owned()));
            }
            // A replica that lags says so too.
            Ended::Nothing if leader.replicated => {
                for subject in part {
                    let question = json!({ "last_by_subj": **subject });
                    if let Some(last) = stored(stream, &question).await? {
                        let last = Last {
                            seq: last.seq,
                            at: 0,
                        };
                        found.of.insert(subject.clone(), last);
                    }
                }
                found.up_to = found.up_to.min(leader.last);
            }
            Ended::Nothing => found.up_to = found.up_to.min(leader.last),
        }
    }
    Ok(found)
}

fn names(subjects: &[Arc<str>]) -> Vec<&str> {
    subjects.iter().map(|subject| &**subject).collect()
}

async fn last_of(
    stream: &Stream,
    subjects: &[Arc<str>],
    lasts: &mut HashMap<Arc<str>, Last>,
) -> Result<Ended, StreamError> {
    let question = json!({ "multi_last": names(subjects) });
    let mut found = Vec::new();
    let ended = batch(stream, &question, subjects.len(), |seq, _, message| {
        if let Some(subject) = message.headers.last("Nats-Subject") {
            let at = message.headers.last("Nats-Time-Stamp").and_then(millis_of);
            let at = at.unwrap_or(0);
            found.push((subject.into(), Last { seq, at }));
        }
    });
    let ended = ended.await?;
    lasts.extend(found);
    Ok(ended)
}

/// A time in milliseconds since 1970 as JetStream reads it, [`LATEST`] at most.
fn time_of(millis: u64) -> String {
    let millis = millis.min(LATEST);
    let time = prost_types::Timestamp {
        seconds: i64::try_from(millis / 1000).expect("less than LATEST"),
        nanos: i32::try_from(millis % 1000).expect("below 1000") * 1_000_000,
    };
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_that_nats_can_compare() {
        assert_eq!(time_of(1_764_525_600_007), "2025-11-30T18:00:00.007Z");
        assert_eq!(time_of(u64::MAX), "2262-04-11T23:47:16.854Z");
        let times = [1, 999, 1_000, 1_764_525_600_007].map(|at| millis_of(&time_of(at)));
        assert_eq!(times, [1, 999, 1_000, 1_764_525_600_007].map(Some));
    }
}
