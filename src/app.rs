//! Builds all parts in order, owns the listeners, runs the drain.

mod backends;
mod drain;
mod errors;
mod listeners;
mod reload;
pub(crate) mod settings;
mod started;
mod tasks;

use std::{sync::Arc, time::Instant};

use futures_util::FutureExt as _;
use tokio::{
    net::TcpListener,
    sync::{Notify, oneshot, watch},
    time::sleep,
};

use self::{
    backends::{Backends, Shared},
    drain::Draining,
    listeners::{bind, gateway_name, listening},
    reload::Reload,
    tasks::Tasks,
};
pub use self::{
    errors::{BindError, RunError, StartError},
    started::Started,
};
use crate::{
    api::{self, Operations, Phase},
    bus::Subscriptions,
    config::{Config, Drain, duration_text},
    control::{Control, Gateways},
    durable::Durable,
    http::{self, Admissions, Credentials, Demo, Mint, MintRate, Sessions, Status},
    metrics::Metrics,
    presence::Presence,
    readiness::Readiness,
    registry::Registry,
    telemetry,
    tokens::{self, Tokens},
};

/// What to run beside, or instead of, the real thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mode {
    /// Messages and tickets stay in this process.
    pub embedded: bool,
    /// The demo page, on which anyone can be any user.
    pub demo: bool,
}

/// A gateway with its listeners bound.
#[derive(Debug)]
pub struct App {
    config: Config,
    mode: Mode,
    public: TcpListener,
    grpc: TcpListener,
    ops: TcpListener,
    max_sessions: usize,
    max_grpc_connections: usize,
    tls: settings::ListenersTls,
    /// Whose tokens get tickets; `None` if nobody's do.
    mint: Option<tokens::Config>,
    readiness: Readiness,
    /// Whether all listeners are served.
    serves: watch::Sender<bool>,
}

impl App {
    /// Binds the listeners; `descriptors` is how many files the process may
    /// have open, from which an unset `public.max_sessions` follows.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the key of the first file that is not good, or of the
    /// first listener that cannot be bound.
    pub async fn bind(config: Config, mode: Mode, descriptors: u64) -> Result<Self, StartError> {
        let tls = settings::listeners_tls(&config)?;
        let mint = settings::tokens(&config)?;
        if !mode.embedded {
            settings::check_client_files(&config)?;
        }
        let public = bind("public.listen", config.public.listen)?;
        let grpc = bind("grpc.listen", config.grpc.listen)?;
        let ops = bind("ops.listen", config.ops.listen)?;
        let readiness = Readiness::new(config.ops.nats_grace);
        let max_sessions = settings::max_sessions(&config, descriptors);
        let max_grpc_connections = settings::max_grpc_connections(&config, descriptors);
        Ok(Self {
            config,
            mode,
            public,
            grpc,
            ops,
            max_sessions,
            max_grpc_connections,
            tls,
            mint,
            readiness,
            serves: watch::Sender::new(false),
        })
    }

    /// Runs until `stop`, then drains. Whenever `hung_up` is notified, certificates and the
    /// files of secrets are read anew. If the future is dropped, the gateway stops without a drain.
    ///
    /// The drain, step by step, each with its bound (and the bound by default):
    ///
    /// 1. `/readyz` is 503 and the gRPC health service says NOT_SERVING. Clients are still
    ///    admitted. This lasts `drain.delay` (3 s); it is left out if a task has ended.
    /// 2. New clients are refused 503 `draining`. Callers of the API are asked to go: HTTP/2
    ///    connections get GOAWAY, streams of pushes end after their answers.
    /// 3. All sessions are ended in a random order, evenly across `drain.window` (20 s). Each
    ///    writes its backlog, then its goodbye with a hint when to reconnect, then it closes.
    /// 4. The API's listener is closed; calls under way have 2.5 s. At the same time sessions have
    ///    2 s to finish their closes; a client that joined meanwhile is ended too.
    /// 5. With `presence.events` services are told of the users who have gone: for
    ///    `presence.offline_delay` and 5 s at most (20 s), and 1 s until NATS has it.
    /// 6. This gateway says goodbye to the other gateways (2 s).
    /// 7. The last trace spans are sent (2 s).
    ///
    /// By default that is 3 + 20 + 2.5 + 2 + 2 = 29.5 s at most, and 21 s more with
    /// `presence.events`. Then the process writes its log, and ends.
    ///
    /// # Errors
    ///
    /// [`RunError`]: a task on which delivery depends has ended. The drain was the same, but
    /// without `drain.delay`.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        hung_up: Arc<Notify>,
    ) -> Result<(), RunError> {
        let Self {
            config,
            mode,
            public,
            grpc,
            ops,
            max_sessions,
            max_grpc_connections,
            tls,
            mint,
            readiness,
            serves,
        } = self;
        let gateway = gateway_name();
        tracing::info!(
            %gateway,
            version = env!("CARGO_PKG_VERSION"),
            max_sessions,
            "starting"
        );

        for ignored in &config.ignored {
            tracing::warn!("{ignored}");
        }
        let mut tasks = Tasks::default();
        let metrics = Arc::new(Metrics::new());
        let (subscriptions, commands) = Subscriptions::new();
        let (tracer, traces) = telemetry::begin(settings::telemetry(&config, &gateway), &metrics);
        let backends = Backends::new(
            (&config, mode, &gateway),
            commands,
            (&metrics, &readiness, &tracer),
            &mut tasks,
        );
        let Backends {
            interest,
            publisher,
            calls,
            shared,
            stream,
            tickets,
            logins,
        } = backends.await?;
        let (others, service) = match shared {
            None => (None, None),
            Some(Shared {
                peers,
                elsewhere,
                service,
            }) => (Some((peers, elsewhere)), Some(service)),
        };
        let registry = Arc::new(Registry::new(
            settings::registry(&config, &gateway, &tracer),
            Arc::new(subscriptions),
            metrics.clone(),
        ));
        tasks.spawn("the registry", registry.clone().run(interest));
        let mut presence = None;
        let others = others.map(|(peers, elsewhere)| {
            let gateways = Gateways::new(&gateway, peers.clone(), metrics.clone());
            tasks.spawn("the news of gateways", gateways.clone().run());
            if config.presence.events {
                let config = settings::presence(&config, &gateway);
                let (registry, lost) = (registry.clone(), gateways.lost());
                let (told, telling) =
                    Presence::new(config, registry, elsewhere, lost, metrics.clone());
                tasks.spawn("the events of presence", telling);
                presence = Some(told);
            }
            (peers, gateways)
        });
        if config.presence.events && presence.is_none() {
            tracing::warn!("presence.events does nothing with --embedded: no service hears it");
        }
        let gateways = others.as_ref().map(|(_, gateways)| gateways.clone());
        let control = Control::new(&gateway, registry.clone(), others, metrics.clone());
        tasks.spawn("the answers to gateways", control.clone().run());
        let durable = stream.clone().map(|stream| {
            let watched = (metrics.clone(), readiness.clone(), tracer.clone());
            let limits = registry.limits().clone();
            Durable::new(stream, settings::durable(&config), limits, watched)
        });
        for task in durable.iter().flat_map(Durable::tasks) {
            tasks.spawn(task.name, task.future);
        }
        let judge = mint.map(|tokens| {
            let (judge, fetching) = Tokens::new(tokens, metrics.clone());
            if let Some(fetching) = fetching {
                tasks.spawn("the fetching of keys for tokens", fetching);
            }
            judge
        });
        let connects = judge.clone().filter(|_| config.tickets_jwt.connect);
        let credentials = Arc::new(Credentials::new(tickets.clone(), connects));
        let how = settings::sessions(&config, &gateway);
        let (sessions, clock) = Sessions::new(how, calls, credentials.clone(), metrics.clone());
        let sessions = Arc::new(sessions);
        tasks.spawn("the clock of sessions", clock);
        let admissions = Arc::new(Admissions::new(
            settings::admissions(&config, max_sessions, &tracer),
            credentials,
            http::Joins {
                registry: registry.clone(),
                durable,
            },
            metrics.clone(),
        ));

        listening("public", &public);
        let demo = mode.demo.then(|| {
            Arc::new(Demo {
                admissions: admissions.clone(),
                registry: registry.clone(),
                publisher: publisher.clone(),
                tickets: tickets.clone(),
                stream: stream.clone(),
                ticket_ttl: config.tickets.ttl,
                info: serde_json::json!({
                    "gateway": gateway,
                    "embedded": mode.embedded,
                    "grpc": grpc.local_addr().map(|address| address.to_string()).ok(),
                    "nats_prefix": config.nats.prefix,
                }),
            })
        });
        let mint = judge.clone().filter(|_| tickets.can_issue());
        let mint = mint.map(|tokens| {
            Arc::new(Mint {
                tokens,
                tickets: tickets.clone(),
                stream: stream.clone(),
                ticket_ttl: config.tickets.ttl,
                session_ends_with_token: config.tickets_jwt.session_ends_with_token,
                rate: MintRate::default(),
            })
        });
        let served = http::Public {
            admissions: admissions.clone(),
            sessions: sessions.clone(),
            readiness: readiness.clone(),
            mint,
            centrifuge: config.centrifuge.enabled,
            demo,
        };
        let routes = http::public_routes(&config.public.path_prefix, served);
        let (acceptor, public_reloads) = tls.public.unzip();
        let serving = http::serve(
            public,
            acceptor,
            routes,
            settings::bounds(&config),
            Some(admissions.clone()),
        );
        tasks.spawn("the public listener", serving);

        listening("ops", &ops);
        let status = Status {
            gateway,
            started: Instant::now(),
            registry: registry.clone(),
            control: control.clone(),
            embedded: mode.embedded,
            sessions: sessions.clone(),
            tickets: tickets.clone(),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        };
        let loopback = ops.local_addr().is_ok_and(|at| at.ip().is_loopback());
        let routes = http::ops_routes(Arc::new(status), loopback);
        let serving = http::serve(ops, None, routes, settings::OPS_BOUNDS, None);
        tasks.spawn("the operators' listener", serving);

        listening("grpc", &grpc);
        let (phase, phases) = watch::channel(Phase::Serving);
        let operations = Operations {
            publisher,
            tickets,
            stream,
            control,
            ticket_ttl: config.tickets.ttl,
        };
        let api = settings::api(&config, max_grpc_connections);
        let grpc_tokens = api.tokens.clone();
        let (acceptor, grpc_reloads) = tls.grpc.unzip();
        let parts = (metrics.clone(), readiness.clone());
        let serving = api::serve(operations, api, grpc, acceptor, service, parts, phases);
        let (served, grpc_done) = oneshot::channel::<()>();
        let grpc_done = grpc_done.shared();
        tasks.spawn("the gRPC listener", async move {
            match serving.await {
                // Once the drain has ended it; before that nobody expects it.
                Ok(()) => {
                    let _ = served.send(());
                    std::future::pending::<()>().await;
                }
                Err(error) => tracing::error!(%error, "the gRPC listener failed"),
            }
        });

        let Drain { delay, window } = config.drain;
        let reload = Reload {
            config,
            public: public_reloads,
            grpc: grpc_reloads,
            tokens: grpc_tokens,
            judge,
            logins,
            metrics: metrics.clone(),
        };
        tasks.spawn("the reading of files", reload.run(hung_up));
        serves.send_replace(true);

        let failed = tokio::select! {
            () = stop => None,
            name = tasks.ended() => Some(name),
            Ok(()) = grpc_done.clone() => Some("the gRPC listener"),
        };
        let [shown_delay, shown_window] = [delay, window].map(duration_text);
        tracing::info!(delay = shown_delay, window = shown_window, "draining");
        metrics.service.draining.set(1);
        readiness.drain();
        let failed = match failed {
            Some(name) => Some(name),
            None => tokio::select! {
                () = sleep(delay) => None,
                name = tasks.ended() => Some(name),
            },
        };
        let draining = Draining {
            admissions,
            sessions,
            registry,
            phase,
            api_done: grpc_done,
            presence,
            gateways,
        };
        let mut draining = std::pin::pin!(draining.run(window));
        let failed_late = tokio::select! {
            () = &mut draining => None,
            name = tasks.ended(), if failed.is_none() => Some(name),
        };
        if failed_late.is_some() {
            // Whoever can still be told goodbye is.
            draining.await;
        }
        traces.finish().await;
        failed
            .or(failed_late)
            .map_or(Ok(()), |name| Err(RunError::Task(name)))
    }
}
