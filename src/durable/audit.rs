//! Comparing what sessions have with what is in the stream.
//!
//! NATS republishes a message once: where that is lost on its way, and nothing newer
//! follows, only a comparison with the stream shows it. A session that joined is compared again
//! a moment later, when all servers of a cluster know of the interest; all sessions are, now
//! and then.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{Durable, Session, catch_up::Audit, lock};
use crate::{
    bus::stream::{LeaderState, StreamError},
    close::CloseReason,
    jitter, supervision,
};

/// How long after a join the second comparison is made.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How long a message may be under way that a session does not have yet. Sessions that did not
/// agree with the stream are judged again after that.
const UNDER_WAY: Duration = Duration::from_millis(250);
/// How long second comparisons are collected before they are made together.
const TICK: Duration = Duration::from_millis(100);
/// Sessions that are compared together.
const CHUNK: usize = 128;

/// A session that did not agree with the stream: it seems to miss something, or to have more
/// than the stream. It is judged again after [`UNDER_WAY`].
struct Suspect {
    session: Arc<Session>,
    before: Vec<u64>,
    channels_version: u32,
    leader: LeaderState,
    lasts: Vec<u64>,
    up_to: u64,
}

impl Suspect {
    fn compared(&self) -> Audit {
        let Self {
            session,
            before,
            channels_version,
            leader,
            lasts,
            up_to,
        } = self;
        let before = (&before[..], *channels_version);
        session.audit(before, leader, lasts, *up_to)
    }
}

impl Durable {
    /// Compares sessions that joined a moment ago, for as long as the process lives.
    pub(super) async fn look_twice(self: Arc<Self>) {
        loop {
            sleep(TICK).await;
            let mut due = Vec::new();
            {
                let mut joined = lock(&self.joined);
                let now = Instant::now();
                while joined.front().is_some_and(|(at, _)| *at <= now) {
                    due.extend(
                        joined
                            .pop_front()
                            .and_then(|(_, session)| session.upgrade()),
                    );
                }
            }
            // Who catches up still is compared after that.
            let (live, others): (Vec<_>, Vec<_>) = due
                .into_iter()
                .partition(|session| session.track().is_live());
            let others = others.into_iter().filter(|it| it.backlog().is_open());
            for session in self.compare(live).await.into_iter().chain(others) {
                self.look_later(&session);
            }
        }
    }

    /// Remembers to compare a session a moment later.
    pub(super) fn look_later(&self, session: &Arc<Session>) {
        let at = Instant::now() + SECOND_LOOK;
        lock(&self.joined).push_back((at, Arc::downgrade(session)));
    }

    /// Compares all sessions, now and then, for as long as the process lives.
    pub(super) async fn audit(self: Arc<Self>) {
        let mut next = Instant::now();
        loop {
            next += jitter::fraction_of(self.config.audit, 0.9, 1.1);
            sleep_until(next).await;
            self.compare(self.all()).await;
            next = next.max(Instant::now());
        }
    }

    /// Has sessions catch up that miss something; returns those that could not be compared.
    async fn compare(self: &Arc<Self>, mut sessions: Vec<Arc<Session>>) -> Vec<Arc<Session>> {
        let mut rest = Vec::new();
        sessions.retain(|session| session.backlog().is_welcomed());
        for chunk in sessions.chunks(CHUNK) {
            match self.suspects(chunk).await {
                Ok(suspects) if suspects.is_empty() => {}
                Ok(suspects) => {
                    let durable = self.clone();
                    supervision::spawn("the judging of an audit", async move {
                        sleep(UNDER_WAY).await;
                        durable.recheck(suspects).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "sessions cannot be compared with the stream");
                    let open = |session: &&Arc<Session>| session.backlog().is_open();
                    rest.extend(chunk.iter().filter(open).cloned());
                }
            }
        }
        rest
    }

    /// Those of them that do not agree with the stream.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: the leader or a replica did not answer in time.
    async fn suspects(&self, sessions: &[Arc<Session>]) -> Result<Vec<Suspect>, StreamError> {
        let before: Vec<_> = sessions.iter().map(|session| session.covered()).collect();
        let leader = self.leader().await?;
        let subjects = before.iter().flat_map(|covered| &covered.subjects);
        let subjects: HashSet<Arc<str>> = subjects.cloned().collect();
        let found = self
            .stream
            .lasts(&Vec::from_iter(subjects), &leader)
            .await?;
        let suspects = sessions.iter().zip(before).map(|(session, covered)| {
            let subjects = covered.subjects.into_iter();
            Suspect {
                session: session.clone(),
                before: covered.up_to,
                channels_version: covered.channels_version,
                leader: leader.clone(),
                lasts: subjects.map(|subject| found.last(&subject)).collect(),
                up_to: found.up_to,
            }
        });
        Ok(suspects
            .filter(|suspect| suspect.compared() != Audit::Good)
            .collect())
    }

    /// Compares sessions once more. Those that still miss something catch up.
    async fn recheck(&self, suspects: Vec<Suspect>) {
        for suspect in suspects {
            match suspect.compared() {
                Audit::Good => {}
                Audit::Missing => {
                    let wants = suspect.session.track().fall_behind_after_audit();
                    if wants {
                        self.want(suspect.session);
                    }
                }
                // A leader that was just elected may have had less.
                Audit::Beyond
                    if suspect.leader.may_be_short() && !self.is_beyond(&suspect).await => {}
                Audit::Beyond => {
                    tracing::error!(
                        "a session has what the stream does not have: the stream has lost its end, \
                         or somebody but NATS publishes where it republishes; see the permissions"
                    );
                    suspect.session.backlog().end(CloseReason::BusLost.into());
                }
            }
        }
    }

    /// Whether a session has what the stream still does not have.
    async fn is_beyond(&self, suspect: &Suspect) -> bool {
        let leader = self.leader().await;
        let last = leader.map(|leader| leader.last);
        last.is_ok_and(|last| suspect.before.iter().any(|covered| *covered > last))
    }
}
