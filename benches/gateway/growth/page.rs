//! The figures' place in `docs/performance.md`: what a run has measured is written there, so
//! that nobody copies it by hand.

use std::{env, fs, path::PathBuf};

use super::{
    Measured, Sweep,
    plot::{Line, plot},
};
use crate::{Outcome, many::Use};

/// The folder of the page, if it is another one.
const FOLDER: &str = "GROWTH_DOCS";
const PAGE: &str = "performance.md";
const PLOTS: &str = "performance";
/// What is between these is written anew.
const BEGIN: &str = "<!-- make growth writes from here -->";
const END: &str = "<!-- to here -->";

pub(super) struct Page {
    folder: PathBuf,
    before: String,
    after: String,
    machine: String,
}

impl Page {
    /// # Errors
    ///
    /// Where the page, or a mark in it, is missing.
    pub(super) fn find(machine: &str) -> Outcome<Self> {
        let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs");
        let folder = env::var_os(FOLDER).map_or(ours, PathBuf::from);
        let path = folder.join(PAGE);
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(END)?;
            Some((before.to_owned(), after.to_owned()))
        });
        let (before, after) = parts
            .ok_or_else(|| format!("{}: the marks of make growth are missing", path.display()))?;
        Ok(Self {
            folder,
            before,
            after,
            machine: machine.to_owned(),
        })
    }

    pub(super) fn write(&self, sweeps: &[Sweep], all: &[Measured]) -> Outcome<()> {
        let plots = self.folder.join(PLOTS);
        fs::create_dir_all(&plots)?;
        let mut text = format!(
            "\n\n{}.\n\n{}",
            self.machine.replace('\n', ", "),
            table(all)
        );
        for sweep in sweeps {
            text += &format!("\n### {}\n\n", sweep.title);
            for (name, title, lines) in drawn(sweep, all) {
                let file = format!("{}-{name}.svg", sweep.file);
                fs::write(plots.join(&file), plot(&title, sweep.axis, &lines))?;
                text += &format!("![{title}, by {}]({PLOTS}/{file})\n", sweep.axis);
            }
        }
        let Self { before, after, .. } = self;
        let page = format!("{before}{BEGIN}{text}\n{END}{after}");
        Ok(fs::write(self.folder.join(PAGE), page)?)
    }
}

fn table(all: &[Measured]) -> String {
    let mut text = "\
| sessions | bytes of a message | sessions a user | gateways | memory of a session: gateway, NATS | CPU of a connect, µs | a delivery flat out, µs | a delivery at 2,000 a second, µs | a delivery of a broadcast, µs | p50, p99 at 2,000 a second | the last has a broadcast after |
|---|---|---|---|---|---|---|---|---|---|---|
"
    .to_owned();
    for one in all {
        let pair = |cpu: &Use| format!("{:.1}, {:.1}", cpu.gateways, cpu.nats);
        text += &format!(
            "| {} | {} | {} | {} | {:.0} B, {:.0} B | {} | {} | {} | {} | {:.0} µs, {:.0} µs | {:.0} ms |\n",
            thousands(one.row.sessions),
            thousands(one.row.payload),
            one.row.sessions_per_user,
            one.gateways,
            one.memory.gateways,
            one.memory.nats,
            pair(&one.connect),
            pair(&one.unicast),
            pair(&one.paced),
            pair(&one.broadcast),
            one.latencies.percentile(50.0),
            one.latencies.percentile(99.0),
            one.last
        );
    }
    text
}

/// The plots of a sweep: a name, a title, and lines.
fn drawn(sweep: &Sweep, all: &[Measured]) -> Vec<(&'static str, String, Vec<Line>)> {
    let points = |of: &dyn Fn(&Measured) -> f64| -> Vec<(usize, f64)> {
        let rows = sweep.rows.iter();
        let found = rows.filter_map(|row| {
            let one = all.iter().find(|one| one.row == *row)?;
            Some((row.at(sweep), of(one)))
        });
        found.collect()
    };
    let line = |name: &'static str, of: &dyn Fn(&Measured) -> f64| Line {
        name,
        points: points(of),
    };
    vec![
        (
            "memory",
            "Bytes of memory of a session".to_owned(),
            vec![
                line("gateway", &|one| one.memory.gateways),
                line("nats-server", &|one| one.memory.nats),
            ],
        ),
        (
            "cpu",
            "Gateway CPU of a delivery, µs".to_owned(),
            vec![
                line("at 2,000 a second", &|one| one.paced.gateways),
                line("flat out", &|one| one.unicast.gateways),
                line("broadcast", &|one| one.broadcast.gateways),
            ],
        ),
        (
            "latency",
            "Latency at 2,000 deliveries a second, µs".to_owned(),
            vec![
                line("p99", &|one| one.latencies.percentile(99.0)),
                line("p50", &|one| one.latencies.percentile(50.0)),
            ],
        ),
    ]
}

/// 100,000
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
