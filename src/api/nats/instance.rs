//! This gateway as an instance of the service `usher`: what tools find, list and read (ADR-32).

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde_json::{Value, json};
use ulid::Ulid;

use super::{CALLS, Call};
use crate::{
    bus::{Endpoint, GROUP},
    message::rfc3339,
};

/// As tools list the service.
const NAME: &str = "usher";
const DESCRIPTION: &str = "Who is online, the end of a user's sessions, and what they follow";
/// What every service is asked, under `$SRV.`; each for all services, for those of a name, and
/// for one instance.
const VERBS: [&str; 3] = ["PING", "INFO", "STATS"];
const AUDIENCES: usize = 3;

#[derive(Debug)]
pub(super) struct Instance {
    id: String,
    prefix: String,
    gateway: String,
    started: String,
    counts: Mutex<[Counts; CALLS.len()]>,
}

/// The calls of one endpoint.
#[derive(Debug, Default)]
struct Counts {
    requests: u32,
    errors: u32,
    last_error: String,
    time: Duration,
}

impl Instance {
    pub(super) fn new(prefix: String, gateway: String) -> Self {
        Self {
            id: Ulid::new().to_string(),
            prefix,
            gateway,
            started: rfc3339(SystemTime::now()),
            counts: Mutex::default(),
        }
    }

    /// Those of [`CALLS`], then those of [`VERBS`].
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let calls = CALLS.map(|call| Endpoint {
            subject: self.subject(call),
            shared: true,
        });
        let verbs = VERBS.iter().flat_map(|verb| {
            let all = format!("$SRV.{verb}");
            let named = format!("{all}.{NAME}");
            let one = format!("{named}.{}", self.id);
            let subjects: [_; AUDIENCES] = [all, named, one];
            subjects.map(|subject| Endpoint {
                subject,
                shared: false,
            })
        });
        calls.into_iter().chain(verbs).collect()
    }

    fn subject(&self, call: Call) -> String {
        format!("{}.{}", self.prefix, call.name())
    }

    /// A call has ended, with this code and text if it failed.
    pub(super) fn count(&self, call: Call, took: Duration, error: Option<&(u16, String)>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut counts[call as usize];
        counts.requests = counts.requests.wrapping_add(1);
        counts.time += took;
        if let Some((code, text)) = error {
            counts.errors = counts.errors.wrapping_add(1);
            counts.last_error = format!("{code}:{text}");
        }
    }

    /// The answer to the verb of this endpoint.
    pub(super) fn says(&self, endpoint: usize) -> Bytes {
        let verb = VERBS[(endpoint - CALLS.len()) / AUDIENCES];
        let mut says = json!({
            "type": format!("io.nats.micro.v1.{}_response", verb.to_ascii_lowercase()),
            "name": NAME,
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": {"gateway": self.gateway},
        });
        match verb {
            "INFO" => {
                says["description"] = DESCRIPTION.into();
                says["endpoints"] = CALLS.iter().map(|call| self.endpoint(*call)).collect();
            }
            "STATS" => {
                says["started"] = self.started.as_str().into();
                says["endpoints"] = self.stats();
            }
            _ => {}
        }
        says.to_string().into()
    }

    fn endpoint(&self, call: Call) -> Value {
        json!({
            "name": call.name(),
            "subject": self.subject(call),
            "queue_group": GROUP,
            "metadata": {},
        })
    }

    fn stats(&self) -> Value {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = CALLS.iter().zip(counts.iter()).map(|(call, counts)| {
            let average = counts.time / counts.requests.max(1);
            json!({
                "name": call.name(),
                "subject": self.subject(*call),
                "queue_group": GROUP,
                "num_requests": counts.requests,
                "num_errors": counts.errors,
                "last_error": counts.last_error,
                "processing_time": nanoseconds(counts.time),
                "average_processing_time": nanoseconds(average),
            })
        });
        stats.collect()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
