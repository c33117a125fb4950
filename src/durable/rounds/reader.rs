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
    /// The last message of each channel in the stream; empty until somebody asks.
    pub(super) lasts: Vec<u64>,
}

impl Reader {
    /// What is to be read of each channel.
    pub(super) fn wanted(&self) -> Vec<Option<Wanted>> {
        let channels = self.behind().zip(&self.want.chains).zip(&self.subjects);
        let wanted = channels.map(|((behind, chain), subject)| {
            behind.then(|| Wanted {
                subject: subject.clone(),
                after: chain.covered,
                known: self.want.known,
            })
        });
        wanted.collect()
    }

    /// Whether something is to be read of a channel.
    pub(super) fn is_behind(&self) -> bool {
        self.behind().any(|behind| behind)
    }

    /// The sequence after which it has to be read something of one channel at least. A channel
    /// that nobody publishes to does not count, however old its last proof is.
    pub(super) fn after(&self) -> u64 {
        let behind = self.behind().zip(&self.want.chains);
        let behind = behind.filter(|(behind, _)| *behind);
        behind.map(|(_, chain)| chain.covered).min().unwrap_or(0)
    }

    /// For each channel, whether something is to be read of it, as far as its last message is
    /// known.
    fn behind(&self) -> impl Iterator<Item = bool> {
        let chains = self.want.chains.iter().enumerate();
        chains.map(|(index, chain)| {
            let last = self.lasts.get(index);
            last.is_none_or(|last| *last > chain.covered) || chain.owed > 0
        })
    }

    pub(super) fn waiting(self) -> Waiting {
        Waiting {
            session: self.session,
            asked: self.joins.map(|(asked, _)| asked),
        }
    }
}
