//! Who changes the stream under the gateways, with a gateway's rights, and makes its leader
//! step down, with an owner's.

use std::time::Duration;

use async_nats::Client;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    nodes::connect,
    support::{
        nats::{OWNER, Role},
        wait::patiently,
    },
};

/// Before it asks once more.
const PAUSE: Duration = Duration::from_millis(100);
/// An answer may never come, as from a leader that is cut off.
const ANSWER: Duration = Duration::from_secs(2);

pub(crate) struct Manager(Client);

/// What the gateways' stream has.
pub(crate) fn republish() -> Value {
    json!({ "src": "usher.>", "dest": "usher.live.>" })
}

impl Manager {
    pub(crate) async fn new(urls: &[String]) -> Self {
        let (user, password) = Role::Gateway.login();
        Self(connect(urls, (&user, &password)).await)
    }

    /// One that may do anything, where the servers know an owner.
    pub(crate) async fn owner(urls: &[String]) -> Self {
        Self(connect(urls, OWNER).await)
    }

    /// Has the stream's leader step down, and says whether it did.
    pub(crate) async fn leader_steps_down(&self) -> bool {
        let what = "STREAM.LEADER.STEPDOWN.USHER";
        self.asks_once(what, &json!({})).await.is_some()
    }

    /// The number of the server that leads the stream.
    pub(crate) async fn leader(&self) -> usize {
        let finding = async {
            loop {
                let info = self.asks("STREAM.INFO.USHER", &json!({})).await;
                let name = info["cluster"]["leader"].as_str();
                let number = name.and_then(|name| name.strip_prefix("node-"));
                match number.and_then(|number| number.parse().ok()) {
                    Some(number) => return number,
                    None => sleep(PAUSE).await,
                }
            }
        };
        patiently("the stream has a leader", finding).await
    }

    /// What the stream has at this sequence, for people.
    pub(crate) async fn at(&self, seq: u64) -> String {
        let body = json!({ "seq": seq });
        match self.asks_once("STREAM.MSG.GET.USHER", &body).await {
            Some(answer) => answer["message"].to_string(),
            None => "nothing".to_owned(),
        }
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
                match self.asks_once(what, body).await {
                    Some(answer) => return answer,
                    None => sleep(PAUSE).await,
                }
            }
        };
        patiently(&format!("JetStream does {what}"), asking).await
    }

    /// None where it does not do so, or where no answer comes.
    async fn asks_once(&self, what: &str, body: &Value) -> Option<Value> {
        let subject = format!("$JS.API.{what}");
        let asked = self.0.request(subject, body.to_string().into());
        let answer = timeout(ANSWER, asked).await.ok()?.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        answer["error"].is_null().then_some(answer)
    }
}
