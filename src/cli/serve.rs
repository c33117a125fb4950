//! `usher serve`: the gateway.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

use super::{ConfigFile, signals::Signals};
use crate::{
    app::{App, Mode, StartError},
    config::{Config, LogFormat},
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
    let code = runtime.block_on(serve(config, mode));
    // Whoever is still in a task has been waited for as long as it gets.
    runtime.shutdown_background();
    code
}

async fn serve(config: Config, mode: Mode) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return super::fail(1, &format_args!("no signals: {error}")),
    };
    let app = match App::bind(config, mode, raise_descriptors()).await {
        Ok(app) => app,
        Err(error @ StartError::Bind(_)) => return super::fail(1, &error),
        Err(error @ StartError::Setting(_)) => return super::fail(super::BAD_CONFIG, &error),
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
        outcome = running => match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::fail(super::FAILED, &error),
        },
        () = signalled => ExitCode::SUCCESS,
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
