//! What the auditor has to say of a client.

/// What became of one client.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) complaints: Vec<String>,
    /// Messages accepted.
    pub(crate) accepted: usize,
    pub(crate) duplicates: usize,
    /// Missing, and nobody said so.
    pub(crate) lost: usize,
    /// Their sequences.
    pub(crate) missing: Vec<u64>,
    /// Of these, after the client was told that nothing would be missing.
    pub(crate) false_completes: usize,
    /// Missing as it was told.
    pub(crate) forgiven: usize,
    pub(crate) false_gaps: usize,
    /// Welcomes by what they said.
    pub(crate) begun: usize,
    pub(crate) complete: usize,
    pub(crate) gap: usize,
    /// Channels of the Centrifuge protocol that were recovered, and that were not.
    pub(crate) recovered: usize,
    pub(crate) unrecovered: usize,
    /// `following` with a topic that was not followed before.
    pub(crate) followed: usize,
    /// `gap` frames that stand for more than one message.
    pub(crate) gap_frames: usize,
    /// Messages in whose place a `gap` frame came.
    pub(crate) too_large: usize,
    /// Welcomes, and answers for a channel, that told a client of a set-back.
    pub(crate) told_of_set_back: usize,
    /// Events after a later event of another channel, outside a replay.
    pub(crate) crossed: usize,
}

impl Verdict {
    /// Counts another client's too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.missing.extend(&other.missing);
        self.false_completes += other.false_completes;
        self.forgiven += other.forgiven;
        self.false_gaps += other.false_gaps;
        self.begun += other.begun;
        self.complete += other.complete;
        self.gap += other.gap;
        self.recovered += other.recovered;
        self.unrecovered += other.unrecovered;
        self.followed += other.followed;
        self.gap_frames += other.gap_frames;
        self.too_large += other.too_large;
        self.told_of_set_back += other.told_of_set_back;
        self.crossed += other.crossed;
    }
}
