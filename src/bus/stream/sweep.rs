//! One reading for many: all that is in the stream from the oldest of their places on, each
//! message handed to those whose it is.
//!
//! To find the next message of one subject NATS goes through those of others. Where many
//! come back at once, each missed some of the same range, and NATS would go through it once
//! for each message of each of them. A sweep goes through it once for all.
//!
//! What is said of each is as true as if it had read for itself, or it is not said: whoever
//! it cannot be shown for reads for itself after all.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::{
    ANSWER, Bounds, Found, Look, Read, Reads, Stream, StreamError,
    batch::{Ended, batch},
    read::found,
    turns::{Reader, Turn},
};
use crate::bus::interest::ServerMessage;

/// So many have to wait, for a sweep to be considered.
pub(super) const MANY: usize = 100;
/// Messages that are swept for each reader at most: to read for itself costs NATS no less
/// than to go through so many.
const WORTH: u64 = 500;
/// Messages, and bytes, of one question. Others on the connection wait for as long as one
/// takes.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// Messages that are kept for readers have so much memory, until they are handed on. What
/// finds no room is only counted, and read when its reader comes again.
pub(super) const ROOM: usize = 32 << 20;
/// A sweep takes so long, or is given up.
const SWEEP: Duration = Duration::from_secs(10);
/// Of the two kinds.
const BROADCAST: usize = 1;
/// Before a replica that lags is asked again, and how often that is done.
const LAG: (Duration, u32) = (Duration::from_millis(25), 10);

/// Takes those of them for whom a sweep is worth it; none where it is for too few. Whoever
/// is so far behind that the others would have to go through too much is not taken.
pub(super) fn choose(waiting: &mut VecDeque<Reader>) -> Vec<Reader> {
    if waiting.len() < MANY {
        return Vec::new();
    }
    let last = waiting.iter().map(|reader| reader.look.last).max();
    let mut places: Vec<_> = waiting.iter().map(Reader::oldest).collect();
    places.sort_unstable_by(|one, other| other.cmp(one));
    let range = |oldest: u64| last.unwrap_or(0).saturating_sub(oldest);
    let worth = (places.iter().enumerate())
        .rfind(|(index, oldest)| range(**oldest) <= (*index as u64 + 1) * WORTH);
    match worth {
        Some((index, oldest)) if index + 1 >= MANY => {
            let taken = |reader: &Reader| reader.oldest() >= *oldest;
            let (taken, left): (Vec<_>, Vec<_>) = waiting.drain(..).partition(taken);
            *waiting = left.into();
            taken
        }
        _ => Vec::new(),
    }
}

impl Reader {
    /// The older one of its places.
    fn oldest(&self) -> u64 {
        self.after.into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

/// Reads for these. Whoever it cannot be shown for that nothing is gone gets no answer.
pub(super) async fn sweep(stream: &Stream, readers: Vec<Reader>) -> Result<(), StreamError> {
    let mut handout = Handout::of(stream, &readers);
    let oldest = readers.iter().map(Reader::oldest).min().unwrap_or(0);
    let swept = timeout(SWEEP, pass(stream, oldest, &mut handout)).await;
    let swept = swept.unwrap_or(Err(StreamError::TimedOut))?;
    let (count, mut answered) = (readers.len(), 0);
    for (reader, share) in readers.into_iter().zip(handout.shares) {
        if let Some(reads) = swept.answer(&reader, share) {
            answered += 1;
            let _ = reader.sender.send(Turn::Swept(reads));
        }
    }
    let up_to = swept.up_to;
    tracing::debug!(
        count,
        answered,
        oldest,
        up_to,
        "many were read for together"
    );
    Ok(())
}

/// Goes through what is after a sequence, up to what the leader has at the beginning.
async fn pass(stream: &Stream, after: u64, handout: &mut Handout) -> Result<Swept, StreamError> {
    let look = stream.look().await?;
    let (mut up_to, mut lags) = (after, 0);
    while up_to < look.last {
        let read = timeout(ANSWER, from(stream, up_to + 1, handout)).await;
        let read = match read.unwrap_or(Err(StreamError::TimedOut))? {
            Ended::Whole(read) => Some(read),
            Ended::Nothing | Ended::TooMuch => None,
        };
        up_to = read.map_or(up_to, |read| read.last);
        if up_to >= look.last || read.is_some_and(|read| read.pending > 0) {
            continue;
        }
        if read.is_some() && !look.replicated {
            // The messages at its end are gone.
            up_to = look.last;
        } else if lags < LAG.1 {
            lags += 1;
            sleep(LAG.0).await;
        } else {
            return Err(StreamError::TimedOut);
        }
    }
    let now = stream.look().await?;
    if now.last < up_to {
        return Err(StreamError::Odd("it has lost its end".to_owned()));
    }
    Ok(Swept { up_to, now })
}

async fn from(stream: &Stream, from: u64, handout: &mut Handout) -> Result<Ended, StreamError> {
    // Without a subject it would be that very message that is asked for, which may be gone.
    let question = json!({
        "seq": from,
        "next_by_subj": ">",
        "batch": BATCH,
        "max_bytes": BATCH_BYTES,
    });
    batch(stream, &question, BATCH, |seq, _, reply| {
        let subject = reply.headers.last("Nats-Subject").unwrap_or_default();
        handout.hand(subject, |broadcast| by_itself(seq, reply, broadcast));
    })
    .await
}

/// How far a sweep came.
struct Swept {
    /// All that there was up to here, at the moment at which it came by, it has seen.
    up_to: u64,
    /// What the leader has after that.
    now: Look,
}

impl Swept {
    /// Whether nothing after a sequence was removed before the sweep came by, where it saw
    /// so many of the subject and the reader had looked before.
    ///
    /// What a subject's limit removes has as many newer ones of its subject behind it as that
    /// allows. Of the newest that was removed unseen, all of these were seen, or are beyond
    /// the sweep's end, where there are no more than sequences. With fewer of both together
    /// none was removed.
    fn shows_all(&self, after: u64, seen: u64, before: &Look) -> bool {
        let beyond = self.now.last - self.up_to;
        let shows = |look: &Look| {
            let within = |limit| seen + beyond < limit;
            look.has_all_after(after) && look.per_subject.is_none_or(within)
        };
        self.up_to >= before.last
            && self.now.epoch == before.epoch
            && shows(before)
            && shows(&self.now)
    }

    /// What was read for a reader; none where it has to read for itself.
    fn answer(&self, reader: &Reader, share: Share) -> Option<Reads> {
        let goes_on = |part: &Part| part.more == 0 || !part.found.is_empty();
        let shown = |part: &Part| self.shows_all(part.after, part.total(), &reader.look);
        let parts = share.parts.iter().flatten();
        let good = parts.clone().all(|part| goes_on(part) && shown(part));
        good.then(|| Reads {
            of: share.parts.map(|part| part.map(Part::read)),
            _room: share.room,
        })
    }
}

/// What each reader is handed.
struct Handout {
    shares: Vec<Share>,
    /// Of each subject, which of a reader's parts it is, and of which readers.
    readers_of: HashMap<String, (usize, Vec<usize>)>,
    /// Memory that is left, in bytes.
    room: Arc<Semaphore>,
}

/// What one reader is handed.
#[derive(Default)]
struct Share {
    /// Of each kind that it wants.
    parts: [Option<Part>; 2],
    room: Option<OwnedSemaphorePermit>,
}

/// What one reader is handed of one kind.
struct Part {
    after: u64,
    bounds: Bounds,
    bytes: usize,
    found: Vec<Found>,
    more: u64,
}

impl Handout {
    fn of(stream: &Stream, readers: &[Reader]) -> Self {
        let mut handout = Self::new(stream.0.room.clone());
        let subjects = &stream.0.subjects;
        for reader in readers {
            let subjects = [subjects.user(&reader.user), subjects.broadcast()];
            handout.add(subjects, reader.after, reader.bounds);
        }
        handout
    }

    fn new(room: Arc<Semaphore>) -> Self {
        Self {
            shares: Vec::new(),
            readers_of: HashMap::new(),
            room,
        }
    }

    /// One more reader, with the subject of each kind.
    fn add(&mut self, subjects: [String; 2], after: [Option<u64>; 2], bounds: Bounds) {
        let mut share = Share::default();
        for (kind, (subject, after)) in subjects.into_iter().zip(after).enumerate() {
            let Some(after) = after else { continue };
            share.parts[kind] = Some(Part {
                after,
                bounds,
                bytes: 0,
                found: Vec::new(),
                more: 0,
            });
            let (_, readers) = self
                .readers_of
                .entry(subject)
                .or_insert_with(|| (kind, Vec::new()));
            readers.push(self.shares.len());
        }
        self.shares.push(share);
    }

    /// A message comes by; `found` makes it, told whether it is a broadcast.
    fn hand(&mut self, subject: &str, found: impl FnOnce(bool) -> Found) {
        let Some((kind, readers)) = self.readers_of.get(subject) else {
            return;
        };
        let found = found(*kind == BROADCAST);
        for reader in readers {
            self.shares[*reader].take(*kind, &found, &self.room);
        }
    }
}

/// A message by itself: what it came in has others' in it too.
fn by_itself(seq: u64, reply: &ServerMessage, broadcast: bool) -> Found {
    let mut found = found(seq, reply, broadcast);
    found.message.payload = Bytes::copy_from_slice(&found.message.payload);
    found
}

impl Share {
    /// A message of this kind comes by: it is kept where there is room for it, else counted.
    fn take(&mut self, kind: usize, found: &Found, room: &Arc<Semaphore>) {
        let Some(part) = self.parts[kind]
            .as_mut()
            .filter(|part| part.after < found.seq)
        else {
            return;
        };
        let message = &found.message;
        let bytes = size_of::<Found>() + message.event.as_str().len() + message.payload.len();
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        if part.has_room_for(bytes)
            && let Ok(more) = room.clone().try_acquire_many_owned(permits)
        {
            match &mut self.room {
                Some(room) => room.merge(more),
                None => self.room = Some(more),
            }
            part.found.push(found.clone());
            part.bytes += bytes;
        } else {
            part.more += 1;
        }
    }
}

impl Part {
    /// Whether its bounds allow one more, with none left out before it.
    fn has_room_for(&self, bytes: usize) -> bool {
        let fits = self.found.is_empty() || self.bytes + bytes <= self.bounds.bytes;
        self.more == 0 && fits && self.found.len() < self.bounds.messages
    }

    fn total(&self) -> u64 {
        self.found.len() as u64 + self.more
    }

    fn read(self) -> Read {
        Read {
            intact: true,
            anchored: false,
            found: self.found,
            more: self.more,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::message::{EventName, Message};

    const BOUNDS: Bounds = Bounds {
        messages: 4,
        bytes: 10_000,
    };

    fn look(first: u64, last: u64, per_subject: Option<u64>) -> Look {
        Look {
            epoch: "k3f9".into(),
            last_at: 0,
            set_backs: 0,
            first,
            last,
            per_subject,
            replicated: false,
        }
    }

    fn reader(user: u64, after: [Option<u64>; 2], last: u64) -> Reader {
        let user = crate::user::UserId::parse(&user.to_string());
        Reader {
            user: user.expect("an id"),
            after,
            bounds: BOUNDS,
            look: look(1, last, Some(10)),
            sender: oneshot::channel().0,
        }
    }

    /// A handout with so much memory, to readers `0..` of users of the same numbers, who
    /// want these of either kind.
    fn handout(room: usize, wanted: &[[Option<u64>; 2]]) -> Handout {
        let mut handout = Handout::new(Arc::new(Semaphore::new(room)));
        for (user, after) in wanted.iter().enumerate() {
            let subjects = [format!("user.{user}"), "broadcast".to_owned()];
            handout.add(subjects, *after, BOUNDS);
        }
        handout
    }

    fn pass(handout: &mut Handout, seq: u64, subject: &str, bytes: usize) {
        handout.hand(subject, |broadcast| Found {
            seq,
            at: 0,
            message: Message {
                event: EventName::default(),
                payload: "x".repeat(bytes).into(),
                broadcast,
                stored: None,
                probe: false,
            },
        });
    }

    /// What a reader was handed of a kind: sequences, and how many more.
    fn handed(handout: &Handout, reader: usize, kind: usize) -> (Vec<u64>, u64) {
        let part = handout.shares[reader].parts[kind].as_ref();
        let part = part.expect("it wants the kind");
        (
            part.found.iter().map(|found| found.seq).collect(),
            part.more,
        )
    }

    #[test]
    fn each_is_handed_what_is_its_own_after_its_place() {
        let wanted = [[Some(0), Some(0)], [Some(3), None], [None, Some(4)]];
        let mut handout = handout(ROOM, &wanted);
        let subjects = [
            "user.0",
            "user.1",
            "broadcast",
            "user.1",
            "user.1",
            "orders",
        ];
        for (seq, subject) in (1..).zip(subjects) {
            pass(&mut handout, seq, subject, 10);
        }
        pass(&mut handout, 7, "broadcast", 10);
        pass(&mut handout, 8, "user.2", 10);
        assert_eq!(handed(&handout, 0, 0), (vec![1], 0));
        assert_eq!(handed(&handout, 0, 1), (vec![3, 7], 0));
        assert_eq!(handed(&handout, 1, 0), (vec![4, 5], 0));
        assert_eq!(handed(&handout, 2, 1), (vec![7], 0));
        let broadcast = &handout.shares[2].parts[1].as_ref().expect("a part").found[0];
        assert!(broadcast.message.broadcast);
    }

    #[test]
    fn two_sessions_of_a_user_are_both_handed_theirs() {
        let mut handout = Handout::new(Arc::new(Semaphore::new(ROOM)));
        for after in [1, 2] {
            let subjects = ["user.0".to_owned(), "broadcast".to_owned()];
            handout.add(subjects, [Some(after), None], BOUNDS);
        }
        for seq in 1..=3 {
            pass(&mut handout, seq, "user.0", 10);
        }
        assert_eq!(handed(&handout, 0, 0), (vec![2, 3], 0));
        assert_eq!(handed(&handout, 1, 0), (vec![3], 0));
    }

    /// What is left out has nothing behind it: else it would be skipped.
    #[test]
    fn beyond_the_bounds_messages_are_counted() {
        let mut handout = handout(ROOM, &[[Some(0), None]; 2]);
        for seq in 1..=6 {
            pass(&mut handout, seq, "user.0", 10);
        }
        assert_eq!(handed(&handout, 0, 0), (vec![1, 2, 3, 4], 2));
        for (seq, bytes) in [(7, 20_000), (8, 10), (9, 10)] {
            pass(&mut handout, seq, "user.1", bytes);
        }
        assert_eq!(
            handed(&handout, 1, 0),
            (vec![7], 2),
            "one comes however large"
        );
    }

    #[test]
    fn without_room_messages_are_counted_until_there_is_some() {
        let one = size_of::<Found>() + EventName::default().as_str().len() + 10;
        let mut handout = handout(2 * one, &[[Some(0), None]; 2]);
        let room = handout.room.clone();
        for seq in 1..=3 {
            pass(&mut handout, seq, "user.0", 10);
        }
        pass(&mut handout, 4, "user.1", 10);
        assert_eq!(handed(&handout, 0, 0), (vec![1, 2], 1));
        assert_eq!(handed(&handout, 1, 0), (vec![], 1));
        let swept = Swept {
            up_to: 4,
            now: look(1, 4, Some(10)),
        };
        let mut shares = handout.shares.into_iter();
        let mut answer = |user| {
            let share = shares.next().expect("a share");
            swept.answer(&reader(user, [Some(0), None], 4), share)
        };
        let reads = answer(0).expect("an answer");
        let read = reads.of[0].as_ref().expect("of that kind");
        assert_eq!((read.total(), read.intact, read.anchored), (3, true, false));
        assert!(answer(1).is_none(), "it would not get any further");
        assert_eq!(room.available_permits(), 0);
        drop(reads);
        assert_eq!(room.available_permits(), 2 * one);
    }

    #[test]
    fn nothing_is_said_that_is_not_shown() {
        let swept = |up_to, now| Swept { up_to, now };
        let shows =
            |swept: Swept, after, seen| swept.shows_all(after, seen, &look(1, 50, Some(10)));
        assert!(shows(swept(50, look(1, 50, Some(10))), 7, 9));
        assert!(shows(swept(50, look(8, 50, None)), 7, 9));
        assert!(shows(swept(60, look(1, 62, Some(10))), 7, 7));
        for (what, swept, seen) in [
            ("as many as are kept", swept(50, look(1, 50, Some(10))), 10),
            (
                "as many with those beyond",
                swept(60, look(1, 62, Some(10))),
                8,
            ),
            ("fewer are kept now", swept(50, look(1, 50, Some(9))), 9),
            ("the beginning is gone", swept(50, look(9, 50, Some(10))), 9),
            ("a replica lags", swept(49, look(1, 50, Some(10))), 3),
            (
                "another stream",
                Swept {
                    up_to: 50,
                    now: Look {
                        epoch: "new".into(),
                        last_at: 0,
                        set_backs: 0,
                        ..look(1, 50, Some(10))
                    },
                },
                3,
            ),
        ] {
            assert!(!shows(swept, 7, seen), "{what}");
        }
        let before = look(9, 50, Some(10));
        let gone_before = swept(50, look(1, 50, Some(10))).shows_all(7, 3, &before);
        assert!(!gone_before, "the beginning was gone before");
    }

    fn chosen(places: impl Iterator<Item = u64>, last: u64) -> (Vec<u64>, usize) {
        let mut waiting = places
            .map(|place| reader(1, [Some(place), None], last))
            .collect();
        let taken = choose(&mut waiting);
        (taken.iter().map(Reader::oldest).collect(), waiting.len())
    }

    #[test]
    fn a_sweep_is_for_many() {
        let many = MANY as u64;
        assert_eq!(chosen(1..many, 1000), (vec![], MANY - 1));
        assert_eq!(chosen(0..many, 1000), ((0..many).collect(), 0));
        let last = many * WORTH;
        assert_eq!(chosen((0..many).map(|_| 0), last).1, 0);
        assert_eq!(chosen((0..many).map(|_| 0), last + 1).1, MANY);
    }

    #[test]
    fn whoever_is_too_far_behind_is_left_out() {
        let last = 1_000_000;
        let near = (0..MANY as u64).map(|place| last - 10 * place);
        let (taken, left) = chosen([0, 1].into_iter().chain(near.clone()), last);
        assert_eq!((taken, left), (near.collect(), 2));
    }

    #[test]
    fn a_readers_place_is_the_older_one() {
        assert_eq!(reader(1, [Some(7), Some(3)], 9).oldest(), 3);
        assert_eq!(reader(1, [None, Some(3)], 9).oldest(), 3);
    }
}
