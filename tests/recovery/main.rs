//! Durable mode's proof: while everything goes wrong, every client has in the end exactly
//! what was sent to it, in order, or was told `gap` where that is true.
//!
//! There are two worlds, with a run each: one NATS server, whose folder somebody sets back
//! to an older state, and a cluster of three, whose routes are cut and whose servers retire.
//! Each run ends when half of `RECOVERY_SECONDS` are over, half of `RECOVERY_MESSAGES` are
//! stored and all faults of that world have happened at least once. `RECOVERY_SEED` repeats
//! the order, the kinds and the lengths of an earlier run's faults, though never its timing.

mod audit;
mod auditor;
mod client;
mod faults;
mod manager;
mod nodes;
mod proxy;
mod publisher;
mod session;
mod shared;
#[path = "../journeys/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the journeys use all of it")]
mod support;
mod who;
mod world;

use std::{env, str::FromStr, sync::Arc, time::Duration};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use self::{
    auditor::{BROADCAST, Retention, What},
    client::Swallow,
    nodes::Servers,
    support::{eventually, overdue},
    who::Transport,
    world::{Scale, World},
};

/// Faults at once, those left out that only keep clients away.
const AT_ONCE: usize = 3;

fn setting<T: FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().ok().unwrap_or_else(|| panic!("{name}={text}")),
        Err(_) => default,
    }
}

/// So large that a run of this length stores as many, with what outages take of it.
fn scale(seconds: u64, messages: usize) -> Scale {
    let is_long = seconds >= 120;
    Scale {
        users: 40,
        topics: 13,
        clients: 60,
        rate: (messages / seconds.max(1) as usize * 3 / 2).max(60),
        retention: Retention {
            age: Duration::from_secs(if is_long { 90 } else { 30 }),
            per_channel: if is_long { 2_000 } else { 400 },
            replay: if is_long { 2_200 } else { 450 },
        },
        is_long,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_server_everybody_has_everything_or_was_told_of_a_gap() {
    let world = run(Servers::One).await;
    // In a short run nobody may be there when the stream is set back.
    let closed = world.shared.counted("closed 4003");
    assert!(closed > 0 || !world.scale.is_long, "of a set-back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_three_servers_everybody_has_everything_or_was_told_of_a_gap() {
    let world = run(Servers::Three).await;
    let stepped_down = world.shared.counted("leaders that stepped down");
    // In a short run none may be in reach at that moment.
    assert!(
        stepped_down > 0 || !world.scale.is_long,
        "a leader stepped down"
    );
}

/// Lets everything go wrong, and has the auditor judge.
async fn run(servers: Servers) -> Arc<World> {
    let seconds = setting("RECOVERY_SECONDS", 60) / 2;
    let messages = setting("RECOVERY_MESSAGES", 8_000) / 2;
    let seed = setting("RECOVERY_SEED", 20_261_124);
    overdue::allow(Duration::from_secs(2 * seconds + 900));
    println!("{servers:?}: {messages} messages in {seconds} s, RECOVERY_SEED={seed}");
    let scale = scale(seconds, messages);
    let world = Arc::new(World::start(servers, scale, seed, None).await);
    let mut rng = StdRng::seed_from_u64(seed);
    let start = Instant::now();
    let mut happening = JoinSet::new();
    let mut enough = false;
    while !enough {
        for planned in faults::deck(&mut rng, servers, &scale) {
            eprintln!(
                "{servers:?}, after {:.1?}: {:?}",
                start.elapsed(),
                planned.fault
            );
            while happening.len() >= AT_ONCE {
                let ended: Option<Result<(), _>> = happening.join_next().await;
                ended.expect("some are there").expect("a fault's task");
            }
            let among = world.clone();
            happening.spawn(async move { planned.happens(&among).await });
            sleep(planned.next).await;
        }
        let stored = world.shared.auditor().acknowledged_in_all();
        enough = start.elapsed() >= Duration::from_secs(seconds) && stored >= messages;
    }
    while let Some(ended) = happening.join_next().await {
        ended.expect("a fault's task");
    }
    let audit = world.audit().await;
    let summary = audit.summary(&world.shared);
    println!("{servers:?}, after {:.1?}: {summary}", start.elapsed());
    assert!(
        audit.complaints.is_empty(),
        "{} complaints, with RECOVERY_SEED={seed}; the first: {:#?}\n{:#?}\n{summary}",
        audit.complaints.len(),
        &audit.complaints[..audit.complaints.len().min(20)],
        audit.stream_has,
    );
    let total = audit.total;
    assert_eq!(
        audit.unknown, 0,
        "all that was sent is acknowledged in the end"
    );
    assert_eq!(
        (total.lost, total.false_completes, total.false_gaps),
        (0, 0, 0)
    );
    assert!(total.complete > 0 && total.gap > 0, "{summary}");
    assert!(total.too_large > 0, "{summary}");
    assert!(total.recovered > 0 && total.followed > 0, "{summary}");
    // In a short run no channel of theirs may have lost anything.
    assert!(total.unrecovered > 0 || !scale.is_long, "{summary}");
    // In a short run nobody may be at the gateway that is drained.
    let ends = ["closed 1006", "closed 1012", "closed 3001"];
    for what in &ends[..if scale.is_long { ends.len() } else { 1 }] {
        assert!(world.shared.counted(what) > 0, "nobody saw it: {what}");
    }
    assert_eq!(total.told_of_set_back > 0, servers == Servers::One);
    world
}

/// NATS begins again with an older state of its folder. All clients have seen what is gone:
/// each is told `gap`, and gets what the stream stored afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_complete_of_a_stream_that_was_set_back() {
    set_back(false).await;
}

/// The same where the stream is beyond what a gateway had seen, before the gateway looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quickly_nobody_is_told_complete_of_a_stream_that_was_set_back() {
    set_back(true).await;
}

async fn set_back(quickly: bool) {
    let mut scale = scale(60, 6_000);
    (scale.users, scale.clients, scale.rate) = (10, 15, 0);
    let world = World::start(Servers::One, scale, 1, None).await;
    let connected = |client: usize| !world.shared.heard(client).is_empty();
    let all = || std::future::ready((0..scale.clients).all(connected));
    eventually("all clients are connected", all).await;
    world.all_read(3).await;
    let nats = &mut world.nodes.all.lock().await[0];
    let copy = world.copy_of_store(nats).await;
    world.all_read(3).await;
    let (call, called) = watch::channel(false);
    for client in 0..scale.clients / 3 {
        world.order(client, client::Order::AwayUntil(called.clone()));
    }
    world.put_back(nats, &copy).await;
    // Of server-sent events a client sees no code.
    let [living, of_centrifuge] = [Transport::WebSocket, Transport::Centrifuge].map(|over| {
        let of_it = |client: &usize| scale.who(*client).transport == over;
        (scale.clients / 3..scale.clients).filter(of_it).count()
    });
    let counted = |what| world.shared.counted(what);
    let closed = || counted("closed 4003") >= living && counted("closed 3010") >= of_centrifuge;
    if !quickly {
        let all = || std::future::ready(closed());
        eventually("living sessions are closed", all).await;
    }
    // Beyond what the clients have seen.
    for _ in 0..6 {
        world.publish_to_all().await;
    }
    let last = world.shared.auditor().last();
    let witness = scale.clients_over(&[Transport::WebSocket]).last();
    let witness = witness.expect("one is there");
    let proven = || {
        let heard = world.shared.heard(witness);
        let proof = |what| match what {
            What::Ping(stored) | What::Live(stored) => stored.seq >= last,
            _ => false,
        };
        heard.iter().any(|heard| proof(heard.what))
    };
    let either = || std::future::ready(closed() || proven());
    eventually(
        "living sessions are closed, or are told all is well",
        either,
    )
    .await;
    call.send_replace(true);
    let audit = world.audit().await;
    let summary = audit.summary(&world.shared);
    assert_eq!(audit.complaints, [""; 0], "{summary}");
    let usher = scale.clients_over(&[Transport::WebSocket, Transport::Events]);
    let usher = usher.count();
    assert_eq!(audit.total.gap, usher, "{summary}");
    // A Centrifuge client may be told of each channel by itself.
    assert!(audit.total.told_of_set_back >= usher, "{summary}");
}

/// The proof of the auditor: it misses what one client loses on purpose, as it would
/// miss what a gateway loses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_swallowed_message_is_found() {
    let of_a_session = Swallow::Event(5);
    // Over server-sent events, a WebSocket and the Centrifuge protocol, in JSON and in Protobuf.
    for (client, swallows, false_completes) in [
        (3, of_a_session, 0),
        (3, Swallow::OfAReplay, 1),
        (3, Swallow::TooLarge, 0),
        (6, Swallow::OfItsTopic, 0),
        (9, of_a_session, 0),
        (4, of_a_session, 0),
    ] {
        let world = World::start(Servers::One, scale(60, 6_000), 1, Some((client, swallows))).await;
        let heard = || world.shared.heard(client).len();
        if swallows == Swallow::TooLarge {
            let connected = || std::future::ready(heard() > 0);
            eventually("the client is connected", connected).await;
            faults::too_large(&world, client).await;
            let told = || {
                let heard = world.shared.heard(client);
                let told = |what| {
                    matches!(
                        what,
                        What::TooLarge {
                            channel: BROADCAST,
                            ..
                        }
                    )
                };
                std::future::ready(heard.iter().any(|heard| told(heard.what)))
            };
            eventually("the client is told of those after it", told).await;
        }
        for _ in 0..3 {
            let before = heard();
            let more = || std::future::ready(heard() >= before + 20);
            eventually("the client reads on", more).await;
            // Something to miss, for whoever comes back.
            world.order(client, client::Order::Away(Duration::from_secs(1)));
            for proxy in &world.proxies {
                proxy.cut();
            }
        }
        let audit = world.audit().await;
        let total = audit.total;
        assert_eq!(
            (total.lost, total.false_completes, total.false_gaps),
            (1, false_completes, 0),
            "{:#?}",
            audit.complaints,
        );
        let of_it = |complaint: &String| complaint.starts_with(&format!("client {client}: "));
        assert!(
            audit.complaints.iter().all(of_it),
            "{:#?}",
            audit.complaints
        );
    }
}
