//! What gateways tell and ask each other, and what services learn and do by that.

mod commands;
mod disconnect;
mod gateways;
mod held;
mod presence;
mod service;
mod way_in;

use crate::support::{Gateway, Nats, Redis, eventually, grpc::presence as ask};

/// Gateways that know each other, with these settings.
async fn gateways(
    count: usize,
    servers: (&Nats, &Redis),
    settings: &[(&str, &str)],
) -> Vec<Gateway> {
    let builder = || {
        settings.iter().fold(
            Gateway::builder(servers.0, servers.1),
            |builder, (key, value)| builder.set(key, *value),
        )
    };
    let starting = (0..count).map(|_| builder().start());
    let gateways = futures_util::future::join_all(starting).await;
    for gateway in &gateways {
        knows(gateway, count).await;
    }
    gateways
}

/// Waits until a gateway knows all gateways, and that these are all.
async fn knows(gateway: &Gateway, count: usize) {
    gateway.metric_becomes("usher_gateways", count as f64).await;
    let mut grpc = gateway.grpc().await;
    eventually("its answers are complete", || {
        let mut grpc = grpc.clone();
        async move {
            ask(&mut grpc, &["nobody"])
                .await
                .is_ok_and(|found| found.complete)
        }
    })
    .await;
    assert!(ask(&mut grpc, &["nobody"]).await.is_ok());
}
