//! Sessions: opened as a client opens them, and read to their end.

use std::sync::Arc;

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, timeout},
};

use super::{
    marks::Marks,
    plan::{Mode, Plan},
    seen::Seen,
    tally::Tally,
};
use crate::{
    cli::{
        api::Api,
        connect::{Dialer, PublicUrl},
        failure::Trouble,
        listen::{
            frame::Frame,
            session::{Received, Session},
        },
    },
    user::UserId,
};

/// For all sessions to say goodbye.
const GOODBYES: Duration = Duration::from_secs(10);

/// Opens sessions.
#[derive(Clone)]
pub(super) struct Opener {
    pub(super) api: Api,
    pub(super) public: PublicUrl,
    pub(super) dialer: Dialer,
    pub(super) plan: Arc<Plan>,
    pub(super) tally: Arc<Tally>,
}

/// A session that has its `welcome`.
pub(super) struct Opened {
    pub(super) number: u32,
    pub(super) is_durable: bool,
    session: Session,
    marks: Marks,
}

/// Why a session was not opened: a short name, and the words.
pub(super) struct NotOpened {
    pub(super) code: String,
    pub(super) trouble: Trouble,
}

/// The sessions that are read.
pub(super) struct Sessions {
    tasks: JoinSet<Vec<(u64, Seen)>>,
    leave: watch::Sender<bool>,
}

impl Opener {
    /// Opens one session. The caller bounds how many are opened at the same time.
    pub(super) async fn open(self, number: u32) -> Result<Opened, NotOpened> {
        let user = UserId::parse(&self.plan.user(number)).map_err(|error| NotOpened {
            code: "user".to_owned(),
            trouble: Trouble::new(error.to_string(), ""),
        })?;
        let topics: Vec<_> = self.plan.topics_of(number).collect();
        let names: Vec<_> = topics.iter().map(|&t| self.plan.topic(t.into())).collect();
        let issued = self.api.issue_for(&user, None, names.clone()).await;
        let issued = issued.map_err(|error| NotOpened {
            code: "no_ticket".to_owned(),
            trouble: error.trouble,
        })?;
        let session = Session::open(&self.public, &self.dialer, &issued.ticket, None).await;
        let mut session = session.map_err(|refused| NotOpened {
            code: refused.code(),
            trouble: refused.for_a_user(),
        })?;
        loop {
            let text = match session.next().await {
                Received::Frame(text) => text,
                Received::Closed(close) => {
                    return Err(NotOpened {
                        code: close.code.to_string(),
                        trouble: Trouble::new(close.to_string(), ""),
                    });
                }
            };
            let Some(welcome) = Frame::read(&text).welcome else {
                continue;
            };
            if let Some(patience) = welcome.patience() {
                session.set_patience(patience);
            }
            let follows = |name: &String| welcome.topics.iter().flatten().any(|one| one == name);
            if let Some(missing) = names.iter().find(|name| !follows(name)) {
                let what = format!("a session does not follow its topic {missing}");
                let mend = "topics.max_per_session or topics.max of the gateway is below what \
                            --topics and --sessions need";
                return Err(NotOpened {
                    code: "topic_left_out".to_owned(),
                    trouble: Trouble::new(what, mend),
                });
            }
            return Ok(Opened {
                number,
                is_durable: welcome.epoch.is_some(),
                marks: Marks::beginning_at(welcome.seq.unwrap_or_default()),
                session,
            });
        }
    }
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
            leave: watch::Sender::new(false),
        }
    }

    /// Reads a session from now on.
    pub(super) fn read(&mut self, opened: Opened, opener: &Opener) {
        let (plan, tally) = (opener.plan.clone(), opener.tally.clone());
        let mut leave = self.leave.subscribe();
        tally.open.add(1);
        self.tasks.spawn(async move {
            let mut reader = Reader::new(&opened, &plan, &tally);
            let Opened {
                mut session,
                mut marks,
                ..
            } = opened;
            loop {
                let received = tokio::select! {
                    received = session.next() => received,
                    _ = leave.changed() => break session.leave().await,
                };
                match received {
                    Received::Frame(text) => reader.frame(&text, &mut marks),
                    Received::Closed(close) => break tally.closed(close.code),
                }
            }
            tally.open.sub(1);
            reader.expects
        });
    }

    /// Ends all sessions, as clients end them. `each` gets what each has seen.
    pub(super) async fn leave(mut self, each: impl Fn(&[(u64, Seen)])) {
        let _ = self.leave.send(true);
        let goodbyes = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Ok(seen) = ended {
                    each(&seen);
                }
            }
        };
        let _ = timeout(GOODBYES, goodbyes).await;
    }
}

/// Counts what a session gets.
struct Reader<'a> {
    plan: &'a Plan,
    tally: &'a Tally,
    /// What it must get: the number of the user, of each topic, or 0 for broadcasts.
    expects: Vec<(u64, Seen)>,
}

impl<'a> Reader<'a> {
    fn new(opened: &Opened, plan: &'a Plan, tally: &'a Tally) -> Self {
        let expects = match plan.mode {
            Mode::Users => vec![opened.number.into()],
            Mode::Broadcast => vec![0],
            Mode::Topics => plan.topics_of(opened.number).map(u64::from).collect(),
        };
        Self {
            plan,
            tally,
            expects: expects
                .into_iter()
                .map(|to: u64| (to, Seen::default()))
                .collect(),
        }
    }

    fn frame(&mut self, text: &str, marks: &mut Marks) {
        let now = self.plan.now();
        let frame = Frame::read(text);
        if marks.shows_a_hole(&frame) {
            self.tally.gaps.add(1);
        }
        if frame.event.is_none() {
            return;
        }
        let stamp = frame.data.and_then(|data| self.plan.read(data.get()));
        // Somebody else may publish as well.
        let Some(stamp) = stamp else { return };
        let expected = self.expects.iter_mut().find(|(to, _)| *to == stamp.to);
        match expected {
            None => self.tally.misdelivered.add(1),
            Some((_, seen)) => match seen.insert(stamp.number) {
                true => {
                    self.tally.latency.record(now.saturating_sub(stamp.sent));
                    self.tally.received.add(1);
                }
                false => self.tally.duplicates.add(1),
            },
        }
    }
}
