//! What it costs that clients come back in durable mode: how many, of how many users, with how
//! much missed; each beside a plain connect of the same clients.

mod bare;
mod cut;
mod fleet;
mod goals;
mod position;
mod rows;
mod socket;
mod table;
mod world;

use std::{
    thread::{self, sleep},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use self::{
    bare::Bare,
    fleet::{Fleet, Wanted},
    rows::{AWAY, Manner, Row},
    table::{Cost, Floor, Measured, Rounds},
    world::{Spent, World},
};
use crate::{
    Outcome,
    parts::{Bench, subjects, users},
    reader::Sessions,
    report::percentile,
    servers::Gateway,
};

/// Sessions that stay, each of its own user, and messages a second to all of them together.
const STAYING: usize = 200;
const PACE: u32 = 1000;
/// Messages of a slice of time, and slices before anything happens.
const SLICE: usize = 250;
const CALM: usize = 8;
/// The gateway looks a second time at each session that joined, a second later.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// Between two looks at clients that come.
const LOOK: Duration = Duration::from_millis(2);
/// The most messages that each client gets live before it leaves.
const LIVE: u64 = 20;

/// What there is while a row is measured.
#[derive(Clone, Copy)]
struct Scene<'a> {
    row: &'a Row,
    world: &'a World,
    gateway: &'a Gateway,
    stayed: Option<&'a Stayed>,
}

/// Sessions that have nothing to do with it.
struct Stayed {
    _sessions: Sessions,
    subjects: Vec<String>,
}

impl Bench {
    /// Measures the rows of these names, or all.
    ///
    /// # Errors
    ///
    /// Where a client was refused, lost something, got something twice, or saw something else
    /// that it should not. What costs too much is said, and is no error.
    pub(crate) fn returns(&mut self, names: &[&String]) -> Outcome<()> {
        let rows = rows::chosen(names)?;
        let runtime = fleet::runtime()?;
        let mut world: Option<World> = None;
        let mut all = Vec::new();
        self.report
            .title("Clients that come back in durable mode, beside a plain connect of the same");
        table::head(&self.report);
        for row in rows {
            let here = match world.take().filter(|world| world.fits(&row)) {
                Some(world) => world,
                None => {
                    let run = self.next_run();
                    World::start(&self.servers, &row, run)?
                }
            };
            let measured = self.row(&here, &row, &runtime)?;
            measured.tell(&self.report);
            all.push(measured);
            world = Some(here);
        }
        goals::tell(&all, &self.report);
        let wrong = |one: &&Measured| !one.plain.is_right() || !one.back.is_right();
        let wrong: Vec<_> = all.iter().filter(wrong).map(|one| one.row.name).collect();
        if !wrong.is_empty() {
            return Err(format!("not all came back as they should: {}", wrong.join(", ")).into());
        }
        Ok(())
    }

    fn row(&mut self, world: &World, row: &Row, runtime: &Handle) -> Outcome<Measured> {
        let behind = match row.manner {
            Manner::Away => Some(world.gateway_behind(&self.servers)?),
            _ => None,
        };
        let gateway = behind
            .as_ref()
            .map_or(&world.gateway, |(gateway, _)| gateway);
        let stayed = match row.stay {
            true => Some(self.staying(gateway)?),
            false => None,
        };
        let clients = world.clients(row.clients);
        let names = clients.iter().map(|user| world.users[*user].clone());
        let redis = self.servers.redis()?;
        let mut fleet = Fleet::new(runtime, gateway.public, redis, names);

        // They come for the first time, and get some messages.
        let first = Wanted {
            resume: "none",
            ..Wanted::default()
        };
        let manner = match row.manner {
            manner @ (Manner::Alone | Manner::Spread) => manner,
            _ => Manner::InFlight,
        };
        let scene = Scene {
            row,
            world,
            gateway,
            stayed: stayed.as_ref(),
        };
        let plain = self.measure(scene, &mut fleet, first, |fleet| fleet.come(manner, false))?;
        let live = self.get_some(scene, &fleet, &clients)?;

        // They are away, and miss some.
        let back = Wanted {
            run: self.next_run(),
            messages: row.missed,
            live: true,
            resume: "complete",
        };
        let everybody: Vec<_> = (0..row.users).collect();
        let marks = fleet.marks();
        let back = match &behind {
            Some((_, way)) => {
                let start = Instant::now();
                way.cut();
                world.store(&everybody, back.run, row.missed)?;
                sleep(AWAY.saturating_sub(start.elapsed()));
                self.measure(scene, &mut fleet, back, |_| {
                    way.mend();
                    Ok(())
                })?
            }
            None => {
                fleet.leave();
                world.store(&everybody, back.run, row.missed)?;
                world.quiet();
                self.measure(scene, &mut fleet, back, |fleet| {
                    fleet.come(row.manner, true)
                })?
            }
        };
        let beside = match stayed.as_ref().filter(|_| row.bare) {
            Some(stayed) => {
                Some(self.beside_bare(scene, stayed, (&marks, row.clients as f64 / back.rate))?)
            }
            None => None,
        };
        let floor = match row.bare {
            true => Some(self.bare(scene, &clients, &marks)?),
            false => None,
        };
        fleet.leave();
        world.quiet();
        Ok(Measured {
            row: *row,
            plain,
            back,
            live,
            floor,
            beside,
        })
    }

    /// Sessions that stay, as they are beside it.
    fn staying(&mut self, gateway: &Gateway) -> Outcome<Stayed> {
        let users = users("stays", STAYING);
        let tickets = self.servers.tickets(&users)?;
        Ok(Stayed {
            _sessions: self.reader.open(gateway.public, tickets)?,
            subjects: subjects(&users),
        })
    }

    /// What `act` costs until all have what is wanted, and were looked at a second time.
    fn measure(
        &mut self,
        scene: Scene<'_>,
        fleet: &mut Fleet,
        wanted: Wanted,
        act: impl FnOnce(&mut Fleet) -> Outcome<()>,
    ) -> Outcome<Cost> {
        let Scene {
            row,
            world,
            gateway,
            stayed,
        } = scene;
        let nats = world.nats.address;
        let mut before = Vec::new();
        if let Some(stayed) = stayed {
            for _ in 0..CALM {
                before.extend(self.paced_by(nats, &stayed.subjects, false, SLICE, PACE)?);
            }
        }
        gateway.process.forget_peak()?;
        let memory = gateway.process.memory().resident;
        fleet.expect(wanted);
        let rounds = Rounds::now(gateway)?;
        let (spent, start) = (self.spent(gateway, world), Instant::now());
        act(fleet)?;
        let mut during = Vec::new();
        fleet.wait(|| {
            match stayed {
                Some(stayed) => {
                    let slice = self.paced_by(nats, &stayed.subjects, false, SLICE, PACE)?;
                    during.extend(slice);
                }
                None => sleep(LOOK),
            }
            Ok(())
        })?;
        let took = start.elapsed().as_secs_f64();
        let peak = gateway.process.peak();
        sleep(SECOND_LOOK);
        let spent = self.spent(gateway, world).since(spent);
        let rounds = Rounds::now(gateway)?.since(&rounds);
        let seen = fleet.seen();
        for latencies in [&mut before, &mut during] {
            latencies.sort_unstable_by(f64::total_cmp);
        }
        let us = |seconds: f64| seconds / row.clients as f64 * 1e6;
        let all = seen.last.map_or(took, |last| {
            last.saturating_duration_since(start).as_secs_f64()
        });
        Ok(Cost {
            gateway: us(spent.gateway),
            nats: us(spent.nats),
            redis: us(spent.redis),
            rate: seen.done as f64 / all,
            p50: percentile(&seen.times, 50.0),
            p99: percentile(&seen.times, 99.0),
            memory: (peak - memory) / 1e6,
            refused: seen.refused,
            lost: seen.lost,
            twice: seen.twice,
            wrong: seen.wrong,
            stayed: stayed.map(|_| [percentile(&before, 99.0), percentile(&during, 99.0)]),
            rounds,
        })
    }

    /// Each client gets some messages live; returns what one costs the gateway.
    fn get_some(&mut self, scene: Scene<'_>, fleet: &Fleet, clients: &[usize]) -> Outcome<f64> {
        let Scene {
            row,
            world,
            gateway,
            ..
        } = scene;
        let live = Wanted {
            run: self.next_run(),
            messages: row.missed.clamp(1, LIVE),
            ..Wanted::default()
        };
        fleet.expect(live);
        let cpu = gateway.process.cpu_of_threads();
        world.store(clients, live.run, live.messages)?;
        fleet.wait(|| {
            sleep(LOOK);
            Ok(())
        })?;
        let cpu = gateway.process.cpu_of_threads() - cpu;
        let seen = fleet.seen();
        if seen.lost + seen.twice > 0 || !seen.wrong.is_empty() {
            let (lost, twice, wrong) = (seen.lost, seen.twice, seen.wrong);
            return Err(format!("live: {lost} lost, {twice} twice, {wrong:?}").into());
        }
        Ok(cpu / (live.messages * clients.len() as u64) as f64 * 1e6)
    }

    /// The same reads by a bare client.
    fn bare(&mut self, scene: Scene<'_>, clients: &[usize], marks: &[u64]) -> Outcome<Floor> {
        let Scene { row, world, .. } = scene;
        let mut bare = Bare::connect(world.nats.address, &world.nats.process)?;
        let subjects: Vec<_> = clients.iter().map(|user| &world.subjects[*user]).collect();
        let lasts = bare.lasts(&subjects)?;
        let lowest = marks.iter().min().copied().unwrap_or(0);
        let scan = bare.scan(lowest)?;
        let each: Vec<_> = subjects.into_iter().zip(marks.iter().copied()).collect();
        let reads = bare.by_subject(&each, row.missed)?;
        Ok(Floor {
            last: [lasts.nats, lasts.client],
            scanned: [scan.nats, scan.client],
            messages: scan.count,
            read: [reads.nats, reads.client],
            reads: reads.count,
        })
    }

    /// The 99th percentile of sessions that stay, before and while a bare client goes through
    /// the stream once, in as long a time as clients took to come back.
    fn beside_bare(
        &mut self,
        scene: Scene<'_>,
        stayed: &Stayed,
        (marks, seconds): (&[u64], f64),
    ) -> Outcome<[f64; 2]> {
        let Scene { world, .. } = scene;
        let nats = world.nats.address;
        let lowest = marks.iter().min().copied().unwrap_or(0);
        let mut before = Vec::new();
        for _ in 0..CALM {
            before.extend(self.paced_by(nats, &stayed.subjects, false, SLICE, PACE)?);
        }
        let mut bare = Bare::connect(nats, &world.nats.process)?;
        let start = Instant::now();
        let during = thread::scope(|scope| {
            let scan = scope.spawn(move || {
                bare.scan(lowest)
                    .map(drop)
                    .map_err(|error| error.to_string())
            });
            let mut during = Vec::new();
            while start.elapsed().as_secs_f64() < seconds {
                during.extend(self.paced_by(nats, &stayed.subjects, false, SLICE, PACE)?);
            }
            scan.join().map_err(|_| "the bare client panicked")??;
            Outcome::Ok(during)
        })?;
        Ok([before, during].map(|mut latencies| {
            latencies.sort_unstable_by(f64::total_cmp);
            percentile(&latencies, 99.0)
        }))
    }

    fn spent(&self, gateway: &Gateway, world: &World) -> Spent {
        Spent::now(gateway, world, &self.servers)
    }
}
