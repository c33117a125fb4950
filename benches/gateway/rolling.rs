//! What clients see of a rolling restart, through a load balancer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    balancer::Balancer,
    crowd::{Crowd, Plan, Score, unix_millis},
    parts::Bench,
    report::Target,
    servers::{Gateway, lasting_address},
};

const GATEWAYS: usize = 3;
/// All clients have come within this.
const RAMP: Duration = Duration::from_secs(10);
/// The defaults.
const DELAY: Duration = Duration::from_secs(3);
const WINDOW: Duration = Duration::from_secs(20);
/// A gateway that drains has this much longer than both.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Beyond which a gateway that drains is stuck, whatever the machine does.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between the return of a gateway and the end of the next.
const PAUSE: Duration = Duration::from_secs(3);
/// Everyone is back by then, after the last hint.
const BACK: Duration = Duration::from_secs(30);
/// How an end has to be.
const GOOD: &str = "1012 with a hint";
/// The busiest second over the mean.
const FACTOR: f64 = 2.0;

impl Bench {
    /// Restarts three gateways in turn.
    ///
    /// # Errors
    ///
    /// Where a client sees anything but the end that a drain promises, or the
    /// clients come back in a crowd.
    pub(crate) fn rolling(&mut self) -> Outcome<()> {
        let clients = self.scale.rolling;
        let addresses = (0..GATEWAYS).map(|_| lasting_address());
        let addresses = addresses.collect::<Outcome<Vec<_>>>()?;
        let start = |address: &SocketAddr| self.start_at(*address);
        let mut gateways = addresses
            .iter()
            .map(start)
            .collect::<Outcome<Vec<Gateway>>>()?;
        let balancer = Balancer::start(&addresses)?;
        let mut crowd = Crowd::start(&Plan {
            address: balancer.address,
            redis: self.servers.redis,
            first: 0,
            clients,
            begin: unix_millis() + 1000,
            across: RAMP,
        })?;
        let mut seen = Score::default();
        all_in(&mut crowd, &mut seen, clients, RAMP + BACK)?;
        seen.welcomes.clear();
        let tried = std::mem::take(&mut seen.tries);

        self.report
            .part("A rolling restart of three gateways behind a load balancer");
        self.report.say(&format!(
            "{clients} clients; drain.delay {} s, drain.window {} s; {tried} tries until all were in",
            DELAY.as_secs(),
            WINDOW.as_secs()
        ));
        let mut took = Vec::new();
        for (gateway, address) in gateways.iter_mut().zip(&addresses) {
            took.push(drain(gateway)?);
            *gateway = self.start_at(*address)?;
            sleep(PAUSE);
        }
        all_in(&mut crowd, &mut seen, clients, BACK)?;
        self.judge(&seen, &took)
    }

    fn start_at(&self, address: SocketAddr) -> Outcome<Gateway> {
        self.servers.gateway_with(&[
            ("USHER_PUBLIC__LISTEN", address.to_string()),
            ("USHER_DRAIN__DELAY", format!("{}s", DELAY.as_secs())),
            ("USHER_DRAIN__WINDOW", format!("{}s", WINDOW.as_secs())),
        ])
    }

    fn judge(&self, seen: &Score, took: &[f64]) -> Outcome<()> {
        let ends: Vec<_> = seen
            .ends
            .iter()
            .map(|(end, n)| format!("{end} x {n}"))
            .collect();
        self.report
            .say(&format!("how connections ended: {}", ends.join(", ")));
        let good = seen.ends.get(GOOD).copied().unwrap_or_default();
        let bad = seen.ends.values().sum::<u64>() - good;
        let mut curves = BTreeMap::<_, Vec<u64>>::new();
        for (at, from) in &seen.welcomes {
            curves.entry(from).or_default().push(*at);
        }
        let mut curves: Vec<_> = curves.into_values().map(|times| curve(&times)).collect();
        curves.sort_unstable_by_key(|(start, _)| *start);

        let most = |most: usize| Target::Most(most as f64);
        let figure =
            |what: &str, value: f64, target: Target| self.report.figure(what, value, None, &target);
        figure("ends other than 1012 with a hint", bad as f64, most(0));
        figure(
            "clients sent away twice by one gateway",
            seen.twice as f64,
            most(0),
        );
        let clients = self.scale.rolling;
        figure(
            "ends of a client",
            good as f64 / clients as f64,
            most(GATEWAYS),
        );
        let longest = took.iter().copied().fold(0.0, f64::max);
        let allowed = DELAY + WINDOW + LAST_WORDS;
        figure(
            "seconds to the exit, the longest",
            longest,
            Target::Most(allowed.as_secs_f64()),
        );
        let all: Vec<_> = seen.welcomes.iter().map(|(at, _)| *at).collect();
        let mut worst = 0_f64;
        for (which, (_, curve)) in ["first", "second", "third"].iter().zip(&curves) {
            let count: u32 = curve.iter().sum();
            self.report.say(&format!(
                "back from the {which}, each second; {count} in all:"
            ));
            for line in curve.chunks(15) {
                let line: Vec<_> = line.iter().map(|n| format!("{n:>4}")).collect();
                self.report.say(&line.concat());
            }
            let ratio = busiest(curve);
            figure(
                "  the busiest second over the mean",
                ratio,
                Target::Most(FACTOR),
            );
            worst = worst.max(ratio);
        }
        let (_, curve) = curve(&all);
        figure(
            "  the same of all three, pauses included",
            busiest(&curve),
            Target::Most(FACTOR),
        );
        worst = worst.max(busiest(&curve));
        let broken = bad > 0
            || seen.twice > 0
            || longest > allowed.as_secs_f64()
            || worst > FACTOR
            || curves.len() != GATEWAYS;
        if broken {
            return Err("a rolling restart was noticed".into());
        }
        Ok(())
    }
}

/// Waits until all are welcome, and adds what has been seen meanwhile.
fn all_in(crowd: &mut Crowd, seen: &mut Score, clients: usize, patience: Duration) -> Outcome<()> {
    let deadline = Instant::now() + patience;
    loop {
        let score = crowd.score()?;
        let here = score.here;
        seen.add(score);
        if here == clients {
            return Ok(());
        }
        if Instant::now() > deadline {
            let ends = &seen.ends;
            return Err(format!("{here} of {clients} clients are in; {ends:?}").into());
        }
        sleep(Duration::from_millis(200));
    }
}

/// Seconds from the signal to the exit.
fn drain(gateway: &mut Gateway) -> Outcome<f64> {
    let start = Instant::now();
    gateway.process.terminate()?;
    while start.elapsed() < PATIENCE {
        match gateway.process.exit_code()? {
            Some(0) => return Ok(start.elapsed().as_secs_f64()),
            Some(code) => {
                let said = gateway.process.said();
                return Err(format!("a gateway ended with {code}:\n{said}").into());
            }
            None => sleep(Duration::from_millis(10)),
        }
    }
    Err("a gateway that was asked to drain is still there".into())
}

/// The time of the first, and how many there were in each second from then on.
fn curve(times: &[u64]) -> (u64, Vec<u32>) {
    let start = times.iter().min().copied().unwrap_or_default();
    let end = times.iter().max().copied().unwrap_or_default();
    let mut curve = vec![0; ((end - start) / 1000 + 1) as usize];
    for at in times {
        curve[((at - start) / 1000) as usize] += 1;
    }
    (start, curve)
}

/// The busiest second over the mean.
fn busiest(curve: &[u32]) -> f64 {
    let most = curve.iter().max().copied().unwrap_or_default();
    let mean = f64::from(curve.iter().sum::<u32>()) / curve.len() as f64;
    f64::from(most) / mean
}
