//! A span: one thing that this gateway did for a trace, and how long it took.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{Shared, new_span};
use crate::trace::{SpanId, Trace, TraceParent};

/// What is done in a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A request for a session, until its answer.
    Admission,
    /// A push, until NATS has it, and until its receipts are there.
    Push,
    /// A client's call, until a service has answered it.
    Call,
    /// A message to one session, from its arrival until the kernel has it.
    Deliver,
    /// A message that is sent again, until the kernel has it; or all that a session missed,
    /// until it is queued.
    Replay,
}

impl Operation {
    /// The span's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Push => "push",
            Self::Call => "call",
            Self::Deliver => "deliver",
            Self::Replay => "replay",
        }
    }
}

/// The value of an attribute. Never a ticket, a token or a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(Cow<'static, str>),
    /// A number.
    Number(u64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

/// A span that goes on. It ends when it is dropped.
pub struct Span(Option<Ended>);

/// A span, and when it ended.
pub(super) type Ended = Box<Record>;

/// What is sent of a span.
pub(super) struct Record {
    pub(super) operation: Operation,
    pub(super) trace: Trace,
    pub(super) id: SpanId,
    pub(super) state: String,
    /// In nanoseconds since 1970.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// Why it came to nothing.
    pub(super) failure: Option<&'static str>,
    began: Instant,
    only_if_ended: bool,
    shared: Arc<Shared>,
}

impl Span {
    pub(super) fn new(shared: &Arc<Shared>, operation: Operation, trace: Trace) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = since_1970.map_or(0, |since| nanoseconds(since.as_nanos()));
        Self(Some(Box::new(Record {
            operation,
            trace,
            id: new_span(),
            state: String::new(),
            start,
            end: start,
            attributes: Vec::new(),
            failure: None,
            began: Instant::now(),
            only_if_ended: false,
            shared: shared.clone(),
        })))
    }

    /// It counts only where [`Span::end`] is called.
    #[must_use]
    pub fn only_if_ended(mut self) -> Self {
        if let Some(record) = &mut self.0 {
            record.only_if_ended = true;
        }
        self
    }

    /// Sets an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let Some(record) = &mut self.0 else {
            return;
        };
        let attributes = &mut record.attributes;
        match attributes.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value.into(),
            None => attributes.push((key, value.into())),
        }
    }

    /// Adds to an attribute that is a number; at first it is 0.
    pub fn add(&mut self, key: &'static str, more: u64) {
        let attributes = self.0.iter().flat_map(|record| &record.attributes);
        let sum = attributes
            .filter(|(known, _)| *known == key)
            .map(|(_, value)| match value {
                Value::Number(number) => *number,
                Value::Text(_) => 0,
            })
            .sum::<u64>();
        self.set(key, sum.saturating_add(more));
    }

    /// The caller's `tracestate`.
    pub fn set_state(&mut self, state: Option<&str>) {
        if let (Some(record), Some(state)) = (&mut self.0, state) {
            state.clone_into(&mut record.state);
        }
    }

    /// It came to nothing, for this reason.
    pub fn fail(&mut self, reason: &'static str) {
        if let Some(record) = &mut self.0 {
            record.failure = Some(reason);
        }
    }

    /// It came to something after all.
    pub fn succeed(&mut self) {
        if let Some(record) = &mut self.0 {
            record.failure = None;
        }
    }

    /// The trace of what belongs to this span.
    pub fn inside(&self) -> Option<Trace> {
        self.0.as_ref().map(|record| Trace {
            id: record.trace.id,
            parent: Some(record.id),
        })
    }

    /// The header for what belongs to this span, elsewhere.
    pub fn parent(&self) -> Option<TraceParent> {
        let record = self.0.as_ref()?;
        Some(TraceParent::recorded(record.trace.id, record.id))
    }

    /// Ends it.
    pub fn end(mut self) {
        if let Some(record) = &mut self.0 {
            record.only_if_ended = false;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.0.take()
            && !record.only_if_ended
        {
            let lasted = nanoseconds(record.began.elapsed().as_nanos());
            record.end = record.start.saturating_add(lasted);
            let shared = record.shared.clone();
            shared.end(record);
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = self.0.as_ref().map(|record| record.operation);
        f.debug_tuple("Span").field(&operation).finish()
    }
}

fn nanoseconds(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
