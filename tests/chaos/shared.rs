//! What clients, publishers and faults of a run all know.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::auditor::{Auditor, Stream};

/// Gateways side by side.
pub(crate) const GATEWAYS: usize = 2;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    auditor: Mutex<Auditor>,
    /// Where each gateway is now: for browsers, and for services.
    addresses: Mutex<[(String, String); GATEWAYS]>,
    counts: Mutex<BTreeMap<String, usize>>,
    /// Clients with a session.
    pub(crate) open: AtomicUsize,
}

/// What stands in a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) publisher: u8,
    pub(crate) user: Option<usize>,
    pub(crate) number: usize,
    pub(crate) padding: String,
}

impl Numbered {
    pub(crate) fn stream(&self) -> Stream {
        Stream {
            publisher: self.publisher,
            user: self.user,
        }
    }
}

impl Shared {
    pub(crate) fn auditor(&self) -> MutexGuard<'_, Auditor> {
        lock(&self.auditor)
    }

    /// A message about to be sent: its number, and its text.
    pub(crate) fn compose(&self, stream: Stream, padding: usize) -> (usize, String) {
        let number = self.auditor().sending(stream);
        let message = Numbered {
            publisher: stream.publisher,
            user: stream.user,
            number,
            padding: "x".repeat(padding),
        };
        let text = serde_json::to_string(&message).expect("such a value is always JSON");
        (number, text)
    }

    pub(crate) fn is_at(&self, gateway: usize, public: &str, grpc: &str) {
        lock(&self.addresses)[gateway] = (public.to_owned(), grpc.to_owned());
    }

    /// Where some gateway is, as a load balancer would pick one.
    pub(crate) fn any_gateway(&self) -> (String, String) {
        lock(&self.addresses)[rand::random_range(0..GATEWAYS)].clone()
    }

    pub(crate) fn count(&self, what: impl Into<String>) {
        *lock(&self.counts).entry(what.into()).or_default() += 1;
    }

    pub(crate) fn counted(&self, what: &str) -> usize {
        lock(&self.counts).get(what).copied().unwrap_or(0)
    }

    pub(crate) fn all_open(&self, clients: usize) -> bool {
        self.open.load(Ordering::SeqCst) == clients
    }

    /// What happened, for people.
    pub(crate) fn summary(&self) -> String {
        let auditor = self.auditor();
        let [unknown, certain, never] = auditor.outcomes();
        let mut summary = format!(
            "{} sessions, {} deliveries; messages: {certain} certain, {unknown} unknown, {never} \
             certainly not\n",
            auditor.sessions(),
            auditor.deliveries(),
        );
        for (what, count) in &*lock(&self.counts) {
            summary += &format!("  {what}: {count}\n");
        }
        summary
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
