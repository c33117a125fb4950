//! One session of a round: what it has, and what it wants of the stream.

use std::sync::Arc;

use crate::{
    bus::stream::Wanted,
    durable::{
        Session, Waiting,
        resume::{Asked, Standing},
        track::Want,
    },
};

/// One session of a round.
pub(super) struct Reader {
    pub(super) session: Arc<Session>,
    /// The subject of each channel.
    pub(super) subjects: Vec<Arc<str>>,
    pub(super) want: Want,
    /// Its client waits to be told where it begins.
    pub(super) joins: Option<(Asked, Standing)>,
    /// The last message of each channel in the stream.
    pub(super) lasts: Vec<u64>,
}

impl Reader {
    /// What is to be read of each channel.
    pub(super) fn wanted(&self) -> Vec<Option<Wanted>> {
        let lasts = self.lasts.iter();
        let wanted = self.all().into_iter().zip(&self.want.chains).zip(lasts);
        wanted
            .map(|((wanted, chain), last)| {
                (*last > chain.covered || chain.owed > 0).then_some(wanted)
            })
            .collect()
    }

    /// Everything of each channel after what it has.
    pub(super) fn all(&self) -> Vec<Wanted> {
        let chains = self.want.chains.iter().zip(&self.subjects);
        let all = chains.map(|(chain, subject)| Wanted {
            subject: subject.clone(),
            after: chain.covered,
            known: self.want.known,
        });
        all.collect()
    }

    /// Whether something is to be read of a channel.
    pub(super) fn is_behind(&self) -> bool {
        let chains = self.want.chains.iter().zip(&self.lasts);
        let mut behind = chains.map(|(chain, last)| *last > chain.covered || chain.owed > 0);
        behind.any(|behind| behind)
    }

    /// The sequence after which it has to be read something of one channel at least.
    pub(super) fn after(&self) -> u64 {
        let chains = self.want.chains.iter();
        chains.map(|chain| chain.covered).min().unwrap_or(0)
    }

    pub(super) fn waiting(self) -> Waiting {
        Waiting {
            session: self.session,
            asked: self.joins.map(|(asked, _)| asked),
        }
    }
}
