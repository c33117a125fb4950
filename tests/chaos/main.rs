//! A run in which everything goes wrong, and an auditor who knows what was sent:
//! whoever missed a message was told or closed, nobody silently.
//!
//! `CHAOS_SECONDS` is how long it goes on, at least once through all faults;
//! `CHAOS_SEED` repeats the order, the kinds and the lengths of an earlier run's
//! faults, though never its timing.

mod auditor;
mod client;
mod faults;
mod proxy;
mod publisher;
mod shared;
#[path = "../journeys/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the journeys use all of it")]
mod support;
mod world;

use std::{env, str::FromStr, time::Duration};

use futures_util::future::join_all;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

use self::{
    support::{eventually, overdue},
    world::World,
};

fn setting<T: FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().ok().unwrap_or_else(|| panic!("{name}={text}")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_missed_something_was_told_or_closed() {
    let length = Duration::from_secs(setting("CHAOS_SECONDS", 60));
    let seed = setting("CHAOS_SEED", 20_261_124);
    overdue::allow(length + Duration::from_secs(600));
    println!("CHAOS_SEED={seed}, {length:?}");
    let world = World::start(seed, None).await;
    let mut rng = StdRng::seed_from_u64(seed);
    let start = Instant::now();
    let once = faults::deck(&mut rng);
    let least = once.len();
    let more = std::iter::from_fn(|| Some(faults::deck(&mut rng))).flatten();
    // The first is without any fault.
    let rounds = std::iter::once(Vec::new()).chain(once).chain(more);
    for (index, round) in rounds.enumerate() {
        if index > least && start.elapsed() >= length {
            break;
        }
        println!("after {:.0?}: {round:?}", start.elapsed());
        join_all(round.into_iter().map(|planned| planned.happens(&world))).await;
        let complaints = world.audit().await;
        assert!(
            complaints.is_empty(),
            "{} complaints, with CHAOS_SEED={seed}; the first: {:#?}\n{}",
            complaints.len(),
            &complaints[..complaints.len().min(20)],
            world.shared.summary(),
        );
    }
    println!("{}", world.shared.summary());
    for what in ["gaps told", "closed 1006", "closed 1012"] {
        assert!(world.shared.counted(what) > 0, "nobody saw it: {what}");
    }
}

/// The proof of the auditor: it misses what one client loses on purpose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_swallowed_message_is_found() {
    let (client, number) = (3, 5);
    let world = World::start(1, Some((client, number))).await;
    let mut holes = Vec::new();
    eventually("the auditor complains", || {
        holes = world.shared.auditor().holes();
        std::future::ready(!holes.is_empty())
    })
    .await;
    let found = |&(_, stream, missed): &(_, auditor::Stream, _)| {
        stream.user.is_none_or(|user| user == client) && missed == number
    };
    assert!(holes.iter().all(found), "others than that one: {holes:?}");
}
