//! Durable mode: what the registry knows of the stream, and who waits to be brought
//! something from it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::{Entry, Registry, outbox::Outbox, spread};
use crate::{
    bus::stream::{Look, Stream, StreamError},
    close::CloseReason,
    message::Stored,
    supervision,
};

/// A live message that claims to be beyond all that is known of the stream is checked at
/// most this often; between two checks a claim within [`PLAUSIBLE`] of the last is
/// believed. A false one that slips through is found by the next audit.
const CHECK: Duration = Duration::from_millis(10);
/// Messages that a stream stores at most between two checks.
const PLAUSIBLE: u64 = 10_000;
/// As long where the stream does not answer.
const UNANSWERED: Duration = Duration::from_secs(1);
/// What is known comes again: the stream is looked at for that at most this often.
const AGAIN: Duration = Duration::from_secs(1);
/// The stream's word on a live message is waited for this long; all others wait behind.
const PATIENCE: Duration = Duration::from_millis(500);
/// Sessions of a stream that is no more are closed across this.
const SPREAD: Duration = Duration::from_secs(5);

/// Durable mode's part of the registry.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) stream: Stream,
    pub(super) config: Config,
    epoch: Mutex<Option<Arc<str>>>,
    /// The stream's last sequence, as its leader said last.
    last: AtomicU64,
    /// Who is to be brought something, each at most once.
    waiting: Mutex<VecDeque<Waiting>>,
    pub(super) woken: Notify,
    /// When something known came again and the stream was looked at for that.
    looked: Mutex<Option<Instant>>,
    /// Who joined lately, and when they are looked at again.
    joined: Mutex<VecDeque<(Instant, Arc<Entry>)>>,
}

/// How durable mode treats sessions.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Messages that one session is brought at most.
    pub max_replay: u64,
    /// All are compared with the stream this often.
    pub audit: Duration,
}

/// A session that is to be brought something.
pub(super) type Waiting = (Arc<Entry>, Arc<Outbox>);

/// What is believed of live messages since the last check of one.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// A plausible claim is believed until then.
    until: Option<Instant>,
    /// The highest that was believed, and not checked yet.
    claimed: Option<u64>,
}

impl Checked {
    /// Ready when it is time to check what was believed; never, where that is nothing.
    pub(super) async fn is_due(&self) {
        match (self.claimed, self.until) {
            (Some(_), Some(until)) => sleep_until(until).await,
            _ => std::future::pending().await,
        }
    }
}

/// What the stream says of a live message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Genuine {
    /// It has it, or may have.
    Yes,
    /// It has not come that far.
    No,
    /// It does not answer.
    Unknown,
}

impl Durable {
    pub(super) fn new(stream: Stream, config: Config) -> Self {
        Self {
            stream,
            config,
            epoch: Mutex::default(),
            last: AtomicU64::new(0),
            waiting: Mutex::default(),
            woken: Notify::new(),
            looked: Mutex::default(),
            joined: Mutex::default(),
        }
    }

    /// Which stream it is; none until it was looked at.
    pub(super) fn epoch(&self) -> Option<Arc<str>> {
        self.lock_epoch().clone()
    }

    fn lock_epoch(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Someone is to be brought something; whoever says so has marked it as queued.
    pub(super) fn wants(&self, entry: Arc<Entry>, outbox: Arc<Outbox>) {
        self.waiting().push_back((entry, outbox));
        self.woken.notify_one();
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn joined(&self) -> MutexGuard<'_, VecDeque<(Instant, Arc<Entry>)>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// What the stream's leader has; whoever holds a place in another stream of the same
    /// name is told to come anew.
    pub(super) async fn look(self: &Arc<Self>, durable: &Durable) -> Result<Look, StreamError> {
        let known = durable.last.load(Ordering::Relaxed);
        let look = durable.stream.look().await?;
        let homeless = {
            let mut epoch = durable.lock_epoch();
            let before = epoch.replace(look.epoch.clone());
            let anew = before.is_some_and(|before| before != look.epoch);
            // Before anybody can build a frame of the new stream.
            anew.then(|| self.disown())
        };
        match homeless {
            Some(homeless) => {
                tracing::warn!("the stream was made anew; all sessions have to come again");
                durable.last.store(look.last, Ordering::Relaxed);
                send_away(homeless);
            }
            _ if look.last < known => {
                tracing::warn!("the stream has lost its end; whoever has more has to come again");
                durable.last.store(look.last, Ordering::Relaxed);
                self.send_away_beyond(look.last);
            }
            _ => {
                durable.last.fetch_max(look.last, Ordering::Relaxed);
            }
        }
        Ok(look)
    }

    /// Everybody whose place is in a stream that is no more gets nothing of another one: a
    /// client would take its position there for one up to where it has everything.
    fn disown(&self) -> Vec<Arc<Outbox>> {
        let mut all = Vec::new();
        self.each(|outbox| {
            if outbox.is_welcomed() {
                outbox.disown();
                all.push(outbox.clone());
            }
        });
        all
    }

    /// Whether a live message is one of the stream's: it may only move a session's place
    /// where the stream has come that far.
    pub(super) async fn is_genuine(
        self: &Arc<Self>,
        durable: &Durable,
        stored: Stored,
        checked: &mut Checked,
    ) -> Genuine {
        let last = durable.last.load(Ordering::Relaxed);
        if stored.seq <= last {
            return Genuine::Yes;
        }
        let plausible = stored.seq - last <= PLAUSIBLE;
        let lately = checked.until.is_some_and(|until| Instant::now() < until);
        if lately && plausible {
            checked.claimed = checked.claimed.max(Some(stored.seq));
            return Genuine::Yes;
        }
        match self.check(checked).await {
            Some(last) if stored.seq <= last => Genuine::Yes,
            // Whoever forges one may forge more.
            Some(_) => {
                checked.until = None;
                Genuine::No
            }
            // Rather than bring it to everybody from a stream that does not answer.
            None if plausible => {
                checked.claimed = checked.claimed.max(Some(stored.seq));
                Genuine::Yes
            }
            None => Genuine::Unknown,
        }
    }

    /// Holds what was believed against the stream; returns its last sequence, where it
    /// answers.
    pub(super) async fn check(self: &Arc<Self>, checked: &mut Checked) -> Option<u64> {
        let durable = self.durable.as_ref()?;
        let begun = Instant::now();
        let Ok(Ok(look)) = timeout(PATIENCE, self.look(durable)).await else {
            // All others wait behind this one, which must not be so for each.
            checked.until = Some(Instant::now() + UNANSWERED);
            return None;
        };
        checked.until = Some(begun + CHECK);
        if checked
            .claimed
            .take()
            .is_some_and(|claimed| claimed > look.last)
        {
            tracing::error!(
                "a session was brought what is not in the stream: somebody but NATS publishes \
                 where it republishes; see the permissions"
            );
            self.metrics.dropped("not_in_stream", 1);
            self.send_away_beyond(look.last);
        }
        Some(look.last)
    }

    /// Ends sessions that have more than there is in the stream.
    fn send_away_beyond(&self, last: u64) {
        self.each(|outbox| {
            let covered = outbox.covered().unwrap_or_default();
            if outbox.is_welcomed() && covered.iter().any(|covered| *covered > last) {
                outbox.end(CloseReason::BusLost.into());
            }
        });
    }

    /// Something that is known came again, which is also what the first messages of a
    /// stream that was made anew look like.
    pub(super) fn look_again(self: &Arc<Self>, durable: &Arc<Durable>) {
        let mut looked = durable
            .looked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if looked.is_none_or(|at| at.elapsed() >= AGAIN) {
            *looked = Some(Instant::now());
            let (registry, durable) = (self.clone(), durable.clone());
            supervision::spawn("another look at the stream", async move {
                let _ = registry.look(&durable).await;
            });
        }
    }
}

fn send_away(homeless: Vec<Arc<Outbox>>) {
    let closing = spread(homeless, SPREAD, move |outbox: Arc<Outbox>, _, _| {
        outbox.end(CloseReason::BusLost.into());
    });
    supervision::spawn("the closing of sessions", closing);
}
