//! Clients of the Centrifuge protocol keep no position of a session: each channel has an offset
//! of its own, and is judged by it alone.

use std::collections::BTreeMap;

use tokio::time::sleep;

use super::{
    Durable, Session,
    resume::{ELECTION_PAUSE, ELECTION_TRIES, Standing},
    track::{Track, Want},
};
use crate::{
    bus::stream::{Bounds, LeaderState, Read, StreamError, Wanted},
    channel::{Channel, Topic},
    frame::{Proof, centrifuge},
    position::Mark,
};

impl Session {
    /// Where a client was in each channel. A stream that was set back shows here only where it
    /// is shorter than what the client saw.
    pub(super) fn standing_of_each(
        &self,
        marks: &BTreeMap<String, Mark>,
        leader: &LeaderState,
    ) -> Standing {
        let channels = self.channels().into_iter();
        let standings = channels.map(|channel| {
            let mark = marks.get(&centrifuge::name(&channel, self.user.as_str()));
            let known =
                mark.filter(|mark| mark.epoch == leader.epoch && mark.offset <= leader.last);
            (
                known.map_or(leader.last, |mark| mark.offset),
                known.is_some(),
            )
        });
        let (at, each) = standings.unzip();
        Standing {
            at,
            position: None,
            known: true,
            each: Some(each),
        }
    }

    /// The channels that the client gets everything of, and where it was in each.
    pub(super) fn recovered(&self, standing: &Standing) -> BTreeMap<String, u64> {
        let channels = self.channels().into_iter().zip(&standing.at);
        let each = standing.each.iter().flatten();
        let recovered = channels.zip(each).filter(|(_, recovered)| **recovered);
        let named = recovered
            .map(|((channel, at), _)| (centrifuge::name(&channel, self.user.as_str()), *at));
        named.collect()
    }
}

impl Durable {
    /// Judges each channel as if the session had no other. A channel that lost something begins at
    /// the end of the stream, so that nothing of what was read of it is sent. Returns whether
    /// there is such a channel; `Ok(false)` for a session that is not judged by channel.
    ///
    /// # Errors
    ///
    /// [`StreamError`] of a second leader query. `standing` may have changed then.
    pub(super) async fn judge_each(
        &self,
        standing: &mut Standing,
        want: &Want,
        (reads, lasts): (&[Option<Read>], &[u64]),
        missed: &mut [u64],
        leader: &LeaderState,
    ) -> Result<bool, StreamError> {
        let Some(each) = &mut standing.each else {
            return Ok(false);
        };
        let (mut fails, mut now) = (false, None);
        for (index, recovered) in each.iter_mut().enumerate() {
            if !*recovered {
                continue;
            }
            let alone = Want {
                chains: vec![want.chains[index].clone()],
                ..want.clone()
            };
            let at = index..=index;
            let read = (&reads[at.clone()], &lasts[at]);
            let intact = self.is_intact(&alone, read, (leader, &mut now));
            let intact = intact.await?;
            if !intact || missed[index] > self.config.max_replay {
                *recovered = false;
                standing.at[index] = leader.last;
                missed[index] = 0;
                fails = true;
            }
        }
        Ok(fails)
    }

    /// What the stream's leader has. If that is less than a client saw, and the leader may have
    /// been elected just now, it is asked again for up to 2 s.
    ///
    /// # Errors
    ///
    /// [`StreamError`] of a leader query.
    pub(super) async fn leader_for(
        &self,
        since: Option<&Mark>,
    ) -> Result<LeaderState, StreamError> {
        let mut leader = self.leader().await?;
        let Some(mark) = since else {
            return Ok(leader);
        };
        for _ in 0..ELECTION_TRIES {
            let is_ahead = mark.epoch == leader.epoch && mark.offset > leader.last;
            if !is_ahead || !leader.may_be_short() {
                break;
            }
            sleep(ELECTION_PAUSE).await;
            leader = self.leader().await?;
        }
        Ok(leader)
    }

    /// How many messages of a topic a client missed that follows it again. `None` if the stream
    /// can't show that the client gets them all, or if they are more than `max_replay`.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: the stream could not be read.
    pub(super) async fn missed(
        &self,
        session: &Session,
        topic: &Topic,
        mark: &Mark,
        leader: &LeaderState,
    ) -> Result<Option<u64>, StreamError> {
        if mark.epoch != leader.epoch || mark.offset > leader.last {
            return Ok(None);
        }
        let channel = Channel::Topic(topic.clone());
        let subject = self.stream.subject(&session.user, &channel);
        let subjects = std::slice::from_ref(&subject);
        let lasts = self.stream.lasts(subjects, leader).await?;
        let last = lasts.last(&subject);
        let mut read = None;
        if last > mark.offset {
            let _permit = self.counts.acquire().await;
            let wanted = Wanted {
                subject,
                after: mark.offset,
                known: Proof::default(),
            };
            let reads = self
                .stream
                .read(&[Some(wanted)], Bounds::COUNT_ONLY, leader)
                .await?;
            read = reads.of.into_iter().next().flatten();
        }
        let missed = read.as_ref().map_or(0, Read::total);
        let want = Track::joining([channel]).want_from(&[mark.offset]);
        let intact = self
            .is_intact(&want, (&[read], &[last]), (leader, &mut None))
            .await?;
        Ok((intact && missed <= self.config.max_replay).then_some(missed))
    }
}
