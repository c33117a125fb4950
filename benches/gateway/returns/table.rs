//! What was measured, and what it is to be.

use std::collections::BTreeMap;

use super::rows::{AWAY, IN_FLIGHT, Manner, Row, SPREAD};
use crate::report::Report;

/// From so many on the difference to a plain connect says what one replayed message costs.
const FEW: u64 = 5;

/// What the clients of a row cost and got, one way or the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Cost {
    /// CPU, in microseconds a client.
    pub(super) gateway: f64,
    pub(super) nats: f64,
    pub(super) redis: f64,
    /// Clients a second.
    pub(super) rate: f64,
    /// From the request to the last missed message, in milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// How far the gateway's memory rose, in MB.
    pub(super) memory: f64,
    /// Answers 503, and none, by what they said.
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) lost: u64,
    pub(super) twice: u64,
    pub(super) wrong: BTreeMap<String, u64>,
    /// Of the sessions that stayed: the 99th percentile before, and meanwhile.
    pub(super) stayed: Option<[f64; 2]>,
    pub(super) rounds: Rounds,
}

/// What rounds did, by the gateway's metrics: for each of [`WAYS`] the sessions that were read for
/// in that way, and the messages that were scanned.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rounds {
    pub(super) sessions: [f64; WAYS.len()],
    pub(super) scanned: f64,
}

pub(super) const WAYS: [&str; 4] = ["none", "scan", "count", "read"];

impl Cost {
    pub(super) fn both(&self) -> f64 {
        self.gateway + self.nats
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Nobody was refused, and everything came once.
    pub(super) fn is_right(&self) -> bool {
        self.refused() + self.lost + self.twice == 0 && self.wrong.is_empty()
    }
}

/// What a bare client needs for the same reads, in microseconds: nats-server's CPU, and its
/// own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    /// The last message of a subject.
    pub(super) last: [f64; 2],
    /// One scan, for each message, and how many these are.
    pub(super) scanned: [f64; 2],
    pub(super) messages: usize,
    /// A user's own read.
    pub(super) read: [f64; 2],
    pub(super) reads: usize,
}

/// A row, measured.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) row: Row,
    pub(super) plain: Cost,
    pub(super) back: Cost,
    /// A live message, in microseconds of the gateway.
    pub(super) live: f64,
    pub(super) floor: Option<Floor>,
    /// Of the sessions that stayed: the 99th percentile before, and while a bare client scans.
    pub(super) beside: Option<[f64; 2]>,
}

pub(super) fn head(report: &Report) {
    report.say(&format!(
        "{:<22}{:>8}{:>8}{:>7}{:>9}{:>11}{:>9}{:>9}{:>7}{:>8}{:>6}{:>6}{:>9}{:>9}",
        "CPU us a client:",
        "gateway",
        "NATS",
        "Redis",
        "g.+NATS",
        "clients/s",
        "p50 ms",
        "p99 ms",
        "MB",
        "refused",
        "lost",
        "twice",
        "p99 us:",
        "others"
    ));
}

impl Measured {
    pub(super) fn tell(&self, report: &Report) {
        let Row {
            name,
            clients,
            users,
            missed,
            bytes,
            manner,
            ..
        } = self.row;
        let manner = match manner {
            Manner::InFlight => format!("{IN_FLIGHT} handshakes at once"),
            Manner::Spread => format!("spread over {} s", SPREAD.as_secs()),
            Manner::AtOnce => "all at the same moment".to_owned(),
            Manner::Alone => "one after the other".to_owned(),
            Manner::Away => format!("they stayed, and NATS was away for {} s", AWAY.as_secs()),
        };
        let others = match self.row.stay {
            true => ", with what the messages of sessions cost that stay",
            false => "",
        };
        report.title(&format!(
            "  {name}: {clients} of {users} users, {missed} missed each, {bytes} bytes; {manner}{others}"
        ));
        let back = match self.row.manner {
            Manner::Away => "NATS is back",
            _ => "come back",
        };
        for (what, cost) in [("plain connect", &self.plain), (back, &self.back)] {
            let stayed = cost.stayed.map(|[before, during]| {
                let ratio = during / before;
                format!("{before:>18.0} -> {during:.0} ({ratio:.1} x)")
            });
            report.say(&format!(
                "{:<22}{:>8.0}{:>8.0}{:>7.0}{:>9.0}{:>11.0}{:>9.1}{:>9.1}{:>7.1}{:>8}{:>6}{:>6}{}",
                format!("  {what}"),
                cost.gateway,
                cost.nats,
                cost.redis,
                cost.both(),
                cost.rate,
                cost.p50,
                cost.p99,
                cost.memory,
                cost.refused(),
                cost.lost,
                cost.twice,
                stayed.unwrap_or_default()
            ));
            for (code, times) in &cost.refused {
                report.say(&format!("    REFUSED, {times} x: {code}"));
            }
            for (wrong, times) in &cost.wrong {
                report.say(&format!("    WRONG, {times} x: {wrong}"));
            }
        }
        let rounds = &self.back.rounds;
        let sessions = WAYS.iter().zip(rounds.sessions);
        let sessions: Vec<_> = sessions
            .map(|(way, sessions)| format!("{sessions} '{way}'"))
            .collect();
        report.say(&format!(
            "    rounds read for sessions: {}; {} messages scanned",
            sessions.join(", "),
            rounds.scanned
        ));
        if missed >= FEW {
            let replayed = (self.back.gateway - self.plain.gateway) / missed as f64;
            report.say(&format!(
                "    one message, gateway: {:.1} us live; {replayed:.1} us replayed (come back less plain)",
                self.live
            ));
        }
        if let Some([before, during]) = self.beside {
            report.say(&format!(
                "    sessions that stay, beside one scan by a bare NATS client in as long a time: p99 us {before:.0} -> {during:.0} ({:.1} x)",
                during / before
            ));
        }
        if let Some(floor) = &self.floor {
            self.tell_floor(floor, report);
        }
    }

    fn tell_floor(&self, floor: &Floor, report: &Report) {
        let both = |[nats, client]: [f64; 2]| format!("{nats:.1} + {client:.1} us");
        report.say("    the same by a bare NATS client (nats-server + the client itself):");
        report.say(&format!(
            "      the last message of a user {}; a user's own read {} ({} tried)",
            both(floor.last),
            both(floor.read),
            floor.reads
        ));
        report.say(&format!(
            "      one scan {} a message, x {} messages / {} clients = {:.0} us a client",
            both(floor.scanned),
            floor.messages,
            self.row.clients,
            floor.scan(self.row.clients)
        ));
        report.say(&format!(
            "      so at least, with the plain connect: {:.0} us a client by a scan, {:.0} us by own reads",
            self.least(floor, floor.scan(self.row.clients)),
            self.least_alone(floor)
        ));
    }

    /// What a client costs at least that reads for itself.
    pub(super) fn least_alone(&self, floor: &Floor) -> f64 {
        self.least(floor, floor.read.iter().sum())
    }

    fn least(&self, floor: &Floor, reads: f64) -> f64 {
        self.plain.both() + floor.last.iter().sum::<f64>() + reads
    }
}

impl Floor {
    /// One scan for all, in microseconds a client.
    fn scan(&self, clients: usize) -> f64 {
        self.scanned.iter().sum::<f64>() * self.messages as f64 / clients as f64
    }
}
