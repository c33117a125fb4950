//! How async-nats is set up.

use std::{sync::Arc, time::Duration};

use async_nats::{AuthError, Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::mpsc;
use url::Url;

use crate::{
    bus::{
        Config,
        servers::{Servers, address},
    },
    jitter,
};

/// A server that is silent for three times as long, and a little more, is left.
const PING: Duration = Duration::from_secs(3);
/// One attempt at one address of a server.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The first pause between attempts, doubled from one to the next. Of each pause a random half to
/// whole is waited, so that gateways do not return in step.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Connects for as long as the process lives; `events` hears what becomes of it. async-nats holds
/// a bounded number of commands for the socket: beyond it a caller waits. It holds a bounded
/// number of messages for each subscription: beyond it it drops the newest.
pub(in crate::bus) async fn connect(
    config: &Config,
    servers: &Servers,
    (name, commands, messages): (&str, usize, usize),
    events: mpsc::Sender<Event>,
) -> Result<Client, async_nats::ConnectError> {
    let auth = config.auth.clone();
    // Asked at each connect, so that files are read anew.
    let options = ConnectOptions::with_auth_callback(move |nonce: Vec<u8>| {
        let login = auth.login(&nonce);
        async move { login.map_err(AuthError::new) }
    });
    let names = servers.clone();
    let tls = config
        .tls
        .renewing(Arc::new(move |host| names.tls_name(host)));
    options
        .name(format!("{}-{name}", config.name))
        .require_tls(config.wants_tls())
        .tls_client_config(tls)
        .retry_on_initial_connect()
        .ignore_discovered_servers()
        .skip_subject_validation(true)
        .connection_timeout(ATTEMPT)
        .ping_interval(PING)
        .client_capacity(commands)
        .subscription_capacity(messages)
        .reconnect_delay_callback(delay)
        .event_callback(move |event| {
            let events = events.clone();
            async move { drop(events.send(event).await) }
        })
        .connect(addresses(&servers.all()))
        .await
}

/// The servers, as async-nats knows them.
pub(in crate::bus) fn addresses(servers: &[Url]) -> Vec<ServerAddr> {
    let address = |server: &Url| format!("{}://{}", server.scheme(), address(server)).parse();
    servers
        .iter()
        .filter_map(|server| address(server).ok())
        .collect()
}

fn delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(2)).unwrap_or(u32::MAX);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings.min(10));
    match attempt {
        0 | 1 => Duration::ZERO,
        _ => jitter::fraction_of(pause.min(LONGEST_PAUSE), 0.5, 1.0),
    }
}
