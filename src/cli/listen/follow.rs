//! From one session to the next.

use std::{io, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use super::{
    backoff::{Backoff, stays_away},
    ended_well,
    frame::Frame,
    progress::Progress,
    refused::{Lasts, Refused},
    screen::{Screen, state},
    session::{Close, Received, Session},
};
use crate::{
    cli::{
        api::{CallError, Kind},
        connect::{Gateway, PublicUrl},
        failure::{Failure, Trouble},
        output,
        signals::Signals,
    },
    position::Seen,
    user::UserId,
};

/// Fresh tickets that are refused in a row say that none will be taken.
const MAX_TICKETS_REFUSED: u32 = 3;

/// Follows sessions, one at a time.
pub(super) struct Follower {
    signals: Signals,
    screen: Screen,
    progress: Progress,
    /// The position of what was written, which is what somebody has seen.
    written: Option<String>,
    /// Whether any session was welcomed yet.
    welcomed: bool,
    /// Tickets that were refused since the last session.
    tickets_refused: u32,
}

/// A session that has been.
pub(super) struct Past {
    pub(super) end: End,
    /// From its welcome on; `None` if there was none.
    lasted: Option<Duration>,
    /// When the gateway wants us back.
    hint: Option<Duration>,
}

/// What the frames of a session said about it.
#[derive(Default)]
struct Known {
    welcomed: Option<Instant>,
    hint: Option<Duration>,
}

/// How a session ended.
pub(super) enum End {
    /// By our own close: Ctrl-C, or nobody reads what we print.
    Left,
    Closed(Close),
}

/// Why there is no session.
enum NotOpened {
    NoTicket(CallError),
    Refused(Refused),
    /// Nothing that another attempt could mend.
    Failed(Failure),
}

impl Follower {
    pub(super) fn new(since: Option<String>) -> Result<Self, Failure> {
        let signals =
            Signals::listen().map_err(|error| Failure::new(format_args!("no signals: {error}")))?;
        Ok(Self {
            signals,
            screen: Screen::new(),
            written: since.clone(),
            progress: Progress::new(since),
            welcomed: false,
            tickets_refused: 0,
        })
    }

    /// What to send as `since`.
    pub(super) fn since(&self) -> Option<String> {
        self.progress.since()
    }

    /// Opens a session after the other, until one is not to be followed by more.
    pub(super) async fn follow_user(
        &mut self,
        gateway: &Gateway<'_>,
        public: &PublicUrl,
        user: &UserId,
    ) -> Result<(), Failure> {
        let mut backoff = Backoff::default();
        loop {
            let opening = open(gateway, public, user, self.progress.since());
            let opened = tokio::select! {
                opened = opening => opened,
                () = self.signals.next() => return Ok(()),
            };
            let wait = match opened {
                Ok(session) => {
                    self.tickets_refused = 0;
                    let past = self.follow(session).await?;
                    match past.end {
                        End::Closed(close) if !stays_away(close.code) => {
                            let wait = backoff.after(past.lasted, past.hint);
                            state(format_args!("{close}; {}", Again(wait)));
                            wait
                        }
                        end => return ended_well(end),
                    }
                }
                Err(not_opened) => {
                    let (trouble, hint) = self.worth_another_try(not_opened)?;
                    let wait = backoff.after(None, hint);
                    state(format_args!("{}; {}", trouble.what, Again(wait)));
                    wait
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.signals.next() => return Ok(()),
            }
        }
    }

    /// Shows what a session brings, to its end.
    pub(super) async fn follow(&mut self, mut session: Session) -> Result<Past, Failure> {
        let mut known = Known::default();
        let close = loop {
            let received = tokio::select! {
                received = session.next() => received,
                () = self.signals.next() => break None,
            };
            let mut closed = None;
            let mut next = Some(received);
            // All that is there already is written together.
            while let Some(received) = next.take() {
                match received {
                    Received::Frame(text) => {
                        self.take_in(&text, &mut session, &mut known);
                        if !self.screen.is_full() {
                            next = session.next().now_or_never();
                        }
                    }
                    Received::Closed(close) => closed = Some(close),
                }
            }
            let written = tokio::select! {
                written = self.screen.write() => written,
                () = self.signals.next() => break None,
            };
            match written {
                Ok(()) => {
                    self.written = self.progress.since();
                    if closed.is_some() {
                        break closed;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break None,
                Err(error) => return Err(output::unwritten(&error)),
            }
        };
        let end = match close {
            Some(close) => End::Closed(close),
            None => {
                session.leave().await;
                if let Some(position) = &self.written {
                    state(format_args!("--since {position} goes on from here"));
                }
                End::Left
            }
        };
        Ok(Past {
            end,
            lasted: known.welcomed.map(|welcomed| welcomed.elapsed()),
            hint: known.hint,
        })
    }

    fn take_in(&mut self, text: &str, session: &mut Session, known: &mut Known) {
        let frame = Frame::read(text);
        if let Some(welcome) = &frame.welcome {
            self.welcomed = true;
            known.welcomed = Some(Instant::now());
            if let Some(patience) = welcome.patience() {
                session.set_patience(patience);
            }
        }
        match self.progress.take_in(&frame) {
            None | Some(Seen::New) => {}
            Some(Seen::AfterGap) => state(format_args!("a message before this one is missing")),
            Some(Seen::Already) => return,
        }
        if let Some(goodbye) = &frame.goodbye {
            known.hint = goodbye.hint();
        }
        self.screen.show(text, &frame);
    }

    /// Before the first welcome somebody waits for what is wrong to be said;
    /// after it, somebody wants to stay connected.
    fn worth_another_try(
        &mut self,
        not_opened: NotOpened,
    ) -> Result<(Trouble, Option<Duration>), Failure> {
        match not_opened {
            NotOpened::Failed(failure) => Err(failure),
            NotOpened::NoTicket(error) => match error.kind {
                Kind::Never => Err(error.into()),
                Kind::Unreachable if !self.welcomed => Err(error.into()),
                Kind::Unreachable | Kind::Later => Ok((error.trouble, None)),
            },
            NotOpened::Refused(refused) => {
                let lasts = refused.lasts();
                self.tickets_refused += u32::from(lasts == Lasts::UntilThird);
                let again = match lasts {
                    Lasts::Shortly => true,
                    Lasts::UntilThird => self.tickets_refused < MAX_TICKETS_REFUSED,
                    Lasts::ForGood => false,
                    Lasts::Unknown => self.welcomed,
                };
                let hint = refused.hint();
                let trouble = refused.for_a_user();
                match again {
                    true => Ok((trouble, hint)),
                    false => Err(Failure::new(trouble)),
                }
            }
        }
    }
}

/// A fresh ticket over a fresh connection, since an old one may have died
/// without a word, and the session that it opens.
async fn open(
    gateway: &Gateway<'_>,
    public: &PublicUrl,
    user: &UserId,
    since: Option<String>,
) -> Result<Session, NotOpened> {
    let api = gateway.api().map_err(NotOpened::Failed)?;
    let issued = api.issue(user, None).await.map_err(NotOpened::NoTicket)?;
    let dialer = gateway.dialer(public.is_encrypted());
    let dialer = dialer.map_err(NotOpened::Failed)?;
    let session = Session::open(public, &dialer, &issued.ticket, since.as_deref()).await;
    session.map_err(NotOpened::Refused)
}

/// When it is tried again.
struct Again(Duration);

impl std::fmt::Display for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connecting again in {:.1} s", self.0.as_secs_f64())
    }
}
