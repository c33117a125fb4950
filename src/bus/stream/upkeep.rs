//! Seeing to it that the stream is there, and is what it should be.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Caller, Difference, Mend, Stream, StreamError,
    looks::ApiError,
    shape::{self, Shape},
};
use crate::{
    bus::{Config as Bus, Subjects, dial::Dialer},
    jitter,
    readiness::{Part, Readiness},
};

/// Between two tries, where the stream is not as Usher needs it; up to half as much less.
const PAUSE: Duration = Duration::from_secs(2);

/// A stream that was right is looked at again, up to half as much earlier.
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
enum Reach {
    /// Only looks.
    Nothing,
    /// What makes it work, and what keeps more.
    More,
    /// What keeps less as well.
    All,
}

/// Keeps the stream right for as long as the process lives: at the start, after each
/// reconnect, and when somebody finds that it is gone.
pub(super) async fn keep(stream: Stream, readiness: Readiness) {
    let mut up = stream.0.caller.up();
    let reach = match stream.0.config.manage {
        true => Reach::More,
        false => Reach::Nothing,
    };
    let mut told = String::new();
    loop {
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        match see_to(&stream, reach).await {
            Ok(checked) => {
                tell(&checked, &mut told);
                if checked.iter().all(Checked::serves) {
                    readiness.up(Part::Stream);
                    tokio::select! {
                        _ = up.wait_for(|up| !*up) => {}
                        () = stream.0.gone.notified() => {}
                        () = sleep(jitter::fraction_of(AGAIN, 0.5, 1.0)) => {}
                    }
                    continue;
                }
            }
            Err(error) => {
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
fn tell(checked: &[Checked], told: &mut String) {
    let mut now = String::new();
    for one in checked {
        let stream = &one.name;
        if one.created {
            tracing::info!(%stream, "created the stream");
        }
        for difference in &one.mended {
            tracing::info!(%stream, field = difference.field, "mended the stream");
        }
        for difference in &one.left {
            now += &format!("{stream}: {difference}\n");
        }
    }
    if now != *told {
        for line in now.lines() {
            tracing::warn!("the stream is not as it should be: {line}");
        }
        *told = now;
    }
}

/// Looks at both streams, for `usher check`.
///
/// # Errors
///
/// [`StreamError`], also where there is no stream and Usher may not create it.
pub async fn check(bus: &Bus) -> Result<Vec<Checked>, StreamError> {
    by_hand(bus, Reach::Nothing).await
}

/// Makes both streams what the configuration says, for `usher check --apply`.
///
/// # Errors
///
/// As [`check`].
pub async fn apply(bus: &Bus) -> Result<Vec<Checked>, StreamError> {
    by_hand(bus, Reach::All).await
}

async fn by_hand(bus: &Bus, reach: Reach) -> Result<Vec<Checked>, StreamError> {
    let Some(config) = bus.stream.clone() else {
        return Ok(Vec::new());
    };
    let caller = || Caller::start(Dialer::new(bus.clone()), &bus.reply_prefix);
    let (caller, looker) = (caller(), caller());
    let subjects = Subjects::new(&bus.prefix).durable(true);
    for caller in [&caller, &looker] {
        let mut up = caller.up();
        let connected = tokio::time::timeout(super::ANSWER, up.wait_for(|up| *up)).await;
        if !matches!(connected, Ok(Ok(_))) {
            return Err(StreamError::Away);
        }
    }
    let stream = Stream::new(config, subjects, caller, looker, Default::default());
    see_to(&stream, reach).await
}

async fn see_to(stream: &Stream, reach: Reach) -> Result<Vec<Checked>, StreamError> {
    let (config, subjects) = (&stream.0.config, &stream.0.subjects);
    let mut checked = vec![one(stream, &Shape::of(config, subjects), reach).await?];
    let name = stream.broadcasts_name();
    let epoch = stream.look().await?.epoch;
    let Some(shape) = Shape::of_broadcasts(config, subjects, &name, &epoch) else {
        return Ok(checked);
    };
    match one(stream, &shape, reach).await {
        Ok(mut second) => {
            if reach == Reach::Nothing {
                second
                    .left
                    .extend(marked_otherwise(stream, &name, &epoch).await?);
            } else {
                begin_anew(stream, &name, &epoch).await?;
            }
            checked.push(second);
        }
        Err(StreamError::NotThere(_)) if reach == Reach::Nothing => checked.push(Checked {
            name,
            created: false,
            mended: Vec::new(),
            left: vec![Difference {
                field: "the stream",
                key: Some("durable.max_broadcasts"),
                wanted: "there".into(),
                found: "absent".into(),
                mend: Mend::KeepsMore,
            }],
            holds: String::new(),
        }),
        Err(error) => return Err(error),
    }
    Ok(checked)
}

/// The second stream is not read where it does not say that it goes with the first one.
async fn marked_otherwise(
    stream: &Stream,
    name: &str,
    epoch: &str,
) -> Result<Option<Difference>, StreamError> {
    let (config, _) = ask(stream, "INFO", name, &json!({})).await?;
    let found = shape::epoch(&config);
    Ok((found != Some(epoch)).then(|| Difference {
        field: "metadata",
        key: Some("durable.max_broadcasts"),
        wanted: shape::with_epoch(json!({}), epoch)["metadata"].take(),
        found: config["metadata"].clone(),
        mend: Mend::KeepsMore,
    }))
}

/// What the second stream has of a first one that is no more is of no use.
async fn begin_anew(stream: &Stream, name: &str, epoch: &str) -> Result<(), StreamError> {
    let (config, _) = ask(stream, "INFO", name, &json!({})).await?;
    if shape::epoch(&config) == Some(epoch) {
        return Ok(());
    }
    let purged: Value = stream
        .ask(&format!("STREAM.PURGE.{name}"), &json!({}))
        .await?;
    if purged["success"] != true {
        return Err(StreamError::Odd(purged.to_string()));
    }
    ask(stream, "UPDATE", name, &shape::with_epoch(config, epoch)).await?;
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<ApiError>,
    config: Option<Value>,
    #[serde(default)]
    state: State,
}

#[derive(Debug, Default, Deserialize)]
struct State {
    messages: u64,
    bytes: u64,
    #[serde(default)]
    num_subjects: u64,
}

async fn one(stream: &Stream, shape: &Shape, reach: Reach) -> Result<Checked, StreamError> {
    let name = &shape.name;
    let found = ask(stream, "INFO", name, &json!({})).await;
    let (config, state, created) = match found {
        Ok((config, state)) => (config, state, false),
        Err(StreamError::NotThere(_)) if reach != Reach::Nothing => {
            let (config, state) = ask(stream, "CREATE", name, &shape.creation()).await?;
            (config, state, true)
        }
        Err(error) => return Err(error),
    };
    let within = |mend| match reach {
        Reach::Nothing => false,
        Reach::More => matches!(mend, Mend::Needed | Mend::KeepsMore),
        Reach::All => mend != Mend::ByHand,
    };
    let (mended, mut left): (Vec<_>, Vec<_>) = shape
        .differences(&config)
        .into_iter()
        .partition(|difference| within(difference.mend));
    let mut mended = mended;
    while !mended.is_empty() {
        let update = shape.mended(&config, &mended);
        let Err(error) = ask(stream, "UPDATE", name, &update).await else {
            break;
        };
        tracing::warn!(stream = %name, %error, "JetStream does not change the stream");
        // Rather only what it does not work without than nothing.
        let (needed, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut mended)
            .into_iter()
            .partition(|difference| difference.mend == Mend::Needed);
        if rest.is_empty() {
            left.extend(needed);
        } else {
            mended = needed;
            left.extend(rest);
        }
    }
    Ok(Checked {
        name: name.clone(),
        created,
        mended,
        left,
        holds: format!(
            "{} messages, {} bytes, {} subjects",
            state.messages, state.bytes, state.num_subjects
        ),
    })
}

async fn ask(
    stream: &Stream,
    verb: &str,
    name: &str,
    body: &Value,
) -> Result<(Value, State), StreamError> {
    let answer: Answer = stream.ask(&format!("STREAM.{verb}.{name}"), body).await?;
    match answer {
        Answer {
            error: Some(ApiError { code: 404, .. }),
            ..
        } => Err(StreamError::NotThere(name.to_owned())),
        Answer {
            error: Some(error), ..
        } => Err(StreamError::Odd(error.description)),
        Answer {
            config: Some(config),
            state,
            ..
        } => Ok((config, state)),
        Answer { .. } => Err(StreamError::Odd("no configuration".to_owned())),
    }
}
