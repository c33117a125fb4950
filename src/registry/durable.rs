//! Durable mode: what the registry knows of the stream, and who waits to be brought
//! something from it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Entry, Registry,
    held_back::{Held, HeldBack},
    outbox::Outbox,
    spread,
};
use crate::{
    bus::stream::{Look, Stream, StreamError},
    close::CloseReason,
    supervision,
};

/// What is known comes again: the stream is looked at for that at most this often.
const AGAIN: Duration = Duration::from_secs(1);
/// Durable mode's part of the registry.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) stream: Stream,
    pub(super) config: Config,
    /// Which stream it is, and how often it was set back; none until it was looked at.
    state: Mutex<Option<(Arc<str>, u64)>>,
    /// Who is to be brought something, each at most once.
    waiting: Mutex<VecDeque<Waiting>>,
    pub(super) woken: Notify,
    /// When something known came again and the stream was looked at for that.
    looked: Mutex<Option<Instant>>,
    /// Who joined lately, and when they are looked at again.
    joined: Mutex<VecDeque<(Instant, Arc<Entry>)>>,
    pub(super) held_back: Arc<HeldBack>,
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
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) entry: Arc<Entry>,
    pub(super) outbox: Arc<Outbox>,
    /// Where the stream could not be read for it the last time.
    pub(super) held_back: Option<Held>,
}

impl Durable {
    pub(super) fn new(stream: Stream, config: Config, held_back: Arc<HeldBack>) -> Self {
        Self {
            stream,
            config,
            state: Mutex::default(),
            waiting: Mutex::default(),
            woken: Notify::new(),
            looked: Mutex::default(),
            joined: Mutex::default(),
            held_back,
        }
    }

    /// Whether the stream is still as it was at a look.
    pub(super) fn is_at(&self, look: &Look) -> bool {
        let state = self.state();
        let state = state.as_ref();
        state.is_some_and(|(epoch, set_backs)| *epoch == look.epoch && *set_backs == look.set_backs)
    }

    fn state(&self) -> MutexGuard<'_, Option<(Arc<str>, u64)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Someone is to be brought something; whoever says so has marked it as queued.
    pub(super) fn wants(&self, entry: Arc<Entry>, outbox: Arc<Outbox>) {
        self.waiting().push_back(Waiting {
            entry,
            outbox,
            held_back: None,
        });
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
    /// What the stream's leader has. Where the stream was made anew or set back since, all
    /// sessions have to come again: their positions are of what is no more.
    pub(super) async fn look(self: &Arc<Self>, durable: &Durable) -> Result<Look, StreamError> {
        let look = durable.stream.look().await?;
        let now = (look.epoch.clone(), look.set_backs);
        let homeless = {
            let mut state = durable.state();
            let before = state
                .as_ref()
                .map(|(epoch, set_backs)| (epoch.clone(), *set_backs));
            // Of several looks the older one says nothing new.
            let is_news = match &before {
                None => true,
                Some((epoch, set_backs)) => *epoch != now.0 || *set_backs < now.1,
            };
            if is_news {
                *state = Some(now.clone());
            }
            // Before anybody can build a frame of the new stream.
            before
                .filter(|_| is_news)
                .map(|before| (before, self.disown()))
        };
        if let Some(((epoch, _), homeless)) = homeless {
            let reason = match epoch == now.0 {
                true => "set_back",
                false => "made_anew",
            };
            tracing::warn!(
                reason,
                sessions = homeless.len(),
                "the stream is not the one that sessions have had messages of; they are closed, \
                 and have to come again"
            );
            self.metrics.stream_replaced(reason);
            let window = self.config.drain_window;
            let closing = spread(homeless, window, |outbox: Arc<Outbox>, _, _| {
                outbox.end(CloseReason::BusLost.into());
            });
            supervision::spawn("the closing of sessions", closing);
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
