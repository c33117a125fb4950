//! What is measured: the rows of the table, each with a name of its own.

use std::time::Duration;

use crate::Outcome;

/// Handshakes under way at once, where not all come at the same moment.
pub(super) const IN_FLIGHT: usize = 200;
/// Clients that are spread come within this, as those of a drain do.
pub(super) const SPREAD: Duration = Duration::from_secs(20);
/// How long NATS is away.
pub(super) const AWAY: Duration = Duration::from_secs(10);

/// How clients come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Manner {
    /// As fast as so many handshakes at once allow.
    InFlight,
    /// Evenly over some time.
    Spread,
    /// All at the same moment.
    AtOnce,
    /// Each when the one before has everything.
    Alone,
    /// They never left: their gateway had no NATS.
    Away,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) clients: usize,
    /// Users who get messages meanwhile, taking turns; the clients are evenly among them.
    pub(super) users: usize,
    /// Messages that each of these users misses.
    pub(super) missed: u64,
    /// Bytes of a message.
    pub(super) bytes: usize,
    pub(super) manner: Manner,
    /// Whether other sessions stay, whose latency is measured.
    pub(super) stay: bool,
    /// Whether a bare NATS client reads the same afterwards.
    pub(super) bare: bool,
}

const fn row(name: &'static str, clients: usize, users: usize, missed: u64) -> Row {
    Row {
        name,
        clients,
        users,
        missed,
        bytes: 100,
        manner: Manner::InFlight,
        stay: false,
        bare: false,
    }
}

impl Row {
    const fn large(self) -> Self {
        Self {
            bytes: 4096,
            ..self
        }
    }

    const fn by(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    const fn beside_sessions(self) -> Self {
        Self { stay: true, ..self }
    }

    const fn and_bare(self) -> Self {
        Self { bare: true, ..self }
    }
}

/// Those of one stream follow each other.
pub(super) const ROWS: [Row; 25] = [
    row("alone-500", 100, 500, 20).by(Manner::Alone).and_bare(),
    row("100-of-500", 100, 500, 20),
    row("missed-200", 500, 500, 200),
    row("missed-0", 5000, 5000, 0),
    row("missed-1", 5000, 5000, 1),
    row("missed-5", 5000, 5000, 5),
    row("missed-20", 5000, 5000, 20).and_bare(),
    row("stay-0", 5000, 5000, 0).beside_sessions(),
    row("stay-20", 5000, 5000, 20).beside_sessions(),
    row("spread", 5000, 5000, 20).by(Manner::Spread),
    row("stay-spread", 5000, 5000, 20)
        .by(Manner::Spread)
        .beside_sessions()
        .and_bare(),
    row("at-once", 2000, 5000, 20)
        .by(Manner::AtOnce)
        .beside_sessions(),
    row("alone-5000", 100, 5000, 20)
        .by(Manner::Alone)
        .and_bare(),
    row("100-of-5000", 100, 5000, 20),
    row("away", 5000, 5000, 20).by(Manner::Away),
    row("10000-missed-5", 10_000, 10_000, 5),
    row("10000-stay-20", 10_000, 10_000, 20).beside_sessions(),
    row("alone-50000", 50, 50_000, 2)
        .by(Manner::Alone)
        .and_bare(),
    row("100-of-50000", 100, 50_000, 2),
    row("1000-of-50000", 1000, 50_000, 2).and_bare(),
    row("1000-of-50000-spread", 1000, 50_000, 2).by(Manner::Spread),
    row("10000-of-50000", 10_000, 50_000, 2),
    row("4k-missed-5", 5000, 5000, 5).large().and_bare(),
    row("4k-stay-5", 2000, 5000, 5).large().beside_sessions(),
    row("4k-missed-20", 500, 500, 20).large(),
];

/// All rows, or those of these names.
pub(super) fn chosen(names: &[&String]) -> Outcome<Vec<Row>> {
    for name in names {
        if !ROWS.iter().any(|row| row.name == *name) {
            let all: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            return Err(format!("no such row: {name}; there are {}", all.join(", ")).into());
        }
    }
    let wants = |row: &&Row| names.is_empty() || names.iter().any(|name| *name == row.name);
    Ok(ROWS.iter().filter(wants).copied().collect())
}
