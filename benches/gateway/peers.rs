//! Usher beside other gateways: the one in Node that a team would write, and Centrifugo. The
//! same clients, the same messages, the same machine, in turns.

mod restart;
mod start;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use self::start::{Kind, start};
use crate::{
    Outcome,
    many::{Many, Order, Peer, Plan, Size, Town, Use, words},
    parts::{Bench, DECAY, PACE},
    payload::Payload,
    process::machine_bytes,
    servers::Servers,
};

/// Rounds of flat out messages, and of broadcasts.
const ROUNDS: usize = 5;
/// Messages at an even pace, in seconds.
const SECONDS: usize = 5;
/// All are in by then.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

impl Bench {
    /// # Errors
    ///
    /// Where a peer does not start, a session does not come in, or a message is lost that
    /// nobody restarted for.
    pub(crate) fn peers(&mut self) -> Outcome<()> {
        let sessions = self.scale.peers;
        self.report
            .title("Usher beside other gateways: own user and NATS subscription each, 128 bytes");
        let (kinds, missing) = Kind::present();
        for missing in missing {
            self.report.say(&missing);
        }
        self.report.say(&format!(
            "{sessions} sessions; CPU is of the gateway, then of nats-server; memory is the gateway's"
        ));
        for kind in &kinds {
            self.peer(*kind, sessions)?;
        }
        self.report
            .title("A rolling restart of two gateways under messages that nobody keeps");
        for kind in &kinds {
            self.restart(*kind, sessions.min(2_000))?;
        }
        Ok(())
    }

    fn peer(&mut self, kind: Kind, sessions: usize) -> Outcome<()> {
        let servers = Servers::start()?;
        let size = Size {
            sessions,
            sessions_per_user: 1,
        };
        let runs: Vec<_> = (0..2 * ROUNDS + 1).map(|_| self.next_run()).collect();
        let mut town = Town::of(&servers, size, kind.peer(), || start(kind, &servers, None))?;
        let (memory, cpu) = (town.memory(), town.cpu());
        let opened = town.open()?;
        if let Some(gave_out) = opened.gave_out {
            return Err(format!("{}: {gave_out}", kind.name()).into());
        }
        let count = sessions as f64;
        let connect = (town.cpu() - cpu).of_one(count / 1e6);
        sleep(DECAY);
        let memory = (town.memory() - memory).of_one(count);

        let payload = Payload::new();
        let deliveries = (ROUNDS * sessions) as f64 / 1e6;
        let cpu = town.cpu();
        for run in &runs[..ROUNDS] {
            town.each_user(*run, &payload)?.all()?;
        }
        let unicast = (town.cpu() - cpu).of_one(deliveries);
        let cpu = town.cpu();
        let messages = SECONDS * PACE as usize;
        let evenly = town.evenly(runs[2 * ROUNDS], &payload, messages, PACE)?;
        let evenly = evenly.all()?;
        let paced = (town.cpu() - cpu).of_one(messages as f64 / 1e6);
        let cpu = town.cpu();
        for run in &runs[ROUNDS..2 * ROUNDS] {
            town.everybody(*run, &payload)?.all()?;
        }
        let broadcast = (town.cpu() - cpu).of_one(deliveries);
        town.close()?;

        let pair = |cpu: Use| format!("{:.1} + {:.1}", cpu.gateways, cpu.nats);
        let report = &self.report;
        report.title(kind.name());
        report.say(&format!(
            "bytes of a session: {:.0}; of nats-server {:.0}",
            memory.gateways, memory.nats
        ));
        report.say(&format!("CPU of a connect, us: {}", pair(connect)));
        report.say(&format!(
            "CPU of a delivery flat out, us: {}",
            pair(unicast)
        ));
        report.say(&format!(
            "CPU of a delivery by broadcast, us: {}",
            pair(broadcast)
        ));
        report.say(&format!(
            "CPU of a delivery at {PACE} a second, us: {}",
            pair(paced)
        ));
        report.say(&format!(
            "latency at {PACE} a second: p50 {:.0} us, p99 {:.0} us",
            evenly.latencies.percentile(50.0),
            evenly.latencies.percentile(99.0)
        ));
        self.reconnect(kind, &servers, &mut town, sessions)
    }

    /// All sessions of a gateway come back at the same moment.
    fn reconnect(
        &self,
        kind: Kind,
        servers: &Servers,
        town: &mut Town<'_>,
        sessions: usize,
    ) -> Outcome<()> {
        let mut many = Many::start(&Plan {
            peer: kind.peer(),
            addresses: vec![town.address()],
            redis: servers.redis,
            returns: false,
            first: 0,
            sessions,
            sessions_per_user: 1,
            handshakes: sessions,
        })?;
        let (cpu, start) = (town.cpu(), Instant::now());
        many.ask(&Order::Open)?;
        let count = until_all(&mut many, sessions, kind)?;
        let took = start.elapsed().as_secs_f64();
        let cpu = (town.cpu() - cpu).of_one(sessions as f64 / 1e6);
        self.report.say(&format!(
            "all reconnect at once: {took:.2} s until all are in, CPU of one {:.1} + {:.1} us; refused: {}",
            cpu.gateways,
            cpu.nats,
            words(&count.refused)
        ));
        self.report.say(&format!(
            "memory of the machine that was left: {:.1} GB",
            machine_bytes("MemAvailable:") / 1e9
        ));
        Ok(())
    }
}

/// Waits until all sessions are open.
fn until_all(many: &mut Many, sessions: usize, kind: Kind) -> Outcome<crate::many::Count> {
    let start = Instant::now();
    loop {
        let count = many.ask(&Order::Look)?;
        if count.open == sessions {
            return Ok(count);
        }
        if start.elapsed() > PATIENCE {
            let (name, open) = (kind.name(), count.open);
            let refused = words(&count.refused);
            return Err(format!("{name}: {open} of {sessions} are in; refused: {refused}").into());
        }
        sleep(LOOK);
    }
}

impl Kind {
    fn peer(self) -> Peer {
        match self {
            Self::Usher => Peer::Usher,
            Self::Node => Peer::Node,
            Self::Centrifugo => Peer::Centrifugo,
        }
    }
}
