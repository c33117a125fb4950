//! Opening all sessions, and what gave out where not all came in.

use std::{
    thread::{available_parallelism, sleep},
    time::{Duration, Instant},
};

use super::{LOOK, Town};
use crate::{
    Outcome,
    many::{Order, words},
    process::machine_bytes,
};

/// Processes for each core that open sessions at the same time.
const OPENING: usize = 2;
/// Between two lines on standard error.
const SAY: Duration = Duration::from_secs(10);
/// Nothing new for this long: nothing more comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of memory that have to be left on the machine.
const LEAST_MEMORY: f64 = 768e6;

/// How sessions were opened.
pub(crate) struct Opened {
    pub(crate) sessions: usize,
    pub(crate) took: Duration,
    pub(crate) tries: u64,
    /// How handshakes failed, in words.
    pub(crate) refused: String,
    /// What gave out first, where not all came in.
    pub(crate) gave_out: Option<String>,
}

impl Town<'_> {
    /// Opens all sessions: some processes at a time, each as fast as it is admitted.
    ///
    /// # Errors
    ///
    /// Where a process of sessions does not answer any more.
    pub(crate) fn open(&mut self) -> Outcome<Opened> {
        let cores = available_parallelism().map_or(1, usize::from);
        let start = Instant::now();
        let (mut begun, mut opening) = (0, Vec::new());
        let mut progress = (0, Instant::now());
        let mut said = Instant::now();
        let gave_out = loop {
            while opening.len() < OPENING * cores && begun < self.pairs.len() {
                self.pairs[begun].many.ask(&Order::Open)?;
                opening.push(begun);
                begun += 1;
            }
            sleep(LOOK);
            if let Some(ended) = self.ended() {
                break Some(ended);
            }
            self.still_opening(&mut opening)?;
            if opening.is_empty() && begun == self.pairs.len() {
                break None;
            }
            let left = machine_bytes("MemAvailable:");
            if left < LEAST_MEMORY {
                break Some(format!("memory: {:.0} MB are left", left / 1e6));
            }
            if said.elapsed() < SAY {
                continue;
            }
            said = Instant::now();
            let count = self.look()?;
            eprintln!(
                "{} of {} sessions are open after {:.0} s; {:.1} GB of memory are left; refused: {}",
                count.open,
                self.size.sessions,
                start.elapsed().as_secs_f64(),
                left / 1e9,
                words(&count.refused)
            );
            if count.open > progress.0 {
                progress = (count.open, Instant::now());
            } else if progress.1.elapsed() > PATIENCE {
                let refused = words(&count.refused);
                break Some(format!(
                    "no session came in for a minute; refused: {refused}"
                ));
            }
        };
        let took = start.elapsed();
        let count = self.look()?;
        let all = self.size.sessions;
        let ended = || format!("sessions ended: {}", words(&count.ended));
        Ok(Opened {
            sessions: count.open,
            took,
            tries: count.tries,
            refused: words(&count.refused),
            gave_out: gave_out.or_else(|| (count.open < all).then(ended)),
        })
    }

    /// Keeps those that have not opened all sessions yet.
    fn still_opening(&mut self, opening: &mut Vec<usize>) -> Outcome<()> {
        let mut still = Vec::new();
        for &index in &*opening {
            let pair = &mut self.pairs[index];
            let count = pair.many.ask(&Order::Look)?;
            let ended: u64 = count.ended.values().sum();
            if count.open as u64 + ended < pair.sessions as u64 {
                still.push(index);
            }
        }
        *opening = still;
        Ok(())
    }
}
