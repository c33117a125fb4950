//! What one session is handed of what scans have seen.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream::iter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{FETCHES_OF_A_SESSION, Index, Request, Scanned};
use crate::bus::stream::{
    Found, LeaderState, Read, Reads, Stream, Wanted, index::Seen, read::by_sequence,
};

/// What one session is handed.
pub(super) struct Share {
    parts: Vec<Option<Part>>,
    up_to: u64,
    room: Option<OwnedSemaphorePermit>,
}

/// What one session is handed of one channel.
#[derive(Default)]
struct Part {
    subject: Arc<str>,
    /// Those that are not held are to be read by their sequence.
    messages: Vec<Seen>,
    more: u64,
    last: u64,
}

/// What the index has for a session; `None` if it can't show that this is all.
pub(super) fn share(
    index: &Index,
    request: Request,
    leader: &LeaderState,
    (room, all): (&Arc<Semaphore>, usize),
) -> Option<Share> {
    let (_, up_to) = index
        .covers(leader)
        .filter(|(_, up_to)| *up_to >= leader.last)?;
    let mut share = Share {
        parts: Vec::with_capacity(request.wanted.len()),
        up_to,
        room: None,
    };
    for wanted in request.wanted {
        let Some(wanted) = wanted else {
            share.parts.push(None);
            continue;
        };
        let Wanted {
            subject,
            after,
            known,
        } = wanted;
        let seen = index.after(&subject, (after, known), leader)?;
        let mut part = Part {
            subject,
            more: seen.len() as u64,
            last: seen.last().map_or(0, |seen| seen.seq),
            messages: Vec::with_capacity(seen.len().min(request.bounds.messages)),
        };
        let mut bytes = 0;
        for seen in seen.into_iter().take(request.bounds.messages) {
            bytes += seen.bytes();
            let fits = part.messages.is_empty() || bytes <= request.bounds.bytes;
            let needs = match seen.is_held() {
                true => size_of::<Found>(),
                false if request.fetches => seen.bytes(),
                false => break,
            };
            if needs > all {
                // There never is such room: its own read has none to ask for.
                return None;
            }
            if !fits || !share.takes(needs, room) {
                break;
            }
            part.messages.push(seen.clone());
        }
        part.more -= part.messages.len() as u64;
        share.parts.push(Some(part));
    }
    Some(share)
}

impl Share {
    /// Takes memory for `bytes` bytes. False if there is not enough.
    fn takes(&mut self, bytes: usize, room: &Arc<Semaphore>) -> bool {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let taken = room.clone().try_acquire_many_owned(permits);
        taken.is_ok_and(|more| {
            match &mut self.room {
                Some(room) => room.merge(more),
                None => self.room = Some(more),
            }
            true
        })
    }

    /// Reads what is not held. `None` if something is gone by now, or can't be read.
    pub(super) async fn fetched(self, stream: &Stream) -> Option<Scanned> {
        let Self { parts, up_to, room } = self;
        let lasts = parts
            .iter()
            .map(|part| part.as_ref().map_or(0, |part| part.last));
        let lasts = lasts.collect();
        let mut of = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(Part {
                subject,
                messages,
                more,
                ..
            }) = part
            else {
                of.push(None);
                continue;
            };
            let channel = stream.0.subjects.channel(&subject);
            let reading = iter(messages).map(async |seen| match seen.found(&channel) {
                Some(found) => Some(found),
                None => by_sequence(stream, &subject, seen.seq).await.ok()?,
            });
            let found = reading
                .buffered(FETCHES_OF_A_SESSION)
                .collect::<Vec<_>>()
                .await;
            of.push(Some(Read {
                intact: true,
                proven: true,
                found: found.into_iter().collect::<Option<_>>()?,
                more,
            }));
        }
        let reads = Reads { of, _room: room };
        Some(Scanned {
            reads,
            lasts,
            up_to,
        })
    }
}
