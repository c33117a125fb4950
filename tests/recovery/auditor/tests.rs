//! The auditor complains of each kind of fault.

mod centrifuge;
mod gaps;
mod owed;
mod positions;
mod set_back;
mod too_large;
mod topics;

use super::*;

const RETENTION: Retention = Retention {
    age: Duration::from_secs(60),
    per_channel: 5,
    replay: 8,
};
const ME: To = To::User(7);
const OTHER: To = To::User(1);
const ALL: To = To::All;
const NEWS: To = To::Topic(3);
const MINE: Channels = Channels { user: 7, topic: 3 };
const BEGIN: u64 = 1_798_000_000_000;

/// An auditor, and a client with its clock: a second passes with all that it reads.
struct Case {
    auditor: Auditor,
    heard: Vec<Heard>,
    now: Duration,
    /// When the stream stored each; 0 is the beginning.
    times: Vec<u64>,
    /// It follows its topic from its next welcome on.
    follows: bool,
}

impl Case {
    fn new() -> Self {
        let mut case = Self {
            auditor: Auditor::new(RETENTION, BEGIN),
            heard: Vec::new(),
            now: Duration::ZERO,
            times: vec![0],
            follows: true,
        };
        case.begins();
        case
    }

    /// Comes without a position.
    fn begins(&mut self) {
        self.hear(What::Welcome {
            since: None,
            end: self.at(self.auditor.last()),
            resume: Resume::None,
            follows: self.follows,
        });
    }

    /// A sequence and its time.
    fn at(&self, seq: u64) -> Stored {
        let at = self.times[seq as usize];
        Stored { seq, at }
    }

    /// Stores the next one; its sequence is its number.
    fn store(&mut self, to: To) -> u64 {
        self.store_one(to, false)
    }

    fn store_one(&mut self, to: To, large: bool) -> u64 {
        let seq = self.auditor.last() + 1;
        let id = Self::id(to, seq);
        self.auditor.sending(id, large, self.now);
        self.auditor.acknowledged(id, seq);
        self.times.push(BEGIN + self.now.as_millis() as u64);
        seq
    }

    fn id(to: To, seq: u64) -> Id {
        Id {
            publisher: 0,
            to,
            number: seq as usize,
        }
    }

    fn hear(&mut self, what: What) {
        self.now += Duration::from_secs(1);
        self.heard.push(Heard { at: self.now, what });
    }

    fn read(&mut self, to: To, seq: u64) {
        self.read_after(to, seq, 0);
    }

    fn read_after(&mut self, to: To, seq: u64, prev: u64) {
        self.hear(What::Event {
            stored: self.at(seq),
            prev,
            id: Self::id(to, seq),
        });
    }

    /// A `gap` in the place of one message.
    fn told_too_large(&mut self, seq: u64, channel: usize) {
        self.hear(What::TooLarge {
            stored: self.at(seq),
            prev: 0,
            channel,
        });
    }

    /// Comes back with a proof up to there, a largest sequence and a mark of each channel.
    fn back(&mut self, proven: u64, top: u64, marks: [u64; CHANNELS], resume: Resume) {
        let top = self.at(top);
        self.hear(What::Welcome {
            since: Some(Position { proven, top, marks }),
            end: self.at(self.auditor.last()),
            resume,
            follows: self.follows,
        });
    }

    fn live(&mut self, seq: u64) {
        self.hear(What::Live(self.at(seq)));
    }

    fn verdict(&self) -> Verdict {
        self.auditor.judge(MINE, &self.heard)
    }

    #[track_caller]
    fn is_good(&self) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.complaints, [""; 0]);
        assert_eq!((verdict.lost, verdict.false_gaps), (0, 0));
        verdict
    }
}
