//! The API over NATS: the service `usher`, as NATS's service API has it (ADR-32). Tools and
//! libraries for that find it, see its statistics and call its endpoints.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::service::{Request, ServiceExt as _, endpoint::Endpoint, error::Error};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    Failure, LAST_ANSWERS, Operations, Phase,
    json::{Asked, whole},
};
use crate::{bus, metrics::Metrics};

/// As tools list the service.
const NAME: &str = "usher";
const DESCRIPTION: &str = "Who is online, the end of a user's sessions, and what they follow";
/// Calls under way at this gateway; a further one is refused immediately.
const MAX_CALLS: u32 = 64;
/// The largest body in bytes: 1,000 of the longest user ids, with characters that JSON escapes.
const MAX_BODY: usize = 512 * 1024;
/// async-nats must take an answer within this.
const ANSWER: Duration = Duration::from_secs(2);

/// One endpoint.
#[derive(Debug, Clone, Copy)]
enum Call {
    Presence,
    Disconnect,
    Topics,
}

impl Call {
    const fn name(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Disconnect => "disconnect",
            Self::Topics => "topics",
        }
    }
}

/// What all calls share.
#[derive(Debug)]
struct Calls {
    operations: Operations,
    metrics: Arc<Metrics>,
    permits: Arc<Semaphore>,
}

/// Serves the service until the phase is [`Phase::Ended`]. Then it takes no more calls, and
/// returns when those under way are answered, after [`LAST_ANSWERS`] at the latest. Across an
/// outage of NATS the service stays, and is found again when NATS is back.
///
/// # Errors
///
/// async-nats has ended.
pub(super) async fn serve(
    operations: Operations,
    bus::Service {
        nats,
        prefix,
        gateway,
    }: bus::Service,
    metrics: Arc<Metrics>,
    mut phase: watch::Receiver<Phase>,
) -> Result<(), async_nats::Error> {
    let builder = nats.service_builder().description(DESCRIPTION);
    let metadata = HashMap::from([("gateway".to_owned(), gateway)]);
    let builder = builder.metadata(metadata);
    let service = builder.start(NAME, env!("CARGO_PKG_VERSION")).await?;
    let group = service.group(prefix);
    let endpoint = |call: Call| {
        let name = call.name();
        group.endpoint_builder().name(name).add(name)
    };
    let presence = endpoint(Call::Presence).await?;
    let disconnect = endpoint(Call::Disconnect).await?;
    let topics = endpoint(Call::Topics).await?;
    let calls = Arc::new(Calls {
        operations,
        metrics,
        permits: Arc::new(Semaphore::new(MAX_CALLS as usize)),
    });
    tokio::select! {
        () = calls.take(presence, Call::Presence) => return Err("async-nats has ended".into()),
        () = calls.take(disconnect, Call::Disconnect) => {
            return Err("async-nats has ended".into());
        }
        () = calls.take(topics, Call::Topics) => return Err("async-nats has ended".into()),
        _ = phase.wait_for(|phase| *phase == Phase::Ended) => {}
    }
    let ending = async {
        service.stop().await?;
        let _ = calls.permits.acquire_many(MAX_CALLS).await;
        nats.flush().await?;
        Ok(())
    };
    timeout(LAST_ANSWERS, ending).await.unwrap_or(Ok(()))
}

impl Calls {
    /// Takes the calls of one endpoint; returns where none can come any more.
    async fn take(self: &Arc<Self>, mut endpoint: Endpoint, call: Call) {
        while let Some(request) = endpoint.next().await {
            let Ok(permit) = self.permits.clone().try_acquire_owned() else {
                let busy = format!("{MAX_CALLS} calls are under way at this gateway; try again");
                self.respond(&request, call, Err(Failure::Busy(busy))).await;
                continue;
            };
            let calls = self.clone();
            tokio::spawn(async move {
                let answer = calls.answer(&request, call).await;
                calls.respond(&request, call, answer).await;
                drop(permit);
            });
        }
    }

    async fn answer(&self, request: &Request, call: Call) -> Result<Bytes, Failure> {
        let body = &request.message.payload;
        match call {
            Call::Presence => {
                let asked: Asked = read(body)?;
                let found = self.operations.presence(&asked.user_ids.0).await?;
                Ok(json(&found))
            }
            Call::Disconnect => Ok(json(&self.operations.disconnect(read(body)?).await?)),
            Call::Topics => Ok(json(&self.operations.update_topics(read(body)?).await?)),
        }
    }

    /// Answers, and counts the call. One without a reply subject has no answer; what it asked
    /// for is done.
    async fn respond(&self, request: &Request, call: Call, answer: Result<Bytes, Failure>) {
        let answer = answer.map_err(|failure| Error {
            code: status(&failure),
            status: in_a_header(&failure.to_string()),
        });
        let code = answer.as_ref().map_or_else(|error| error.code, |_| 200);
        let labels = [call.name(), &code.to_string()];
        self.metrics
            .service_requests
            .with_label_values(&labels)
            .inc();
        // Where async-nats has ended, so does the process.
        let _ = timeout(ANSWER, request.respond(answer)).await;
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    if body.len() > MAX_BODY {
        let rule = format!("has {} bytes; it has at most {MAX_BODY}", body.len());
        return Err(Failure::invalid("body", rule));
    }
    whole(body).map_err(|refusal| Failure::invalid("body:", refusal.message()))
}

fn json(answer: &impl Serialize) -> Bytes {
    serde_json::to_vec(answer).unwrap_or_default().into()
}

/// As over HTTP.
fn status(failure: &Failure) -> usize {
    match failure {
        Failure::Invalid { .. } => 400,
        Failure::Forbidden(_) => 403,
        Failure::NotServed(_) => 404,
        Failure::Unavailable(_) | Failure::Busy(_) => 503,
        Failure::Unconfirmed(_) => 504,
    }
}

/// A text without line breaks, in ASCII as far as it is ours: not every client reads more.
fn in_a_header(text: &str) -> String {
    let plain = |character| match character {
        '–' => '-',
        character if character.is_control() => ' ',
        character => character,
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DisconnectOrder;

    #[test]
    fn bodies_are_read_strictly() {
        let read = |body: &[u8]| read(&Bytes::copy_from_slice(body));
        let good = br#"{"user_id":"42","reason":"x"}"#;
        let body: DisconnectOrder = read(good).expect("a body");
        assert_eq!((body.user_id.as_str(), body.reconnect), ("42", false));
        for bad in [
            &b""[..],
            b"[]",
            br#"["42"]"#,
            b"{}",
            br#"{"user_id":42}"#,
            br#"{"user_id":"42","user_id":"43"}"#,
            br#"{"user_id":"42","reconect":true}"#,
            br#"{"user_id":"42"} x"#,
        ] {
            let error = read(bad).expect_err("no body");
            assert_eq!(status(&error), 400);
            assert!(
                error.to_string().starts_with("body: line 1, column "),
                "{error}"
            );
        }
        let large = vec![b' '; MAX_BODY + 1];
        assert!(read(&large).is_err());
    }

    #[test]
    fn a_header_has_no_line_break() {
        assert_eq!(in_a_header("a\r\nb: 1–64"), "a  b: 1-64");
    }
}
