//! What a gateway costs, beside the least that it could cost.
//!
//! `cargo bench --bench gateway [-- [--quick] [memory|burst|unicast|broadcast|latency|events]…]`
//! starts a nats-server, a redis-server and gateways by itself. Every figure
//! that depends on the machine stands beside a floor that was measured in the
//! same run, in turns; only the ratio of the two travels.
//!
//! `hostile`, `rolling`, `storm`, `durable`, `presence`, `api`, `calls`, `topics`, `traces`,
//! `million`, `centrifuge`, `instructions`, `growth`, `peers` and `sizing` are parts that are run only when
//! they are asked for, and that fail where a bound is missed.
//! `return [ROW…]` is another: it fails where a client that comes back gets anything but what
//! it missed.

mod api;
mod attackers;
mod attacks;
mod balancer;
mod browser;
mod calls;
mod centrifuge;
mod crowd;
mod durable;
mod events;
mod floor;
mod follows;
mod growth;
mod hostile;
mod instructions;
mod many;
mod million;
mod parts;
mod payload;
mod peers;
mod presence;
mod process;
mod publisher;
mod reader;
mod report;
mod returns;
mod rolling;
mod servers;
mod sizing;
mod storm;
mod topics;
mod traces;

use std::{env, error::Error, process::ExitCode};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    parts::{Bench, Scale},
    reader::Reader,
    report::Report,
    servers::Servers,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PARTS: [&str; 22] = [
    "memory",
    "burst",
    "unicast",
    "broadcast",
    "latency",
    "events",
    "hostile",
    "rolling",
    "storm",
    "durable",
    RETURN,
    "presence",
    "api",
    "calls",
    "topics",
    "traces",
    "million",
    "centrifuge",
    "instructions",
    "growth",
    "peers",
    "sizing",
];
/// What follows it are names of its rows.
const RETURN: &str = "return";

const FULL: Scale = Scale {
    idle: 10_000,
    loaded: 5_000,
    burst: 20_000,
    unicast: 200_000,
    broadcasts: 100,
    paced: 50_000,
    slices: 11,
    rolling: 5_000,
    storm: 15_000,
    returning: 10_000,
    growth: 100_000,
    peers: 10_000,
    rounds: 3,
};

const QUICK: Scale = Scale {
    idle: 2_000,
    loaded: 1_000,
    burst: 5_000,
    unicast: 50_000,
    broadcasts: 20,
    paced: 10_000,
    slices: 3,
    rolling: 1_000,
    storm: 3_000,
    returning: 1_000,
    growth: 10_000,
    peers: 1_000,
    rounds: 1,
};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).peekable();
    let outcome = match arguments.peek().map(String::as_str) {
        Some(floor::ARGUMENT) => floor::be(arguments.skip(1)),
        Some(attackers::ARGUMENT) => attackers::be(arguments.skip(1)),
        Some(crowd::ARGUMENT) => crowd::be(arguments.skip(1)),
        Some(many::ARGUMENT) => many::be(arguments.skip(1)),
        Some(instructions::ARGUMENT) => instructions::be(arguments.skip(1)),
        Some(process::ARGUMENT) => process::be(arguments.skip(1)),
        _ => bench(arguments.collect()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: Vec<String>) -> Outcome<()> {
    let quick = arguments.iter().any(|argument| argument == "--quick");
    // Cargo adds --bench by itself.
    let mut wanted: Vec<_> = arguments
        .iter()
        .filter(|argument| !["--quick", "--bench"].contains(&argument.as_str()))
        .collect();
    let end = wanted.iter().position(|part| *part == RETURN);
    let rows = wanted.split_off(end.map_or(wanted.len(), |end| end + 1));
    if let Some(unknown) = wanted.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("no such part: {unknown}; there are {}", PARTS.join(", ")).into());
    }
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| *wanted == part);

    // A session is a file descriptor, here too.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;

    println!(
        "{}",
        process::machine(
            &servers::find("nats-server")?,
            &servers::find("redis-server")?
        )
    );
    println!("load before: {}", process::load());
    let mut bench = Bench {
        scale: if quick { QUICK } else { FULL },
        servers: Servers::start()?,
        reader: Reader::start()?,
        report: Report::new(),
        run: 0,
    };
    if wants("memory") {
        bench.memory()?;
    }
    if wants("burst") {
        bench.burst()?;
    }
    let (unicast, broadcast, latency) = (wants("unicast"), wants("broadcast"), wants("latency"));
    if unicast || broadcast || latency {
        bench.load(unicast, broadcast, latency)?;
    }
    if wants("events") {
        bench.events()?;
    }
    let asked_for = |part: &str| wanted.iter().any(|wanted| *wanted == part);
    let mut outcome = Ok(());
    if asked_for("hostile") {
        outcome = outcome.and(bench.hostile());
    }
    if asked_for("rolling") {
        outcome = outcome.and(bench.rolling());
    }
    if asked_for("storm") {
        outcome = outcome.and(bench.storm());
    }
    if asked_for("durable") {
        outcome = outcome.and(bench.durable());
    }
    if asked_for(RETURN) {
        outcome = outcome.and(bench.returns(&rows));
    }
    if asked_for("presence") {
        outcome = outcome.and(bench.presence());
    }
    if asked_for("api") {
        outcome = outcome.and(bench.api());
    }
    if asked_for("calls") {
        outcome = outcome.and(bench.calls());
    }
    if asked_for("topics") {
        outcome = outcome.and(bench.topics()).and(bench.follows());
    }
    if asked_for("traces") {
        outcome = outcome.and(bench.traces());
    }
    if asked_for("million") {
        outcome = outcome.and(bench.million());
    }
    if asked_for("centrifuge") {
        outcome = outcome.and(bench.centrifuge());
    }
    if asked_for("instructions") {
        outcome = outcome.and(bench.instructions());
    }
    if asked_for("sizing") {
        outcome = outcome.and(bench.sizing());
    }
    if asked_for("growth") {
        outcome = outcome.and(bench.growth());
    }
    if asked_for("peers") {
        outcome = outcome.and(bench.peers());
    }
    bench.report.end();
    outcome
}
