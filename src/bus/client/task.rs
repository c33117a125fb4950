//! The task behind the client: it feeds async-nats what it does not learn by itself (other
//! servers, lame-duck mode, the account's limits), and passes on what comes.

mod again;

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

use async_nats::{Event, ServerError, Subscriber};
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
        servers::Servers,
    },
    readiness::Part,
};

/// Events of async-nats that wait for this task.
const EVENTS: usize = 128;
/// Commands that wait for the socket; a caller beyond it waits.
const COMMANDS: usize = 1024;
/// Answers that wait for this process; async-nats drops more.
const ANSWERS: usize = 64 * 1024;
/// Where somebody hears all users' subjects, NATS does not answer the probe. Then the error
/// that would forbid it has this long to get here.
const REFUSAL: Duration = Duration::from_millis(250);
/// How often it is tried whether pushes are still forbidden.
const AGAIN: Duration = Duration::from_secs(5);
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
                self.client.refused(error);
                self.note_refused(&error.to_string());
                // NATS permitted it before: its permissions were loaded anew.
                if self.client.is_open() && self.client.deaf.load(Ordering::Relaxed) {
                    self.client.forbid();
                    self.proving = Some(Box::pin(subscribe_again(self.client.clone())));
                }
            }
            _ => {}
        }
    }

    /// Nothing more comes of what was under way.
    fn lost(&mut self) {
        self.suspect |= self.client.pending.lost();
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
        // An error that came before the echo takes one task more to get here.
        yield_now().await;
        while let Ok(event) = self.events.try_recv() {
            self.event(&event);
        }
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
    let probe = Outgoing {
        subject: client.subjects.probe(),
        headers: vec![("Usher-Probe", "1".to_owned())],
        ..Outgoing::default()
    };
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

    /// NATS forbids something, in the order in which it was asked.
    fn refused(&self, error: &ServerError) {
        let text = error.to_string();
        self.health.refused(&text);
        let subject = text.split('"').nth(1).unwrap_or_default();
        if !text.to_ascii_lowercase().contains("permissions violation") {
            return;
        }
        if self.peers_refused(subject, &text) {
            // Questions under way can't be answered.
            self.pending.forbidden(&self.subjects.control());
        } else if subject == self.subjects.echo() {
            // Without its echo no push is confirmed, the probe first of all.
            self.deaf.store(true, Ordering::Relaxed);
            self.pending.forbidden(&self.subjects.probe());
            self.pending.unheard();
        } else if subject.starts_with(&self.subjects.presence("")) {
            // No task waits for the outcome of such a hint.
            self.health.metrics.presence_dropped.inc();
        } else {
            self.pending.forbidden(subject);
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
