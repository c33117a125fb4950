//! The echo that `make conformance` judges: a gateway's own listener, upgrade,
//! sessions and closing, behind a door without tickets. It prints its address and
//! serves until it is killed.

use std::{error::Error, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use usher::{bus, http, metrics::Metrics, registry, telemetry::Tracer};

/// The suite's largest message is 16 MiB; 4 KiB is the default.
const MAX_FRAME: usize = 16 << 20;
/// The suite sends one message as 65,536 frames, and 1,000 messages in a row: all
/// that a bound on frames a second is there to forbid.
const FRAMES_PER_SECOND: u32 = u32::MAX;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = "echo".to_owned();
    let metrics = Arc::new(Metrics::new());
    let reply_prefix = "_INBOX.".to_owned();
    let (subscriptions, commands) = bus::Subscriptions::new();
    let (interest, _publisher) =
        bus::embedded(&reply_prefix, commands, metrics.clone(), Tracer::default());
    let config = registry::Config {
        gateway: name.clone(),
        reply_prefix,
        settle: None,
        max_sessions_per_user: usize::MAX,
        queue_messages: 256,
        queue_bytes: 1 << 20,
        total_queue_bytes: 256 << 20,
        drain_window: Duration::from_secs(20),
        max_topics_per_session: 32,
        max_topics: 100,
        max_frame: usize::MAX,
        tracer: Tracer::default(),
    };
    let registry = registry::Registry::new(config, Arc::new(subscriptions), metrics.clone());
    let registry = Arc::new(registry);
    tokio::spawn(registry.clone().run(interest));
    let joins = http::Joins {
        registry,
        durable: None,
    };

    let sessions = http::SessionConfig {
        gateway: name,
        ping_interval: Duration::from_secs(25),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: None,
        max_frame: MAX_FRAME,
        max_outgoing_frame: usize::MAX,
        frames_per_second: FRAMES_PER_SECOND,
        max_topics: 32,
        write_timeout: Duration::from_secs(10),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let bounds = http::Bounds {
        handshake: Duration::from_secs(10),
        max_pending: 64,
        max_header_bytes: 16 * 1024,
        max_headers: 64,
    };
    let routes = http::conformance_routes(sessions, metrics.clone(), joins);
    http::serve(listener, None, routes, bounds, None).await;
    Ok(())
}
