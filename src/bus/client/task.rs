//! The task behind the client: it feeds async-nats what it does not learn by itself (other
//! servers, lame-duck mode, the account's limits), and passes on what comes.

mod refused;

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use async_nats::{Event, Subscriber};
use futures_util::{StreamExt, future::OptionFuture};
use tokio::{
    runtime::Builder,
    sync::{Semaphore, mpsc, watch},
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    CONFIRM, Client, Connection, Failure, Gate, MAX_BYTES, Outgoing,
    options::{addresses, connect},
    peers::Told,
    pending::Pending,
};
use crate::{
    bus::{
        Config, Subjects,
        health::Health,
        interest::{Dialer, Received},
        refusal::{AGAIN, Refusal},
        servers::Servers,
    },
    readiness::Part,
};

/// Events of async-nats that wait for this task. async-nats holds as many itself, and drops those
/// beyond.
const EVENTS: usize = 128;
/// Commands that wait for the socket; a caller beyond it waits.
const COMMANDS: usize = 1024;
/// Answers that wait for this process; async-nats drops more.
const ANSWERS: usize = 64 * 1024;
/// Where somebody hears all users' subjects, NATS does not answer the probe. Then the error
/// that would forbid it has this long to get here.
pub(super) const REFUSAL: Duration = Duration::from_millis(250);
/// A server says within this what the account may publish.
const LIMITS: Duration = Duration::from_millis(250);

/// Work on a connection; dropped when that is lost.
type Work<T = ()> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A client, and what keeps its connection for as long as it is polled. It ends only when
/// async-nats's own task has ended, which nothing can mend.
///
/// All tasks of the connection share one thread, and so take turns in the order in which
/// they are woken. Only then is it certain that an error which NATS sent before an echo is
/// known before the echo counts: async-nats hands on errors by one task more.
pub(in crate::bus) async fn start(
    config: &Config,
    servers: Servers,
    subjects: Subjects,
    health: Health,
) -> Result<(Client, impl Future<Output = ()> + Send + 'static), async_nats::Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("usher-push".to_owned())
        .spawn(move || runtime.block_on(pending::<()>()))?;
    let beginning = begin(config.clone(), servers, subjects, health);
    let (client, task) = handle.spawn(beginning).await??;
    let running = handle.spawn(task.run());
    Ok((client, async { drop(running.await) }))
}

async fn begin(
    config: Config,
    servers: Servers,
    subjects: Subjects,
    health: Health,
) -> Result<(Client, Task), async_nats::Error> {
    let (sender, events) = mpsc::channel(EVENTS);
    let nats = connect(&config, &servers, ("push", COMMANDS, ANSWERS), sender).await?;
    let pending = Pending::new(&config.reply_prefix);
    let inbox = nats.subscribe(pending.subject()).await?;
    let echoes = match config.stream {
        None => Some(nats.subscribe(subjects.echo()).await?),
        Some(_) => None,
    };
    let client = Arc::new(Connection {
        subjects,
        gate: watch::Sender::new(Gate::Away),
        pending,
        bytes: Arc::new(Semaphore::new(MAX_BYTES)),
        deaf: AtomicBool::new(false),
        peers_forbidden: AtomicBool::new(false),
        peers_told: Told::default(),
        peers_ask_again: watch::Sender::new(0),
        lives: watch::Sender::new(0),
        servers: servers.clone(),
        health,
        nats,
    });
    let task = Task {
        client: client.clone(),
        events,
        inbox,
        echoes,
        dialer: Dialer::new(config, servers),
        leaving: None,
        proving: None,
        again: None,
        inbox_refused: false,
        suspect: false,
        too_large: false,
        heard: 0,
    };
    Ok((client, task))
}

struct Task {
    client: Client,
    events: mpsc::Receiver<Event>,
    inbox: Subscriber,
    /// In live mode.
    echoes: Option<Subscriber>,
    dialer: Dialer,
    /// Leaves a server in lame-duck mode.
    leaving: Option<Work>,
    /// Proves that the connection works. It ends when pushes pass, or with another subscription
    /// to the echo, for another proof.
    proving: Option<Work<Option<Subscriber>>>,
    /// Ends when NATS is asked once more for the subscriptions that it has refused.
    again: Option<Work>,
    /// The inbox is one of them.
    inbox_refused: bool,
    /// Something was under way when the connection was lost: perhaps it was too large.
    suspect: bool,
    /// NATS has found a message too large, and closes the connection.
    too_large: bool,
    /// Events since the last echo.
    heard: usize,
}

impl Task {
    async fn run(mut self) {
        let mut servers = self.client.servers.changes();
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.event(&event),
                    None => return,
                },
                Some(answer) = self.inbox.next() => self.client.pending.answered(answer),
                Some(Some(echo)) = OptionFuture::from(self.echoes.as_mut().map(StreamExt::next)) => {
                    self.echo(&echo.payload).await;
                }
                Ok(()) = servers.changed() => {
                    let nats = self.client.nats.clone();
                    let servers = addresses(&self.client.servers.all());
                    // It waits while async-nats looks for a server.
                    tokio::spawn(async move { nats.set_server_pool(&servers[..]).await });
                }
                Some(echoes) = OptionFuture::from(self.proving.as_mut()) => match echoes {
                    None => self.proving = None,
                    Some(echoes) => {
                        self.echoes = Some(echoes);
                        self.prove();
                    }
                },
                Some(()) = OptionFuture::from(self.again.as_mut()) => {
                    self.again = None;
                    self.subscribe_again().await;
                }
                Some(()) = OptionFuture::from(self.leaving.as_mut()) => {
                    self.leaving = None;
                    self.client.close(&"no other server has taken the connection");
                }
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.heard += 1;
        if self.heard == EVENTS {
            // The next ones may be lost, so an echo no longer proves that NATS refused nothing.
            self.heard = 0;
            self.client.pending.unheard();
        }
        match event {
            Event::Connected => {
                self.leaving = None;
                // async-nats drops events beyond 128 that come at once, `Disconnected` as well.
                self.lost();
                self.client.hold(Gate::Open);
                self.client.peers_are_new();
                self.prove();
            }
            Event::Disconnected => {
                self.lost();
                self.proving = None;
                // Only pushes that are held wait for a connection that moves, and not for long:
                // async-nats keeps what is handed over until it reaches a server.
                let moves = self.leaving.is_some() && self.client.is_held();
                self.leaving = moves.then(|| Box::pin(sleep(CONFIRM)) as Work);
                if !moves {
                    self.client.close(&"the connection broke");
                }
            }
            Event::LameDuckMode if self.leaving.is_none() => {
                let leave = leave(self.client.clone(), self.dialer.clone());
                self.leaving = Some(Box::pin(leave));
            }
            Event::ServerError(error) => {
                let text = error.to_string();
                self.client.health.refused(&text);
                if let Some(refusal) = Refusal::of(&text) {
                    self.refused(refusal);
                }
            }
            _ => {}
        }
    }

    /// Nothing more comes of what was under way.
    fn lost(&mut self) {
        let too_large = std::mem::take(&mut self.too_large);
        self.suspect |= self.client.pending.lost(too_large);
        self.client.deaf.store(false, Ordering::Relaxed);
    }

    fn prove(&mut self) {
        let limits = std::mem::take(&mut self.suspect).then(|| self.dialer.clone());
        let proof = prove(self.client.clone(), limits, self.echoes.is_some());
        self.proving = Some(Box::pin(proof));
    }

    async fn echo(&mut self, payload: &[u8]) {
        let number = std::str::from_utf8(payload).ok();
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            return;
        };
        // Errors that came before the echo take one task more to get here. It hands on a part of
        // them at a time.
        yield_now().await;
        while let Ok(event) = self.events.try_recv() {
            self.event(&event);
            if self.events.is_empty() {
                yield_now().await;
            }
        }
        self.heard = 0;
        if let Some(next) = self.client.pending.echoed(number) {
            self.client.deaf.store(false, Ordering::Relaxed);
            next.into_iter().for_each(|next| self.client.echo(next));
        }
    }
}

/// Proves that a connection works and, in live mode, that NATS permits pushes. Then
/// pushes may be handed over. Where NATS forbids them, it returns another subscription to the
/// echo after a while.
async fn prove(client: Client, limits: Option<Dialer>, live: bool) -> Option<Subscriber> {
    if let Some(dialer) = limits {
        let _ = timeout(LIMITS, learn_limits(dialer)).await;
    }
    let mut failed = false;
    loop {
        client.hold(Gate::Away);
        let proven = match live {
            true => probe(&client).await,
            false => Ok(()),
        };
        match proven {
            Ok(()) => {
                client.open();
                return None;
            }
            Err(failure)
                if failure == Failure::Forbidden || client.deaf.load(Ordering::Relaxed) =>
            {
                client.forbid();
                return subscribe_again(client).await;
            }
            // Where pushes pass, it may have gone unheard among many errors.
            Err(_) if client.is_open() && !failed => failed = true,
            Err(_) => client.close(&"NATS does not answer"),
        }
    }
}

/// NATS ends a subscription that it forbids, and does not begin it again when it permits it.
async fn subscribe_again(client: Client) -> Option<Subscriber> {
    sleep(AGAIN).await;
    client.pending.unheard();
    client.nats.subscribe(client.subjects.echo()).await.ok()
}

/// Publishes to a user's subject that no user has, and an echo behind it.
async fn probe(client: &Client) -> Result<(), Failure> {
    let probe = Outgoing::probe(client.subjects.probe(), None);
    let mut sent = client.publish(probe, 1).await?;
    sent.confirmed().await?;
    match timeout(REFUSAL, sent.answer()).await {
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Leaves a server in lame-duck mode. Another is looked for first; then new pushes are
/// held until nothing is under way.
async fn leave(client: Client, dialer: Dialer) {
    client
        .health
        .retiring(&client.nats.server_info().server_name);
    drop(dialer.dial().await);
    client.hold(Gate::Open);
    let _ = timeout(CONFIRM, client.pending.idle()).await;
    let _ = client.nats.force_reconnect().await;
    // By then there is a connection to another server, or pushes wait no longer.
    sleep(CONFIRM).await;
}

impl Connection {
    fn open(&self) {
        if self.gate.send_replace(Gate::Open) != Gate::Open {
            let info = self.nats.server_info();
            self.health.up(&info.server_name, &info.version);
            if self.health.readiness.push_forbidden(false) {
                tracing::info!("NATS permits pushes again");
            }
        }
    }

    fn is_held(&self) -> bool {
        *self.gate.borrow() == Gate::Held
    }

    /// Pushes wait, where the gate was so until now.
    fn hold(&self, until_now: Gate) {
        self.gate.send_if_modified(|gate| {
            let holds = *gate == until_now;
            if holds {
                *gate = Gate::Held;
            }
            holds
        });
    }

    fn close(&self, error: &dyn std::fmt::Display) {
        if self.gate.send_replace(Gate::Away) != Gate::Away {
            self.health.down(error);
        }
    }

    fn forbid(&self) {
        if self.gate.send_replace(Gate::Forbidden) != Gate::Forbidden {
            let health = &self.health;
            health.metrics.nats_connected(health.name, true);
            health.readiness.up(Part::Push);
            if !health.readiness.push_forbidden(true) {
                tracing::error!(
                    "NATS permits this gateway no push; it needs the rights to publish to users \
                     and to its own echo, see examples/nats-permissions.conf"
                );
            }
        }
    }
}

/// Connects once more, only to hear what the account may publish.
async fn learn_limits(dialer: Dialer) {
    let mut link = dialer.clone().dial().await;
    while let Ok(received) = link.next().await {
        if let Received::Info(info) = received {
            return dialer.servers.learn(&info);
        }
    }
}

#[cfg(test)]
mod tests;
