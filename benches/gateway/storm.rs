//! What those who are in notice of a storm, and how all get in.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    crowd::{Crowd, Plan, Score, unix_millis},
    parts::{Bench, subjects, users},
    report::{Target, median, percentile},
    servers::Gateway,
};

/// Those who are in, each its own user.
const EARLIER: usize = 200;
/// Messages a second to all of them together.
const PACE: u32 = 1000;
/// Seconds before, and after.
const CALM: usize = 10;
/// A process has no descriptors for all.
const CROWDS: usize = 3;
/// Time for the crowds to get their tickets.
const TICKETS: Duration = Duration::from_secs(10);
/// All are in by then.
const PATIENCE: Duration = Duration::from_secs(120);
/// Who comes when all places are taken, and for how long each comes again.
const TOO_MANY: usize = 500;
const INSISTS: Duration = Duration::from_secs(10);
/// What a session may cost, in bytes.
const SESSION: usize = 4096;
/// The defaults: what is not admitted yet, each with a whole head, twice since it is
/// also parsed.
const PENDING: usize = 1024 * 2 * 16 * 1024;

impl Bench {
    /// Latency of those who are in, before and while many connect at once.
    ///
    /// # Errors
    ///
    /// Where somebody does not get in, a message is lost, memory is beyond what the
    /// bounds allow, or somebody gets in beyond `public.max_sessions`.
    pub(crate) fn storm(&mut self) -> Outcome<()> {
        let clients = self.scale.storm;
        let places = (EARLIER + clients).to_string();
        let gateway = self
            .servers
            .gateway_with(&[("USHER_PUBLIC__MAX_SESSIONS", places)])?;
        let users = users("earlier", EARLIER);
        let subjects = subjects(&users);
        let tickets = self.servers.tickets(&users)?;
        let _sessions = self.reader.open(gateway.public, tickets)?;
        self.second(&subjects)?;
        let before = (0..CALM)
            .map(|_| self.second(&subjects))
            .collect::<Outcome<Vec<_>>>()?;
        let memory = gateway.process.memory().resident;

        let begin = unix_millis() + TICKETS.as_millis() as u64;
        let mut crowds = self.crowds(&gateway, clients, begin)?;
        while unix_millis() < begin {
            sleep(Duration::from_millis(1));
        }
        let (cpu, start) = (gateway.process.cpu(), Instant::now());
        let (mut during, mut seen) = (Vec::new(), Score::default());
        loop {
            during.push(self.second(&subjects)?);
            let here = look(&mut crowds, &mut seen)?;
            if here == clients {
                break;
            }
            if start.elapsed() > PATIENCE {
                let ends = &seen.ends;
                return Err(format!("{here} of {clients} are in; {ends:?}").into());
            }
        }
        let cpu = gateway.process.cpu() - cpu;
        let after = (0..CALM)
            .map(|_| self.second(&subjects))
            .collect::<Outcome<Vec<_>>>()?;
        // What came in the meantime counts, too: somebody may have been cut off.
        let here = look(&mut crowds, &mut seen)?;

        self.report
            .part("A storm: all connect at once; floor: those already in, before");
        self.report.say(&format!(
            "{clients} clients at once; {PACE} messages a second to {EARLIER} sessions: none lost"
        ));
        let ends: Vec<_> = seen
            .ends
            .iter()
            .map(|(end, n)| format!("{end} x {n}"))
            .collect();
        self.report
            .say(&format!("tries that failed: {}", ends.join(", ")));
        let mut waits: Vec<_> = seen
            .welcomes
            .iter()
            .map(|(at, _)| (at.saturating_sub(begin)) as f64 / 1e3)
            .collect();
        waits.sort_unstable_by(f64::total_cmp);
        for (what, percent) in [("half", 50.0), ("99 of 100", 99.0), ("all", 100.0)] {
            let wait = percentile(&waits, percent);
            self.plain(&format!("seconds until {what} are in"), wait);
        }
        self.plain("tries of a client", seen.tries as f64 / clients as f64);
        self.plain("gateway CPU, us a client", cpu / clients as f64 * 1e6);
        let most = (clients * SESSION + PENDING) as f64 / 1e6;
        let grown = (gateway.process.peak() - memory) / 1e6;
        self.plain("MB resident before", memory / 1e6);
        self.report
            .figure("MB more at the peak", grown, None, &Target::Most(most));
        self.report
            .say("of the seconds the middle one, since a shared machine stalls now and then:");
        for (name, seconds) in [("during", &during), ("after", &after)] {
            for percent in [50.0, 99.0] {
                let of = |seconds: &[Vec<f64>]| {
                    let each = seconds.iter().map(|second| percentile(second, percent));
                    median(&each.collect::<Vec<_>>())
                };
                let what = format!("p{percent:.0} {name}, us");
                self.report
                    .figure(&what, of(seconds), Some(of(&before)), &Target::None);
            }
        }
        for (name, seconds) in [("before", &before), ("during", &during), ("after", &after)] {
            let p99 = seconds.iter().map(|second| percentile(second, 99.0));
            let p99: Vec<_> = p99.map(|p99| format!("{p99:.0}")).collect();
            self.report
                .say(&format!("p99 of the seconds {name}: {}", p99.join(", ")));
        }
        let full = self.too_many(&gateway, clients)?;
        if here != clients {
            return Err(format!("only {here} of {clients} have stayed").into());
        }
        if grown > most {
            return Err(format!("memory grew by {grown:.0} MB, and may by {most:.0}").into());
        }
        full
    }

    /// More than there are places for.
    fn too_many(&mut self, gateway: &Gateway, already: usize) -> Outcome<Outcome<()>> {
        let mut crowd = Crowd::start(&Plan {
            address: gateway.public,
            redis: self.servers.redis,
            first: already,
            clients: TOO_MANY,
            begin: unix_millis(),
            across: Duration::ZERO,
        })?;
        sleep(INSISTS);
        let score = crowd.score()?;
        self.report.say(&format!(
            "{TOO_MANY} more than public.max_sessions: {:?}",
            score.ends
        ));
        let others = score.ends.keys().any(|end| end != "503 full");
        if score.welcomes.is_empty() && !others && score.tries >= TOO_MANY as u64 {
            return Ok(Ok(()));
        }
        Ok(Err(
            "beyond max_sessions something else than 503 full".into()
        ))
    }

    pub(crate) fn crowds(
        &self,
        gateway: &Gateway,
        clients: usize,
        begin: u64,
    ) -> Outcome<Vec<Crowd>> {
        let each = clients / CROWDS;
        let plan = |index| Plan {
            address: gateway.public,
            redis: self.servers.redis,
            first: index * each,
            clients: each,
            begin,
            across: Duration::ZERO,
        };
        (0..CROWDS)
            .map(|index| Crowd::start(&plan(index)))
            .collect()
    }

    /// Latencies of one second.
    fn second(&mut self, subjects: &[String]) -> Outcome<Vec<f64>> {
        self.paced(subjects, false, PACE as usize, PACE)
    }

    fn plain(&self, what: &str, value: f64) {
        self.report.figure(what, value, None, &Target::None);
    }
}

/// Adds what has been seen; returns how many are in.
pub(crate) fn look(crowds: &mut [Crowd], seen: &mut Score) -> Outcome<usize> {
    seen.here = 0;
    for crowd in crowds {
        seen.add(crowd.score()?);
    }
    Ok(seen.here)
}
