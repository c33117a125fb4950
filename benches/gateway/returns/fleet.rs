//! Clients that leave with a position and come back with it: thousands of plain sockets, read
//! by one thread. Each checks by itself what it gets.

use std::{
    collections::BTreeMap,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use deadpool_redis::redis;
use serde_json::Value;
use tokio::{runtime::Handle, sync::Semaphore, task::AbortHandle, time::sleep};

use super::{
    position::{Event, Position, Stored},
    rows::{IN_FLIGHT, Manner, SPREAD},
    socket::{Refusal, Socket},
};
use crate::{Outcome, reader::Piece, servers};

/// Nobody got anything for this long: the rest is lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// A runtime of one thread, for as long as the process lives.
pub(super) fn runtime() -> Outcome<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(pending::<()>()));
    Ok(handle)
}

/// The clients of a row. Those that are connected leave when it is dropped.
pub(super) struct Fleet {
    runtime: Handle,
    shared: Arc<Shared>,
    sessions: Vec<AbortHandle>,
}

struct Shared {
    gateway: SocketAddr,
    redis: Mutex<redis::Connection>,
    clients: Vec<Mutex<Client>>,
    wanted: Mutex<Wanted>,
    seen: Mutex<Seen>,
}

/// What each client is to get.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) run: u64,
    pub(super) messages: u64,
    /// Whether it is told `live`, too.
    pub(super) live: bool,
    /// What its welcome has to say.
    pub(super) resume: &'static str,
}

/// What all of them have seen since then.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// Clients that have everything.
    pub(super) done: usize,
    pub(super) last: Option<Instant>,
    /// From a client's request to the last message that it missed, in milliseconds.
    pub(super) times: Vec<f64>,
    /// Answers 503, and none, by what they said.
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) lost: u64,
    pub(super) twice: u64,
    /// What else was not as it should be, and how often.
    pub(super) wrong: BTreeMap<String, u64>,
}

impl Seen {
    fn wrong(&mut self, what: impl Into<String>) {
        *self.wrong.entry(what.into()).or_default() += 1;
    }
}

struct Client {
    user: String,
    position: Position,
    is_welcome: bool,
    started: Instant,
    /// The number of the next message.
    next: u64,
    /// When the last one came.
    had: Option<Instant>,
    live: bool,
    done: bool,
}

impl Client {
    fn new(user: String) -> Self {
        Self {
            user,
            position: Position::default(),
            is_welcome: false,
            started: Instant::now(),
            next: 0,
            had: None,
            live: false,
            done: false,
        }
    }

    fn begin(&mut self, now: Instant) {
        self.started = now;
        self.next = 0;
        self.had = None;
        self.live = false;
        self.done = false;
    }
}

impl Fleet {
    pub(super) fn new(
        runtime: &Handle,
        gateway: SocketAddr,
        redis: redis::Connection,
        users: impl Iterator<Item = String>,
    ) -> Self {
        let shared = Shared {
            gateway,
            redis: Mutex::new(redis),
            clients: users.map(|user| Mutex::new(Client::new(user))).collect(),
            wanted: Mutex::default(),
            seen: Mutex::default(),
        };
        Self {
            runtime: runtime.clone(),
            shared: Arc::new(shared),
            sessions: Vec::new(),
        }
    }

    /// From now on each client is to get this; what was seen before is forgotten.
    pub(super) fn expect(&self, wanted: Wanted) {
        let now = Instant::now();
        for client in &self.shared.clients {
            lock(client).begin(now);
        }
        *lock(&self.shared.wanted) = wanted;
        *lock(&self.shared.seen) = Seen::default();
    }

    /// All come, with the positions that they have, or as if for the first time.
    pub(super) fn come(&mut self, manner: Manner, with_positions: bool) -> Outcome<()> {
        let clients = &self.shared.clients;
        let users: Vec<_> = clients.iter().map(|one| lock(one).user.clone()).collect();
        let tickets = servers::mint(&mut lock(&self.shared.redis), &users)?;
        let permits = match manner {
            Manner::Alone => 1,
            Manner::InFlight | Manner::Away => IN_FLIGHT,
            Manner::Spread | Manner::AtOnce => clients.len(),
        };
        let permits = Arc::new(Semaphore::new(permits));
        let each = SPREAD.div_f64(clients.len() as f64);
        let start = Instant::now();
        for (index, ticket) in (0..).zip(tickets) {
            let (shared, permits) = (self.shared.clone(), permits.clone());
            let visit = async move {
                if manner == Manner::Spread {
                    let due = start + each.mul_f64(index as f64);
                    sleep(due.saturating_duration_since(Instant::now())).await;
                }
                let alone = manner == Manner::Alone;
                let end = shared.visit(index, ticket, with_positions, &permits, alone);
                let end = end.await;
                lock(&shared.seen).wrong(end);
            };
            self.sessions.push(self.runtime.spawn(visit).abort_handle());
        }
        Ok(())
    }

    /// Waits until all have everything, or nobody got more for a while; does `meanwhile` again
    /// and again until then.
    pub(super) fn wait(&self, mut meanwhile: impl FnMut() -> Outcome<()>) -> Outcome<()> {
        let mut progress = (0, Instant::now());
        loop {
            let done = lock(&self.shared.seen).done;
            if done == self.shared.clients.len() {
                return Ok(());
            }
            if done > progress.0 {
                progress = (done, Instant::now());
            } else if progress.1.elapsed() > PATIENCE {
                return Ok(());
            }
            meanwhile()?;
        }
    }

    /// What was seen, with what did not come counted as lost.
    pub(super) fn seen(&self) -> Seen {
        let wanted = *lock(&self.shared.wanted);
        let mut seen = lock(&self.shared.seen).clone();
        for client in &self.shared.clients {
            let client = lock(client);
            seen.lost += wanted.messages.saturating_sub(client.next);
            if !client.done && client.next >= wanted.messages {
                seen.wrong("not welcome, or not told `live`");
            }
        }
        seen.times.sort_unstable_by(f64::total_cmp);
        seen
    }

    /// All leave, as when a laptop is closed.
    pub(super) fn leave(&mut self) {
        self.sessions.drain(..).for_each(|session| session.abort());
        for client in &self.shared.clients {
            lock(client).is_welcome = false;
        }
    }

    /// After which sequence each client is owed messages.
    pub(super) fn marks(&self) -> Vec<u64> {
        let clients = self.shared.clients.iter();
        clients.map(|one| lock(one).position.after()).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    /// One client, until its connection ends; returns how that was.
    async fn visit(
        &self,
        index: usize,
        mut ticket: String,
        with_position: bool,
        permits: &Semaphore,
        alone: bool,
    ) -> String {
        let mut permit = permits.acquire().await.ok();
        lock(&self.clients[index]).started = Instant::now();
        let mut socket = loop {
            let since = lock(&self.clients[index]).position.since();
            let since = with_position.then_some(since);
            match Socket::open(self.gateway, index, &ticket, since).await {
                Ok(socket) => break socket,
                Err(Refusal::Later(wait, code)) => {
                    *lock(&self.seen).refused.entry(code).or_default() += 1;
                    drop(permit.take());
                    sleep(wait).await;
                    let user = lock(&self.clients[index]).user.clone();
                    let fresh = servers::mint(&mut lock(&self.redis), &[user]);
                    ticket = match fresh {
                        Ok(mut fresh) => fresh.remove(0),
                        Err(error) => return format!("no ticket: {error}"),
                    };
                    permit = permits.acquire().await.ok();
                }
                Err(Refusal::Other(why)) => return why,
            }
        };
        loop {
            let heard = socket.hear(|pieces| {
                let mut client = lock(&self.clients[index]);
                for piece in pieces {
                    self.take(&mut client, piece)?;
                }
                Ok(client.is_welcome && (client.done || !alone))
            });
            match heard.await {
                Ok(true) => drop(permit.take()),
                Ok(false) => {}
                Err(end) => return end,
            }
        }
    }

    fn take(&self, client: &mut Client, piece: Piece<'_>) -> Result<(), String> {
        match piece {
            Piece::Text(text) => self.text(client, text),
            Piece::Close(code) => return Err(format!("closed {code}")),
            Piece::Ping | Piece::Other => {}
        }
        let wanted = *lock(&self.wanted);
        let has_all = client.next >= wanted.messages && (client.live || !wanted.live);
        if client.is_welcome && has_all && !client.done {
            let now = Instant::now();
            let had = client.had.unwrap_or(now).duration_since(client.started);
            client.done = true;
            let mut seen = lock(&self.seen);
            seen.done += 1;
            seen.last = Some(now);
            seen.times.push(had.as_secs_f64() * 1e3);
        }
        Ok(())
    }

    fn text(&self, client: &mut Client, text: &[u8]) {
        if let Some(stored) = Stored::read(text) {
            return self.message(client, &stored);
        }
        let mut frame: Value = serde_json::from_slice(text).unwrap_or_default();
        let [welcome, live, ping] = ["welcome", "live", "ping"].map(|name| frame[name].take());
        if welcome.is_object() {
            client.position.welcome(&welcome);
            client.is_welcome = true;
            let resume = welcome["resume"].as_str().unwrap_or_default();
            if resume != lock(&self.wanted).resume {
                lock(&self.seen).wrong(format!("resume: {resume}"));
            }
        } else if live.is_object() {
            client.position.proof(&live);
            client.live = true;
        } else if ping.is_object() {
            client.position.proof(&ping);
        } else {
            let text = String::from_utf8_lossy(&text[..text.len().min(60)]);
            lock(&self.seen).wrong(text);
        }
    }

    fn message(&self, client: &mut Client, stored: &Stored) {
        let wanted = *lock(&self.wanted);
        let event = client.position.event(stored);
        let number = stored.numbers.seq;
        let mut seen = lock(&self.seen);
        if stored.numbers.run != wanted.run || event == Event::Again || number < client.next {
            seen.twice += 1;
            return;
        }
        if number > client.next {
            seen.lost += number - client.next;
        } else if event == Event::AfterHole {
            seen.wrong("`prev` shows a hole where there is none");
        }
        client.next = number + 1;
        client.had = Some(Instant::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
