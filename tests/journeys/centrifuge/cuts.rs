//! Thousands of messages, and a network that cuts connections all the while.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use super::{Kind, Sdk, durable};
use crate::support::wait::patiently;

const MESSAGES: usize = 10_000;

/// A way to a gateway whose connections all end at each cut.
struct Cuts {
    address: String,
    cut: watch::Sender<()>,
}

impl Cuts {
    async fn to(gateway: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (gateway, (cut, cuts)) = (gateway.to_owned(), watch::channel(()));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (gateway, mut cuts) = (gateway.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&gateway).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut }
    }
}

/// Each message comes once, in the order of its channel, through all cuts.
#[tokio::test]
async fn ten_thousand_messages_survive_cuts_without_loss_or_repetition() {
    let settings = [
        ("durable.max_messages_per_channel", "20000"),
        ("durable.max_replay", "20000"),
    ];
    let (nats, _redis, gateway) = durable(&settings).await;
    let cuts = Cuts::to(&gateway.public).await;
    let sdks = [Kind::JsJson, Kind::JsProtobuf, Kind::PythonJson];
    let sdks = sdks.map(|kind| {
        (
            kind,
            Sdk::with(kind, &gateway, "42", &cuts.address, json!({})),
        )
    });
    for (_, sdk) in &sdks {
        sdk.sees("subscribed", 2).await;
    }
    let publisher = nats.client().await;
    let publishing = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let subject = match number % 4 {
                0 => "usher.broadcast",
                _ => "usher.user.42",
            };
            let payload = number.to_string().into();
            let published = publisher.publish(subject, payload).await;
            published.expect("published");
            if number % 40 == 0 {
                publisher.flush().await.expect("flushed");
                sleep(Duration::from_millis(20)).await;
            }
        }
        publisher.flush().await.expect("flushed");
    });
    let is_done = || {
        let done = |sdk: &Sdk| sdk.all("publication").len() >= MESSAGES;
        sdks.iter().all(|(_, sdk)| done(sdk))
    };
    patiently("all messages", async {
        while !publishing.is_finished() {
            let _ = timeout(Duration::from_millis(700), std::future::pending::<()>()).await;
            cuts.cut.send_replace(());
        }
        while !is_done() {
            sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    publishing.await.expect("published");
    for (kind, sdk) in &sdks {
        assert!(sdk.all("connected").len() > 3, "{kind:?} was cut");
        for channel in ["broadcast", "#42"] {
            let seen = sdk.publications().into_iter();
            let seen = seen.filter(|(name, ..)| name == channel);
            let seen: Vec<usize> = seen
                .map(|(_, data, _)| {
                    let text = data.as_str().map_or(data.to_string(), str::to_owned);
                    text.parse().expect("a number")
                })
                .collect();
            let all = (0..MESSAGES).filter(|n| (n % 4 == 0) == (channel == "broadcast"));
            assert_eq!(seen, all.collect::<Vec<_>>(), "{kind:?}, {channel}");
        }
        let not_recovered =
            |one: &serde_json::Value| one["wasRecovering"] == true && one["recovered"] == false;
        assert!(!sdk.all("subscribed").iter().any(not_recovered), "{kind:?}");
    }
}
