//! Keeps the consumer right, and tells operators how far behind it is.

use std::time::Duration;

use tokio::{sync::Notify, sync::watch, time::sleep};

use super::consumer::{self, ConsumerError, Found};
use crate::{
    bus::{
        client::Client,
        stream::{Stream, StreamError, upkeep::Reach},
    },
    jitter,
    readiness::Readiness,
};

/// Between two looks, at random up to half as much earlier.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two looks where the stream is not there: it is about to be made.
const SOON: Duration = Duration::from_millis(500);

/// Looks at the consumer for as long as this is polled, and tells by `works` whether messages
/// can be asked for; `gone` is notified when somebody finds that there is none.
pub(super) async fn keep(
    stream: Stream,
    client: Client,
    readiness: Readiness,
    works: watch::Sender<bool>,
    gone: std::sync::Arc<Notify>,
) {
    let config = &stream.0.config;
    let reach = match config.manage {
        true => Reach::More,
        false => Reach::Nothing,
    };
    let mut told = String::new();
    let mut lost = Lost::default();
    loop {
        stream.connected().await;
        client.ready().await;
        let mut again = AGAIN;
        match consumer::see_to(&client, config, reach).await {
            Ok(found) => {
                let metrics = &stream.0.metrics;
                metrics
                    .offline_pending
                    .set(found.pending.try_into().unwrap_or(i64::MAX));
                metrics.offline_lost.inc_by(lost.by_now(found));
                if !std::mem::take(&mut told).is_empty() {
                    tracing::info!("events on {}.offline again", client.subjects.prefix());
                }
                if !works.send_replace(true) {
                    readiness.offline_events(true);
                }
            }
            // The connection and the upkeep of the stream tell that by themselves.
            Err(ConsumerError::Stream(StreamError::Away | StreamError::NotThere(_))) => {
                again = SOON;
            }
            Err(error) => {
                works.send_replace(false);
                readiness.offline_events(false);
                let now = error.to_string();
                if now != told {
                    tracing::error!(%error, "no events on {}.offline", client.subjects.prefix());
                    told = now;
                }
            }
        }
        tokio::select! {
            () = gone.notified() => {}
            () = sleep(jitter::fraction_of(again, 0.5, 1.0)) => {}
        }
    }
}

/// How far all messages to users were delivered, or counted as lost.
#[derive(Debug, Default)]
struct Lost {
    delivered: u64,
}

impl Lost {
    /// How many sequences retention has removed since the last look before the consumer came
    /// to them. Whose messages they were nobody knows any more: broadcasts are among them.
    fn by_now(&mut self, found: Found) -> u64 {
        self.delivered = self.delivered.max(found.delivered);
        // A stream that was made anew begins again.
        if found.last < self.delivered {
            self.delivered = found.delivered;
        }
        let gone = found.first.saturating_sub(1).saturating_sub(self.delivered);
        self.delivered += gone;
        if found.pending == 0 {
            // All to users up to there was delivered, though the last ones may be others'.
            self.delivered = self.delivered.max(found.last);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_before_it_was_delivered_is_lost_once() {
        let mut lost = Lost::default();
        let found = |(first, last), delivered, pending| Found {
            first,
            last,
            delivered,
            pending,
        };
        for (now, gone) in [
            // A consumer that was just made, in a stream that has messages.
            (found((3, 9), 9, 0), 0),
            (found((3, 20), 12, 4), 0),
            // It stands still, and the stream's beginning goes past it.
            (found((16, 30), 12, 9), 3),
            (found((16, 30), 12, 9), 0),
            (found((18, 40), 17, 9), 0),
            (found((20, 40), 17, 9), 2),
            (found((20, 40), 17, 9), 0),
            (found((20, 60), 41, 0), 0),
            // Only broadcasts since then.
            (found((45, 80), 41, 0), 0),
            (found((75, 90), 41, 0), 0),
            // The stream was made anew.
            (found((1, 4), 3, 1), 0),
        ] {
            assert_eq!(lost.by_now(now), gone, "{now:?}");
        }
    }
}
