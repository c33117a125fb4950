//! Whose turn it is to read: a few read for themselves at once, the others wait. Where many
//! come to wait, as when everybody comes back, they are read for together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use super::{
    Bounds, Look, Reads, Stream, StreamError, read,
    sweep::{self, MANY},
};
use crate::{supervision, user::UserId};

/// Who reads at once, each for itself. What it read is in memory for as long as it has its
/// place: so much of each kind as its bounds allow, and one message however large.
const MAX_READS: usize = 8;
/// After a sweep that came to nothing there is none for so long: all have waited for it in
/// vain.
const REST: Duration = Duration::from_secs(10);

/// A session that waits to be read for.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) user: UserId,
    /// Of the messages to the user, and of the broadcasts; none of what it does not want.
    pub(super) after: [Option<u64>; 2],
    pub(super) bounds: Bounds,
    pub(super) look: Look,
    pub(super) sender: oneshot::Sender<Turn>,
}

/// What a reader has waited for.
#[derive(Debug)]
pub(super) enum Turn {
    /// It can read for itself.
    Alone(OwnedSemaphorePermit),
    /// It was read for.
    Swept(Reads),
}

/// Who waits.
#[derive(Debug)]
pub(super) struct Turns {
    places: Arc<Semaphore>,
    /// Many have come to wait.
    many: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    waiting: VecDeque<Reader>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_READS)),
            many: Notify::new(),
            state: Mutex::default(),
        }
    }
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place to read for oneself.
    async fn place(&self) -> Result<OwnedSemaphorePermit, StreamError> {
        let place = self.places.clone().acquire_owned().await;
        place.map_err(|_| StreamError::Away)
    }
}

/// The messages to a user and the broadcasts, each after a sequence, in one's turn.
pub(super) async fn read(
    stream: &Stream,
    user: &UserId,
    after: [Option<u64>; 2],
    bounds: Bounds,
    look: &Look,
) -> Result<Reads, StreamError> {
    if after == [None; 2] {
        return Ok(Reads::default());
    }
    let place = match turn(stream, user, after, bounds, look).await {
        Some(Turn::Swept(reads)) => return Ok(reads),
        Some(Turn::Alone(place)) => place,
        // A sweep passed, and could not show that it saw all.
        None => stream.0.turns.place().await?,
    };
    let of = read::read(stream, user, after, bounds, look).await?;
    Ok(Reads {
        of,
        _room: Some(place),
    })
}

async fn turn(
    stream: &Stream,
    user: &UserId,
    after: [Option<u64>; 2],
    bounds: Bounds,
    look: &Look,
) -> Option<Turn> {
    let turns = &stream.0.turns;
    let (sender, receiver) = oneshot::channel();
    let begin = {
        let mut state = turns.state();
        if state.waiting.is_empty()
            && let Ok(place) = turns.places.clone().try_acquire_owned()
        {
            return Some(Turn::Alone(place));
        }
        state.waiting.push_back(Reader {
            user: user.clone(),
            after,
            bounds,
            look: look.clone(),
            sender,
        });
        if state.waiting.len().is_multiple_of(MANY) {
            turns.many.notify_one();
        }
        !std::mem::replace(&mut state.running, true)
    };
    if begin {
        supervision::spawn("the turns of the stream's readers", run(stream.clone()));
    }
    receiver.await.ok()
}

/// Gives turns, for as long as somebody waits. While it sweeps, whoever finds others waiting
/// waits too, for the next sweep.
async fn run(stream: Stream) {
    let turns = &stream.0.turns;
    let mut rests = Instant::now();
    loop {
        let place = tokio::select! {
            place = turns.place() => place.ok(),
            () = turns.many.notified() => None,
        };
        let readers = {
            let mut state = turns.state();
            state.waiting.retain(|reader| !reader.sender.is_closed());
            if state.waiting.is_empty() {
                state.running = false;
                return;
            }
            let readers = match Instant::now() < rests {
                true => Vec::new(),
                false => sweep::choose(&mut state.waiting),
            };
            // Also beside a sweep: else whoever is too far behind for one may wait for many.
            if let Some(place) = place
                && let Some(reader) = state.waiting.pop_front()
            {
                let _ = reader.sender.send(Turn::Alone(place));
            }
            readers
        };
        if !readers.is_empty()
            && let Err(error) = sweep::sweep(&stream, readers).await
        {
            tracing::debug!(%error, "many cannot be read for together");
            if error != StreamError::Away {
                rests = Instant::now() + REST;
            }
        }
    }
}
