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
