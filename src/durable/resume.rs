//! Where a session begins: a client's position, judged by the stream.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use super::{
    Durable, Session, Waiting,
    catch_up::{CatchUp, Done},
    track::{Beginning, Resumed},
};
use crate::{
    bus::stream::{Lasts, LeaderState, StreamError},
    channel::Topic,
    frame::{Proof, Resume},
    position::{Position, Since},
    registry::JoinState,
    telemetry::{Operation, Span},
    trace::Trace,
};

/// A client that waits to be told where it begins is refused when this gateway has read nothing
/// from the stream for this long, for any session. While reads for others go on, the client
/// waits without another bound: a round that has many sessions to read for takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a leader that has less than a client saw gets before it is asked again: it may have
/// been elected just now.
pub(super) const ELECTION_PAUSE: Duration = Duration::from_millis(100);
/// How often such a leader is asked again.
pub(super) const ELECTION_TRIES: u32 = 20;

/// The stream is away, or slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream did not say in time what it has")]
pub struct NoStream;

/// Where a session begins, as its welcome tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Which stream it is, and its last message when NATS had confirmed the subscription;
    /// `None` in live mode.
    pub stream: Option<(Arc<str>, Proof)>,
    /// The position that it sent, where that counts.
    pub position: Option<Position>,
    /// What became of the client's position.
    pub resume: Resume,
    /// The channels of [`Since::Each`] that the client gets everything of, each with the last
    /// message that it had.
    pub recovered: BTreeMap<String, u64>,
    /// The topics that begin here. One that the session follows later begins with a `following`.
    pub topics: Vec<Topic>,
}

impl Opening {
    /// In live mode nothing is kept, so nothing can be shown.
    pub fn live(since: Option<&Since>, topics: Vec<Topic>) -> Self {
        Self {
            stream: None,
            position: None,
            resume: since.map_or(Resume::None, |_| Resume::Gap),
            recovered: BTreeMap::new(),
            topics,
        }
    }
}

/// A client's question.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) since: Since,
    pub(super) opening: oneshot::Sender<Result<Opening, StreamError>>,
    /// Records what it is sent.
    pub(super) span: Option<Span>,
    /// How often a leader had less than the client saw.
    pub(super) tries: u32,
}

impl Asked {
    /// Whether the client saw more of the stream than this leader query, and has to wait for
    /// another round: a leader that was just elected may have less for a moment. After
    /// [`ELECTION_TRIES`] such queries it has to wait no longer.
    pub(super) fn is_too_early(&mut self, leader: &LeaderState) -> bool {
        let is_short = leader.may_be_short() && is_ahead(&self.since, leader);
        self.tries += u32::from(is_short);
        is_short && self.tries <= ELECTION_TRIES
    }
}

/// Where a client was, as far as the stream still knows.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// For each channel: everything up to this sequence is with the client.
    pub(super) at: Vec<u64>,
    /// The position that it sent; `None` if that is not of this stream as it is now.
    pub(super) position: Option<Position>,
    /// Whether the stream can show that the client gets everything after that.
    pub(super) known: bool,
    /// With [`Since::Each`], for each channel: whether the stream can show that. A channel for
    /// which it can't begins at the stream's end.
    pub(super) each: Option<Vec<bool>>,
}

/// What a round found for a client that was here before.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) standing: Standing,
    pub(super) complete: bool,
    pub(super) skip: u64,
    pub(super) missed: Vec<u64>,
}

impl Durable {
    /// Decides where a session begins; NATS delivers to it already. Without a position it begins at
    /// the stream's end. With one it waits for a round, which judges the position; what the client
    /// missed follows in the next round.
    ///
    /// Dropping the future is safe.
    ///
    /// # Errors
    ///
    /// [`NoStream`]: the stream could not be read, or this gateway has read nothing from it for
    /// 5 s.
    pub async fn resume_or_start(
        self: &Arc<Self>,
        session: &Arc<Session>,
        since: Option<Since>,
        trace: Option<Trace>,
    ) -> Result<Opening, NoStream> {
        let opening = match since {
            None => {
                let leader = self.leader().await;
                leader.and_then(|leader| session.open(&leader, None))
            }
            Some(since) => {
                let (opening, mut answer) = oneshot::channel();
                let session = session.clone();
                let span = self.tracer.span(Operation::Replay, trace).map(|mut span| {
                    span.fail("the client was not told where it begins");
                    span
                });
                let asked = Some(Asked {
                    since,
                    opening,
                    span,
                    tries: 0,
                });
                self.wait(Waiting { session, asked });
                loop {
                    let replies = self.stream.replies();
                    match timeout(PATIENCE, &mut answer).await {
                        Ok(answer) => break answer.unwrap_or(Err(StreamError::Away)),
                        Err(_) if self.stream.replies() == replies => {
                            break Err(StreamError::TimedOut);
                        }
                        Err(_) => {}
                    }
                }
            }
        };
        opening.map_err(|error| {
            tracing::debug!(%error, "a join fails");
            NoStream
        })
    }

    /// Where a client was that sends `since`.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: the stream can't be asked whether the position is of it.
    pub(super) async fn standing(
        &self,
        session: &Session,
        since: &Since,
        (leader, lasts): (&LeaderState, &Lasts),
    ) -> Result<Standing, StreamError> {
        let channels = || session.channels().into_iter();
        let nowhere = |known| Standing {
            at: channels().map(|_| 0).collect(),
            position: None,
            known,
            each: None,
        };
        Ok(match since {
            Since::Beginning => nowhere(true),
            Since::Former => nowhere(false),
            Since::Each(marks) => session.standing_of_each(marks, leader),
            Since::Position(position) => {
                match self.is_of(session, position, (leader, lasts)).await? {
                    true => Standing {
                        at: channels().map(|channel| position.of(&channel)).collect(),
                        position: Some(position.clone()),
                        known: true,
                        each: None,
                    },
                    // Of a stream that is no more, or that was set back to an older state: all that
                    // there is may be new to it.
                    false => nowhere(false),
                }
            }
        })
    }

    /// The last messages of the channels of these sessions, as far as positions cannot be judged
    /// without. That is often enough, and one question is cheaper than one for each client.
    pub(super) async fn lasts_of_unknown(
        &self,
        sessions: &[Waiting],
        leader: &LeaderState,
    ) -> Lasts {
        let unknown = sessions.iter().filter(|one| self.is_unknown(one, leader));
        let subjects = unknown.flat_map(|one| one.session.subjects());
        let subjects = Vec::from_iter(subjects.collect::<HashSet<_>>());
        let lasts = match subjects.is_empty() {
            true => return Lasts::unknown(),
            false => self.stream.lasts(&subjects, leader).await,
        };
        // Each position is judged by itself then.
        lasts.unwrap_or_else(|_| Lasts::unknown())
    }

    /// Whether the stream has to be asked whether a client's position is of it.
    fn is_unknown(&self, Waiting { session, asked }: &Waiting, leader: &LeaderState) -> bool {
        match asked.as_ref().map(|asked| &asked.since) {
            Some(Since::Position(position)) => {
                is_of(position, leader).is_none()
                    && (self.stream)
                        .known_at(&session.subjects(), position.top, leader)
                        .is_none()
            }
            _ => false,
        }
    }

    /// Whether a position is of this stream, which was not set back to an older state since.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: the stream did not say when the message TOP was stored.
    async fn is_of(
        &self,
        session: &Session,
        position: &Position,
        (leader, lasts): (&LeaderState, &Lasts),
    ) -> Result<bool, StreamError> {
        let &Position { top, at, .. } = position;
        if let Some(is_of) = is_of(position, leader) {
            return Ok(is_of);
        }
        let subjects = session.subjects();
        if self.stream.known_at(&subjects, top, leader) == Some(at) || lasts.has(&subjects, top, at)
        {
            return Ok(true);
        }
        match self.stream.stored_at(top, leader).await? {
            Some(stored_at) => Ok(stored_at == at),
            // It is gone. In a stream that went another way, something that is not after it
            // is younger.
            None => self.stream.nothing_later(&subjects, top, at).await,
        }
    }
}

/// Whether the client has seen more of this stream than its leader had.
fn is_ahead(since: &Since, leader: &LeaderState) -> bool {
    match since {
        Since::Beginning | Since::Former => false,
        Since::Position(position) => is_position_ahead(position, leader),
        Since::Each(marks) => marks
            .values()
            .any(|mark| mark.epoch == leader.epoch && mark.offset > leader.last),
    }
}

/// Whether the position has a sequence of this stream beyond the leader's last.
fn is_position_ahead(position: &Position, leader: &LeaderState) -> bool {
    let seen = [position.top, position.proven].into_iter();
    let mut seen = seen.chain(position.marks.values().copied());
    position.epoch == leader.epoch && seen.any(|seq| seq > leader.last)
}

/// Whether a position is of this stream, if the leader query is enough to decide it. `None`: the
/// stream has to be asked for the message TOP, the largest sequence that the client saw.
pub(super) fn is_of(position: &Position, leader: &LeaderState) -> Option<bool> {
    if position.epoch != leader.epoch || is_position_ahead(position, leader) {
        return Some(false);
    }
    match position.top {
        0 => Some(true),
        top if (top, position.at) == (leader.last, leader.last_at) => Some(true),
        _ => None,
    }
}

impl Session {
    /// Marks the session as welcomed, and builds the [`Opening`] for its `welcome`. `found` is what
    /// a round found for its client's position; `None` if the client sent no position.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: the stream was made anew or set back since the leader query.
    pub(super) fn open(
        self: &Arc<Self>,
        leader: &LeaderState,
        found: Option<Found>,
    ) -> Result<Opening, StreamError> {
        let durable = &self.durable;
        // From here on a replaced stream disowns the session; before it shows here.
        self.backlog().set_join_state(JoinState::Welcomed);
        if !durable.is_at(leader) {
            return Err(StreamError::Odd("it is another one by now".to_owned()));
        }
        let proof = leader.proof();
        let resume = match &found {
            None => Resume::None,
            Some(Found { complete: true, .. }) => Resume::Complete,
            Some(_) => Resume::Gap,
        };
        let mut position = None;
        let resumed = found.is_some();
        let recovered = found
            .as_ref()
            .map_or_else(BTreeMap::new, |found| self.recovered(&found.standing));
        let mut beginning = Beginning {
            at: vec![proof.seq; self.channels().len()],
            proven: if resumed { Proof::default() } else { proof },
            known: leader.known(),
            resumed: None,
        };
        if let Some(Found {
            standing,
            complete,
            skip,
            missed,
        }) = found
        {
            // Without a position the leader query says when later messages were stored. With less
            // than that the next round would see a loss while the stream is pinned.
            if complete && let Some(position) = &standing.position {
                beginning.known = Proof {
                    seq: position.top,
                    at: position.at,
                };
            }
            position = standing.position;
            let gap_up_to = if complete { 0 } else { proof.seq };
            beginning.at = standing.at;
            beginning.resumed = Some(Resumed {
                gap_up_to,
                skip,
                missed,
            });
        }
        let (topics, channels_version) = self.set_beginning(beginning);
        if !resumed && self.catch_up(CatchUp::done(leader, channels_version)) {
            durable.want(self.clone());
        }
        durable.look_later(self);
        Ok(Opening {
            stream: Some((leader.epoch.clone(), proof)),
            position,
            resume,
            recovered,
            topics,
        })
    }
}

impl CatchUp {
    /// There is nothing to bring to a session that begins here.
    fn done(leader: &LeaderState, channels_version: u32) -> Self {
        Self {
            channels_version,
            done: Some(Done {
                up_to: leader.last,
                proof: leader.proof(),
                known: leader.known(),
                connection_changes: 0,
            }),
            ..Self::default()
        }
    }
}
