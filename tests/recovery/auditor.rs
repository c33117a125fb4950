//! Who knows what is stored, and what each client was brought: the judge of durable mode.
//!
//! A pure state machine without clock or I/O, so that it can be proven by itself. It
//! shares no code with the gateway, and judges when all is over and known:
//!
//! - A client is owed everything after its first welcome that the stream acknowledged:
//!   what is to its user and what is to all, each kind in the stream's order, across all
//!   of its connections.
//! - Only a `gap` forgives, and only what began to be sent before the client was told, and
//!   what retention, or the bound of a replay, can really have taken.
//! - A `gap` is false where neither can have taken anything after the client's position,
//!   nor can have left too little to show it.
//! - `live` and `ping` say that everything up to them has come. So does a position, when
//!   the client comes back with it; so on a connection both kinds together come in the
//!   stream's order.
//! - What comes twice is counted; it has to show by its sequence.
//!
//! What a message was when it was stored is known within the time between its sending and
//! its acknowledgement, so whoever is in doubt is believed: a message counts as stored as
//! soon as its sending began.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    time::Duration,
};

/// A message, as its publisher calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) publisher: usize,
    /// None: to all.
    pub(crate) user: Option<usize>,
    pub(crate) number: usize,
}

/// For how long the stream keeps a message, and how much a client is brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    pub(crate) age: Duration,
    /// Messages of each user, and broadcasts.
    pub(crate) per_channel: usize,
    pub(crate) replay: usize,
}

/// What `welcome` says of what was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    None,
    Complete,
    Gap,
}

/// What a client read, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) at: Duration,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Welcome {
        /// The position that it came back with.
        since: Option<u64>,
        seq: u64,
        resume: Resume,
    },
    Event {
        seq: u64,
        prev: u64,
        id: Id,
    },
    Live(u64),
    Ping(u64),
    Gap,
}

/// What is known of a message.
#[derive(Debug)]
struct Sent {
    begun: Duration,
    tries: usize,
    seq: Option<u64>,
}

/// The books of a run.
#[derive(Debug)]
pub(crate) struct Auditor {
    retention: Retention,
    sent: HashMap<Id, Sent>,
    stored: BTreeMap<u64, Id>,
    /// Of each user, and of broadcasts: the sequence and the beginning of each.
    of: HashMap<Option<usize>, BTreeMap<u64, Duration>>,
}

/// What became of one client.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) complaints: Vec<String>,
    /// Messages accepted.
    pub(crate) accepted: usize,
    pub(crate) duplicates: usize,
    /// Missing, and nobody said so.
    pub(crate) lost: usize,
    /// Of these, after the client was told that nothing would be missing.
    pub(crate) false_completes: usize,
    /// Missing as it was told.
    pub(crate) forgiven: usize,
    pub(crate) false_gaps: usize,
    /// Welcomes by what they said.
    pub(crate) begun: usize,
    pub(crate) complete: usize,
    pub(crate) gap: usize,
    /// `gap` frames.
    pub(crate) gap_frames: usize,
}

impl Verdict {
    /// Counts another client's too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.false_completes += other.false_completes;
        self.forgiven += other.forgiven;
        self.false_gaps += other.false_gaps;
        self.begun += other.begun;
        self.complete += other.complete;
        self.gap += other.gap;
        self.gap_frames += other.gap_frames;
    }
}

impl Auditor {
    pub(crate) fn new(retention: Retention) -> Self {
        Self {
            retention,
            sent: HashMap::new(),
            stored: BTreeMap::new(),
            of: HashMap::new(),
        }
    }

    /// A message is about to be sent, for the first time or again.
    pub(crate) fn sending(&mut self, id: Id, now: Duration) {
        let fresh = || Sent {
            begun: now,
            tries: 0,
            seq: None,
        };
        self.sent.entry(id).or_insert_with(fresh).tries += 1;
    }

    /// The stream has acknowledged it.
    pub(crate) fn acknowledged(&mut self, id: Id, seq: u64) {
        let sent = self.sent.get_mut(&id).expect("it was sent");
        sent.seq = Some(seq);
        self.of.entry(id.user).or_default().insert(seq, sent.begun);
        self.stored.insert(seq, id);
    }

    /// Messages that the stream acknowledged.
    pub(crate) fn stored(&self) -> usize {
        self.stored.len()
    }

    /// Messages of which that is not known.
    pub(crate) fn unknown(&self) -> usize {
        self.sent.values().filter(|sent| sent.seq.is_none()).count()
    }

    /// The sequence of the last one.
    pub(crate) fn last(&self) -> u64 {
        self.stored.last_key_value().map_or(0, |(&seq, _)| seq)
    }

    /// Judges all that a client of this user read, in its order.
    pub(crate) fn judge(&self, user: usize, heard: &[Heard]) -> Verdict {
        let mut reader = Reader {
            auditor: self,
            user,
            verdict: Verdict::default(),
            covered: [0; 2],
            last: [0; 2],
            welcome: None,
            position: None,
            last_event: 0,
            said: 0,
            told: None,
            live: false,
        };
        for heard in heard {
            reader.hears(*heard);
        }
        // What is still missing has not come at all.
        if let Some(last) = heard.last()
            && reader.welcome.is_some()
        {
            reader.has_all(self.last(), last.at, "the end");
        }
        reader.verdict
    }

    /// What is of this kind in that range, with its beginning.
    fn of(
        &self,
        user: Option<usize>,
        range: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Duration)> {
        let empty = range.is_empty();
        let all = self.of.get(&user).filter(|_| !empty);
        let found = all
            .into_iter()
            .flat_map(move |all| all.range(range.clone()));
        found.map(|(&seq, &begun)| (seq, begun))
    }

    /// How many of a kind may have been stored after a sequence by then, as far as it
    /// matters whether they are more than `limit`.
    fn after(&self, user: Option<usize>, seq: u64, by: Duration, limit: usize) -> usize {
        let all = self.of(user, seq.saturating_add(1)..=u64::MAX);
        all.filter(|(_, begun)| *begun <= by)
            .take(limit + 1)
            .count()
    }

    /// Whether a message may have been removed by then.
    fn may_be_gone(&self, seq: u64, by: Duration) -> bool {
        let id = self.stored[&seq];
        let begun = self.sent[&id].begun;
        let limit = self.retention.per_channel;
        by.saturating_sub(begun) >= self.retention.age
            || self.after(id.user, seq, by, limit) >= limit
    }

    /// So many newer ones of both kinds may have been stored by then.
    fn after_both(&self, user: usize, seq: u64, by: Duration, limit: usize) -> usize {
        self.after(Some(user), seq, by, limit) + self.after(None, seq, by, limit)
    }

    /// Whether it may be true, or impossible to show otherwise, that something after a
    /// position is lost.
    fn is_gap(&self, user: usize, position: u64, by: Duration) -> bool {
        let Retention {
            per_channel,
            replay,
            ..
        } = self.retention;
        let next = self.stored.range(position + 1..).next();
        self.after(Some(user), position, by, per_channel) >= per_channel
            || self.after(None, position, by, per_channel) >= per_channel
            || self.after_both(user, position, by, replay) > replay
            // Whose message it is makes no difference: where the stream begins later,
            // nobody can say what was there.
            || next.is_some_and(|(&seq, _)| self.may_be_gone(seq, by))
    }
}

/// A client, as the auditor follows it.
struct Reader<'a> {
    auditor: &'a Auditor,
    user: usize,
    verdict: Verdict,
    /// Up to where it has everything, to its user and to all.
    covered: [u64; 2],
    /// Its last event of each kind.
    last: [u64; 2],
    /// What the last `welcome` said.
    welcome: Option<(u64, Resume)>,
    /// What it has to come back with.
    position: Option<u64>,
    last_event: u64,
    /// The largest of what `live` and `ping` said.
    said: u64,
    /// When it was last told of a gap.
    told: Option<Duration>,
    live: bool,
}

impl Reader<'_> {
    fn complain(&mut self, complaint: impl AsRef<str>) {
        let complaint = complaint.as_ref();
        let user = self.user;
        self.verdict
            .complaints
            .push(format!("a client of user {user}: {complaint}"));
    }

    fn hears(&mut self, Heard { at, what }: Heard) {
        match what {
            What::Welcome { since, seq, resume } => self.is_welcomed(since, seq, resume, at),
            _ if self.welcome.is_none() => self.complain(format!("{what:?} before a welcome")),
            What::Event { seq, prev, id } => self.reads(seq, prev, id, at),
            What::Live(seq) => {
                self.has_all(seq, at, "live");
                self.live = true;
                let event = self.last_event;
                if event > seq {
                    self.complain(format!("{event} came, and then everything up to {seq}"));
                }
                self.is_at(seq);
            }
            What::Ping(seq) => {
                self.has_all(seq, at, "a ping");
                self.is_at(seq);
            }
            What::Gap => {
                self.verdict.gap_frames += 1;
                self.is_told(self.covered[0].min(self.covered[1]), at);
            }
        }
    }

    fn is_welcomed(&mut self, since: Option<u64>, seq: u64, resume: Resume, at: Duration) {
        let first = self.welcome.replace((seq, resume)).is_none();
        if !first && since != self.position {
            let position = self.position;
            self.complain(format!("came back with {since:?}, and is at {position:?}"));
        }
        match resume {
            Resume::None => self.verdict.begun += 1,
            Resume::Complete => self.verdict.complete += 1,
            Resume::Gap => self.verdict.gap += 1,
        }
        if (resume == Resume::None) != since.is_none() {
            self.complain(format!("{since:?} was answered {resume:?}"));
        }
        let position = since.unwrap_or(seq);
        if position > seq {
            self.complain(format!("{position} is behind the end, {seq}"));
        }
        if first {
            self.covered = [position; 2];
        }
        if resume == Resume::Gap {
            self.is_told(position, at);
        }
        (self.position, self.last_event, self.said) = (Some(position), 0, 0);
        self.live = false;
    }

    fn is_told(&mut self, position: u64, at: Duration) {
        self.told = Some(at);
        if !self.auditor.is_gap(self.user, position, at) {
            self.verdict.false_gaps += 1;
            self.complain(format!("was told of a gap after {position}; there is none"));
        }
    }

    fn reads(&mut self, seq: u64, prev: u64, id: Id, at: Duration) {
        let kind = usize::from(id.user.is_none());
        if id.user.is_some_and(|user| user != self.user) {
            return self.complain(format!("{id:?} is another user's"));
        }
        match (self.auditor.sent.get(&id), self.auditor.stored.get(&seq)) {
            (Some(_), Some(stored)) if *stored == id => {}
            // Sent again after the stream had forgotten the first time, or never
            // acknowledged: allowed, and owed to nobody.
            (Some(sent), None) if sent.seq.is_none() || sent.tries > 1 => {}
            (_, stored) => {
                return self.complain(format!("{seq} is {stored:?}, and came as {id:?}"));
            }
        }
        let before = std::mem::replace(&mut self.last_event, seq);
        self.is_at(0);
        if seq <= self.last[kind] {
            self.verdict.duplicates += 1;
            return;
        }
        if before > seq {
            // Whoever is cut off between the two comes back with the later one.
            self.complain(format!("{seq} came after {before}"));
        }
        if seq <= self.covered[kind] {
            let covered = self.covered[kind];
            self.complain(format!("{seq} came late: all up to {covered} was there"));
        }
        if prev >= seq {
            self.complain(format!("{prev} is before {seq}"));
        }
        let (welcome, _) = self.welcome.expect("checked");
        if prev > self.last[kind] && prev > welcome && self.told.is_none() {
            let last = self.last[kind];
            self.complain(format!("{last}, then {seq} after {prev}: a gap that shows"));
        }
        self.misses(kind, seq - 1, at, "the next one");
        self.verdict.accepted += 1;
        self.last[kind] = seq;
        self.covered[kind] = seq.max(self.covered[kind]);
    }

    /// The contract's rule of which position to keep.
    fn is_at(&mut self, said: u64) {
        self.said = said.max(self.said);
        self.position = Some(self.last_event.max(self.said));
    }

    /// It was said that everything of both kinds up to here has come.
    fn has_all(&mut self, up_to: u64, at: Duration, says: &str) {
        for kind in 0..2 {
            self.misses(kind, up_to, at, says);
            self.covered[kind] = up_to.max(self.covered[kind]);
        }
    }

    /// What is missing of a kind, up to here.
    fn misses(&mut self, kind: usize, up_to: u64, at: Duration, before: &str) {
        let auditor = self.auditor;
        let user = (kind == 0).then_some(self.user);
        let replay = auditor.retention.replay;
        for (seq, begun) in auditor.of(user, self.covered[kind] + 1..=up_to) {
            let told = self.told.is_some_and(|told| begun < told);
            let gone = auditor.may_be_gone(seq, at)
                || auditor.after_both(self.user, seq, at, replay) >= replay;
            if told && gone {
                self.verdict.forgiven += 1;
                continue;
            }
            self.verdict.lost += 1;
            let (welcome, resume) = self.welcome.expect("checked");
            if resume == Resume::Complete && seq <= welcome {
                self.verdict.false_completes += 1;
            }
            let (id, told, live) = (auditor.stored[&seq], self.told, self.live);
            self.complain(format!(
                "{seq}, {id:?} of {begun:?}, is missing before {before} at {at:?}; welcome {welcome}, \
                 {resume:?}; told of a gap: {told:?}; live: {live}; may be gone: {gone}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETENTION: Retention = Retention {
        age: Duration::from_secs(60),
        per_channel: 5,
        replay: 8,
    };
    const ME: usize = 7;

    /// An auditor, and a client with its clock: a second passes with all that it reads.
    struct Case {
        auditor: Auditor,
        heard: Vec<Heard>,
        now: Duration,
    }

    impl Case {
        fn new() -> Self {
            let mut case = Self {
                auditor: Auditor::new(RETENTION),
                heard: Vec::new(),
                now: Duration::ZERO,
            };
            case.hear(What::Welcome {
                since: None,
                seq: 0,
                resume: Resume::None,
            });
            case
        }

        /// Stores the next one; its sequence is its number.
        fn store(&mut self, user: Option<usize>) -> u64 {
            let seq = self.auditor.last() + 1;
            let id = Self::id(user, seq);
            self.auditor.sending(id, self.now);
            self.auditor.acknowledged(id, seq);
            seq
        }

        fn id(user: Option<usize>, seq: u64) -> Id {
            Id {
                publisher: 0,
                user,
                number: seq as usize,
            }
        }

        fn hear(&mut self, what: What) {
            self.now += Duration::from_secs(1);
            self.heard.push(Heard { at: self.now, what });
        }

        fn read(&mut self, user: Option<usize>, seq: u64) {
            let id = Self::id(user, seq);
            self.hear(What::Event { seq, prev: 0, id });
        }

        fn back(&mut self, since: u64, resume: Resume) {
            self.hear(What::Welcome {
                since: Some(since),
                seq: self.auditor.last(),
                resume,
            });
        }

        fn verdict(&self) -> Verdict {
            self.auditor.judge(ME, &self.heard)
        }

        #[track_caller]
        fn is_good(&self) -> Verdict {
            let verdict = self.verdict();
            assert_eq!(verdict.complaints, [""; 0]);
            assert_eq!((verdict.lost, verdict.false_gaps), (0, 0));
            verdict
        }
    }

    #[test]
    fn who_has_everything_is_content_and_what_comes_twice_is_counted() {
        let mut case = Case::new();
        for to in [Some(ME), None, Some(1), Some(ME)] {
            case.store(to);
        }
        case.read(Some(ME), 1);
        case.back(1, Resume::Complete);
        case.read(None, 2);
        case.read(Some(ME), 1);
        case.read(Some(ME), 4);
        case.hear(What::Live(4));
        let verdict = case.is_good();
        assert_eq!((verdict.accepted, verdict.duplicates), (3, 1));
    }

    #[test]
    fn one_dropped_message_is_missed_wherever_it_is() {
        for dropped in 1..=4 {
            let mut case = Case::new();
            for seq in 1..=4 {
                case.store(Some(ME));
                if seq != dropped {
                    case.read(Some(ME), seq);
                }
            }
            let verdict = case.verdict();
            assert_eq!(verdict.lost, 1, "{dropped}: {verdict:?}");
            assert_eq!(verdict.complaints.len(), 1);
        }
    }

    #[test]
    fn a_false_complete_is_one() {
        let mut case = Case::new();
        case.store(Some(ME));
        case.read(Some(ME), 1);
        case.store(Some(ME));
        case.store(None);
        case.back(1, Resume::Complete);
        case.read(None, 3);
        case.hear(What::Live(3));
        let verdict = case.verdict();
        assert_eq!((verdict.lost, verdict.false_completes), (1, 1));
    }

    #[test]
    fn live_and_ping_say_that_everything_has_come() {
        for said in [What::Live(1), What::Ping(1)] {
            let mut case = Case::new();
            case.store(None);
            case.hear(said);
            case.read(None, 1);
            assert_eq!(case.verdict().lost, 1);
        }
    }

    #[test]
    fn a_gap_forgives_what_retention_took() {
        let mut case = Case::new();
        for _ in 0..7 {
            case.store(Some(ME));
        }
        case.back(0, Resume::Gap);
        for seq in 3..=7 {
            case.read(Some(ME), seq);
        }
        assert_eq!(case.is_good().forgiven, 2);
        // Not one more.
        case.heard
            .retain(|heard| !matches!(heard.what, What::Event { seq: 3, .. }));
        assert_eq!(case.verdict().lost, 1);
    }

    #[test]
    fn without_a_gap_nothing_is_forgiven() {
        let mut case = Case::new();
        for _ in 0..7 {
            case.store(Some(ME));
        }
        case.back(0, Resume::Complete);
        for seq in 3..=7 {
            case.read(Some(ME), seq);
        }
        assert_eq!(case.verdict().false_completes, 2);
    }

    #[test]
    fn a_gap_frame_forgives_nothing_that_came_after_it() {
        let mut case = Case::new();
        for _ in 0..6 {
            case.store(Some(ME));
        }
        case.hear(What::Gap);
        for _ in 0..6 {
            case.store(Some(ME));
        }
        // Six are gone with good reason, and one was sent after the word.
        for seq in 8..=12 {
            case.read(Some(ME), seq);
        }
        let verdict = case.verdict();
        assert_eq!((verdict.forgiven, verdict.lost), (6, 1));
    }

    #[test]
    fn a_gap_forgives_what_is_too_much_for_a_replay() {
        let mut case = Case::new();
        for seq in 0..10 {
            case.store([Some(ME), None, None][seq % 3]);
        }
        case.back(0, Resume::Gap);
        for seq in 3..=10 {
            case.read([Some(ME), None, None][(seq as usize - 1) % 3], seq);
        }
        assert_eq!(case.is_good().forgiven, 2);
    }

    #[test]
    fn a_gap_is_false_where_nothing_can_be_gone() {
        for what in [What::Gap, What::Live(0)] {
            let mut case = Case::new();
            for _ in 0..4 {
                case.store(Some(ME));
            }
            match what {
                What::Gap => case.hear(what),
                _ => case.back(0, Resume::Gap),
            }
            for seq in 1..=4 {
                case.read(Some(ME), seq);
            }
            let verdict = case.verdict();
            assert_eq!((verdict.lost, verdict.false_gaps), (0, 1));
        }
    }

    #[test]
    fn a_gap_is_true_when_the_time_is_over() {
        let mut case = Case::new();
        case.store(Some(1));
        case.store(Some(ME));
        case.now += RETENTION.age;
        case.back(0, Resume::Gap);
        assert_eq!(case.is_good().forgiven, 1);
    }

    #[test]
    fn a_position_passes_over_nothing() {
        let mut case = Case::new();
        case.store(Some(ME));
        case.store(None);
        case.read(None, 2);
        case.back(2, Resume::Complete);
        case.hear(What::Live(2));
        assert_eq!(case.verdict().lost, 1);
        // And it is the client's own.
        let mut case = Case::new();
        case.store(Some(ME));
        case.read(Some(ME), 1);
        case.back(0, Resume::Complete);
        case.hear(What::Live(1));
        assert_eq!(case.verdict().complaints.len(), 1);
    }

    #[test]
    fn both_kinds_together_come_in_order() {
        let mut case = Case::new();
        case.store(None);
        case.store(Some(ME));
        case.read(Some(ME), 2);
        case.read(None, 1);
        case.hear(What::Live(2));
        assert_eq!(case.verdict().complaints.len(), 1);
        // What is brought and what is proven belong together.
        let mut case = Case::new();
        case.store(None);
        case.store(Some(ME));
        case.read(None, 1);
        case.read(Some(ME), 2);
        case.hear(What::Live(1));
        assert_eq!(case.verdict().complaints.len(), 1);
    }

    #[test]
    fn nothing_of_others_and_nothing_that_is_not_stored() {
        let mut case = Case::new();
        case.store(Some(1));
        case.read(Some(1), 1);
        case.read(Some(ME), 2);
        case.read(Some(ME), 1);
        assert_eq!(case.verdict().complaints.len(), 3);
    }

    #[test]
    fn what_nobody_acknowledged_may_come() {
        let mut case = Case::new();
        case.auditor.sending(Case::id(Some(ME), 1), case.now);
        case.read(Some(ME), 1);
        case.is_good();
        assert_eq!(case.auditor.unknown(), 1);
    }

    #[test]
    fn what_shows_as_a_gap_is_one() {
        let mut case = Case::new();
        case.store(Some(ME));
        let id = Case::id(Some(ME), 1);
        case.hear(What::Event {
            seq: 1,
            prev: 0,
            id,
        });
        case.store(Some(ME));
        case.store(Some(ME));
        let id = Case::id(Some(ME), 3);
        case.hear(What::Event {
            seq: 3,
            prev: 2,
            id,
        });
        let verdict = case.verdict();
        assert_eq!(verdict.complaints.len(), 2, "it shows, and it is lost");
    }
}
