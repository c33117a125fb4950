//! `usher serve`: the gateway.

use std::{path::Path, process::ExitCode, sync::Arc};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

use super::{
    ConfigFile,
    hints::Hints,
    log::Log,
    signals::{HangUps, Signals},
};
use crate::{
    app::{App, Mode, StartError, Started},
    config::Config,
    supervision::{Panicked, contained},
};

/// How to run.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Keep messages and tickets in this process: no NATS, no Redis, one
    /// instance only. For trying Usher out.
    #[arg(long)]
    embedded: bool,
    /// Serve a page at / on which anyone can be any user. Only on loopback.
    #[arg(long)]
    demo: bool,
}

pub(super) fn run(config: Config, arguments: &Arguments) -> ExitCode {
    let mode = Mode {
        embedded: arguments.embedded,
        demo: arguments.demo,
    };
    if mode.demo && !config.public.listen.ip().is_loopback() {
        let listen = config.public.listen;
        return super::fail(
            super::BAD_CONFIG,
            &format_args!(
                "public.listen = \"{listen}\" is not on loopback, and --demo lets anyone be any \
                 user; listen on 127.0.0.1, or leave --demo out"
            ),
        );
    }
    if mode.embedded && config.durable.enabled {
        return super::fail(
            super::BAD_CONFIG,
            &"durable.enabled = true needs a NATS that keeps messages, and --embedded has none; \
              leave one of the two out",
        );
    }
    let log = match Log::begin(&config) {
        Ok(log) => log,
        Err(error) => return super::fail(super::BAD_CONFIG, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return log.fail(1, &format_args!("no runtime: {error}")),
    };
    let file = arguments.file.config.as_deref();
    let code = runtime.block_on(serve(config, mode, file, &log));
    // All waits are over: tasks that still run are dropped.
    runtime.shutdown_background();
    code
}

async fn serve(config: Config, mode: Mode, file: Option<&Path>, log: &Log) -> ExitCode {
    let given = mode.demo.then(|| config.clone());
    let listening = Signals::listen().and_then(|signals| Ok((signals, HangUps::listen()?)));
    let (mut signals, mut hang_ups) = match listening {
        Ok(listening) => listening,
        Err(error) => return log.fail(1, &format_args!("no signals: {error}")),
    };
    let app = match App::bind(config, mode, raise_descriptors()).await {
        Ok(app) => app,
        Err(error @ StartError::Bind(_)) => return log.fail(1, &error),
        Err(error @ StartError::Setting(_)) => return log.fail(super::BAD_CONFIG, &error),
    };
    let hinting = hint(mode.embedded, given, file, app.started().ok(), log);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let hung_up = Arc::new(Notify::new());
    let running = contained(app.run(async { drop(stopped.await) }, hung_up.clone()));
    let signalled = async {
        signals.next().await;
        let _ = stop.send(());
        signals.next().await;
        tracing::warn!("a second signal: leaving at once");
    };
    let hanging_up = async {
        loop {
            hang_ups.next().await;
            hung_up.notify_one();
        }
    };
    tokio::select! {
        outcome = running => match outcome {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => log.fail(super::FAILED, &error),
            Err(Panicked) => log.fail(super::FAILED, &"the gateway has panicked"),
        },
        () = signalled => ExitCode::SUCCESS,
        never = hanging_up => never,
        never = hinting => never,
    }
}

/// Says where the demo is once it can be used. None is given where there is no demo.
async fn hint(
    embedded: bool,
    given: Option<Config>,
    file: Option<&Path>,
    started: Option<Started>,
    log: &Log,
) -> ! {
    if let (Some(config), Some(mut started)) = (&given, started) {
        started.ready().await;
        let program = std::env::args_os().next().unwrap_or_default();
        let hints = Hints {
            config,
            program: &program.to_string_lossy(),
            config_file: file,
            public: started.public,
            grpc: started.grpc,
        };
        match embedded {
            true => log.say(&hints.text()),
            false => tracing::info!(
                page = hints.page(),
                "the demo's page is served; on it anyone can be any user"
            ),
        }
    }
    std::future::pending().await
}

/// A session is a file descriptor: raises the soft limit to the hard one.
/// Returns how many the process may have.
pub(super) fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    let now = getrlimit(Resource::Nofile).current;
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let [soft_before, soft, hard] = [current, now, maximum].map(shown);
    tracing::info!(soft_before, soft, hard, "limit of open files");
    now.unwrap_or(u64::MAX)
}

/// A limit, as the log shows it.
fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}
