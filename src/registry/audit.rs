//! Comparing what sessions have with what is in the stream.
//!
//! NATS republishes a message once: where that is lost on its way, and nothing newer
//! follows, only a look at the stream shows it. Whoever joins is looked at again a moment
//! later, when all servers of a cluster know of the interest; everybody, now and then.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Entry, Registry,
    durable::Durable,
    outbox::{Audit, Outbox},
};
use crate::{
    bus::stream::{Lasts, StreamError},
    close::CloseReason,
    frame::Proof,
    jitter, supervision,
};

/// Between a join and the second look.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// What is not here yet may be under way for so long.
const UNDER_WAY: Duration = Duration::from_millis(250);
/// Second looks are gathered for so long.
const TICK: Duration = Duration::from_millis(100);
/// Users that are looked at together.
const CHUNK: usize = 128;

/// A session to which something is missing, by what the stream said.
struct Suspect {
    entry: Arc<Entry>,
    outbox: Arc<Outbox>,
    before: [u64; 2],
    proof: Proof,
    lasts: Lasts,
}

impl Suspect {
    fn verdict(&self) -> Audit {
        let lasts = [self.lasts.user, self.lasts.broadcast];
        self.outbox
            .audit(self.before, self.proof, lasts, self.lasts.up_to)
    }
}

impl Registry {
    /// Looks at whoever joined a moment ago, for as long as the process lives.
    pub(super) async fn look_twice(self: Arc<Self>, durable: Arc<Durable>) {
        loop {
            sleep(TICK).await;
            let mut due: Vec<Arc<Entry>> = Vec::new();
            {
                let mut joined = durable.joined();
                let now = Instant::now();
                while joined.front().is_some_and(|(at, _)| *at <= now) {
                    due.extend(joined.pop_front().map(|(_, entry)| entry));
                }
            }
            // A user who joined several times is looked at once.
            due.sort_unstable_by_key(Arc::as_ptr);
            due.dedup_by(|one, other| Arc::ptr_eq(one, other));
            for entry in self.compare(&durable, due).await {
                self.look_later(&durable, &entry);
            }
        }
    }

    /// Remembers to look at a user again.
    pub(super) fn look_later(&self, durable: &Durable, entry: &Arc<Entry>) {
        let at = Instant::now() + SECOND_LOOK;
        durable.joined().push_back((at, entry.clone()));
    }

    /// Looks at everybody, now and then, for as long as the process lives.
    pub(super) async fn audit(self: Arc<Self>, durable: Arc<Durable>) {
        let mut next = Instant::now();
        loop {
            next += jitter::fraction_of(durable.config.audit, 0.9, 1.1);
            sleep_until(next).await;
            self.compare(&durable, self.entries()).await;
            next = next.max(Instant::now());
        }
    }

    /// Brings sessions what they miss; returns those that could not be looked at.
    async fn compare(
        self: &Arc<Self>,
        durable: &Arc<Durable>,
        entries: Vec<Arc<Entry>>,
    ) -> Vec<Arc<Entry>> {
        let mut rest = Vec::new();
        for chunk in entries.chunks(CHUNK) {
            match self.suspects(durable, chunk).await {
                Ok(suspects) if suspects.is_empty() => {}
                Ok(suspects) => {
                    let (registry, durable) = (self.clone(), durable.clone());
                    supervision::spawn("the judging of an audit", async move {
                        sleep(UNDER_WAY).await;
                        registry.judge(&durable, suspects);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "sessions cannot be compared with the stream");
                    // Whoever is gone has nothing to miss.
                    rest.extend(chunk.iter().filter(|entry| !entry.is_empty()).cloned());
                }
            }
        }
        rest
    }

    /// Those of them to whom something may be missing.
    async fn suspects(
        self: &Arc<Self>,
        durable: &Durable,
        entries: &[Arc<Entry>],
    ) -> Result<Vec<Suspect>, StreamError> {
        let mut sessions = Vec::new();
        for entry in entries {
            entry.each(|outbox| {
                if let (true, Some(before)) = (outbox.is_welcomed(), outbox.covered()) {
                    sessions.push((entry.clone(), outbox.clone(), before));
                }
            });
        }
        if sessions.is_empty() {
            return Ok(Vec::new());
        }
        let look = self.look(durable).await?;
        let asking = entries
            .iter()
            .map(|entry| durable.stream.lasts(entry.user(), &look));
        let lasts = futures_util::future::try_join_all(asking).await?;
        let mut suspects = Vec::new();
        for (entry, outbox, before) in sessions {
            let found = entries.iter().position(|other| Arc::ptr_eq(other, &entry));
            let Some(index) = found else { continue };
            let suspect = Suspect {
                entry,
                outbox,
                before,
                proof: look.proof(),
                lasts: lasts[index],
            };
            if suspect.verdict() != Audit::Good {
                suspects.push(suspect);
            }
        }
        Ok(suspects)
    }

    /// What is missing still is brought from the stream.
    fn judge(&self, durable: &Durable, suspects: Vec<Suspect>) {
        for suspect in suspects {
            match suspect.verdict() {
                Audit::Good => {}
                Audit::Missing => {
                    self.is_missing_something(durable, &suspect.entry, &suspect.outbox);
                }
                Audit::Beyond => {
                    tracing::error!(
                        "a session has what the stream does not have: the stream has lost its end, \
                         or somebody but NATS publishes where it republishes; see the permissions"
                    );
                    suspect.outbox.end(CloseReason::BusLost.into());
                }
            }
        }
    }

    /// Something did not reach a session that the stream has.
    pub(super) fn is_missing_something(
        &self,
        durable: &Durable,
        entry: &Arc<Entry>,
        outbox: &Arc<Outbox>,
    ) {
        if outbox.is_missing_something() {
            durable.wants(entry.clone(), outbox.clone());
        }
    }
}
