//! Thousands of messages, and a network that cuts connections all the while.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Kind, Sdk, TOKENS, durable};
use crate::support::{Nats, wait::PATIENCE};

pub(super) const MESSAGES: usize = 10_000;

/// The stream keeps, and a client is sent, all of them.
pub(super) const LIMITS: [(&str, &str); 2] = [
    ("durable.max_messages_per_channel", "20000"),
    ("durable.max_replay", "20000"),
];

/// A way to a gateway whose connections all end at each cut.
pub(super) struct Cuts {
    pub(super) address: String,
    cut: watch::Sender<()>,
}

impl Cuts {
    pub(super) async fn to(gateway: &str) -> Self {
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

    /// Cuts, as long as that goes on.
    pub(super) async fn while_running(&self, task: &JoinHandle<()>) {
        while !task.is_finished() {
            let _ = timeout(Duration::from_millis(700), std::future::pending::<()>()).await;
            self.cut.send_replace(());
        }
    }
}

/// Publishes all messages, each fourth to everybody, the others to user 42.
pub(super) async fn publishing(nats: &Nats) -> JoinHandle<()> {
    let publisher = nats.client().await;
    tokio::spawn(async move {
        for number in 0..MESSAGES {
            let subject = match channel_of(number) {
                "broadcast" => "usher.broadcast",
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
    })
}

fn channel_of(number: usize) -> &'static str {
    match number % 4 {
        0 => "broadcast",
        _ => "#42",
    }
}

/// Each message came once, in the order of its channel, and each channel was recovered each
/// time.
#[track_caller]
pub(super) fn nothing_is_lost(who: &str, seen: &[Value]) {
    let of = |on: &str| {
        let on = on.to_owned();
        seen.iter().filter(move |one| one["on"] == on)
    };
    for channel in ["broadcast", "#42"] {
        let publications = of("publication").filter(|one| one["channel"] == channel);
        let numbers = publications.map(|one| {
            let data = &one["data"];
            let text = data.as_str().map_or(data.to_string(), str::to_owned);
            text.parse().expect("a number")
        });
        let numbers: Vec<usize> = numbers.collect();
        let all = (0..MESSAGES).filter(|number| channel_of(*number) == channel);
        assert_eq!(numbers, all.collect::<Vec<_>>(), "{who}, {channel}");
    }
    // How often depends on how long it waits before it comes back.
    assert!(of("connected").count() > 1, "{who} was cut");
    let lost = |one: &&Value| one["wasRecovering"] == true && one["recovered"] == false;
    assert_eq!(of("subscribed").find(lost), None, "{who}");
}

/// Each message comes once, in the order of its channel, through all cuts.
#[tokio::test]
async fn ten_thousand_messages_survive_cuts_without_loss_or_repetition() {
    survive_cuts(&Kind::RETURNING).await;
}

pub(super) async fn survive_cuts(kinds: &[Kind]) {
    let (nats, _redis, gateway) = durable(&[&LIMITS[..], &TOKENS].concat()).await;
    let cuts = Cuts::to(&gateway.public).await;
    let sdk = |kind| Sdk::returning(kind, &gateway, "42", &cuts.address, json!({}));
    let sdks: Vec<_> = kinds.iter().map(|&kind| (kind, sdk(kind))).collect();
    for (_, sdk) in &sdks {
        sdk.sees("subscribed", 2).await;
    }
    let publishing = publishing(&nats).await;
    let is_done = || {
        let done = |sdk: &Sdk| sdk.all("publication").len() >= MESSAGES;
        sdks.iter().all(|(_, sdk)| done(sdk))
    };
    // So many messages take a machine that does other things too longer than anything else.
    let all = timeout(3 * PATIENCE, async {
        cuts.while_running(&publishing).await;
        while !is_done() {
            sleep(Duration::from_millis(200)).await;
        }
    });
    all.await.expect("all messages come");
    publishing.await.expect("published");
    for (kind, sdk) in &sdks {
        nothing_is_lost(&format!("{kind:?}"), &sdk.seen());
    }
}
