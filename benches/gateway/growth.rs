//! How cost grows with sessions, with the size of messages, and with sessions a user.

mod page;
mod plot;

use std::{thread::sleep, time::Instant};

use self::page::Page;
use crate::{
    Outcome,
    many::{Latencies, Size, Town, Use},
    parts::{Bench, DECAY},
    payload::Payload,
    process,
    servers::{Servers, find},
};

/// Deliveries a second when latency is measured, and for how many seconds.
const PACE: usize = 2_000;
const SECONDS: usize = 10;
/// Deliveries flat out, and by broadcasts, at least.
const DELIVERIES: usize = 50_000;
/// What a user may have at least.
const SESSIONS_PER_USER: usize = 16;

/// One row of the table.
#[derive(Clone, Copy, PartialEq)]
struct Row {
    sessions: usize,
    payload: usize,
    sessions_per_user: usize,
}

/// Rows that differ in one thing.
struct Sweep {
    title: &'static str,
    file: &'static str,
    axis: &'static str,
    rows: Vec<Row>,
}

/// What was measured of a row. Bytes are of one session, CPU is in microseconds of one session
/// or delivery.
struct Measured {
    row: Row,
    gateways: usize,
    memory: Use,
    connect: Use,
    unicast: Use,
    paced: Use,
    broadcast: Use,
    latencies: Latencies,
    /// Milliseconds until the last session had a broadcast.
    last: f64,
}

impl Bench {
    /// # Errors
    ///
    /// Where a session did not come in, a message was lost, or the page can't be written.
    pub(crate) fn growth(&mut self) -> Outcome<()> {
        let most = self.scale.growth;
        let sweeps = sweeps(most);
        let machine = process::machine(&find("nats-server")?, &find("redis-server")?);
        let page = Page::find(&machine)?;
        self.report.title("How cost grows");
        self.report.say(&Measured::head());
        let mut all: Vec<Measured> = Vec::new();
        for row in sweeps.iter().flat_map(|sweep| &sweep.rows) {
            if all.iter().any(|one| one.row == *row) {
                continue;
            }
            let measured = self.grown(*row)?;
            self.report.say(&measured.line());
            all.push(measured);
        }
        page.write(&sweeps, &all)
    }

    fn grown(&mut self, row: Row) -> Outcome<Measured> {
        let size = Size {
            sessions: row.sessions,
            sessions_per_user: row.sessions_per_user,
        };
        let rounds = DELIVERIES.div_ceil(row.sessions);
        let runs: Vec<_> = (0..2 * rounds + 1).map(|_| self.next_run()).collect();
        let most = row.sessions_per_user.max(SESSIONS_PER_USER).to_string();
        let variables = [("USHER_PUBLIC__MAX_SESSIONS_PER_USER", most)];
        // A server keeps memory of the row before.
        let servers = Servers::start()?;
        let mut town = Town::start(&servers, size, &variables)?;
        let (memory, cpu) = (town.memory(), town.cpu());
        let opened = town.open()?;
        if let Some(gave_out) = opened.gave_out {
            let (sessions, came) = (row.sessions, opened.sessions);
            return Err(format!("{came} of {sessions} sessions came in: {gave_out}").into());
        }
        let sessions = row.sessions as f64;
        let connect = (town.cpu() - cpu).of_one(sessions / 1e6);
        sleep(DECAY);
        let memory = (town.memory() - memory).of_one(sessions);

        let payload = Payload::of_size(row.payload);
        let deliveries = (rounds * row.sessions) as f64 / 1e6;
        let cpu = town.cpu();
        for run in &runs[..rounds] {
            town.each_user(*run, &payload)?.all()?;
        }
        let unicast = (town.cpu() - cpu).of_one(deliveries);

        let messages = (PACE * SECONDS / row.sessions_per_user).max(1);
        let pace = (PACE / row.sessions_per_user).max(1) as u32;
        let cpu = town.cpu();
        let evenly = town
            .evenly(runs[2 * rounds], &payload, messages, pace)?
            .all()?;
        let paced = (town.cpu() - cpu).of_one(evenly.messages as f64 / 1e6);

        let (cpu, start) = (town.cpu(), Instant::now());
        let mut last = 0.0_f64;
        for run in &runs[rounds..2 * rounds] {
            let all = town.everybody(*run, &payload)?.all()?;
            last = last.max(all.latencies.percentile(100.0) / 1e3);
        }
        eprintln!(
            "{rounds} broadcasts took {:.1} s",
            start.elapsed().as_secs_f64()
        );
        let broadcast = (town.cpu() - cpu).of_one(deliveries);
        let gateways = town.gateways();
        town.close()?;
        Ok(Measured {
            row,
            gateways,
            memory,
            connect,
            unicast,
            paced,
            broadcast,
            latencies: evenly.latencies,
            last,
        })
    }
}

/// All rows, with so many sessions at most.
fn sweeps(most: usize) -> Vec<Sweep> {
    let row = |sessions, payload, sessions_per_user| Row {
        sessions,
        payload,
        sessions_per_user,
    };
    let middle = most / 10;
    let sweep = |title, file, axis, rows: [Row; 3]| Sweep {
        title,
        file,
        axis,
        rows: rows.to_vec(),
    };
    vec![
        sweep(
            "More sessions, each its own user, messages of 100 B",
            "sessions",
            "sessions",
            [most / 100, middle, most].map(|sessions| row(sessions, 100, 1)),
        ),
        sweep(
            "Larger messages",
            "payload",
            "bytes of a message",
            [100, 1024, 16 * 1024].map(|payload| row(middle, payload, 1)),
        ),
        sweep(
            "More sessions a user, messages of 100 B",
            "users",
            "sessions a user",
            [1, 10, 100].map(|each| row(middle, 100, each)),
        ),
    ]
}

impl Row {
    /// Where it stands on the axis of a sweep.
    fn at(&self, sweep: &Sweep) -> usize {
        match sweep.file {
            "payload" => self.payload,
            "users" => self.sessions_per_user,
            _ => self.sessions,
        }
    }
}

impl Measured {
    fn head() -> String {
        format!(
            "{:>8} {:>7} {:>8} {:>9} | {:>9} {:>9} | {:>11} | {:>11} {:>11} {:>11} | {:>7} {:>7} {:>8}",
            "sessions",
            "payload",
            "per user",
            "gateways",
            "B gateway",
            "B nats",
            "us connect",
            "us unicast",
            "us paced",
            "us brdcast",
            "p50 us",
            "p99 us",
            "last ms"
        )
    }

    fn line(&self) -> String {
        let pair = |cpu: &Use| format!("{:.1}+{:.1}", cpu.gateways, cpu.nats);
        let Row {
            sessions,
            payload,
            sessions_per_user,
        } = self.row;
        format!(
            "{sessions:>8} {payload:>7} {sessions_per_user:>8} {:>9} | {:>9.0} {:>9.0} | {:>11} | \
             {:>11} {:>11} {:>11} | {:>7.0} {:>7.0} {:>8.1}",
            self.gateways,
            self.memory.gateways,
            self.memory.nats,
            pair(&self.connect),
            pair(&self.unicast),
            pair(&self.paced),
            pair(&self.broadcast),
            self.latencies.percentile(50.0),
            self.latencies.percentile(99.0),
            self.last
        )
    }
}
