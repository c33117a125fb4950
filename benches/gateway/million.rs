//! A million sessions on one machine, or as many as the machine holds: opened, held, sent to,
//! counted, and closed.

use std::{
    env,
    thread::{available_parallelism, sleep},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    many::{Count, Delivered, Opened, Size, Town, Use, words},
    parts::Bench,
    payload::Payload,
    process::machine_bytes,
};

/// How many sessions, and for how many seconds they are held.
const SESSIONS: &str = "MILLION_SESSIONS";
const HOLD: &str = "MILLION_HOLD";
const MILLION: usize = 1_000_000;
const FIVE_MINUTES: u64 = 300;
/// What a session takes of the machine, both of its ends and the kernel's part included.
const EACH: f64 = 16.0 * 1024.0;
/// Of the memory that is free, so much is used.
const SHARE: f64 = 0.85;
/// With the pings below a core holds so many sessions.
const EACH_CORE: usize = 500_000;
/// A ping costs two cores some 50 us, both ends included, where so many processes share them: with
/// one in 25 s, the default, they are busy with pings alone at some 900,000 sessions.
const PINGS: [(&str, &str); 2] = [
    ("USHER_SESSION__PING_INTERVAL", "60s"),
    ("USHER_SESSION__IDLE_TIMEOUT", "150s"),
];
/// Between two looks at sessions that are held.
const LOOK: Duration = Duration::from_secs(10);

impl Bench {
    /// # Errors
    ///
    /// Where not all sessions came in, one ended, or a message was lost. The report is whole
    /// even then.
    pub(crate) fn million(&mut self) -> Outcome<()> {
        let sessions = setting(SESSIONS)?.map_or_else(by_the_machine, |wanted| wanted as usize);
        let hold = Duration::from_secs(setting(HOLD)?.unwrap_or(FIVE_MINUTES));
        let size = Size {
            sessions,
            sessions_per_user: 1,
        };
        let [unicast, broadcast] = [self.next_run(), self.next_run()];
        let pings = PINGS.map(|(key, value)| (key, value.to_owned()));
        let mut town = Town::start(&self.servers, size, &pings)?;
        self.report
            .title("Many sessions on one machine: each its own ticket, user and subscription");
        self.report.say(&format!(
            "{sessions} sessions, pinged every 60 s; {} gateways and as many client processes, one \
             nats-server, one Redis",
            town.gateways()
        ));
        sleep(Duration::from_secs(1));
        let (free, memory, cpu) = (machine_bytes("MemAvailable:"), town.memory(), town.cpu());

        let opened = town.open()?;
        self.opened(&opened, town.cpu() - cpu);
        let held = self.hold(&mut town, hold)?;
        self.memory_of(&opened, memory, town.memory(), free);

        let payload = Payload::new();
        let cpu = town.cpu();
        let one = town.each_user(unicast, &payload)?;
        self.sent("a message to each user", &one, town.cpu() - cpu);
        let cpu = town.cpu();
        let all = town.everybody(broadcast, &payload)?;
        self.sent("a broadcast", &all, town.cpu() - cpu);
        let peak = machine_bytes("MemAvailable:");
        self.report.say(&format!(
            "memory of the machine that was left at the end: {:.1} GB",
            peak / 1e9
        ));
        let cpu = town.cpu();
        let closed = town.close()?;
        self.report.say(&format!(
            "closed: after {:.1} s no gateway had a session; CPU {:.1} s",
            closed.as_secs_f64(),
            (town.cpu() - cpu).of_all()
        ));
        if let Some(gave_out) = opened.gave_out {
            return Err(format!("{} of {sessions} came in: {gave_out}", opened.sessions).into());
        }
        if !held.ended.is_empty() {
            return Err(format!("sessions ended while held: {}", words(&held.ended)).into());
        }
        one.all()?;
        all.all()?;
        Ok(())
    }

    fn opened(&self, opened: &Opened, cpu: Use) {
        let (sessions, took) = (opened.sessions, opened.took.as_secs_f64());
        let report = &self.report;
        report.say(&format!(
            "opened: {sessions} in {took:.1} s, {:.0} a second; {} handshakes; refused: {}",
            sessions as f64 / took,
            opened.tries,
            opened.refused
        ));
        if let Some(gave_out) = &opened.gave_out {
            report.say(&format!("what gave out first: {gave_out}"));
        }
        report.say(&format!(
            "CPU of opening, us a session: {}",
            shares(cpu, sessions as f64)
        ));
    }

    /// Lets sessions be, but for pings.
    fn hold(&self, town: &mut Town<'_>, hold: Duration) -> Outcome<Count> {
        let (before, cpu, start) = (town.look()?, town.cpu(), Instant::now());
        let mut last = before.clone();
        while start.elapsed() < hold {
            sleep(LOOK.min(hold.saturating_sub(start.elapsed())));
            last = town.look()?;
            eprintln!(
                "{} sessions are open after {:.0} s of {:.0}; ended: {}",
                last.open,
                start.elapsed().as_secs_f64(),
                hold.as_secs_f64(),
                words(&last.ended)
            );
        }
        let took = start.elapsed().as_secs_f64();
        let cores = (town.cpu() - cpu).by_kind();
        let cores = cores.map(|(kind, cpu)| format!("{kind} {:.2}", cpu / took));
        self.report.say(&format!(
            "held for {took:.0} s: {} open, {} pings answered; ended: {}",
            last.open,
            last.pings - before.pings,
            words(&last.ended)
        ));
        self.report
            .say(&format!("cores busy meanwhile: {}", cores.join(", ")));
        Ok(last)
    }

    fn memory_of(&self, opened: &Opened, before: Use, now: Use, free: f64) {
        let sessions = opened.sessions as f64;
        let grown = now - before;
        let machine = free - machine_bytes("MemAvailable:");
        let report = &self.report;
        report.title("Memory when they have been held: resident, by kind of process");
        report.say(&format!(
            "{:<14} {:>12} {:>12} {:>18}",
            "", "MB before", "MB now", "bytes a session"
        ));
        let kinds = before.by_kind().into_iter().zip(now.by_kind());
        for ((kind, before), (_, now)) in kinds {
            self.line(kind, before, now, (now - before) / sessions);
        }
        let each = machine / sessions;
        report.say(&format!(
            "the machine has {:.0} MB less: {each:.0} bytes a session, both ends included; the \
             kernel's part of it is {:.0}",
            machine / 1e6,
            each - grown.of_all() / sessions
        ));
        report.title("Messages of 128 bytes, each counted");
    }

    fn line(&self, kind: &str, before: f64, now: f64, each: f64) {
        self.report.say(&format!(
            "{kind:<14} {:>12.1} {:>12.1} {each:>18.0}",
            before / 1e6,
            now / 1e6
        ));
    }

    fn sent(&self, what: &str, delivered: &Delivered, cpu: Use) {
        let Delivered {
            wanted,
            messages,
            wrong,
            latencies,
            ..
        } = delivered;
        let took = delivered.took.as_secs_f64();
        self.report.say(&format!(
            "{what}: {messages} of {wanted} arrived, {wrong} out of place; {took:.1} s, {:.0} a second",
            *messages as f64 / took
        ));
        let after = [50.0, 99.0, 100.0].map(|percent| latencies.percentile(percent) / 1e6);
        self.report.say(&format!(
            "  read after {:.3} s (p50), {:.3} s (p99), {:.3} s (the last)",
            after[0], after[1], after[2]
        ));
        self.report.say(&format!(
            "  CPU, us a delivery: {}",
            shares(cpu, *messages as f64)
        ));
    }
}

/// Microseconds of each kind for one of `count`.
fn shares(cpu: Use, count: f64) -> String {
    let each = cpu.by_kind();
    let each = each.map(|(kind, cpu)| format!("{kind} {:.1}", cpu / count * 1e6));
    each.join(", ")
}

/// A number from the environment.
pub(crate) fn setting(name: &str) -> Outcome<Option<u64>> {
    let Ok(text) = env::var(name) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(format!("{name} is {text:?}: write a number above 0").into()),
    }
}

/// As many sessions as memory, cores and descriptors allow; a million at most.
fn by_the_machine() -> usize {
    let memory = machine_bytes("MemAvailable:") * SHARE / EACH;
    let cores = available_parallelism().map_or(1, usize::from);
    let most = MILLION.min(memory as usize).min(cores * EACH_CORE);
    (most / 1000).max(1) * 1000
}
