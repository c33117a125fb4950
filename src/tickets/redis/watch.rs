//! Whether newcomers can be let in: looks at Redis again and again, and says so.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    Shared,
    fault::{Fault, Kind},
    finder::Finder,
};
use crate::{
    jitter,
    readiness::{Part, Readiness, Reason},
};

/// Between two looks at a Redis that works.
const WATCH: Duration = Duration::from_secs(1);
/// The shortest time between two looks at a Redis that does not work. It is random.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
/// The longest time between two looks at a Redis that does not work.
const LONGEST_RETRY: Duration = Duration::from_millis(400);
/// Between two looks at the least: each command may ask for one.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs as long as the process lives.
pub(super) async fn watch(shared: Arc<Shared>, readiness: Readiness) {
    let mut finder = Finder::new(shared.config.clone(), shared.map.clone());
    let mut state = State::default();
    loop {
        let found = finder.look().await;
        shared.connected.store(found.is_ok(), Ordering::Relaxed);
        match &found {
            Ok(()) => readiness.up(Part::Redis),
            Err(fault) => match fault.kind {
                Kind::Away => readiness.away(Part::Redis),
                Kind::Unusable => readiness.unusable(Part::Redis, Reason::RedisUnusable),
            },
        }
        match found {
            Ok(()) => {
                if state.all_clear() {
                    shared.all_clear();
                }
                sleep(PAUSE).await;
                tokio::select! {
                    () = sleep(WATCH) => {}
                    () = shared.doubt.notified() => finder.doubt(),
                }
            }
            Err(fault) => {
                state.trouble(fault);
                sleep(jitter::between(SHORTEST_RETRY, LONGEST_RETRY)).await;
            }
        }
    }
}

/// What was said last: the same is not said twice.
#[derive(Default)]
struct State {
    ever_worked: bool,
    trouble: Option<Fault>,
}

impl State {
    /// Returns whether Redis did not work before.
    fn all_clear(&mut self) -> bool {
        let trouble = self.trouble.take().is_some();
        match (self.ever_worked, trouble) {
            (false, _) => tracing::info!("connected to Redis"),
            (true, true) => tracing::info!("Redis is back; new sessions are let in"),
            (true, false) => return false,
        }
        self.ever_worked = true;
        true
    }

    fn trouble(&mut self, fault: Fault) {
        let kind = self.trouble.as_ref().map(|fault| fault.kind);
        // An outage goes through several faults, of which the first says enough.
        if kind == Some(fault.kind) {
            return;
        }
        match fault.kind {
            Kind::Unusable => tracing::error!(
                %fault,
                "Redis cannot be used, and no new session is let in"
            ),
            Kind::Away if self.ever_worked => {
                tracing::warn!(%fault, "Redis is away; no new sessions until it is back");
            }
            Kind::Away => tracing::warn!(%fault, "Redis cannot be reached; trying on"),
        }
        self.trouble = Some(fault);
    }
}
