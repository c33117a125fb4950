//! Who changes the stream under the gateways, with a gateway's rights.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{Nats, nats::Role, wait::patiently};

/// Before it asks once more.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Manager(Client);

/// What the gateways' stream has.
pub(crate) fn republish() -> Value {
    json!({ "src": "usher.>", "dest": "usher.live.>" })
}

impl Manager {
    pub(crate) async fn new(nats: &Nats) -> Self {
        let (user, password) = Role::Gateway.login();
        let options = ConnectOptions::new().user_and_password(user, password);
        let client = options.connect(nats.url()).await;
        Self(client.expect("nats-server takes connections"))
    }

    /// Where the stream publishes what it has stored; null for nowhere.
    pub(crate) async fn set_republish(&self, republish: Value) {
        let mut config = self.asks("STREAM.INFO.USHER", &json!({})).await["config"].take();
        config["republish"] = republish;
        self.asks("STREAM.UPDATE.USHER", &config).await;
    }

    /// Asks JetStream until it does so: after its start it takes a moment.
    async fn asks(&self, what: &str, body: &Value) -> Value {
        let asking = async {
            loop {
                let asked = self
                    .0
                    .request(format!("$JS.API.{what}"), body.to_string().into());
                if let Ok(answer) = asked.await {
                    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
                    if answer["error"].is_null() {
                        return answer;
                    }
                }
                sleep(PAUSE).await;
            }
        };
        patiently(&format!("JetStream does {what}"), asking).await
    }
}
