//! A request on its way through the filters, and how it is counted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    api::{guard::publishes, in_flight::Held, peers::Peer},
    metrics::Metrics,
    trace::Caller,
};

/// The method of gRPC's that does what a path does, as metrics have it.
pub(super) fn method(path: &str) -> Option<&'static str> {
    match path {
        "/v1/push" | "/v1/push/batch" => Some("PushNotification"),
        "/v1/broadcast" => Some("Broadcast"),
        "/v1/presence" => Some("GetPresence"),
        "/v1/disconnect" => Some("Disconnect"),
        "/v1/tickets" => Some("IssueTicket"),
        path if named(path, TOPICS.0, TOPICS.1).is_some() => Some("PublishTopic"),
        path if named(path, USERS.0, USERS.1).is_some() => Some("UpdateTopics"),
        _ => None,
    }
}

/// What stands before and after the name in a topic's path, and in that of a user's topics.
pub(super) const TOPICS: (&str, &str) = ("/v1/topics/", "");
pub(super) const USERS: (&str, &str) = ("/v1/users/", "/topics");

/// What stands between these in a path, if that is one part of it.
pub(super) fn named<'a>(path: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    (!name.contains('/')).then_some(name)
}

/// A request, as filters see it.
#[derive(Debug)]
pub(super) struct Call {
    method: Option<&'static str>,
    pub(super) peer: Arc<Peer>,
    /// What it says of its trace.
    pub(super) caller: Caller,
    /// What its body holds of the bytes in flight, until the answer.
    pub(super) held: Arc<Held>,
    one_by_one: AtomicBool,
}

impl Call {
    pub(super) fn new(
        method: Option<&'static str>,
        peer: Arc<Peer>,
        caller: Caller,
        held: Arc<Held>,
    ) -> Self {
        Self {
            method,
            peer,
            caller,
            held,
            one_by_one: AtomicBool::new(false),
        }
    }

    /// Whether it publishes: then a refusal can say that nothing was published.
    pub(super) fn publishes(&self) -> bool {
        self.method.is_some_and(publishes)
    }

    /// From now on its parts are counted, and not the whole.
    pub(super) fn count_one_by_one(&self) {
        self.one_by_one.store(true, Ordering::Relaxed);
    }
}

/// Counts a call, or one push of a batch, when it is over, also where its caller has gone
/// meanwhile.
pub(super) struct Counted {
    metrics: Arc<Metrics>,
    /// `None` for a push of a batch.
    call: Option<Arc<Call>>,
    code: &'static str,
}

impl Counted {
    /// Of a call.
    pub(super) fn whole(metrics: Arc<Metrics>, call: Arc<Call>) -> Self {
        Self {
            metrics,
            call: Some(call),
            code: "CANCELLED",
        }
    }

    /// Of one push.
    pub(super) fn push(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            call: None,
            code: "CANCELLED",
        }
    }

    /// It ends with this code of gRPC's.
    pub(super) fn ends(&mut self, code: &'static str) {
        self.code = code;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let method = match &self.call {
            None => Some("PushNotification"),
            Some(call) if call.one_by_one.load(Ordering::Relaxed) => None,
            Some(call) => call.method,
        };
        if let Some(method) = method {
            let labels = [method, self.code];
            self.metrics.grpc_requests.with_label_values(&labels).inc();
        }
    }
}
