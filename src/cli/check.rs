//! `usher check`: whether what the configuration names is there.

use std::process::ExitCode;

use crate::{app::rooms, bus, config::Config, tickets};

pub(super) fn run(config: &Config) -> ExitCode {
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
        let redis = tickets::probe(&rooms::tickets(config)).await;
        [
            ("NATS", "nats.url", nats.map_err(|error| error.to_string())),
            ("Redis", "redis.url", redis),
        ]
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
    code
}
