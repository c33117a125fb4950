//! What the process does: it opens sessions as fast as the gateway admits them, and lets each
//! read.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::Rc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use deadpool_redis::redis;
use tokio::{
    sync::{Notify, mpsc},
    task::{LocalSet, spawn_local},
    time::sleep,
};

use super::{
    Order, Peer, Plan,
    pace::{PAUSE, Pace},
    session::{Session, Tally},
    user, user_id,
};
use crate::{
    Outcome,
    browser::{Connection, End},
    servers,
};

/// Tickets that are written at once.
const TICKETS: usize = 500;
/// A session that comes back does so within this.
const BACK: Duration = Duration::from_secs(1);
/// Redis has written them within this.
const REDIS: Duration = Duration::from_secs(20);

/// The argument is the plan.
pub(crate) fn be(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let plan: Plan = serde_json::from_str(&arguments.next().ok_or("PLAN")?)?;
    let redis = redis::Client::open(format!("redis://{}", plan.redis))?;
    let redis = redis.get_connection()?;
    // While it waits, nobody is answered.
    redis.set_read_timeout(Some(REDIS))?;
    let (tell, orders) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else {
                break;
            };
            if tell.send(order).is_err() {
                break;
            }
        }
        // Nobody asks any more.
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let crowd = Rc::new(Crowd {
        plan,
        tally: RefCell::default(),
        closing: Notify::new(),
    });
    LocalSet::new().block_on(&runtime, crowd.obey(orders, redis))
}

struct Crowd {
    plan: Plan,
    tally: RefCell<Tally>,
    closing: Notify,
}

/// A session that is to be opened.
struct Waiting {
    session: usize,
    ticket: Option<String>,
}

/// What becomes of sessions, for the task that opens them.
enum News {
    /// A handshake is over: how long it took, or how it was refused.
    Shook(usize, Result<Duration, String>),
    /// A session that comes back has ended.
    Ended(usize),
}

impl Crowd {
    async fn obey(
        self: Rc<Self>,
        mut orders: mpsc::UnboundedReceiver<Order>,
        redis: redis::Connection,
    ) -> Outcome<()> {
        let mut redis = Some(redis);
        while let Some(order) = orders.recv().await {
            match order {
                Order::Open => {
                    let redis = redis.take().ok_or("they are open already")?;
                    let crowd = self.clone();
                    spawn_local(async move {
                        if let Err(error) = crowd.open(redis).await {
                            eprintln!("opening sessions failed: {error}");
                            std::process::exit(1);
                        }
                    });
                }
                Order::Expect(run) => {
                    let mut tally = self.tally.borrow_mut();
                    tally.run = run;
                    (tally.count.messages, tally.count.wrong) = (0, 0);
                    tally.count.latencies = Default::default();
                }
                Order::Look => {}
                Order::Close => self.closing.notify_waiters(),
            }
            println!("{}", serde_json::to_string(&self.tally.borrow().count)?);
        }
        Ok(())
    }

    /// Opens all, and returns when all are open.
    async fn open(self: Rc<Self>, mut redis: redis::Connection) -> Outcome<()> {
        let Plan {
            first, sessions, ..
        } = self.plan;
        let mut waiting: VecDeque<_> = (first..first + sessions)
            .map(|session| Waiting {
                session,
                ticket: None,
            })
            .collect();
        let (tell, mut news) = mpsc::unbounded_channel();
        let at_once = self.plan.returns || self.plan.handshakes >= sessions;
        let (mut pace, mut under_way) = (Pace::new(self.plan.handshakes, at_once), 0);
        let mut pause_until = Instant::now();
        while !waiting.is_empty() || under_way > 0 || self.plan.returns {
            while under_way < pace.window()
                && let Some(next) = waiting.front_mut()
            {
                let Some(ticket) = next.ticket.take() else {
                    self.mint(&mut redis, &mut waiting)?;
                    continue;
                };
                sleep(pause_until.saturating_duration_since(Instant::now())).await;
                let session = next.session;
                waiting.pop_front();
                under_way += 1;
                let (crowd, tell) = (self.clone(), tell.clone());
                spawn_local(async move {
                    let start = Instant::now();
                    let admitted = crowd.admit(session, &ticket, tell.clone()).await;
                    let admitted = admitted.map(|()| start.elapsed());
                    let _ = tell.send(News::Shook(session, admitted));
                });
            }
            match news.recv().await.ok_or("no handshake is under way")? {
                News::Ended(session) => waiting.push_back(Waiting {
                    session,
                    ticket: None,
                }),
                News::Shook(_, Ok(after)) => {
                    under_way -= 1;
                    pace.admitted(after);
                }
                News::Shook(session, Err(how)) => {
                    under_way -= 1;
                    let refused = &mut self.tally.borrow_mut().count.refused;
                    *refused.entry(how).or_default() += 1;
                    if self.plan.returns {
                        // Each goes by itself, as browsers do.
                        spawn_local(again(session, tell.clone()));
                        continue;
                    }
                    pace.refused();
                    pause_until = Instant::now() + PAUSE;
                    // A ticket may have been used up.
                    waiting.push_back(Waiting {
                        session,
                        ticket: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// Gives tickets to those who wait longest.
    fn mint(&self, redis: &mut redis::Connection, waiting: &mut VecDeque<Waiting>) -> Outcome<()> {
        let without = waiting.iter_mut().filter(|next| next.ticket.is_none());
        let without: Vec<_> = without.take(TICKETS).collect();
        let of = |next: &&mut Waiting| user_id(user(next.session, self.plan.sessions_per_user));
        let users: Vec<_> = without.iter().map(of).collect();
        let tickets = match self.plan.peer {
            Peer::Usher => servers::mint(redis, &users)?,
            Peer::Node | Peer::Centrifugo => users,
        };
        for (next, ticket) in without.into_iter().zip(tickets) {
            next.ticket = Some(ticket);
        }
        Ok(())
    }

    /// Opens one session and lets it read.
    ///
    /// # Errors
    ///
    /// How it was refused.
    async fn admit(
        self: Rc<Self>,
        session: usize,
        ticket: &str,
        tell: mpsc::UnboundedSender<News>,
    ) -> Result<(), String> {
        let tries = {
            let count = &mut self.tally.borrow_mut().count;
            count.tries += 1;
            count.tries as usize
        };
        let Plan {
            peer, addresses, ..
        } = &self.plan;
        let address = addresses[tries % addresses.len()];
        let path = peer.path(ticket);
        let opened = Connection::open_at(address, session, &path, *peer == Peer::Usher).await;
        let (stream, rest) = opened.map_err(|End { how, .. }| how)?.into_parts();
        let user = user(session, self.plan.sessions_per_user);
        self.tally.borrow_mut().count.open += 1;
        let open = Session::new(stream, rest, user);
        match self.plan.returns {
            false => drop(spawn_local(self.clone().read(open))),
            true => drop(spawn_local(self.clone().come_back(session, open, tell))),
        }
        Ok(())
    }

    /// Lets a session read until it ends, and has it opened again within a second.
    async fn come_back(
        self: Rc<Self>,
        session: usize,
        open: Session,
        tell: mpsc::UnboundedSender<News>,
    ) {
        self.read(open).await;
        again(session, tell).await;
    }

    /// Lets a session read until it ends. Its future is small: there are thousands of them.
    async fn read(self: Rc<Self>, mut session: Session) {
        let mut closing = Box::pin(self.closing.notified());
        let end = poll_fn(|cx| {
            if closing.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            session.poll(cx, &self.tally).map(Some)
        });
        let end = end.await;
        let count = &mut self.tally.borrow_mut().count;
        count.open -= 1;
        match end {
            Some(end) => *count.ended.entry(end).or_default() += 1,
            None => session.close(),
        }
    }
}

/// Has a session opened within a second.
async fn again(session: usize, tell: mpsc::UnboundedSender<News>) {
    sleep(BACK.mul_f64(rand::random())).await;
    let _ = tell.send(News::Ended(session));
}
