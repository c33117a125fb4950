//! `usher check`: whether what the configuration names is there.

use std::process::ExitCode;

use crate::{
    app::rooms,
    bus::{self, stream},
    config::Config,
    tickets::{self, Verdict},
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
    let files = rooms::listeners_tls(config).map(drop);
    let files = files.and_then(|()| rooms::tokens(config).map(drop));
    if let Err(error) = files.and_then(|()| rooms::check_client_files(config)) {
        return super::fail(super::BAD_CONFIG, &error);
    }
    println!("ok    configuration");
    let found = runtime.block_on(async {
        let nats = bus::probe(&rooms::bus(config, "usher-check")).await;
        [("NATS", "nats.url", nats.map_err(|error| error.to_string()))]
    });
    let mut code = ExitCode::SUCCESS;
    for (server, key, found) in found {
        match found {
            Ok(found) => println!("ok    {server}: {found}"),
            Err(error) => {
                println!("FAIL  {server}: {error}; is it running, and is {key} right?");
                code = ExitCode::from(super::UNAVAILABLE);
            }
        }
    }
    for finding in runtime.block_on(tickets::check(&rooms::tickets(config))) {
        let mark = match finding.verdict {
            Verdict::Good => "ok   ",
            Verdict::Warning => "warn ",
            Verdict::Bad => {
                code = ExitCode::from(super::UNAVAILABLE);
                "FAIL "
            }
        };
        println!("{mark} Redis: {}", finding.text);
    }
    if config.durable.enabled && !runtime.block_on(durable(config, arguments.apply)) {
        code = ExitCode::from(super::UNAVAILABLE);
    }
    code
}

/// Says what there is of the stream, and whether durable mode works with it.
async fn durable(config: &Config, apply: bool) -> bool {
    let bus = rooms::bus(config, "usher-check");
    let checked = match apply {
        true => stream::apply(&bus).await,
        false => stream::check(&bus).await,
    };
    let name = &config.durable.stream;
    match checked {
        Ok(streams) => {
            for one in &streams {
                let state = if one.serves() { "ok   " } else { "FAIL " };
                let created = if one.created { "created, " } else { "" };
                println!("{state} stream {}: {created}{}", one.name, one.holds);
                for difference in &one.mended {
                    println!(
                        "      mended: {} is {} now",
                        difference.field, difference.wanted
                    );
                }
                for difference in &one.left {
                    println!("      {difference}");
                }
            }
            streams.iter().all(stream::Checked::serves)
        }
        Err(stream::StreamError::NotThere(_)) if config.durable.manage_stream => {
            println!(
                "      stream {name}: absent; `usher serve` creates it, and so does \
                 `usher check --apply`"
            );
            true
        }
        Err(stream::StreamError::NotThere(_)) => {
            println!(
                "FAIL  stream {name}: absent, or it allows no direct get, and \
                 durable.manage_stream is off; `usher check --apply` creates and mends it"
            );
            false
        }
        Err(error) => {
            println!("FAIL  stream {name}: {error}");
            false
        }
    }
}
