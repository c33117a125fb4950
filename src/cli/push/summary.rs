//! What became of many messages.

use std::{fmt, time::Instant};

use indicatif::HumanCount;
use serde::Serialize;

use super::Outcome;

/// Counts as it goes.
pub(super) struct Summary {
    started: Instant,
    messages: u64,
    receipts: Option<Receipts>,
}

/// What is printed at the end.
#[derive(Debug, Serialize)]
pub(super) struct Pushed {
    messages: u64,
    seconds: f64,
    messages_per_second: f64,
    #[serde(flatten)]
    receipts: Option<Receipts>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Receipts {
    queued: u64,
    offline: u64,
}

impl Summary {
    pub(super) fn start(receipt: bool) -> Self {
        Self {
            started: Instant::now(),
            messages: 0,
            receipts: receipt.then(Receipts::default),
        }
    }

    pub(super) fn count(&mut self, outcome: &Outcome) {
        self.messages += 1;
        if let Some(receipts) = &mut self.receipts {
            match outcome {
                Outcome::Queued { .. } => receipts.queued += 1,
                Outcome::Offline { .. } => receipts.offline += 1,
                Outcome::Dispatched { .. } => {}
            }
        }
    }

    pub(super) fn end(&self) -> Pushed {
        let seconds = self.started.elapsed().as_secs_f64();
        Pushed {
            messages: self.messages,
            seconds: rounded(seconds),
            messages_per_second: rounded(self.messages as f64 / seconds.max(f64::EPSILON)),
            receipts: self.receipts,
        }
    }
}

/// To a thousandth: the rest is noise.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

impl fmt::Display for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = if self.messages == 1 {
            "message"
        } else {
            "messages"
        };
        write!(
            f,
            "{} {messages} in {:.1} s, {} a second",
            HumanCount(self.messages),
            self.seconds,
            HumanCount(self.messages_per_second.round() as u64)
        )?;
        if let Some(Receipts { queued, offline }) = self.receipts {
            write!(
                f,
                "; queued {}, offline {}",
                HumanCount(queued),
                HumanCount(offline)
            )?;
        }
        Ok(())
    }
}
