//! Who knows what was sent, and what each session read: the judge of a chaos run.
//!
//! A pure state machine without clock or I/O, so that it can be proven by itself.
//! Live mode's rule is that whoever missed a message was told or closed:
//!
//! - A session is owed each message of its streams whose sending began after its
//!   welcome was read and that its publisher knows to be published.
//! - A `gap` forgives what began to be sent before it was read, and nothing later.
//! - The end of a session, however it comes, forgives all.
//! - Nothing comes twice, nothing to the wrong user, nothing that was refused as
//!   certainly not published, and what is certain comes in its publisher's order.
//!
//! A message whose outcome its publisher does not know is owed to nobody. It may
//! come late, out of a buffer that a fault held back.

use std::collections::{HashMap, HashSet};

/// What one publisher sends to one user, or to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stream {
    pub(crate) publisher: u8,
    /// None: a broadcast.
    pub(crate) user: Option<usize>,
}

/// What its publisher knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Under way, or nobody will ever know.
    Unknown,
    /// It is published.
    Certain,
    /// It certainly is not.
    Never,
}

/// Keeps the books of a whole run.
#[derive(Debug, Default)]
pub(crate) struct Auditor {
    /// Each stream's messages, by number.
    sent: HashMap<Stream, Vec<Outcome>>,
    sessions: Vec<Session>,
    complaints: Vec<String>,
}

#[derive(Debug)]
struct Session {
    user: usize,
    open: bool,
    /// The first number that is owed of each stream; absent is 0.
    owed_from: HashMap<Stream, usize>,
    /// What came, in its order.
    got: HashMap<Stream, Got>,
}

#[derive(Debug, Default)]
struct Got {
    order: Vec<usize>,
    numbers: HashSet<usize>,
}

/// How many messages each stream had at one moment.
pub(crate) type Until = HashMap<Stream, usize>;

/// A message that a session is owed.
pub(crate) type Missing = (usize, Stream, usize);

impl Auditor {
    /// A message is about to be sent; returns its number.
    pub(crate) fn sending(&mut self, stream: Stream) -> usize {
        let sent = self.sent.entry(stream).or_default();
        sent.push(Outcome::Unknown);
        sent.len() - 1
    }

    /// Its publisher has learnt what became of it.
    pub(crate) fn learnt(&mut self, stream: Stream, number: usize, outcome: Outcome) {
        if let Some(sent) = self.sent.get_mut(&stream) {
            sent[number] = outcome;
        }
    }

    /// A session has read its welcome; returns how it is called from now on.
    pub(crate) fn welcomed(&mut self, user: usize) -> usize {
        self.sessions.push(Session {
            user,
            open: true,
            owed_from: self.now(),
            got: HashMap::new(),
        });
        self.sessions.len() - 1
    }

    /// A session has read a message.
    pub(crate) fn received(&mut self, session: usize, stream: Stream, number: usize) {
        let found = self
            .sent
            .get(&stream)
            .and_then(|sent| sent.get(number).copied());
        let Session { user, got, .. } = &mut self.sessions[session];
        let got = got.entry(stream).or_default();
        let fault = if stream.user.is_some_and(|to| to != *user) {
            Some("is another user's")
        } else if found.is_none() {
            Some("was never sent")
        } else if !got.numbers.insert(number) {
            Some("came twice")
        } else {
            got.order.push(number);
            None
        };
        if let Some(fault) = fault {
            let user = *user;
            self.complain(format!(
                "session {session} of user {user}: {number} of {stream:?} {fault}"
            ));
        }
    }

    /// A session was told that it may have missed something.
    pub(crate) fn gap(&mut self, session: usize) {
        self.sessions[session].owed_from = self.now();
    }

    /// A session is over.
    pub(crate) fn ended(&mut self, session: usize) {
        self.sessions[session].open = false;
    }

    /// Something that nobody should have seen.
    pub(crate) fn complain(&mut self, complaint: String) {
        self.complaints.push(complaint);
    }

    /// What has begun to be sent so far.
    pub(crate) fn now(&self) -> Until {
        self.sent
            .iter()
            .map(|(&stream, sent)| (stream, sent.len()))
            .collect()
    }

    /// What open sessions are still owed of what was begun by then. Right after
    /// a message it may just be under way; what stays missing is a silent loss.
    pub(crate) fn missing(&self, until: &Until) -> Vec<Missing> {
        self.owed(|_, stream, _| until.get(&stream).copied().unwrap_or(0))
    }

    /// The same, only where a later message of the same publisher has come:
    /// these are not under way any more.
    pub(crate) fn holes(&self) -> Vec<Missing> {
        self.owed(|session, stream, sent| {
            let got = self.sessions[session].got.get(&stream);
            let came = got.into_iter().flat_map(|got| &got.order);
            let certain = came.filter(|&&number| sent[number] == Outcome::Certain);
            certain.max().copied().unwrap_or(0)
        })
    }

    fn owed(&self, until: impl Fn(usize, Stream, &[Outcome]) -> usize) -> Vec<Missing> {
        let mut missing = Vec::new();
        for (id, session) in self.sessions.iter().enumerate().filter(|(_, s)| s.open) {
            for (&stream, sent) in &self.sent {
                if stream.user.is_some_and(|user| user != session.user) {
                    continue;
                }
                let from = session.owed_from.get(&stream).copied().unwrap_or(0);
                let got = session.got.get(&stream);
                let owed = (from..until(id, stream, sent))
                    .filter(|&number| sent[number] == Outcome::Certain)
                    .filter(|number| got.is_none_or(|got| !got.numbers.contains(number)));
                missing.extend(owed.map(|number| (id, stream, number)));
            }
        }
        missing
    }

    /// All that was wrong, but for what is missing.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut all = self.complaints.clone();
        for (id, session) in self.sessions.iter().enumerate() {
            for (stream, got) in &session.got {
                let Some(sent) = self.sent.get(stream) else {
                    continue;
                };
                let mut last = None;
                for &number in &got.order {
                    match sent[number] {
                        Outcome::Never => all.push(format!(
                            "session {id}: {number} of {stream:?} came, though its publisher \
                             was told that it is not published"
                        )),
                        Outcome::Unknown => {}
                        Outcome::Certain if last > Some(number) => all.push(format!(
                            "session {id}: {number} of {stream:?} came after {last:?}"
                        )),
                        Outcome::Certain => last = Some(number),
                    }
                }
            }
        }
        all
    }

    /// Messages by outcome: unknown, certain, never.
    pub(crate) fn outcomes(&self) -> [usize; 3] {
        [Outcome::Unknown, Outcome::Certain, Outcome::Never].map(|wanted| {
            let all = self.sent.values().flatten();
            all.filter(|&&outcome| outcome == wanted).count()
        })
    }

    /// Sessions so far.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Messages read so far, by all sessions.
    pub(crate) fn deliveries(&self) -> usize {
        let got = self
            .sessions
            .iter()
            .flat_map(|session| session.got.values());
        got.map(|got| got.order.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Stream = Stream {
        publisher: 0,
        user: Some(7),
    };

    /// Sends one that is certain.
    fn send(auditor: &mut Auditor) -> usize {
        let number = auditor.sending(MINE);
        auditor.learnt(MINE, number, Outcome::Certain);
        number
    }

    fn missing(auditor: &Auditor) -> Vec<usize> {
        let missing = auditor.missing(&auditor.now());
        missing.into_iter().map(|(_, _, number)| number).collect()
    }

    #[test]
    fn one_dropped_message_is_missed() {
        let mut auditor = Auditor::default();
        let session = auditor.welcomed(7);
        for number in 0..10 {
            send(&mut auditor);
            if number != 4 {
                auditor.received(session, MINE, number);
            }
        }
        assert_eq!(missing(&auditor), [4]);
        assert_eq!(auditor.holes(), [(session, MINE, 4)]);
    }

    #[test]
    fn the_last_message_is_missed_too_though_it_is_no_hole_yet() {
        let mut auditor = Auditor::default();
        let session = auditor.welcomed(7);
        send(&mut auditor);
        auditor.received(session, MINE, 0);
        send(&mut auditor);
        assert_eq!(missing(&auditor), [1]);
        assert!(auditor.holes().is_empty());
    }

    #[test]
    fn a_gap_forgives_what_was_before_it_and_nothing_later() {
        let mut auditor = Auditor::default();
        let session = auditor.welcomed(7);
        send(&mut auditor);
        auditor.gap(session);
        assert!(missing(&auditor).is_empty());
        send(&mut auditor);
        assert_eq!(missing(&auditor), [1]);
    }

    #[test]
    fn an_end_forgives_all_and_a_new_session_is_owed_only_what_is_new() {
        let mut auditor = Auditor::default();
        let first = auditor.welcomed(7);
        send(&mut auditor);
        auditor.ended(first);
        auditor.welcomed(7);
        assert!(missing(&auditor).is_empty());
        send(&mut auditor);
        assert_eq!(missing(&auditor), [1]);
    }

    #[test]
    fn what_nobody_knows_is_owed_to_nobody_and_may_come_late() {
        let mut auditor = Auditor::default();
        let session = auditor.welcomed(7);
        auditor.sending(MINE);
        send(&mut auditor);
        auditor.received(session, MINE, 1);
        assert!(missing(&auditor).is_empty());
        auditor.received(session, MINE, 0);
        assert_eq!(auditor.complaints(), [""; 0]);
    }

    #[test]
    fn nothing_comes_twice_or_out_of_order() {
        let mut auditor = Auditor::default();
        let session = auditor.welcomed(7);
        send(&mut auditor);
        send(&mut auditor);
        auditor.received(session, MINE, 1);
        auditor.received(session, MINE, 0);
        assert_eq!(auditor.complaints().len(), 1, "{:?}", auditor.complaints());
        auditor.received(session, MINE, 1);
        assert_eq!(auditor.complaints().len(), 2, "{:?}", auditor.complaints());
    }

    #[test]
    fn nothing_comes_that_was_refused_never_sent_or_another_users() {
        let mut auditor = Auditor::default();
        let (session, other) = (auditor.welcomed(7), auditor.welcomed(8));
        let number = auditor.sending(MINE);
        auditor.learnt(MINE, number, Outcome::Never);
        auditor.received(session, MINE, number);
        auditor.received(session, MINE, 99);
        auditor.received(other, MINE, number);
        assert_eq!(auditor.complaints().len(), 3, "{:?}", auditor.complaints());
    }

    #[test]
    fn a_broadcast_is_owed_to_all_and_a_users_message_to_that_user_alone() {
        let mut auditor = Auditor::default();
        auditor.welcomed(7);
        auditor.welcomed(8);
        send(&mut auditor);
        assert_eq!(auditor.missing(&auditor.now()).len(), 1);
        let all = Stream {
            publisher: 0,
            user: None,
        };
        let number = auditor.sending(all);
        auditor.learnt(all, number, Outcome::Certain);
        assert_eq!(auditor.missing(&auditor.now()).len(), 3);
    }
}
