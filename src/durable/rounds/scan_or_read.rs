//! The ways in which a round reads: for many sessions in one scan, or for each by itself.

use std::{collections::HashSet, sync::Arc};

use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self},
};
use tokio::sync::Semaphore;

use super::{Facts, MAX_CONCLUDED, Reader, choice};
use crate::{
    bus::stream::{Bounds, LeaderState, Reads, Request, Scanned},
    durable::Durable,
};

impl Durable {
    /// Catches up sessions that no scan has read for. Where the last messages of their channels
    /// are known, these are the last up to a sequence.
    pub(super) async fn read(
        self: &Arc<Self>,
        readers: Vec<Reader>,
        (leader, known): (&LeaderState, u64),
    ) {
        let (unasked, mut readers): (Vec<_>, Vec<_>) =
            (readers.into_iter()).partition(|reader| reader.lasts.is_empty());
        let subjects = unasked.iter().flat_map(|reader| &reader.subjects);
        let subjects: HashSet<_> = subjects.cloned().collect();
        let mut up_to = known;
        if !unasked.is_empty() {
            match self.stream.lasts(&Vec::from_iter(subjects), leader).await {
                Ok(lasts) => {
                    up_to = up_to.min(lasts.up_to);
                    readers.extend(unasked.into_iter().map(|reader| Reader {
                        lasts: lasts.all(&reader.subjects).unwrap_or_default(),
                        ..reader
                    }));
                }
                Err(error) => {
                    let sessions = unasked.into_iter().map(Reader::waiting).collect();
                    self.fail(sessions, &error).await;
                }
            }
        }
        if readers.is_empty() {
            return;
        }
        let facts = &Facts::new(leader, up_to);
        let (behind, even): (Vec<_>, Vec<_>) = readers.into_iter().partition(Reader::is_behind);
        self.metrics.rounds.read_for("none", even.len());
        let even = even.into_iter().map(async |reader| {
            let none = Reads::none(reader.lasts.len());
            self.conclude(reader, Ok(none), facts).await;
        });
        let (scanned, alone) = choice::choose(behind, &self.stream, leader, &self.own_reads_cost);
        let scan = async {
            let unserved = self.scan(scanned, (leader, facts.up_to)).await;
            self.alone(unserved, facts).await;
        };
        tokio::join!(join_all(even), self.alone(alone, facts), scan);
    }

    /// Reads for each session by itself. Where many clients come back, what they missed is counted
    /// first, so that none of them waits for its welcome until others have been read for.
    async fn alone(self: &Arc<Self>, readers: Vec<Reader>, facts: &Facts) {
        let counts = choice::are_many(&readers);
        let (joins, others): (Vec<_>, Vec<_>) = readers
            .into_iter()
            .partition(|reader| counts && reader.joins.is_some());
        self.metrics.rounds.read_for("count", joins.len());
        self.metrics.rounds.read_for("read", others.len());
        tokio::join!(
            self.read_each(joins, Bounds::COUNT_ONLY, &self.counts, facts),
            self.read_each(others, self.bounds(), &self.own_reads, facts),
        );
    }

    async fn read_each(
        self: &Arc<Self>,
        readers: Vec<Reader>,
        bounds: Bounds,
        permits: &Semaphore,
        facts: &Facts,
    ) {
        let reading = readers.into_iter().map(|reader| async move {
            let Ok(permit) = permits.acquire().await else {
                return;
            };
            let reads = self
                .stream
                .read(&reader.wanted(), bounds, &facts.leader)
                .await;
            let later = self.conclusion(reader, reads, facts).await;
            drop(permit);
            self.want_later(later).await;
        });
        let reading = stream::iter(reading).buffer_unordered(MAX_CONCLUDED);
        reading.collect::<()>().await;
    }

    /// Reads for all of them in one scan. What is not read of their channels is known up to a
    /// sequence. Returns those for whom the scan shows too little.
    pub(super) async fn scan(
        self: &Arc<Self>,
        readers: Vec<Reader>,
        (leader, known): (&LeaderState, u64),
    ) -> Vec<Reader> {
        if readers.is_empty() {
            return readers;
        }
        let request = |reader: &Reader| Request {
            wanted: reader.wanted(),
            bounds: self.bounds(),
            // Who waits to be told where it begins does not wait for messages.
            fetches: reader.joins.is_none(),
        };
        let scan = self
            .stream
            .scan(readers.iter().map(request).collect(), leader);
        let scanned = scan.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "many sessions cannot be read for together");
            Vec::new()
        });
        let up_to = scanned.iter().flatten().map(|scanned| scanned.up_to).min();
        let facts = &Facts::new(leader, up_to.unwrap_or(leader.last).min(known));
        let scanned = scanned.into_iter().chain(std::iter::repeat_with(|| None));
        let mut unserved = Vec::new();
        let mut concluding = Vec::new();
        for (mut reader, scanned) in readers.into_iter().zip(scanned) {
            match scanned {
                Some(Scanned { reads, lasts, .. }) => {
                    reader.lasts.resize(lasts.len(), 0);
                    let scanned = reads.of.iter().zip(lasts);
                    for (last, (read, scanned)) in reader.lasts.iter_mut().zip(scanned) {
                        if read.is_some() {
                            *last = scanned;
                        }
                    }
                    concluding.push(self.conclude(reader, Ok(reads), facts));
                }
                None => unserved.push(reader),
            }
        }
        self.metrics.rounds.read_for("scan", concluding.len());
        let concluding = stream::iter(concluding).buffer_unordered(MAX_CONCLUDED);
        concluding.collect::<()>().await;
        unserved
    }

    /// How much a session gets in one round: at most half of a backlog.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            messages: (self.limits.messages / 2).max(1),
            bytes: self.limits.bytes / 2,
        }
    }
}
