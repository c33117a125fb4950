//! What is measured.

use std::{
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    floor::Floor,
    payload::{Numbers, random_users},
    process::Memory,
    publisher::Publisher,
    reader::{Reader, Sessions, Transport},
    report::{Report, Target, median, percentile},
    servers::{Gateway, Servers},
};

/// How much of everything.
pub(crate) struct Scale {
    /// Idle sessions, each of its own user.
    pub(crate) idle: usize,
    /// Sessions under load, each of its own user.
    pub(crate) loaded: usize,
    /// Messages of a burst to one user.
    pub(crate) burst: u64,
    /// Messages flat out to random users.
    pub(crate) unicast: usize,
    /// Broadcasts.
    pub(crate) broadcasts: u64,
    /// Messages at an even pace.
    pub(crate) paced: usize,
    /// Slices of time, alone and then beside hostile clients.
    pub(crate) slices: usize,
    /// Clients of gateways that are restarted in turn.
    pub(crate) rolling: usize,
    /// Clients that connect at the same moment.
    pub(crate) storm: usize,
    /// Clients that come back in durable mode.
    pub(crate) returning: usize,
    /// Sessions of each gateway that is measured beside others.
    pub(crate) peers: usize,
    /// The most sessions of which it is measured how cost grows.
    pub(crate) growth: usize,
    /// Rounds, of which the median counts.
    pub(crate) rounds: usize,
}

/// Messages a second when latency is measured.
pub(crate) const PACE: u32 = 5000;
/// jemalloc gives unused pages back within ten seconds.
pub(crate) const DECAY: Duration = Duration::from_secs(12);

pub(crate) const BROADCAST: &str = "usher.broadcast";

/// What all parts share.
pub(crate) struct Bench {
    pub(crate) scale: Scale,
    pub(crate) servers: Servers,
    pub(crate) reader: Reader,
    pub(crate) report: Report,
    /// Numbers the runs.
    pub(crate) run: u64,
}

/// Something to write frames to sessions: CPU seconds per million of them, and
/// how many a second.
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) rate: f64,
    bytes: u64,
}

impl Bench {
    /// Memory of idle sessions, and what it costs to admit them.
    pub(crate) fn memory(&mut self) -> Outcome<()> {
        let count = self.scale.idle;
        let users = users("user", count);
        let tickets = self.servers.tickets(&users)?;
        let gateway = self.servers.gateway()?;
        let calls = self.servers.calls()?;
        let before = gateway.process.memory();
        let cpu = gateway.process.cpu();
        let start = Instant::now();
        let _sessions = self.reader.open(gateway.public, tickets)?;
        let took = start.elapsed().as_secs_f64();
        let cpu = (gateway.process.cpu() - cpu) / count as f64 * 1e6;

        self.report
            .part("Admission: upgrade, ticket from Redis, confirmed subscription");
        self.report
            .figure("gateway CPU, us a connect", cpu, None, &Target::Most(100.0));
        self.report.figure(
            "connects a second",
            count as f64 / took,
            None,
            &Target::None,
        );
        for (command, calls) in difference(&calls, &self.servers.calls()?) {
            if calls as usize * 20 >= count {
                let each = calls as f64 / count as f64;
                let target = if command == "getdel" {
                    Target::Most(1.0)
                } else {
                    Target::None
                };
                self.report
                    .figure(&format!("Redis: {command} a connect"), each, None, &target);
            }
        }

        let nats = self.servers.nats;
        self.one_each(nats, &users)?;
        let full = gateway.process.memory();
        sleep(DECAY);
        let idle = gateway.process.memory();
        self.one_each(nats, &users)?;
        let after = gateway.process.memory();
        self.report
            .part("Memory of a session: own user, own subscription, one message read");
        self.report.say(&format!(
            "{count} sessions; the process had {:.1} MB before",
            before.resident / 1e6
        ));
        let each = |now: Memory| (now.resident - before.resident) / count as f64;
        self.report
            .figure("bytes at once", each(full), None, &Target::None);
        self.report
            .figure("bytes after 12 s", each(idle), None, &Target::Most(4096.0));
        self.report.figure(
            "bytes after another message",
            each(after),
            None,
            &Target::Most(4096.0),
        );
        let anonymous = (after.anonymous - before.anonymous) / count as f64;
        self.report
            .figure("of these anonymous memory", anonymous, None, &Target::None);
        Ok(())
    }

    /// Memory of one idle session among many, each of its own user, when it has read two
    /// messages.
    pub(crate) fn idle_session(
        &mut self,
        transport: Transport,
        nats: SocketAddr,
        gateway: &Gateway,
    ) -> Outcome<f64> {
        let users = users("user", self.scale.idle);
        let tickets = self.servers.tickets(&users)?;
        let before = gateway.process.memory();
        let _sessions = self.reader.open_by(transport, gateway.public, tickets)?;
        self.one_each(nats, &users)?;
        sleep(DECAY);
        self.one_each(nats, &users)?;
        let after = gateway.process.memory();
        Ok((after.resident - before.resident) / users.len() as f64)
    }

    /// One message to each user, read.
    fn one_each(&mut self, nats: SocketAddr, users: &[String]) -> Outcome<()> {
        let run = self.next_run();
        let mut publisher = Publisher::connect(nats)?;
        for subject in subjects(users) {
            publisher.publish(
                &subject,
                Numbers {
                    run,
                    seq: 0,
                    at: Duration::ZERO,
                },
            )?;
        }
        publisher.confirm()?;
        self.reader.tally.finish(users.len() as u64)?;
        Ok(())
    }

    /// Many messages to one user with sessions on two gateways.
    pub(crate) fn burst(&mut self) -> Outcome<()> {
        self.report
            .part("Burst to one user with a session on each of two gateways");
        let user = users("burst", 1);
        let gateways = [self.servers.gateway()?, self.servers.gateway()?];
        let mut sessions = Vec::new();
        for gateway in &gateways {
            sessions.push(
                self.reader
                    .open(gateway.public, self.servers.tickets(&user)?)?,
            );
        }
        let subject = &subjects(&user)[0];
        let mut rates = Vec::new();
        for _ in 0..self.scale.rounds {
            let run = self.next_run();
            let mut publisher = Publisher::connect(self.servers.nats)?;
            let start = Instant::now();
            for seq in 0..self.scale.burst {
                publisher.publish(
                    subject,
                    Numbers {
                        run,
                        seq,
                        at: Duration::ZERO,
                    },
                )?;
            }
            publisher.confirm()?;
            let wanted = self.scale.burst * gateways.len() as u64;
            if let Err(error) = self.reader.tally.finish(wanted) {
                self.report.say(&format!("MISSED: {error}"));
                return Ok(());
            }
            rates.push(self.scale.burst as f64 / start.elapsed().as_secs_f64());
        }
        let burst = self.scale.burst;
        self.report.say(&format!(
            "{burst} messages: complete, in order, none twice, on both"
        ));
        self.report.figure(
            "messages a second, each read twice",
            median(&rates),
            None,
            &Target::None,
        );
        Ok(())
    }

    /// Unicast, broadcast and latency of one gateway.
    pub(crate) fn load(&mut self, unicast: bool, broadcast: bool, latency: bool) -> Outcome<()> {
        let users = users("user", self.scale.loaded);
        let gateway = self.servers.gateway()?;
        let tickets = self.servers.tickets(&users)?;
        let _sessions = self.reader.open(gateway.public, tickets)?;
        if unicast || broadcast {
            let mut floor = Floor::start(users.len())?;
            let _connections = self.reader.connect(floor.address, users.len())?;
            if unicast {
                self.unicast(&gateway, &mut floor, &subjects(&users))?;
            }
            if broadcast {
                self.broadcast(&gateway, &mut floor)?;
            }
        }
        if latency {
            self.latency(&gateway, &subjects(&users))?;
        }
        Ok(())
    }

    fn unicast(
        &mut self,
        gateway: &Gateway,
        floor: &mut Floor,
        subjects: &[String],
    ) -> Outcome<()> {
        let count = self.scale.unicast;
        let (mut floors, mut costs, mut nats) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.scale.rounds {
            let run = self.next_run();
            let (cpu, start) = (floor.process.cpu(), Instant::now());
            floor.unicast(run, count)?;
            let bytes = self.reader.tally.finish(count as u64)?.bytes;
            floors.push(cost(floor.process.cpu() - cpu, start, count as u64, bytes));

            let nats_cpu = self.servers.nats_process.cpu();
            costs.push(self.flat_out(gateway, subjects, count)?);
            nats.push((self.servers.nats_process.cpu() - nats_cpu) / count as f64 * 1e6);
        }
        self.report
            .part("Unicast flat out, floor: write(2) of the same frames");
        self.report.say(&format!(
            "{count} messages of 128 bytes to {} users: none lost",
            subjects.len()
        ));
        self.report
            .say("what waits together for one user leaves in one write, the floor's does not:");
        self.costs(&costs, &floors, 2.0);
        self.report.figure(
            "nats-server CPU, s a million",
            median(&nats),
            None,
            &Target::None,
        );
        Ok(())
    }

    /// Messages to random users as fast as they go.
    pub(crate) fn flat_out(
        &mut self,
        gateway: &Gateway,
        subjects: &[String],
        count: usize,
    ) -> Outcome<Cost> {
        let run = self.next_run();
        let mut publisher = Publisher::connect(self.servers.nats)?;
        let (cpu, start) = (gateway.process.cpu(), Instant::now());
        let mut next = vec![0; subjects.len()];
        for user in random_users(run, subjects.len(), count) {
            let numbers = Numbers {
                run,
                seq: next[user],
                at: Duration::ZERO,
            };
            next[user] += 1;
            publisher.publish(&subjects[user], numbers)?;
        }
        publisher.confirm()?;
        let bytes = self.reader.tally.finish(count as u64)?.bytes;
        let cpu = gateway.process.cpu() - cpu;
        Ok(cost(cpu, start, count as u64, bytes))
    }

    /// Messages to these users, one to each when all have read the one before: so each leaves in
    /// a write of its own.
    pub(crate) fn one_by_one(
        &mut self,
        gateway: &Gateway,
        subjects: &[String],
        count: usize,
    ) -> Outcome<Cost> {
        let run = self.next_run();
        let mut publisher = Publisher::connect(self.servers.nats)?;
        let (cpu, start) = (gateway.process.cpu(), Instant::now());
        let (rounds, users) = ((count / subjects.len()) as u64, subjects.len() as u64);
        for seq in 0..rounds {
            let at = Duration::ZERO;
            for subject in subjects {
                publisher.publish(subject, Numbers { run, seq, at })?;
            }
            publisher.send()?;
            self.reader.tally.wait((seq + 1) * users)?;
        }
        let bytes = self.reader.tally.finish(rounds * users)?.bytes;
        let cpu = gateway.process.cpu() - cpu;
        Ok(cost(cpu, start, rounds * users, bytes))
    }

    fn broadcast(&mut self, gateway: &Gateway, floor: &mut Floor) -> Outcome<()> {
        let (count, sessions) = (self.scale.broadcasts, self.scale.loaded as u64);
        let all = count * sessions;
        let (mut floors, mut costs, mut flat_out) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.scale.rounds {
            let run = self.next_run();
            let (cpu, start) = (floor.process.cpu(), Instant::now());
            for seq in 0..count {
                floor.broadcast(run, seq)?;
                self.reader.tally.wait((seq + 1) * sessions)?;
            }
            let bytes = self.reader.tally.finish(all)?.bytes;
            floors.push(cost(floor.process.cpu() - cpu, start, all, bytes));

            costs.push(self.broadcasts(gateway, true)?);
            flat_out.push(self.broadcasts(gateway, false)?);
        }
        self.report
            .part("Broadcast, floor: write(2) of the same frames");
        self.report.say(&format!(
            "{count} broadcasts to {sessions} sessions: none lost"
        ));
        self.report.say("each when the one before is read by all:");
        self.costs(&costs, &floors, 1.1);
        self.report
            .say("all at once (writes coalesce, which the floor's do not):");
        self.costs(&flat_out, &floors, 1.1);
        Ok(())
    }

    /// Broadcasts to all sessions of this gateway, each when the one before is read by all, or
    /// all at once.
    pub(crate) fn broadcasts(&mut self, gateway: &Gateway, one_at_a_time: bool) -> Outcome<Cost> {
        let (count, sessions) = (self.scale.broadcasts, self.scale.loaded as u64);
        let mut publisher = Publisher::connect(self.servers.nats)?;
        let run = self.next_run();
        let (cpu, start) = (gateway.process.cpu(), Instant::now());
        for seq in 0..count {
            publisher.publish(
                BROADCAST,
                Numbers {
                    run,
                    seq,
                    at: Duration::ZERO,
                },
            )?;
            publisher.send()?;
            if one_at_a_time {
                self.reader.tally.wait((seq + 1) * sessions)?;
            }
        }
        let all = count * sessions;
        let bytes = self.reader.tally.finish(all)?.bytes;
        let cpu = gateway.process.cpu() - cpu;
        Ok(cost(cpu, start, all, bytes))
    }

    fn latency(&mut self, gateway: &Gateway, subjects: &[String]) -> Outcome<()> {
        let count = self.scale.paced;
        let raw: Vec<String> = (0..subjects.len())
            .map(|user| format!("raw.user.{user}"))
            .collect();
        let subscriber: Sessions = self.reader.subscribe(self.servers.nats, "raw.user.*")?;
        let (mut floors, mut ours, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.scale.rounds {
            floors.push(self.paced(&raw, true, count, PACE)?);
            let before = gateway.process.cpu();
            ours.push(self.paced(subjects, false, count, PACE)?);
            cpu.push((gateway.process.cpu() - before) / count as f64 * 1e6);
        }
        drop(subscriber);
        self.report
            .part("Latency, publish to frame read; floor: a raw NATS subscriber");
        let seconds = count as f64 / f64::from(PACE);
        self.report.say(&format!(
            "{PACE} messages a second to {} users, {} x {seconds:.0} s",
            subjects.len(),
            self.scale.rounds
        ));
        let at = |percent: f64, runs: &[Vec<f64>]| {
            median(
                &runs
                    .iter()
                    .map(|run| percentile(run, percent))
                    .collect::<Vec<_>>(),
            )
        };
        for (percent, most) in [(50.0, 1.5), (99.0, 2.0)] {
            let (value, floor) = (at(percent, &ours), at(percent, &floors));
            let target = Target::Ratio(most);
            self.report
                .figure(&format!("p{percent:.0}, us"), value, Some(floor), &target);
        }
        self.report.figure(
            "gateway CPU, s a million",
            median(&cpu),
            None,
            &Target::None,
        );
        Ok(())
    }

    /// Publishes evenly to random users; returns the latencies, sorted.
    pub(crate) fn paced(
        &mut self,
        subjects: &[String],
        raw: bool,
        count: usize,
        per_second: u32,
    ) -> Outcome<Vec<f64>> {
        self.paced_by(self.servers.nats, subjects, raw, count, per_second)
    }

    /// The same by this NATS.
    pub(crate) fn paced_by(
        &mut self,
        nats: SocketAddr,
        subjects: &[String],
        raw: bool,
        count: usize,
        per_second: u32,
    ) -> Outcome<Vec<f64>> {
        let run = self.next_run();
        let mut publisher = Publisher::connect(nats)?;
        let mut next = vec![0; subjects.len()];
        let each = (0..)
            .zip(random_users(run, subjects.len(), count))
            .map(|(index, user)| {
                // A subscriber of all subjects sees one sequence.
                let seq = if raw { index } else { next[user] };
                next[user] += 1;
                (
                    &*subjects[user],
                    Numbers {
                        run,
                        seq,
                        at: Duration::ZERO,
                    },
                )
            });
        publisher.pace(each, per_second)?;
        Ok(self.reader.tally.finish(count as u64)?.latencies)
    }

    fn costs(&self, costs: &[Cost], floors: &[Cost], target: f64) {
        let middle = |costs: &[Cost], of: fn(&Cost) -> f64| {
            median(&costs.iter().map(of).collect::<Vec<_>>())
        };
        let cpu = |cost: &Cost| cost.cpu;
        let rate = |cost: &Cost| cost.rate;
        let (value, floor) = (middle(costs, cpu), middle(floors, cpu));
        let target = Target::Ratio(target);
        self.report.figure(
            "gateway CPU, s a million deliveries",
            value,
            Some(floor),
            &target,
        );
        let rounds = costs.iter().zip(floors);
        let ratios: Vec<String> = rounds
            .map(|(cost, floor)| format!("{:.2}", cost.cpu / floor.cpu))
            .collect();
        self.report
            .say(&format!("ratios of the rounds: {}", ratios.join(", ")));
        let (value, floor) = (middle(costs, rate), middle(floors, rate));
        self.report
            .figure("deliveries a second", value, Some(floor), &Target::None);
        if costs[0].bytes != floors[0].bytes {
            self.report
                .say("WRONG: the floor wrote frames of another size");
        }
    }

    pub(crate) fn next_run(&mut self) -> u64 {
        self.run += 1;
        self.reader.tally.begin(self.run);
        self.run
    }
}

fn cost(cpu: f64, start: Instant, count: u64, bytes: u64) -> Cost {
    let count = count as f64;
    Cost {
        cpu: cpu / count * 1e6,
        rate: count / start.elapsed().as_secs_f64(),
        bytes,
    }
}

pub(crate) fn users(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{name}-{index}")).collect()
}

/// Where to publish to a user; these ids stand in a subject as they are.
pub(crate) fn subjects(users: &[String]) -> Vec<String> {
    users
        .iter()
        .map(|user| format!("usher.user.{user}"))
        .collect()
}

fn difference(before: &[(String, u64)], after: &[(String, u64)]) -> Vec<(String, u64)> {
    let then = |name: &str| {
        before
            .iter()
            .find(|(n, _)| n == name)
            .map_or(0, |&(_, calls)| calls)
    };
    after
        .iter()
        .map(|(name, calls)| (name.clone(), calls - then(name)))
        .collect()
}
