//! Whether those who are in notice that the gateway is attacked.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Outcome,
    attackers::{Attackers, RAMP, Score},
    attacks,
    parts::{Bench, subjects, users},
    report::{Target, median, percentile},
    servers::Gateway,
};

/// Sessions that have nothing to do with it, each of its own user.
const INNOCENT: usize = 200;
/// Messages a second to all of them together.
const PACE: u32 = 1000;
/// Seconds. Of several slices the middle one counts: a machine that is shared stalls
/// for a tenth of a second now and then, which is in few of them, on either side.
const SLICE: u32 = 4;
const HOSTILE: usize = 2000;
/// What may become of the 99th percentile, in microseconds.
const FACTOR: f64 = 2.0;
const SLACK: f64 = 5000.0;

/// Fewer than there are attackers of the push listener.
const GRPC_CONNECTIONS: usize = 300;

/// Of the push listener, which vouches for itself.
struct Certificate(TempDir);

impl Certificate {
    fn new() -> Outcome<Self> {
        let folder = TempDir::new()?;
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let made = Self(folder);
        fs::write(made.path("crt"), certificate.cert.pem())?;
        fs::write(made.path("key"), certificate.signing_key.serialize_pem())?;
        Ok(made)
    }

    fn path(&self, ending: &str) -> String {
        let path = self.0.path().join(format!("listener.{ending}"));
        path.display().to_string()
    }
}

/// The latencies of one side, slice by slice.
struct Side {
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// CPU seconds of the gateway in a second.
    cpu: f64,
}

impl Bench {
    /// Latency alone, and then beside attackers.
    ///
    /// # Errors
    ///
    /// Where the 99th percentile grows beyond what it may, a message is lost, or a
    /// session ends.
    pub(crate) fn hostile(&mut self) -> Outcome<()> {
        let certificate = Certificate::new()?;
        let gateway = self.servers.gateway_with(&[
            ("USHER_CENTRIFUGE__ENABLED", "true".to_owned()),
            ("USHER_GRPC__TOKENS", attacks::TOKEN.to_owned()),
            ("USHER_GRPC__MAX_CONNECTIONS", GRPC_CONNECTIONS.to_string()),
            ("USHER_GRPC__TLS__CERTIFICATE_FILE", certificate.path("crt")),
            ("USHER_GRPC__TLS__KEY_FILE", certificate.path("key")),
        ])?;
        let users = users("innocent", INNOCENT);
        let subjects = subjects(&users);
        let tickets = self.servers.tickets(&users)?;
        let _sessions = self.reader.open(gateway.public, tickets)?;

        let warm = PACE as usize;
        self.paced(&subjects, false, warm, PACE)?;
        let alone = self.side(&gateway, &subjects)?;

        let ca_file = certificate.path("crt");
        let redis = self.servers.redis;
        let mut attackers = Attackers::start(&gateway, redis, ca_file.as_ref(), HOSTILE)?;
        sleep(2 * RAMP);
        let (before, cpu) = (attackers.score()?, attackers.process.cpu());
        let start = Instant::now();
        let beside = self.side(&gateway, &subjects)?;
        let (after, took) = (attackers.score()?, start.elapsed());
        let cpu = (attackers.process.cpu() - cpu) / took.as_secs_f64();
        drop(attackers);

        self.report
            .part("Latency beside hostile clients; floor: alone, in the same run");
        self.report.say(&format!(
            "{PACE} messages a second to {INNOCENT} sessions, {} x {SLICE} s each: none lost",
            self.scale.slices
        ));
        self.tell(&before, &after, took);
        let (value, floor) = (median(&beside.p50), median(&alone.p50));
        self.report
            .figure("p50, us", value, Some(floor), &Target::None);
        let (value, floor) = (median(&beside.p99), median(&alone.p99));
        let most = FACTOR * floor + SLACK;
        self.report
            .figure("p99, us", value, Some(floor), &Target::Most(most));
        for (side, name) in [(&alone, "alone"), (&beside, "beside")] {
            let slices: Vec<_> = side.p99.iter().map(|p99| format!("{p99:.0}")).collect();
            self.report
                .say(&format!("p99 of the slices {name}: {}", slices.join(", ")));
        }
        self.report.figure(
            "gateway CPU, of one core",
            beside.cpu,
            Some(alone.cpu),
            &Target::None,
        );
        self.report
            .figure("attackers' CPU, of one core", cpu, None, &Target::None);
        if value > most {
            return Err(format!("p99 is {value:.0} us, and may be {most:.0} us").into());
        }
        Ok(())
    }

    fn side(&mut self, gateway: &Gateway, subjects: &[String]) -> Outcome<Side> {
        let (cpu, start) = (gateway.process.cpu(), Instant::now());
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..self.scale.slices {
            let latencies = self.paced(subjects, false, (PACE * SLICE) as usize, PACE)?;
            p50.push(percentile(&latencies, 50.0));
            p99.push(percentile(&latencies, 99.0));
        }
        let cpu = (gateway.process.cpu() - cpu) / start.elapsed().as_secs_f64();
        Ok(Side { p50, p99, cpu })
    }

    /// What the attackers did meanwhile, and what they got.
    fn tell(&self, before: &Score, after: &Score, took: Duration) {
        let rate = |after: u64, before: u64| (after - before) as f64 / took.as_secs_f64();
        self.report.say(&format!(
            "{HOSTILE} hostile clients, {} connected at the end; {:.0} connections and {:.0} KB a second:",
            after.here,
            rate(after.connections, before.connections),
            rate(after.bytes, before.bytes) / 1e3,
        ));
        for (attack, ends) in &after.ends {
            let ends: Vec<_> = ends
                .iter()
                .map(|(end, times)| {
                    let earlier = before.ends.get(attack).and_then(|ends| ends.get(end));
                    (end, times - earlier.unwrap_or(&0))
                })
                .filter(|(_, times)| *times > 0)
                .map(|(end, times)| format!("{end} x {times}"))
                .collect();
            let ends = match &ends[..] {
                [] => "still at it".to_owned(),
                ends => ends.join(", "),
            };
            self.report.say(&format!("  {attack}: {ends}"));
        }
    }
}
