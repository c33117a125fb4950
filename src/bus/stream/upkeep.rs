//! Seeing to what the stream is: creating it, mending it, and saying what is not as it should
//! be. JetStream's API is JSON over requests, and a configuration is kept as JSON, so that a
//! field which this version does not know stays as it is.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{Config, Difference, Mend, Stream, StreamError, info::info, limits, shape::Shape};
use crate::{
    bus::client::Client,
    jitter,
    readiness::{Part, Readiness},
};

/// After a look that found something wrong, at random around this.
const PAUSE: Duration = Duration::from_secs(1);
/// A stream that is as it should be is looked at again, up to half as much earlier.
const AGAIN: Duration = Duration::from_secs(60);

/// A stream that is there, or was created.
#[derive(Debug)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// Whether it was created just now.
    pub created: bool,
    /// What was mended.
    pub mended: Vec<Difference>,
    /// What is not as it should be.
    pub left: Vec<Difference>,
    /// Messages, bytes, users.
    pub holds: String,
}

impl Checked {
    /// Whether Usher works with it as it is.
    pub fn serves(&self) -> bool {
        let hinders = |difference: &Difference| match difference.mend {
            Mend::Needed => true,
            Mend::ByHand => difference.field != "storage",
            Mend::KeepsMore | Mend::KeepsLess => false,
        };
        !self.left.iter().any(hinders)
    }
}

/// How far mending goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bus) enum Reach {
    /// Only looks.
    Nothing,
    /// What makes it work, and what keeps more.
    More,
    /// What keeps less as well.
    All,
}

/// Keeps the stream right, for as long as this is polled: at the start, after each reconnect,
/// and when somebody finds that it is gone.
pub(super) async fn keep(stream: Stream, client: Client, readiness: Readiness) {
    let config = &stream.0.config;
    let reach = match config.manage {
        true => Reach::More,
        false => Reach::Nothing,
    };
    let mut told = String::new();
    loop {
        stream.connected().await;
        client.ready().await;
        match see_to(&client, config, reach).await {
            Ok(checked) => {
                tell(&checked, &mut told);
                if checked.serves() {
                    readiness.up(Part::Stream);
                    tokio::select! {
                        () = stream.0.gone.notified() => {}
                        () = stream.disconnected() => {}
                        () = sleep(jitter::fraction_of(AGAIN, 0.5, 1.0)) => {}
                    }
                    continue;
                }
                readiness.away(Part::Stream);
            }
            // The connection tells that by itself.
            Err(StreamError::Away) => {}
            Err(error) => {
                readiness.away(Part::Stream);
                let now = error.to_string();
                if now != told {
                    tracing::error!(%error, "durable mode does not work");
                    told = now;
                }
            }
        }
        sleep(jitter::fraction_of(PAUSE, 0.5, 1.0)).await;
    }
}

/// Says what was found, but nothing twice.
fn tell(checked: &Checked, told: &mut String) {
    let stream = &checked.name;
    if checked.created {
        tracing::info!(%stream, "created the stream");
    }
    for difference in &checked.mended {
        tracing::info!(%stream, field = difference.field, "mended the stream");
    }
    let left = checked
        .left
        .iter()
        .map(|difference| format!("{difference}\n"));
    let now: String = left.collect();
    if now == *told {
        return;
    }
    for line in now.lines() {
        tracing::warn!(%stream, "the stream is not as it should be: {line}");
    }
    if checked.serves() {
        tracing::info!(%stream, "durable mode works");
    }
    *told = now;
}

/// Looks at the stream, and mends it as far as `reach` says.
pub(in crate::bus) async fn see_to(
    client: &Client,
    config: &Config,
    reach: Reach,
) -> Result<Checked, StreamError> {
    let shape = Shape::of(config, &client.subjects);
    let name = &config.name;
    let found = info(client, "INFO", name, &json!({})).await;
    let (found, created) = match found {
        Err(StreamError::NotThere(_)) if reach != Reach::Nothing => {
            let made = info(client, "CREATE", name, shape.creation()).await?;
            (made, true)
        }
        found => (found?, false),
    };
    let within = |difference: &Difference| match reach {
        Reach::Nothing => false,
        Reach::More => matches!(difference.mend, Mend::Needed | Mend::KeepsMore),
        Reach::All => difference.mend != Mend::ByHand,
    };
    let before = shape.differences(&found.config);
    let mut wanted: Vec<_> = before.iter().filter(|one| within(one)).cloned().collect();
    let mut now = found;
    while !wanted.is_empty() {
        let mut update = shape.mended(&now.config, &wanted);
        for difference in wanted.iter().filter(|one| one.raises_limit()) {
            limits::note(&mut update, &difference.found);
        }
        match info(client, "UPDATE", name, &update).await {
            Ok(_) => {
                // An old server takes what it does not know, and does nothing.
                now = info(client, "INFO", name, &json!({})).await?;
                break;
            }
            Err(error) => {
                tracing::warn!(stream = %name, %error, "JetStream does not change the stream");
                // Rather only what it does not work without than nothing.
                let all = wanted.len();
                wanted.retain(|difference| difference.mend == Mend::Needed);
                if wanted.len() == all {
                    break;
                }
            }
        }
    }
    if reach != Reach::Nothing && limits::is_open(&now.config) {
        let mut update = now.config.clone();
        limits::close(&mut update, now.state.first_seq, now.state.last_seq);
        match info(client, "UPDATE", name, &update).await {
            Ok(updated) => now.config = updated.config,
            // Until then all that comes counts as under the old limit.
            Err(error) => {
                tracing::warn!(stream = %name, %error, "JetStream does not change the stream");
            }
        }
    }
    let left = shape.differences(&now.config);
    let is_left = |one: &Difference| left.iter().any(|other| other.field == one.field);
    Ok(Checked {
        name: name.clone(),
        created,
        mended: before.into_iter().filter(|one| !is_left(one)).collect(),
        holds: format!(
            "{} messages, {} bytes, {} subjects",
            now.state.messages, now.state.bytes, now.state.num_subjects
        ),
        left,
    })
}
