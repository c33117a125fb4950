//! `usher serve`: the gateway.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    app::App,
    config::{Config, LogFormat},
};

pub(super) fn run(config: Config) -> ExitCode {
    if let Err(error) = log(&config) {
        return super::fail(super::BAD_CONFIG, &error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return super::fail(1, &format_args!("no runtime: {error}")),
    };
    let code = runtime.block_on(serve(config));
    // Whoever is still in a task has been waited for as long as it gets.
    runtime.shutdown_background();
    code
}

async fn serve(config: Config) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return super::fail(1, &format_args!("no signals: {error}")),
    };
    let app = match App::bind(config, raise_descriptors()).await {
        Ok(app) => app,
        Err(error) => return super::fail(1, &error),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = app.run(async { drop(stopped.await) });
    let signalled = async {
        signals.next().await;
        let _ = stop.send(());
        signals.next().await;
        tracing::warn!("a second signal: leaving at once");
    };
    tokio::select! {
        () = running => {}
        () = signalled => {}
    }
    ExitCode::SUCCESS
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Logs go to standard error, so that a command's output stays its own.
fn log(config: &Config) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.log.filter).map_err(|error| {
        format!(
            "log.filter = {:?} is not a filter ({error}); write a level such as \"info\", or \
             \"info,usher=debug\"",
            config.log.filter
        )
    })?;
    let json = match config.log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init();
    } else {
        builder.with_ansi(io::stderr().is_terminal()).init();
    }
    Ok(())
}

/// A session is a file descriptor: raises the soft limit to the hard one.
/// Returns how many the process may have.
fn raise_descriptors() -> u64 {
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
    tracing::info!(soft_before = ?current, soft = ?now, hard = ?maximum, "limit of open files");
    now.unwrap_or(u64::MAX)
}
