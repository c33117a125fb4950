//! Publishers that know what they sent: each message is sent until the stream has
//! acknowledged it, and its id keeps it from being stored twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, HeaderMap, Request};
use futures_util::future::join_all;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::Deserialize;
use tokio::{
    sync::RwLock,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    auditor::{Id, To},
    shared::{MAX_FRAME_KIB, Payload, Phase, Shared},
    who::subject,
};

/// No acknowledgement within this: once more.
const CONFIRM: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);
/// Between two batches.
const BATCH: Duration = Duration::from_millis(50);
/// One of so many is to all.
const BROADCASTS: u32 = 400;
/// And of the others one of so many is to a topic.
const TOPICS: u32 = 5;

#[derive(Debug, Deserialize)]
struct Acknowledged {
    #[serde(default)]
    seq: u64,
}

/// Whoever publishes, by a number of its own.
pub(crate) struct Publisher {
    pub(crate) shared: Arc<Shared>,
    pub(crate) nats: Client,
    pub(crate) index: usize,
    pub(crate) next: AtomicUsize,
}

impl Publisher {
    /// Publishes so many a second to random users and topics, until it is told to stop and all
    /// is acknowledged.
    pub(crate) async fn publish(
        self: Arc<Self>,
        (users, topics): (usize, usize),
        rate: usize,
        seed: u64,
    ) {
        let mut rng = StdRng::seed_from_u64(seed + self.index as u64);
        let mut ticks = interval(BATCH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sent, begin) = (0.0, tokio::time::Instant::now());
        let mut paused = Duration::ZERO;
        while *self.shared.phase.borrow() == Phase::Running {
            ticks.tick().await;
            // What could not be sent in an outage is not made up for.
            let now = begin.elapsed();
            let due = (now - paused).as_secs_f64() * rate as f64 - sent;
            let due = due.min(rate as f64);
            sent += due.floor();
            let batch = (0..due as usize).map(|_| {
                let to = if rng.random_ratio(1, BROADCASTS) {
                    To::All
                } else if rng.random_ratio(1, TOPICS) {
                    To::Topic(rng.random_range(0..topics))
                } else {
                    To::User(rng.random_range(0..users))
                };
                self.send(to, rng.random_range(0..200))
            });
            drop(join_all(batch).await);
            let took = begin.elapsed() - now;
            paused += took.saturating_sub(Duration::from_secs(1));
        }
    }

    /// Sends one message until the stream has it.
    pub(crate) async fn send(&self, to: To, padding: usize) -> Id {
        self.sends(to, padding, Some(&self.shared.gate)).await
    }

    /// The same for somebody who holds the gate shut: no message comes between.
    pub(crate) async fn send_alone(&self, to: To, padding: usize) -> Id {
        self.sends(to, padding, None).await
    }

    async fn sends(&self, to: To, padding: usize, gate: Option<&RwLock<()>>) -> Id {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let payload = Payload {
            publisher: self.index,
            to,
            number,
            padding: "x".repeat(padding),
        };
        let id = payload.id();
        // Far enough from the bound that the rest of the frame makes no difference.
        let large = padding > MAX_FRAME_KIB * 1024;
        let text = serde_json::to_vec(&payload).expect("such a value is always JSON");
        let subject = subject(to);
        for attempt in 0.. {
            if attempt > 0 {
                self.shared.count("publishes that were tried again");
                sleep(PAUSE).await;
            }
            // Until the acknowledgement is in the books, or did not come.
            let _open = match gate {
                Some(gate) => Some(gate.read().await),
                None => None,
            };
            let now = self.shared.now();
            self.shared.auditor().sending(id, large, now);
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("{}-{number}", self.index));
            let request = Request::new()
                .headers(headers)
                .payload(text.clone().into())
                .timeout(Some(CONFIRM));
            let Ok(answer) = self.nats.send_request(subject.clone(), request).await else {
                continue;
            };
            match serde_json::from_slice(&answer.payload) {
                Ok(Acknowledged { seq: seq @ 1.. }) => {
                    self.shared.auditor().acknowledged(id, seq);
                    return id;
                }
                Ok(_) | Err(_) => continue,
            }
        }
        unreachable!("it is tried without end")
    }
}
