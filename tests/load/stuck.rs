//! Sessions that do not read, and are sent far more than anybody keeps: what the
//! gateway keeps for them stays within `session.total_queue_bytes`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep};

use crate::{
    is_full,
    process::{mib, resident},
    size,
    support::{Gateway, servers, wait::PATIENCE},
    thin::Thin,
    tickets::Tickets,
};

const SIZE: &str = "STUCK_SESSIONS";
const MESSAGE: usize = 16 * 1024;
const MIB: usize = 1024 * 1024;
/// Sessions being opened at once.
const OPENING: usize = 64;

/// To whom the messages go.
#[derive(Debug, Clone, Copy)]
enum To {
    Each,
    All,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_their_own() {
    stuck(To::Each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts() {
    stuck(To::All).await;
}

async fn stuck(to: To) {
    let sessions = size(SIZE, 50);
    // What all may have together is far less than each by itself.
    let bound = if is_full(SIZE) { 64 * MIB } else { 4 * MIB };
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.total_queue_bytes", format!("{bound}B"))
        .start()
        .await;
    let tickets = Tickets::at(&redis).await;
    let opened = stream::iter(0..sessions).map(|number| {
        let (tickets, address) = (&tickets, &gateway.public);
        async move {
            let ticket = tickets.mint(&format!("stuck-{number}")).await;
            Thin::open(address, &ticket).await
        }
    });
    let opened: Vec<Thin> = opened
        .buffer_unordered(OPENING)
        .try_collect()
        .await
        .expect("all are let in");
    // Twice as long as any session takes to come to rest.
    sleep(Duration::from_secs(2)).await;
    let idle = resident(gateway.id());
    let peak = Peak::watch(gateway.id());

    let publisher = nats.client().await;
    let deadline = Instant::now() + 4 * PATIENCE;
    let (mut queued, mut rounds) = (0.0_f64, 0_usize);
    while gateway.metric("usher_sessions").await > 0.0 {
        assert!(Instant::now() < deadline, "some are never closed");
        // Each message is another, so that no byte of it is shared by chance.
        let payload = || {
            let mut message = vec![b'x'; MESSAGE];
            message[..16].copy_from_slice(format!("{:016x}", rand::random::<u64>()).as_bytes());
            message
        };
        for number in 0..sessions {
            let subject = match to {
                To::Each => format!("usher.user.stuck-{number}"),
                To::All if number % 100 == 0 => "usher.broadcast".to_owned(),
                To::All => continue,
            };
            let published = publisher.publish(subject, payload().into());
            published.await.expect("published");
        }
        publisher.flush().await.expect("flushed");
        queued = queued.max(gateway.metric("usher_queued_bytes").await);
        rounds += 1;
        // Most of the time goes by until those that are closed have heard it.
        sleep(Duration::from_millis(5)).await;
    }
    let peak = peak.end();
    let slow = "usher_session_closes_total{reason=\"slow_consumer\"}";
    assert_eq!(gateway.metric(slow).await, sessions as f64, "closed 4000");
    gateway.metric_becomes("usher_queued_bytes", 0.0).await;
    drop(opened);

    let over = peak.saturating_sub(idle);
    println!(
        "{to:?}: {sessions} stuck sessions, {rounds} rounds; {} idle, at most {} over it, with a \
         bound of {}; at most {} seen queued",
        mib(idle),
        mib(over),
        mib(bound),
        mib(queued as usize),
    );
    if is_full(SIZE) {
        assert!(over <= bound + bound / 5, "more than 20% over the bound");
    }
}

/// The most memory that a process has, as long as it is looked at.
struct Peak {
    most: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Peak {
    fn watch(pid: u32) -> Self {
        let peak = Self {
            most: Arc::default(),
            over: Arc::default(),
        };
        let (most, over) = (peak.most.clone(), peak.over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        peak
    }

    fn end(self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

/// A test that fails ends the watch too, before the process is gone.
impl Drop for Peak {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
