//! `usher check`: whether what the configuration names is there.

mod nats;

use std::process::ExitCode;

use super::output;
use crate::{
    app::settings,
    bus,
    config::Config,
    finding::{Finding, Verdict},
    telemetry::Tracer,
    tickets, tokens,
};

/// What to look at.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: super::ConfigFile,
    /// In durable mode: make the stream what the configuration says, also where it keeps
    /// less then.
    #[arg(long)]
    apply: bool,
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return super::fail(1, &format_args!("no runtime: {error}")),
    };
    let files = settings::listeners_tls(config).map(drop);
    let files = files.and_then(|()| settings::check_client_files(config));
    let judged = match files.and_then(|()| settings::tokens(config)) {
        Ok(judged) => judged,
        Err(error) => return super::fail(super::BAD_CONFIG, &error),
    };
    let mut said = output::print("ok    configuration");
    for ignored in &config.ignored {
        said = said.and_then(|()| output::print(format_args!("warn  {ignored}")));
    }
    let findings = runtime.block_on(async {
        let bus = settings::bus(config, "usher-check", Tracer::default());
        let mut findings = nats::findings(&bus, bus::check(&bus, arguments.apply).await);
        match settings::tickets(config) {
            Some(redis) => findings.extend(tickets::check(&redis).await),
            None => findings.push(Finding::new(
                Verdict::Good,
                "Redis: none (redis.url is empty); tokens alone open sessions",
            )),
        }
        if let Some(judged) = judged {
            findings.extend(tokens::check(&judged).await);
        }
        findings
    });
    let mut code = ExitCode::SUCCESS;
    for Finding { verdict, text } in findings {
        let mark = match verdict {
            Verdict::Good => "ok   ",
            Verdict::Warning => "warn ",
            Verdict::Bad => "FAIL ",
            Verdict::Detail => "     ",
        };
        said = said.and_then(|()| output::print(format_args!("{mark} {text}")));
        if verdict == Verdict::Bad {
            code = ExitCode::from(super::UNAVAILABLE);
        }
    }
    match said {
        Ok(()) => code,
        Err(failure) => failure.report(),
    }
}
