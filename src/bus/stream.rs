//! The stream that keeps what is published: what is in it, read straight from it.
//!
//! Never a consumer and never a stream for a user: a leader query about the whole stream, the
//! last messages of many subjects together, and batches of one subject's messages, or of
//! all subjects' for many sessions (NATS's ADR-31, direct get), over a connection of their own.
//!
//! Direct gets are answered by any replica, and one that lags answers without an
//! error. So each answer is held against what the stream's leader had before
//! ([`LeaderState`]).

mod api;
mod bad_subjects;
mod batch;
mod index;
mod info;
mod lasts;
mod leader;
mod leftover;
mod limits;
mod offline;
mod read;
mod scan;
mod shape;
mod times;
mod upkeep;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

pub(super) use self::leftover::{leftover, storing};
pub use self::{
    bad_subjects::Odd,
    lasts::Lasts,
    leader::LeaderState,
    leftover::Leftover,
    offline::ConsumerError,
    read::{Bounds, Found, Read, Reads, Wanted},
    scan::{Request, Scanned},
    shape::{Difference, Mend},
    upkeep::Checked,
};
pub(super) use self::{
    bad_subjects::odd,
    offline::{Delivery, NAME as OFFLINE, see_to as see_to_offline},
    upkeep::{Reach, see_to},
};
#[cfg(fuzzing)]
pub(super) use self::{batch::Reply, offline::event as offline_event};
use self::{leader::LeaderQueries, offline::Offline, scan::Scans, times::Times};
use super::{
    Subjects, Task,
    caller::{Caller, Unanswered},
    client::Client,
    interest::{Event, Supervisor},
};
use crate::{
    channel::Channel, metrics::Metrics, position::Position, readiness::Readiness, user::UserId,
};

/// The stream answers within this, or is away.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a ticket waits for the position that goes with it.
const END: Duration = Duration::from_millis(500);

/// How the stream is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Whether Usher creates it, and changes it where that keeps more.
    pub manage: bool,
    /// How long a message is kept; `None` for no such limit.
    pub max_age: Option<Duration>,
    /// Messages of one user, and broadcasts.
    pub max_messages_per_channel: u32,
    /// Bytes of the whole stream.
    pub max_bytes: usize,
    /// Servers that keep a message.
    pub replicas: u32,
    /// On disk, rather than in memory.
    pub on_disk: bool,
    /// For how long a message id is remembered.
    pub duplicate_window: Duration,
    /// Memory for what was read for sessions that are behind.
    pub replay_bytes: usize,
    /// Whether messages that no session was given are published for services.
    pub offline_events: bool,
}

/// The stream cannot be asked, or did not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// NATS is away.
    #[error("NATS is away")]
    Away,
    /// No answer came in time, or none that could be relied on.
    #[error("the stream did not answer in time")]
    TimedOut,
    /// There is no such stream, or it allows no direct get.
    #[error("there is no stream {0}, or it allows no direct get; see `usher check`")]
    NotThere(String),
    /// None of its replicas leads.
    #[error("the stream {0} has no leader; are enough nodes of the NATS cluster up?")]
    NoLeader(String),
    /// NATS permits this gateway no such question.
    #[error("NATS does not permit $JS.API.{0}; see examples/nats-permissions.conf")]
    Forbidden(String),
    /// NATS runs without JetStream.
    #[error("NATS runs without JetStream; start nats-server with -js")]
    NoJetStream,
    /// JetStream's API answers with an error.
    #[error("the stream's answer is not understood: {description}")]
    Api {
        /// As in HTTP.
        code: u16,
        /// In JetStream's words.
        description: String,
    },
    /// It says something else than is expected of it.
    #[error("the stream's answer is not understood: {0}")]
    Odd(String),
}

impl From<Unanswered> for StreamError {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Forbidden(subject) => Self::Forbidden(subject.replace(api::PREFIX, "")),
            _ => Self::Away,
        }
    }
}

/// The stream. Clones share it.
#[derive(Debug, Clone)]
pub struct Stream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    subjects: Subjects,
    caller: Caller,
    /// For questions to the leader.
    client: Client,
    /// The newest message that this gateway has seen: its sequence, and when it was stored.
    top: Mutex<(u64, u64)>,
    /// What `top` was when the connection was lost, until a leader query has compared it: the
    /// first messages of the next connection may be of a stream that was set back, and beyond it.
    kept: Mutex<Option<(u64, u64)>>,
    leader: LeaderQueries,
    /// Somebody has found that there is no stream.
    gone: Arc<Notify>,
    scans: Scans,
    times: Mutex<Times>,
    metrics: Arc<Metrics>,
    /// Replies that were read by now.
    replies: AtomicU64,
}

impl Stream {
    /// The stream, and what has to be polled for as long as the process lives: `reading`
    /// carries reads of stored messages.
    pub(super) fn new(
        config: Config,
        subjects: Subjects,
        reading: Supervisor,
        reply_prefix: &str,
        client: Client,
        gone: Arc<Notify>,
        (metrics, readiness): (Arc<Metrics>, Readiness),
    ) -> (Self, Vec<Task>) {
        let (offline, heard) = config.offline_events.then(Offline::new).unzip();
        let (caller, calls) = Caller::new(reading, reply_prefix, heard);
        let stream = Self(Arc::new(Shared {
            client: client.clone(),
            top: Mutex::default(),
            kept: Mutex::default(),
            gone,
            scans: Scans::new(config.replay_bytes),
            times: Mutex::default(),
            config,
            subjects,
            caller,
            leader: LeaderQueries::default(),
            metrics,
            replies: AtomicU64::new(0),
        }));
        let offline = offline.map(|offline| offline.tasks(&stream, &client, &readiness));
        let upkeep = upkeep::keep(stream.clone(), client, readiness);
        let mut tasks = vec![
            Task::new("the stream connection", calls),
            Task::new("the upkeep of the stream", upkeep),
        ];
        tasks.extend(offline.into_iter().flatten());
        (stream, tasks)
    }

    /// Waits until the connections work.
    async fn connected(&self) {
        // An error: the process ends.
        let _ = self.0.caller.up().wait_for(|up| *up).await;
    }

    async fn disconnected(&self) {
        let _ = self.0.caller.up().wait_for(|up| !*up).await;
    }

    /// Where the stream ends now, for a client that is about to load its page's state; `None` if
    /// the leader has not said so within 500 ms. All who ask at the same time share one query.
    pub async fn end(&self) -> Option<Position> {
        let leader = timeout(END, self.leader()).await.ok()?.ok()?;
        Some(Position {
            epoch: leader.epoch,
            proven: leader.last,
            top: leader.last,
            at: leader.last_at,
            marks: BTreeMap::new(),
        })
    }

    /// The bus tells what it hears, in this order: what this gateway has seen of the stream
    /// shows whether the stream is set back.
    pub(super) fn heard<K>(&self, event: &Event<K>) {
        match event {
            Event::Message { message, .. } | Event::Broadcast(message) => {
                let mut top = self.top();
                if let Some(stored) = message.stored
                    && stored.seq > top.0
                {
                    *top = (stored.seq, stored.at);
                }
            }
            // The next leader query compares what was seen until now, whatever comes before that query.
            Event::Up { .. } | Event::Down => {
                let top = *self.top();
                if top.0 > 0 {
                    self.kept().get_or_insert(top);
                }
            }
            Event::Confirmed(_) | Event::Refused(_) => {}
        }
    }

    /// Replies that were read by now: where it grows, reading makes progress.
    pub fn replies(&self) -> u64 {
        self.0.replies.load(Ordering::Relaxed)
    }

    /// A channel's subject; a user's is that of `user`.
    pub fn subject(&self, user: &UserId, channel: &Channel) -> Arc<str> {
        let subject = match channel {
            Channel::User => self.0.subjects.user(user),
            Channel::Broadcast => self.0.subjects.broadcast(),
            Channel::Topic(topic) => self.0.subjects.topic(topic),
        };
        subject.into()
    }

    fn kept(&self) -> MutexGuard<'_, Option<(u64, u64)>> {
        lock(&self.0.kept)
    }

    fn top(&self) -> MutexGuard<'_, (u64, u64)> {
        lock(&self.0.top)
    }

    /// The messages of each subject after a sequence, oldest first, as many as the bounds
    /// allow.
    ///
    /// # Errors
    ///
    /// [`StreamError`], after two seconds at the latest.
    pub async fn read(
        &self,
        wanted: &[Option<Wanted>],
        bounds: Bounds,
        leader: &LeaderState,
    ) -> Result<Reads, StreamError> {
        read::read(self, wanted, bounds, leader).await
    }

    /// Reads for many sessions in one scan. `None` for a session for which the scan cannot prove
    /// its result complete: that session reads for itself.
    ///
    /// # Errors
    ///
    /// [`StreamError`]. The scan takes ten seconds at most. Before that a call waits for the
    /// scans under way, one after the other, without a bound of its own: when its turn comes,
    /// they have often seen what it wants.
    pub async fn scan(
        &self,
        requests: Vec<Request>,
        leader: &LeaderState,
    ) -> Result<Vec<Option<Scanned>>, StreamError> {
        scan::scan(self, requests, leader).await
    }

    /// What scans have seen of the stream already: after which sequence, up to which.
    pub fn scanned(&self, leader: &LeaderState) -> Option<(u64, u64)> {
        self.0.scans.covers(leader)
    }

    /// Messages that one scan can go through.
    pub fn reach(&self) -> u64 {
        self.0.scans.reach()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// [`Stream::end`] of durable mode; `None` in live mode.
pub async fn end(stream: Option<&Stream>) -> Option<Position> {
    stream?.end().await
}
