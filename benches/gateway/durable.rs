//! What durable mode costs beside live mode, and what it costs to bring clients what they
//! missed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    parts::{Bench, PACE, subjects, users},
    payload::Numbers,
    publisher::Publisher,
    reader::{Transport, Visitor},
    report::{Target, median, percentile},
    servers::{Gateway, JetStream},
};

/// Sessions whose latency is measured, each of its own user.
const SESSIONS: usize = 1000;
/// Seconds that do not count, before the first round.
const WARM_UP: usize = 3;
/// How much later a message of durable mode may be at p50.
const LATER: f64 = 2.0;
/// Noise has to hit all alike.
const LEAST_ROUNDS: usize = 2;
/// Messages that each client misses.
const MISSED: u64 = 20;
/// A stream drops what is published faster than it stores, so it has to acknowledge one
/// of so many.
const STORED: u64 = 500;
/// The gateway looks a second time at whoever joined, a second later.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// The gateway has seen by then that all have left.
const LEFT: Duration = Duration::from_secs(2);
/// What a replayed message may cost, in microseconds, and a return beside a reconnect.
const REPLAYED: f64 = 30.0;
const RETURN: f64 = 3.0;

/// A mode that is measured.
struct Mode {
    name: &'static str,
    nats: SocketAddr,
    gateway: Gateway,
    /// The latencies of the rounds.
    rounds: Vec<Vec<f64>>,
    cpu: Vec<f64>,
}

impl Mode {
    fn new(name: &'static str, nats: SocketAddr, gateway: Gateway) -> Self {
        Self {
            name,
            nats,
            gateway,
            rounds: Vec::new(),
            cpu: Vec::new(),
        }
    }

    fn at(&self, percent: f64) -> f64 {
        let each = self.rounds.iter().map(|round| percentile(round, percent));
        median(&each.collect::<Vec<_>>())
    }
}

/// A figure of them.
type Of = fn(&Costs) -> f64;

/// How clients come back.
#[derive(Clone, Copy, PartialEq)]
enum Return {
    /// To a gateway in live mode.
    Live,
    /// Without a position.
    Plain,
    /// With one, having missed nothing.
    Nothing,
    /// With one, having missed messages.
    Missed,
}

const RETURNS: [(Return, &str); 4] = [
    (Return::Live, "in live mode, for comparison"),
    (Return::Plain, "without a position"),
    (Return::Nothing, "with a position, nothing missed"),
    (Return::Missed, "with a position, 20 missed"),
];

/// What it cost that all came back, in seconds.
#[derive(Clone, Copy)]
struct Costs {
    gateway: f64,
    nats: f64,
    welcome: f64,
    live: f64,
}

impl Bench {
    /// Latency, memory and the return of clients.
    ///
    /// # Errors
    ///
    /// Where the middle message is twice as late as in live mode, or where a client that
    /// comes back gets anything but what it missed.
    pub(crate) fn durable(&mut self) -> Outcome<()> {
        let late = self.durable_latency()?;
        self.durable_memory()?;
        self.durable_return()?;
        late
    }

    fn durable_latency(&mut self) -> Outcome<Outcome<()>> {
        let (memory, file) = (JetStream::start()?, JetStream::start()?);
        let mut modes = [
            Mode::new("live", self.servers.nats, self.servers.gateway()?),
            Mode::new(
                "memory",
                memory.address,
                self.servers.durable_gateway(&memory, "memory")?,
            ),
            Mode::new(
                "file",
                file.address,
                self.servers.durable_gateway(&file, "file")?,
            ),
        ];
        let users = users("user", SESSIONS);
        let subjects = subjects(&users);
        let mut sessions = Vec::new();
        for mode in &modes {
            let tickets = self.servers.tickets(&users)?;
            sessions.push(self.reader.open(mode.gateway.public, tickets)?);
        }
        for mode in &modes {
            self.paced_by(mode.nats, &subjects, false, WARM_UP * PACE as usize, PACE)?;
        }
        let (count, rounds) = (self.scale.paced, self.scale.rounds.max(LEAST_ROUNDS));
        for _ in 0..rounds {
            for mode in &mut modes {
                let cpu = mode.gateway.process.cpu();
                let latencies = self.paced_by(mode.nats, &subjects, false, count, PACE)?;
                mode.rounds.push(latencies);
                let cpu = mode.gateway.process.cpu() - cpu;
                mode.cpu.push(cpu / count as f64 * 1e6);
            }
        }
        self.report
            .part("Latency of durable mode, publish to frame read; floor: live mode");
        let seconds = count as f64 / f64::from(PACE);
        self.report.say(&format!(
            "{PACE} messages a second to {SESSIONS} users, {rounds} x {seconds:.0} s each in turn: none lost"
        ));
        let [live, durable @ ..] = &modes;
        let mut outcome = Ok(());
        for mode in durable {
            let name = mode.name;
            for (percent, target) in [(50.0, Target::Ratio(LATER)), (99.0, Target::None)] {
                let what = format!("{name}: p{percent:.0}, us");
                let (value, floor) = (mode.at(percent), live.at(percent));
                self.report.figure(&what, value, Some(floor), &target);
                if matches!(target, Target::Ratio(_)) && value > LATER * floor {
                    outcome = Err(format!("{name}: over {LATER} x as late as live").into());
                }
            }
            let p50 = |mode: &Mode| {
                let each = mode.rounds.iter().map(|round| percentile(round, 50.0));
                each.collect::<Vec<_>>()
            };
            let ratios: Vec<_> = p50(mode)
                .iter()
                .zip(p50(live))
                .map(|(value, floor)| format!("{:.2}", value / floor))
                .collect();
            self.report.say(&format!(
                "{name}: ratios of the rounds at p50: {}",
                ratios.join(", ")
            ));
            let (value, floor) = (median(&mode.cpu), median(&live.cpu));
            self.report.figure(
                &format!("{name}: gateway CPU, s a million"),
                value,
                Some(floor),
                &Target::None,
            );
        }
        Ok(outcome)
    }

    fn durable_memory(&mut self) -> Outcome<()> {
        let gateway = self.servers.gateway()?;
        let nats = self.servers.nats;
        let live = self.idle_session(Transport::WebSocket, nats, &gateway)?;
        drop(gateway);
        let nats = JetStream::start()?;
        let gateway = self.servers.durable_gateway(&nats, "file")?;
        let durable = self.idle_session(Transport::WebSocket, nats.address, &gateway)?;
        self.report
            .part("Memory of a durable session; floor: live mode");
        let sessions = self.scale.idle;
        self.report.say(&format!(
            "{sessions} sessions, each of its own user, two messages read"
        ));
        self.report
            .figure("bytes a session", durable, Some(live), &Target::None);
        Ok(())
    }

    fn durable_return(&mut self) -> Outcome<()> {
        let clients = self.scale.returning;
        let nats = JetStream::start()?;
        let gateway = self.servers.durable_gateway(&nats, "file")?;
        let live = self.servers.gateway()?;
        let users = users("user", clients);
        let subjects = subjects(&users);
        // Each has had one message, and knows its place by that.
        let mut places = vec![0; clients];
        let run = self.next_run();
        store(&nats, &subjects, run, 1, &mut places)?;
        let rounds = self.scale.rounds.max(LEAST_ROUNDS);
        let mut costs = vec![Vec::new(); RETURNS.len()];
        for _ in 0..rounds {
            for (index, (way, _)) in RETURNS.into_iter().enumerate() {
                let (epoch, [top, at]) = self.end(&gateway)?;
                let run = self.next_run();
                // Each has its own messages, and has seen how far the stream was.
                let since: Vec<_> = places
                    .iter()
                    .map(|place| {
                        let with = matches!(way, Return::Nothing | Return::Missed);
                        with.then(|| format!("{epoch}.{place}.{top}.{at}"))
                    })
                    .collect();
                if way == Return::Missed {
                    store(&nats, &subjects, run, MISSED, &mut places)?;
                }
                let gateway = match way {
                    Return::Live => &live,
                    _ => &gateway,
                };
                costs[index].push(self.come_back(&users, since, way, gateway, &nats)?);
            }
        }

        self.report
            .part("Clients that come back in durable mode; floor: without a position");
        let each = MISSED * clients as u64;
        self.report.say(&format!(
            "{clients} clients, 64 at a time, {rounds} rounds in turn; defaults but for durable.enabled"
        ));
        self.report.say(&format!(
            "{each} messages of 128 bytes missed: 0 lost, 0 twice, all in order, all `complete`"
        ));
        let middle =
            |index: usize, of: Of| median(&costs[index].iter().map(of).collect::<Vec<_>>());
        let us = |seconds: f64| seconds / clients as f64 * 1e6;
        let plain = us(middle(1, |costs| costs.gateway));
        let most = RETURN * plain + REPLAYED * MISSED as f64;
        let figures: [(_, Of); 2] = [
            ("gateway CPU, us a client", |costs| costs.gateway),
            ("nats-server CPU, us a client", |costs| costs.nats),
        ];
        for (what, of) in figures {
            self.report.say(&format!("{what}:"));
            for (index, (way, name)) in RETURNS.into_iter().enumerate() {
                // One NATS is of durable mode, and the other is not looked at.
                if way == Return::Live && what.starts_with("nats") {
                    continue;
                }
                let (value, floor) = (us(middle(index, of)), us(middle(1, of)));
                let target = match way {
                    Return::Missed if what.starts_with("gateway") => Target::Most(most),
                    _ => Target::None,
                };
                let floor = (way != Return::Plain).then_some(floor);
                self.report
                    .figure(&format!("  {name}"), value, floor, &target);
            }
        }
        self.report
            .say("seconds until all are welcome, and until all were told `live`:");
        for (index, (way, name)) in RETURNS.into_iter().enumerate() {
            let figures: [(_, Of); 2] = [
                ("welcome", |costs| costs.welcome),
                ("live", |costs| costs.live),
            ];
            let told = usize::from(way == Return::Nothing || way == Return::Missed);
            for (what, of) in &figures[..=told] {
                self.report.figure(
                    &format!("  {name}: {what}"),
                    middle(index, *of),
                    None,
                    &Target::None,
                );
            }
        }
        let replay = |of: Of| (middle(3, of) - middle(2, of)) / each as f64 * 1e6;
        self.report
            .say("a replayed message, by the difference to nothing missed:");
        for (what, of) in figures {
            let what = what.replace("a client", "a message");
            self.report
                .figure(&format!("  {what}"), replay(of), None, &Target::None);
        }
        Ok(())
    }

    /// Which stream it is, its last sequence, and when that was stored.
    fn end(&mut self, gateway: &Gateway) -> Outcome<(String, [u64; 2])> {
        self.next_run();
        let tickets = self.servers.tickets(&users("first", 1))?;
        let _session = self.reader.open(gateway.public, tickets)?;
        let told = self.reader.tally.told(0)?;
        Ok((told.epoch, told.end))
    }

    /// All come at once, so many at a time as the reader opens, and leave again.
    fn come_back(
        &mut self,
        users: &[String],
        since: Vec<Option<String>>,
        way: Return,
        gateway: &Gateway,
        nats: &JetStream,
    ) -> Outcome<Costs> {
        let tickets = self.servers.tickets(users)?;
        let visitors = tickets
            .into_iter()
            .zip(since)
            .map(|(ticket, since)| Visitor { ticket, since })
            .collect();
        let cpu = (gateway.process.cpu(), nats.process.cpu());
        let start = Instant::now();
        let sessions = self
            .reader
            .visit(Transport::WebSocket, gateway.public, visitors)?;
        let welcome = start.elapsed().as_secs_f64();

        let (resume, live, missed) = match way {
            Return::Live | Return::Plain => ("none", 0, 0),
            Return::Nothing => ("complete", users.len(), 0),
            Return::Missed => ("complete", users.len(), MISSED),
        };
        let told = self.reader.tally.told(live)?;
        self.reader.tally.finish(missed * users.len() as u64)?;
        let wanted = match live {
            0 => BTreeMap::new(),
            _ => BTreeMap::from([(missed, live)]),
        };
        let as_wanted = BTreeMap::from([(resume.to_owned(), users.len())]);
        if told.resume != as_wanted || told.live != wanted || told.gaps > 0 {
            return Err(format!(
                "told {:?}, `live` after so many messages: {:?}, {} gaps",
                told.resume, told.live, told.gaps
            )
            .into());
        }
        let last = told.last_live.map(|at| at.duration_since(start));
        sleep(SECOND_LOOK);
        // Nothing came twice meanwhile.
        self.reader.tally.finish(missed * users.len() as u64)?;
        let costs = Costs {
            gateway: gateway.process.cpu() - cpu.0,
            nats: nats.process.cpu() - cpu.1,
            welcome,
            live: last.map_or(welcome, |last| last.as_secs_f64()),
        };
        drop(sessions);
        sleep(LEFT);
        Ok(costs)
    }
}

/// Stores so many messages for each user, in turns; `places` are the last of each then.
fn store(
    nats: &JetStream,
    subjects: &[String],
    run: u64,
    each: u64,
    places: &mut [u64],
) -> Outcome<()> {
    let mut publisher = Publisher::connect(nats.address)?;
    let mut last = places.iter().max().copied().unwrap_or(0);
    let end = last + each * places.len() as u64;
    for seq in 0..each {
        for (subject, place) in subjects.iter().zip(&mut *places) {
            let numbers = Numbers {
                run,
                seq,
                at: Duration::ZERO,
            };
            last += 1;
            *place = last;
            if last.is_multiple_of(STORED) || last == end {
                let stored = publisher.store(subject, numbers)?;
                if stored != last {
                    return Err(format!("{last} messages came to {stored} in the stream").into());
                }
            } else {
                publisher.publish(subject, numbers)?;
            }
        }
    }
    Ok(())
}
