//! Clients of the Centrifuge protocol keep no position of a session: each channel has an offset
//! of its own, and is judged by it alone.

use std::collections::BTreeMap;

use super::{
    Durable, Session,
    resume::Place,
    track::Want,
    verdict::{Shown, shown},
};
use crate::{
    bus::stream::{Look, Read, StreamError},
    frame::centrifuge,
    position::Mark,
};

impl Session {
    /// Where a client was in each channel. A stream that was set back shows here only where it
    /// is shorter than what the client saw.
    pub(super) fn place_of_each(&self, marks: &BTreeMap<String, Mark>, look: &Look) -> Place {
        let channels = self.channels().into_iter();
        let places = channels.map(|channel| {
            let mark = marks.get(&centrifuge::name(&channel, self.user.as_str()));
            let known = mark.filter(|mark| mark.epoch == look.epoch && mark.offset <= look.last);
            (known.map_or(look.last, |mark| mark.offset), known.is_some())
        });
        let (at, each) = places.unzip();
        Place {
            at,
            position: None,
            known: true,
            each: Some(each),
        }
    }

    /// The channels that the client gets everything of, and where it was in each.
    pub(super) fn recovered(&self, place: &Place) -> BTreeMap<String, u64> {
        let channels = self.channels().into_iter().zip(&place.at);
        let each = place.each.iter().flatten();
        let recovered = channels.zip(each).filter(|(_, recovered)| **recovered);
        let named = recovered
            .map(|((channel, at), _)| (centrifuge::name(&channel, self.user.as_str()), *at));
        named.collect()
    }
}

impl Durable {
    /// Judges each channel as if the session had no other. One that lost something begins at
    /// the end of the stream, so that nothing of what was read of it is sent. Whether there is
    /// such a channel.
    pub(super) async fn judge_each(
        &self,
        place: &mut Place,
        want: &Want,
        (reads, lasts): (&[Option<Read>], &[u64]),
        missed: &mut [u64],
        look: &Look,
    ) -> Result<bool, StreamError> {
        let Some(each) = &mut place.each else {
            return Ok(false);
        };
        let mut now = None;
        let mut fails = false;
        for (index, recovered) in each.iter_mut().enumerate() {
            if !*recovered {
                continue;
            }
            let alone = Want {
                chains: vec![want.chains[index].clone()],
                ..want.clone()
            };
            let at = index..=index;
            let intact = match shown(&alone, &reads[at.clone()], &lasts[at]) {
                Shown::Intact => true,
                Shown::Lost => false,
                Shown::IfKeptAfter(seq) => {
                    let now = match &now {
                        Some(now) => now,
                        None => &*now.insert(self.look().await?),
                    };
                    now.is_the_same_as(look) && now.has_all_after(seq)
                }
            };
            if !intact || missed[index] > self.config.max_replay {
                *recovered = false;
                place.at[index] = look.last;
                missed[index] = 0;
                fails = true;
            }
        }
        Ok(fails)
    }
}
