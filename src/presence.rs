//! Services are told who comes and goes (`presence.events`), and which gateways vanish.
//!
//! There is no store: each gateway speaks of the users that it holds or held. When a user's
//! first session is welcomed here it says `online`, unless another gateway answers that
//! services know already. When the last session has been gone for a while, and no other
//! gateway holds the user, it says `offline`; it asks once more after that, since a session
//! may have joined elsewhere in that very moment. `table` has the states of a user in
//! between; here are the queue, the clocks and the questions.

mod table;
mod work;

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use self::{
    table::{Outcome, Step, Table},
    work::Announcer,
};
use crate::{
    bus::Elsewhere,
    metrics::Metrics,
    registry::{Change, Registry},
    user::UserId,
};

/// Users of whom something is decided, at most; of more than these services are not told.
const MAX_USERS: usize = 262_144;
/// Users about whom other gateways are asked at the same time.
const MAX_ASKED: usize = 1024;
/// After `offline` was said, others are asked again.
const AGAIN: Duration = Duration::from_secs(2);
/// How much longer than the delay a drain waits.
const SETTLES: Duration = Duration::from_secs(5);
/// Requests to be told when all is said.
const WAITERS: usize = 4;

/// How services are told.
#[derive(Debug, Clone)]
pub struct Config {
    /// This gateway's name.
    pub gateway: String,
    /// How long a user's last session must have been gone before services are told.
    pub offline_delay: Duration,
}

/// Says when all is told.
#[derive(Debug, Clone)]
pub struct Presence {
    waiters: mpsc::Sender<oneshot::Sender<()>>,
    elsewhere: Elsewhere,
    offline_delay: Duration,
}

impl Presence {
    /// What tells services, and what has to be polled for as long as the process lives. `lost`
    /// brings the names of gateways that have vanished.
    pub fn new(
        config: Config,
        registry: Arc<Registry>,
        elsewhere: Elsewhere,
        lost: broadcast::Receiver<Arc<str>>,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (waiters, waiting) = mpsc::channel(WAITERS);
        let presence = Self {
            waiters,
            elsewhere: elsewhere.clone(),
            offline_delay: config.offline_delay,
        };
        let changes = registry.changes();
        let task = Task {
            announcer: Announcer::new(&config.gateway, elsewhere, metrics.clone()),
            delay: config.offline_delay,
            registry,
            metrics,
            table: Table::default(),
            queue: VecDeque::new(),
            work: FuturesUnordered::new(),
            leaving: VecDeque::new(),
            gone: VecDeque::new(),
            waiters: Vec::new(),
        };
        (presence, task.run(changes, lost, waiting))
    }

    /// Waits until services were told of all who have left by now, and NATS has it: for
    /// `presence.offline_delay` and 5 s at most. False where that was not enough.
    pub async fn all_told(&self) -> bool {
        let (tell, told) = oneshot::channel();
        let _ = self.waiters.send(tell).await;
        let told = is_told(told, self.offline_delay + SETTLES).await;
        self.elsewhere.flush().await;
        told
    }
}

/// Whether the task says so in time. False also where the task has ended.
async fn is_told(told: oneshot::Receiver<()>, within: Duration) -> bool {
    matches!(timeout(within, told).await, Ok(Ok(())))
}

/// What was found out about a user.
type Done = (UserId, Outcome);

struct Task {
    announcer: Announcer,
    delay: Duration,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    table: Table,
    /// What others are asked next.
    queue: VecDeque<(UserId, Step)>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// When users who left are offline, the first one first; and when others are asked again
    /// about those who are. An entry that is not the user's last says nothing.
    leaving: VecDeque<(Instant, UserId)>,
    gone: VecDeque<(Instant, UserId)>,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Task {
    async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        mut lost: broadcast::Receiver<Arc<str>>,
        mut waiting: mpsc::Receiver<oneshot::Sender<()>>,
    ) {
        let mut telling = FuturesUnordered::new();
        loop {
            self.work_on();
            self.metrics.presence_deciding.set(self.table.len() as i64);
            if self.table.is_empty() && changes.is_empty() {
                for waiter in mem::take(&mut self.waiters) {
                    // One that has gone waits no longer.
                    let _ = waiter.send(());
                }
            }
            let due = self.due();
            tokio::select! {
                biased;
                Some(change) = changes.recv() => self.change(change),
                Some((user, outcome)) = self.work.next() => {
                    let here = self.registry.is_here(&user);
                    let step = self.table.found(&user, outcome, here);
                    self.take(user, step);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.wake();
                }
                Some(()) = telling.next() => {}
                vanished = lost.recv(), if telling.len() < MAX_ASKED => match vanished {
                    Ok(gateway) => telling.push(self.announcer.clone().tell_of_lost(gateway)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(waiter) = waiting.recv() => self.waiters.push(waiter),
            }
        }
    }

    fn change(&mut self, Change { user, came }: Change) {
        if self.table.len() >= MAX_USERS && !self.table.has(&user) {
            self.metrics.presence_dropped.inc();
            return;
        }
        let step = match came {
            true => self.table.came(&user),
            false => self.table.left(&user),
        };
        self.take(user, step);
    }

    /// Users whose time has come.
    fn wake(&mut self) {
        let now = Instant::now();
        let is_due =
            |queue: &VecDeque<(Instant, UserId)>| queue.front().is_some_and(|(at, _)| *at <= now);
        while is_due(&self.leaving) || is_due(&self.gone) {
            let queue = match is_due(&self.leaving) {
                true => &mut self.leaving,
                false => &mut self.gone,
            };
            let Some((at, user)) = queue.pop_front() else {
                return;
            };
            let here = self.registry.is_here(&user);
            let step = self.table.due(&user, at, here);
            self.take(user, step);
        }
    }

    /// Does what follows.
    fn take(&mut self, user: UserId, step: Option<Step>) {
        match step {
            None => {}
            Some(Step::IsOnline) => self.registry.announce(&user),
            Some(Step::Wait) => {
                let at = Instant::now() + self.delay;
                self.table.wait(&user, at);
                self.leaving.push_back((at, user));
            }
            Some(Step::AskAgainLater) => {
                let at = Instant::now() + AGAIN;
                self.table.wait(&user, at);
                self.gone.push_back((at, user));
            }
            Some(step) => self.queue.push_back((user, step)),
        }
    }

    /// Begins what waits, as far as the bound allows.
    fn work_on(&mut self) {
        while self.work.len() < MAX_ASKED
            && let Some((user, step)) = self.queue.pop_front()
        {
            let (announcer, registry) = (self.announcer.clone(), self.registry.clone());
            let work = async move {
                let outcome = announcer.find_out(&user, step).await;
                if outcome == Outcome::Online {
                    // Before anybody asks: services know.
                    registry.announce(&user);
                }
                (user, outcome)
            };
            self.work.push(work.boxed());
        }
    }

    fn due(&self) -> Option<Instant> {
        let queues = [&self.leaving, &self.gone].into_iter();
        let first = queues.filter_map(|queue| queue.front().map(|(at, _)| *at));
        first.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_has_ended_told_nobody() {
        let (tell, told) = oneshot::channel();
        tell.send(()).expect("somebody waits");
        assert!(is_told(told, SETTLES).await);
        let (tell, told) = oneshot::channel();
        drop(tell);
        assert!(!is_told(told, SETTLES).await);
    }
}
