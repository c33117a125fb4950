//! A connection of our own that is kept: reached, reached again after a loss, and moved to
//! another server where its own is in lame-duck mode.
//!
//! During a move there are two connections. The owner says when the new one takes over
//! ([`Supervisor::promote`]); the old one is heard for a moment longer, for what is still
//! under way on it.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};
use ulid::Ulid;

use super::{
    dial::Dialer,
    link::{Link, Received},
};
use crate::{
    bus::{
        health::Health,
        refusal::{AGAIN, Refusal},
    },
    jitter,
};

/// The old connection is heard after a move for this long at least. Its server gives it longer.
const LINGER: Duration = Duration::from_secs(2);

/// Before another successor is looked for, where one was lost: a random half to whole of it.
const PAUSE: Duration = Duration::from_secs(1);

type Dialing = Pin<Box<dyn Future<Output = Link> + Send>>;

/// A connection across all reconnects and moves.
pub(in crate::bus) struct Supervisor {
    dialer: Dialer,
    health: Health,
    /// Looks for a server: for `current`, or, where there is one, for `successor`.
    dialing: Option<Dialing>,
    /// When it looks for another successor.
    pause: Option<Pin<Box<Sleep>>>,
    /// When the owner asks once more for subscriptions that NATS has refused.
    again: Option<Pin<Box<Sleep>>>,
    current: Option<Link>,
    /// Takes over when the owner says so.
    successor: Option<Link>,
    /// Connections before a move, while they are still heard.
    old: Vec<(Link, Pin<Box<Sleep>>)>,
    /// How long the old connection is heard after a move.
    linger: Duration,
}

/// What happened.
#[derive(Debug)]
pub(in crate::bus) enum News {
    /// There is a connection: the first one, or one after a loss.
    Up,
    /// From the current connection.
    Received(Received),
    /// The current connection is lost. Another server is looked for.
    Down,
    /// The current server is in lame-duck mode, and there is a connection to another: the
    /// successor.
    SuccessorUp,
    /// From the successor.
    FromSuccessor(Received),
    /// The successor is lost. Another server is looked for.
    SuccessorLost,
    /// From an old connection, after a move: its id, and what came.
    FromOld(Ulid, Received),
    /// An old connection has ended, after a move. This was its id.
    Ended(Ulid),
    /// NATS refused subscriptions a while ago, and may permit them now.
    AskAgain,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("current", &self.current.as_ref().map(Link::id))
            .field("successor", &self.successor.as_ref().map(Link::id))
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Begins to connect at the first [`Supervisor::poll_next`].
    pub(in crate::bus) fn new(dialer: Dialer, health: Health) -> Self {
        Self {
            dialing: Some(Box::pin(dialer.clone().dial())),
            dialer,
            health,
            pause: None,
            again: None,
            current: None,
            successor: None,
            old: Vec::new(),
            linger: LINGER,
        }
    }

    /// A supervisor that hears an old connection for at least this long after a move: the
    /// owner's answers take that long.
    #[must_use]
    pub(in crate::bus) fn lingering(self, linger: Duration) -> Self {
        let linger = linger.max(LINGER);
        Self { linger, ..self }
    }

    pub(in crate::bus) fn health(&self) -> &Health {
        &self.health
    }

    /// Tells operators that the current connection works.
    pub(in crate::bus) fn tell_up(&self) {
        if let Some(link) = &self.current {
            let info = link.info();
            self.health.up(&info.server_name, &info.version);
        }
    }

    pub(in crate::bus) fn current(&mut self) -> Option<&mut Link> {
        self.current.as_mut()
    }

    pub(in crate::bus) fn successor(&mut self) -> Option<&mut Link> {
        self.successor.as_mut()
    }

    /// The connection that stays: the successor, if there is one.
    pub(in crate::bus) fn newest(&mut self) -> Option<&mut Link> {
        self.successor.as_mut().or(self.current.as_mut())
    }

    /// The current connection and, during a move, the successor.
    pub(in crate::bus) fn links(&mut self) -> impl Iterator<Item = &mut Link> {
        self.current.iter_mut().chain(&mut self.successor)
    }

    /// The connection of this id, while it is heard.
    pub(in crate::bus) fn heard(&mut self, id: Ulid) -> Option<&mut Link> {
        let old = self.old.iter_mut().map(|(link, _)| link);
        let mut links = self
            .current
            .iter_mut()
            .chain(&mut self.successor)
            .chain(old);
        links.find(|link| link.id() == id)
    }

    /// The successor becomes the current connection, and the current one an old one.
    pub(in crate::bus) fn promote(&mut self) {
        let Some(successor) = self.successor.take() else {
            return;
        };
        self.health.moved(successor.info());
        if let Some(old) = self.current.replace(successor) {
            self.old.push((old, Box::pin(sleep(self.linger))));
        }
    }

    /// Drops the successor, and looks for another server after a pause: the next one may fare no
    /// better.
    pub(in crate::bus) fn drop_successor(&mut self) {
        self.successor = None;
        let pause = jitter::fraction_of(PAUSE, 0.5, 1.0);
        self.pause = Some(Box::pin(sleep(pause)));
    }

    fn look_for_a_server(&mut self) {
        self.pause = None;
        self.dialing = Some(Box::pin(self.dialer.clone().dial()));
    }

    /// What happened next. Messages of the current connection go first.
    pub(in crate::bus) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        if let Some(current) = &mut self.current
            && let Poll::Ready(received) = current.poll_next(cx)
        {
            return Poll::Ready(match received {
                Ok(received) => {
                    self.look_at(&received);
                    News::Received(received)
                }
                Err(error) => self.lost(&error),
            });
        }
        if let Some(successor) = &mut self.successor
            && let Poll::Ready(received) = successor.poll_next(cx)
        {
            return Poll::Ready(match received {
                Ok(Received::Info(info)) if info.ldm => {
                    self.successor_lost(&"its server shuts down too")
                }
                Ok(received) => {
                    self.learn(&received);
                    News::FromSuccessor(received)
                }
                Err(error) => self.successor_lost(&error),
            });
        }
        for index in 0..self.old.len() {
            let (old, ends) = &mut self.old[index];
            let (id, over) = (old.id(), ends.as_mut().poll(cx).is_ready());
            match old.poll_next(cx) {
                Poll::Ready(Ok(received)) if !over => {
                    return Poll::Ready(News::FromOld(id, received));
                }
                Poll::Pending if !over => {}
                _ => {
                    drop(self.old.remove(index));
                    return Poll::Ready(News::Ended(id));
                }
            }
        }
        if is_over(&mut self.again, cx) {
            return Poll::Ready(News::AskAgain);
        }
        if is_over(&mut self.pause, cx) {
            self.look_for_a_server();
        }
        if let Some(dialing) = &mut self.dialing
            && let Poll::Ready(link) = dialing.as_mut().poll(cx)
        {
            self.dialing = None;
            return Poll::Ready(match &self.current {
                Some(_) => {
                    self.successor = Some(link);
                    News::SuccessorUp
                }
                None => {
                    self.current = Some(link);
                    News::Up
                }
            });
        }
        Poll::Pending
    }

    fn look_at(&mut self, received: &Received) {
        self.learn(received);
        match received {
            Received::Info(info)
                if info.ldm
                    && self.dialing.is_none()
                    && self.successor.is_none()
                    && self.pause.is_none() =>
            {
                self.health.retiring(&info.server_name);
                self.look_for_a_server();
            }
            _ => {}
        }
    }

    fn learn(&mut self, received: &Received) {
        match received {
            Received::Info(info) => self.dialer.servers.learn(info),
            Received::Nonsense => self.health.nonsense(),
            Received::Error(text) => {
                self.health.refused(text);
                if let Some(Refusal::Subscription { .. }) = Refusal::of(text) {
                    let again = || Box::pin(sleep(AGAIN));
                    self.again.get_or_insert_with(again);
                }
            }
            Received::Message(_) | Received::Pong(_) => {}
        }
    }

    /// A successor is dropped as well: everything has to be subscribed anew, and
    /// one way to do that is enough.
    fn lost(&mut self, error: &io::Error) -> News {
        self.health.down(error);
        self.current = None;
        self.successor = None;
        self.again = None;
        if self.dialing.is_none() {
            self.look_for_a_server();
        }
        News::Down
    }

    fn successor_lost(&mut self, error: &dyn fmt::Display) -> News {
        tracing::debug!(%error, "the next connection to NATS is lost");
        self.drop_successor();
        News::SuccessorLost
    }
}

/// Whether this timer has ended; then there is none any more.
fn is_over(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    let over = timer
        .as_mut()
        .is_some_and(|it| it.as_mut().poll(cx).is_ready());
    if over {
        *timer = None;
    }
    over
}

#[cfg(test)]
mod tests;
