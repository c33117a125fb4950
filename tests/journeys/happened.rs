//! What services are told: who comes and goes, and which messages found nobody.

mod offline;
mod offline_faults;
mod presence;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::{Nats, eventually, wait::patiently};

/// The next message that a service hears.
async fn next(heard: &mut Subscriber) -> Message {
    let message = patiently("an event for services", heard.next()).await;
    message.expect("the subscription goes on")
}

/// What a service hears from now on.
pub(crate) async fn hears(nats: &Nats, client: &async_nats::Client, subject: &str) -> Subscriber {
    let before = nats.subscriptions(subject).await;
    let heard = client.subscribe(subject.to_owned()).await;
    eventually("NATS has the subscription", || async {
        nats.subscriptions(subject).await > before
    })
    .await;
    heard.expect("subscribed")
}

/// Asks JetStream about the consumer of `offline.events`.
async fn consumer(nats: &async_nats::Client) -> Value {
    crate::durable::api(nats, "CONSUMER.INFO.USHER.usher-offline", &json!({})).await
}

/// A header's last value.
fn header(message: &Message, name: &str) -> Option<String> {
    let headers = message.headers.as_ref()?;
    Some(headers.get_last(name)?.as_str().to_owned())
}
