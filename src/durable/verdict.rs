//! Whether anything is lost of what a session missed.

use super::{Durable, track::Want};
use crate::bus::stream::{LeaderState, Read, StreamError};

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

impl Durable {
    /// Whether the stream has lost nothing of what the session wants, but for what its client
    /// was told of. Where only the stream's beginning can show it, the leader is asked again
    /// after the reads; `now` keeps its answer for the next verdict over the same reads.
    ///
    /// # Errors
    ///
    /// [`StreamError`] of that leader query.
    pub(super) async fn is_intact(
        &self,
        want: &Want,
        (reads, lasts): (&[Option<Read>], &[u64]),
        (leader, now): (&LeaderState, &mut Option<LeaderState>),
    ) -> Result<bool, StreamError> {
        Ok(match shown(want, reads, lasts, leader.is_pinned()) {
            Shown::Intact => true,
            Shown::Lost => false,
            Shown::IfKeptAfter(seq) => {
                let now = match now {
                    Some(now) => now,
                    None => now.insert(self.leader().await?),
                };
                now.is_the_same_as(leader) && now.has_all_after(seq, want.known)
            }
        })
    }
}

/// Decides whether anything is lost of what a session wants.
///
/// `reads` has the read of each channel, `None` where there was nothing to read. `lasts` has the
/// last message of each channel in the stream. `pinned` says that the stream's first message may
/// be older than `max_age`, so that the stream's beginning does not show what age has removed.
pub(super) fn shown(want: &Want, reads: &[Option<Read>], lasts: &[u64], pinned: bool) -> Shown {
    let mut after: Option<u64> = None;
    for ((chain, read), last) in want.chains.iter().zip(reads).zip(lasts) {
        let begins_within = |read: &Read| {
            let first = read.found.first();
            first.is_some_and(|found| found.seq <= want.gap_up_to)
        };
        match read {
            Some(read) if read.intact && read.proven => continue,
            // Limits remove the oldest first: what is lost is within what the client was told.
            Some(read) if !read.intact && !begins_within(read) => return Shown::Lost,
            None if !chain.doubtful => continue,
            // The last message is one that the client has, so no message after it is gone.
            None if chain.covered > 0 && chain.covered == *last && !pinned => continue,
            _ => {}
        }
        let from = want.gap_up_to.max(chain.covered);
        after = Some(after.map_or(from, |after| after.min(from)));
    }
    after.map_or(Shown::Intact, Shown::IfKeptAfter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::Channel, durable::track::Track};

    fn want(at: [u64; 2], gap_up_to: u64) -> Want {
        let track = Track::joining([Channel::User, Channel::Broadcast]);
        Want {
            gap_up_to,
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
