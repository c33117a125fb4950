//! Whether anything is lost of what a session missed.

use super::track::Want;
use crate::bus::stream::Read;

/// What the reads of a session's channels show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing is lost.
    Intact,
    /// Something is, or may be.
    Lost,
    /// Nothing is lost if the stream, asked after the reads, still has everything after this
    /// sequence: age and want of room remove from its beginning.
    IfKeptAfter(u64),
}

/// Decides it, for a session that wants this, from the read of each channel (none where there
/// was nothing to read) and the last message of each channel in the stream. `pinned`: that one
/// may outlive what came after it.
pub(super) fn shown(want: &Want, reads: &[Option<Read>], lasts: &[u64], pinned: bool) -> Shown {
    let mut after: Option<u64> = None;
    for ((chain, read), last) in want.chains.iter().zip(reads).zip(lasts) {
        let begins_within = |read: &Read| {
            let first = read.found.first();
            first.is_some_and(|found| found.seq <= want.told)
        };
        match read {
            Some(read) if read.intact && read.proven => continue,
            // Limits remove the oldest first: what is lost is within what the client was told.
            Some(read) if !read.intact && !begins_within(read) => return Shown::Lost,
            None if !chain.doubtful => continue,
            // The last message is the client's own, so none after it is gone.
            None if chain.covered > 0 && chain.covered == *last && !pinned => continue,
            _ => {}
        }
        let from = want.told.max(chain.covered);
        after = Some(after.map_or(from, |after| after.min(from)));
    }
    after.map_or(Shown::Intact, Shown::IfKeptAfter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::Channel, durable::track::Track};

    fn want(at: [u64; 2], told: u64) -> Want {
        let track = Track::joining([Channel::User, Channel::Broadcast]);
        Want {
            told,
            ..track.want_from(&at)
        }
    }

    fn read(intact: bool, proven: bool) -> Option<Read> {
        Some(Read {
            intact,
            proven,
            found: Vec::new(),
            more: 1,
        })
    }

    #[test]
    fn what_limits_removed_is_lost_and_the_rest_rests_on_the_streams_beginning() {
        let want = want([7, 9], 0);
        let shown = |reads: [Option<Read>; 2], lasts: [u64; 2]| shown(&want, &reads, &lasts, false);
        assert_eq!(shown([read(true, true), None], [8, 9]), Shown::Intact);
        assert_eq!(
            shown([read(true, false), None], [8, 9]),
            Shown::IfKeptAfter(7)
        );
        assert_eq!(
            shown([read(true, true), None], [8, 4]),
            Shown::IfKeptAfter(9)
        );
        assert_eq!(shown([None, None], [3, 4]), Shown::IfKeptAfter(7));
        assert_eq!(shown([read(false, false), None], [8, 9]), Shown::Lost);
    }
}
