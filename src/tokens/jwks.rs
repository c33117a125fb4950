//! A key set at a URL: kept, looked at again, and never asked for too often.
//!
//! It is fetched at the start, every few minutes, and when a token names a key
//! that is not in it. A set that is fetched replaces the one before: a key that
//! is withdrawn is gone. While the URL is away the last one counts, for a
//! bounded time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::Algorithm;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    Location, Remote, fetch,
    keys::{Key, Keys},
};
use crate::{jitter, metrics::Metrics};

/// How often the set is looked at without anybody asking; where its keys are good
/// for less, twice in that time.
const REFRESH: Duration = Duration::from_secs(300);
/// Unknown keys cause one fetch in this time, after a burst of [`FETCHES_AT_ONCE`] fetches.
const FETCH_EVERY: Duration = Duration::from_secs(10);
/// Fetches that unknown keys may cause in one burst.
const FETCHES_AT_ONCE: u32 = 3;
/// The first pause between attempts while the URL is away. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between attempts while the URL is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a request waits for a fetch.
const WAIT: Duration = Duration::from_secs(3);

/// What became of the search for a token's key.
#[derive(Debug)]
#[allow(private_interfaces, reason = "only this module looks inside")]
pub enum Lookup {
    /// The key.
    Found(Box<Key>),
    /// No key is like that.
    Unknown,
    /// More than one.
    Ambiguous,
    /// There are no keys at all now.
    NoKeys,
}

/// The set, and who keeps it.
#[derive(Debug)]
pub(super) struct Jwks {
    max_age: Duration,
    fetched: watch::Receiver<Fetched>,
    wanted: Arc<Notify>,
    budget: Mutex<Budget>,
}

/// What is known of the set.
#[derive(Debug, Clone, Default)]
struct Fetched {
    keys: Keys,
    /// When the URL last gave it.
    at: Option<Instant>,
    /// How many attempts there were.
    attempts: u64,
    /// The last one failed.
    is_away: bool,
}

/// How many fetches unknown keys may still cause.
#[derive(Debug)]
struct Budget {
    left: u32,
    since: Instant,
    /// How many attempts there had been when one was asked for.
    asked_after: Option<u64>,
}

impl Jwks {
    /// Also returns what fetches, for as long as anybody wants keys.
    pub(super) fn new(
        remote: Remote,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, fetched) = watch::channel(Fetched::default());
        let wanted = Arc::new(Notify::new());
        let max_age = remote.max_age;
        let fetching = keep(remote, sender, wanted.clone(), metrics);
        let jwks = Self {
            max_age,
            fetched,
            wanted,
            budget: Mutex::new(Budget {
                left: FETCHES_AT_ONCE,
                since: Instant::now(),
                asked_after: None,
            }),
        };
        (jwks, fetching)
    }

    /// Finds a key, after another fetch where it is not there.
    pub(super) async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        configured: &[Algorithm],
    ) -> Lookup {
        let mut fetched = self.fetched.clone();
        let known = fetched.borrow_and_update().clone();
        let found = self.look(&known, id, algorithm, configured);
        let worth_it = match found {
            Lookup::Unknown => self.fetches(known.attempts),
            // The first fetch is under way.
            Lookup::NoKeys => known.attempts == 0,
            _ => false,
        };
        if !worth_it {
            return match found {
                // Nobody knows whether the key is a new one.
                Lookup::Unknown if known.is_away => Lookup::NoKeys,
                found => found,
            };
        }
        let newer = fetched.wait_for(|fetched| fetched.attempts > known.attempts);
        match timeout(WAIT, newer).await {
            Ok(Ok(newer)) if newer.at != known.at => self.look(&newer, id, algorithm, configured),
            _ => Lookup::NoKeys,
        }
    }

    fn look(
        &self,
        fetched: &Fetched,
        id: Option<&str>,
        algorithm: Algorithm,
        configured: &[Algorithm],
    ) -> Lookup {
        match fetched.at {
            Some(at) if at.elapsed() <= self.max_age => {
                fetched.keys.find(id, algorithm, configured)
            }
            _ => Lookup::NoKeys,
        }
    }

    /// Whether a fetch is under way that may bring a key that was not there after `attempts`
    /// attempts. Begins one, if that is not too often.
    fn fetches(&self, attempts: u64) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        // All who miss a key at the same time wait for the same fetch.
        if budget.asked_after == Some(attempts) {
            return true;
        }
        let periods = budget.since.elapsed().as_secs() / FETCH_EVERY.as_secs();
        if periods > 0 {
            let earned = u32::try_from(periods).unwrap_or(u32::MAX);
            budget.left = budget.left.saturating_add(earned).min(FETCHES_AT_ONCE);
            budget.since = Instant::now();
        }
        if budget.left == 0 {
            return false;
        }
        budget.left -= 1;
        budget.asked_after = Some(attempts);
        self.wanted.notify_one();
        true
    }
}

/// Fetches for as long as anybody wants keys.
async fn keep(
    remote: Remote,
    fetched: watch::Sender<Fetched>,
    wanted: Arc<Notify>,
    metrics: Arc<Metrics>,
) {
    let key = match remote.location {
        Location::Jwks(_) => "tickets.jwt.jwks_url",
        Location::Oidc(_) => "tickets.jwt.oidc_issuer",
    };
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    while !fetched.is_closed() {
        let next = match fetch::keys(&remote).await {
            Ok(keys) => {
                metrics.jwks_fetches("ok");
                if told || fetched.borrow().at.is_none() {
                    tracing::info!(keys = keys.len(), "the keys of {key} are here");
                }
                (told, pause) = (false, FIRST_PAUSE);
                fetched.send_modify(|fetched| {
                    fetched.keys = keys;
                    fetched.at = Some(Instant::now());
                    fetched.attempts += 1;
                    fetched.is_away = false;
                });
                REFRESH.min(remote.max_age / 2)
            }
            Err(error) => {
                metrics.jwks_fetches("failed");
                if !told {
                    tracing::warn!(%error, "the keys of {key} cannot be fetched; trying on");
                }
                told = true;
                fetched.send_modify(|fetched| {
                    fetched.attempts += 1;
                    fetched.is_away = true;
                });
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
        };
        tokio::select! {
            () = sleep(jitter::fraction_of(next, 0.8, 1.0)) => {}
            () = wanted.notified() => {}
        }
    }
}
