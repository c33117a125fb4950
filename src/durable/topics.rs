//! A session that is open begins and ceases to follow topics.

use std::sync::Arc;

use super::Session;
use crate::{
    bus::stream::LeaderState,
    channel::Topic,
    frame::{
        Proof, answer,
        centrifuge::{self, Begins, Changed},
    },
    position::Step,
    registry::{Commit, FollowError, Followed, Outgoing, Recovery},
};

impl Session {
    /// Asks where these topics begin, which NATS delivers by now. What was published before the
    /// leader query is not owed; what comes after it is read.
    ///
    /// # Errors
    ///
    /// [`FollowError`]; nothing has changed then, nor if the future is dropped.
    pub(super) async fn prepare_topics(
        self: Arc<Self>,
        topics: Vec<Topic>,
        since: Option<Recovery>,
    ) -> Result<Commit, FollowError> {
        let (mut leader, mut recovered) = (None, None);
        if !topics.is_empty() {
            let mark = since.as_ref().map(|since| &since.mark);
            let state = self.durable.leader_for(mark).await;
            let state = state.map_err(|_| FollowError::Unavailable)?;
            if let (Some(mark), [topic]) = (mark, &*topics) {
                let missed = self.durable.missed(&self, topic, mark, &state).await;
                let missed = missed.map_err(|_| FollowError::Unavailable)?;
                recovered = missed.map(|missed| (mark.offset, missed));
            }
            if recovered.is_none() && since.is_some_and(|since| since.required) {
                return Err(FollowError::Unrecoverable);
            }
            leader = Some(state);
        }
        Ok(Box::new(move |followed| {
            self.change_topics_at(leader.as_ref(), recovered, followed)
        }))
    }

    /// Makes the change. `leader` is a leader query since NATS delivers the new topics; `None` if
    /// there are none. `recovered`: the client has the new topic up to the first of these
    /// sequences, and missed so many messages after it.
    fn change_topics_at(
        self: &Arc<Self>,
        leader: Option<&LeaderState>,
        recovered: Option<(u64, u64)>,
        mut followed: Followed,
    ) -> Result<(), FollowError> {
        // Before the track is locked, for the lock order (`registry`). A stream that is replaced
        // after that disowns the session.
        if leader.is_some_and(|leader| !self.durable.is_at(leader)) {
            return Err(FollowError::Unavailable);
        }
        let mut track = self.track();
        if self.is_over(&track) {
            return Err(FollowError::Over);
        }
        // Where it begins is known for the channels that it has now.
        if track.is_joining() {
            return Err(FollowError::Unavailable);
        }
        let Followed {
            new, gone, all, id, ..
        } = &mut followed;
        let (new, gone) = (std::mem::take(new), gone.clone());
        let (all, id) = (std::mem::take(all), id.take());
        let (recovers, follows) = (followed.recovers, followed.follows);
        let mut wants = false;
        let (mut frame, mut step) = (None, None);
        let changed = self.follows.change(&mut followed, || {
            for topic in &gone {
                if let Some(index) = track.unfollow(topic) {
                    self.backlog().drop_channel(index);
                }
            }
            let proof = leader.map_or(Proof::default(), LeaderState::proof);
            let proof = track.not_below_proofs(proof);
            for topic in &new {
                wants |= match recovered {
                    None => track.follow(topic, proof),
                    Some((offset, missed)) => track.follow_again(topic, offset, missed),
                };
            }
            let protocol = self.backlog().protocol();
            if protocol.has_own_frames() {
                let following = answer::following(id.as_deref(), &all, Some(proof));
                frame = Some(protocol.frame(&following));
                let Proof { seq, at } = proof;
                let topics = all.clone();
                step = self.tells(|| Step::Following { topics, seq, at });
            } else if protocol.is_centrifuge() {
                let stream = leader.map(|leader| Begins {
                    epoch: &leader.epoch,
                    offset: recovered.map_or(proof.seq, |(offset, _)| offset),
                    recovered: recovered.is_some(),
                });
                frame = centrifuge::changed(
                    protocol,
                    &Changed {
                        id: id.as_deref(),
                        new: &new,
                        gone: &gone,
                        follows,
                        recovers,
                        stream,
                    },
                );
            }
        });
        if !changed {
            return Err(FollowError::Over);
        }
        let limits = &*self.durable.limits;
        if let Some(bytes) = frame {
            let outgoing = || Outgoing {
                step: step.clone(),
                ..Outgoing::own(bytes.clone(), limits)
            };
            if self.backlog().offer(outgoing(), limits).is_none() {
                // What the stream has makes room for what it has not.
                wants |= self.take_back(&mut track, 0);
                self.backlog().push(outgoing(), limits);
            }
        }
        limits.check();
        self.unlock(track, wants);
        if !new.is_empty() {
            self.durable.look_later(self);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
