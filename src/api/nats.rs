//! The API over NATS: the service `usher`, as NATS's service API has it (ADR-32). Tools and
//! libraries for that find it, see its statistics and call its endpoints.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use self::instance::Instance;
use super::{
    Failure, LAST_ANSWERS, Operations, Phase,
    json::{Asked, whole},
};
use crate::{
    bus::{self, Reply, ServiceAnswers, ServiceRequest},
    metrics::Metrics,
};

mod instance;

/// Calls under way at this gateway; a further one is refused immediately.
const MAX_CALLS: u32 = 64;
/// The largest body in bytes: 1,000 of the longest user ids, with characters that JSON escapes.
const MAX_BODY: usize = 512 * 1024;
/// The connection must take an answer within this.
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

/// By their place among the endpoints.
const CALLS: [Call; 3] = [Call::Presence, Call::Disconnect, Call::Topics];

/// What all calls share.
#[derive(Debug)]
struct Calls {
    operations: Operations,
    metrics: Arc<Metrics>,
    permits: Arc<Semaphore>,
    answers: ServiceAnswers,
    instance: Instance,
}

/// Serves the service until the phase is [`Phase::Ended`]. Then it unsubscribes, and returns when
/// every call that NATS had sent here by then is answered, after [`LAST_ANSWERS`] at the latest.
/// Across an outage of NATS the service stays, and is found again when NATS is back.
pub(super) async fn serve(
    operations: Operations,
    bus::Service {
        prefix,
        gateway,
        answers,
        mut requests,
    }: bus::Service,
    metrics: Arc<Metrics>,
    mut phase: watch::Receiver<Phase>,
) {
    let calls = Arc::new(Calls {
        operations,
        metrics,
        permits: Arc::new(Semaphore::new(MAX_CALLS as usize)),
        answers,
        instance: Instance::new(prefix, gateway),
    });
    calls.answers.listen(calls.instance.endpoints()).await;
    let mut answered = pin!(async {
        while let Some(request) = requests.recv().await {
            calls.take(request).await;
        }
        let _ = calls.permits.acquire_many(MAX_CALLS).await;
        calls.answers.flush().await;
    });
    tokio::select! {
        () = &mut answered => return,
        _ = phase.wait_for(|phase| *phase == Phase::Ended) => {}
    }
    let leaving = async {
        calls.answers.leave().await;
        sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        () = answered => {}
        () = leaving => {}
    }
}

impl Calls {
    async fn take(self: &Arc<Self>, request: ServiceRequest) {
        let began = Instant::now();
        let ServiceRequest {
            endpoint,
            payload,
            reply,
        } = request;
        let Some(call) = CALLS.get(endpoint).copied() else {
            if let Some(reply) = reply {
                let answer = self.instance.says(endpoint);
                let _ = timeout(ANSWER, self.answers.answer(reply, Vec::new(), answer)).await;
            }
            return;
        };
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let busy = format!("{MAX_CALLS} calls are under way at this gateway; try again");
            let busy = Err(Failure::Busy(busy));
            return self.respond(reply, (call, began), busy).await;
        };
        let calls = self.clone();
        tokio::spawn(async move {
            let answer = calls.answer(&payload, call).await;
            calls.respond(reply, (call, began), answer).await;
            drop(permit);
        });
    }

    async fn answer(&self, body: &Bytes, call: Call) -> Result<Bytes, Failure> {
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
    async fn respond(
        &self,
        reply: Option<Reply>,
        (call, began): (Call, Instant),
        answer: Result<Bytes, Failure>,
    ) {
        let error = answer.as_ref().err();
        let error = error.map(|failure| (status(failure), in_a_header(&failure.to_string())));
        let code = error.as_ref().map_or(200, |(code, _)| *code).to_string();
        let labels = [call.name(), &code];
        self.metrics
            .service_requests
            .with_label_values(&labels)
            .inc();
        self.instance.count(call, began.elapsed(), error.as_ref());
        let Some(reply) = reply else { return };
        let headers = error.map_or_else(Vec::new, |(_, text)| {
            vec![
                ("Nats-Service-Error", text),
                ("Nats-Service-Error-Code", code),
            ]
        });
        let answering = self
            .answers
            .answer(reply, headers, answer.unwrap_or_default());
        let _ = timeout(ANSWER, answering).await;
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
fn status(failure: &Failure) -> u16 {
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
