//! What is lost while two gateways are restarted one after the other.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use super::{
    start::{Kind, start},
    until_all,
};
use crate::{
    Outcome,
    many::{Many, Order, Plan, Run, user_id, words},
    parts::Bench,
    payload::{Numbers, random_users},
    publisher::Publisher,
    servers::{Gateway, Servers, lasting_address},
};

/// Messages a second to all users together.
const PACE: u32 = 500;
/// Messages to one user at most, so that they can be told apart.
const EACH: u64 = 900;
/// Before the first restart, and after each.
const CALM: Duration = Duration::from_secs(3);
/// One that was asked to end has ended by then.
const PATIENCE: Duration = Duration::from_secs(60);

impl Bench {
    /// Restarts two gateways in turn while messages flow, and counts those that are missing.
    pub(super) fn restart(&mut self, kind: Kind, sessions: usize) -> Outcome<()> {
        let servers = Servers::start()?;
        let addresses = [lasting_address()?, lasting_address()?];
        let begin = |address: SocketAddr| start(kind, &servers, Some(address));
        let mut gateways = [begin(addresses[0])?, begin(addresses[1])?];
        let mut many = Many::start(&Plan {
            peer: kind.peer(),
            addresses: addresses.to_vec(),
            redis: servers.redis,
            returns: true,
            first: 0,
            sessions,
            sessions_per_user: 1,
            handshakes: 64,
        })?;
        many.ask(&Order::Open)?;
        until_all(&mut many, sessions, kind)?;
        let run = self.next_run();
        many.ask(&Order::Expect(Run {
            number: run,
            each: EACH,
            holes: true,
        }))?;
        let stop = Arc::new(AtomicBool::new(false));
        let publishing = {
            let (stop, nats) = (stop.clone(), servers.nats);
            thread::spawn(move || publish(nats, run, sessions, &stop))
        };
        let clock = Instant::now();
        sleep(CALM);
        for (gateway, address) in gateways.iter_mut().zip(addresses) {
            end(gateway)?;
            *gateway = begin(address)?;
            until_all(&mut many, sessions, kind)?;
            sleep(CALM);
        }
        let took = clock.elapsed().as_secs_f64();
        stop.store(true, Ordering::SeqCst);
        let published = publishing
            .join()
            .map_err(|_| "the publisher has panicked")??;
        sleep(CALM);
        let count = many.ask(&Order::Look)?;
        let lost = published.saturating_sub(count.messages);
        self.report.say(&format!(
            "{}: {lost} of {published} messages lost in {took:.0} s; sessions ended: {}; refused: {}",
            kind.name(),
            words(&count.ended),
            words(&count.refused)
        ));
        Ok(())
    }
}

/// Publishes to random users until it is stopped; returns how many messages.
fn publish(nats: SocketAddr, run: u64, users: usize, stop: &AtomicBool) -> Result<u64, String> {
    let publish = || -> std::io::Result<u64> {
        let mut publisher = Publisher::connect(nats)?;
        let subjects: Vec<_> = (0..users)
            .map(|user| format!("usher.user.{}", user_id(user)))
            .collect();
        let mut next = vec![0; users];
        let mut published = 0;
        let messages = random_users(run, users, usize::MAX)
            .take_while(|_| !stop.load(Ordering::SeqCst))
            .map(|user| {
                let seq = user as u64 * EACH + next[user];
                next[user] += 1;
                published += 1;
                let at = Duration::ZERO;
                (&*subjects[user], Numbers { run, seq, at })
            });
        publisher.pace(messages, PACE)?;
        Ok(published)
    };
    publish().map_err(|error| error.to_string())
}

/// Asks it to end, and waits until it has.
fn end(gateway: &mut Gateway) -> Outcome<()> {
    gateway.process.terminate()?;
    let start = Instant::now();
    while !gateway.process.has_ended() {
        if start.elapsed() > PATIENCE {
            return Err("a gateway that was asked to end is still there".into());
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
