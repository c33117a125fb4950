//! Traces: what recorded requests and messages go through here, sent to a collector by OTLP
//! over gRPC.
//!
//! A trace is recorded where its `traceparent` says so, or, without a `traceparent`, by
//! chance. Nothing is made for any other: no span, no number, no clock is read. A span that
//! has ended waits in a bounded queue; what finds no room there is lost and counted, so that a
//! collector that is slow or away delays nothing.

mod export;
mod otlp;
mod span;

use std::{fmt, sync::Arc, time::Duration};

use rand::Rng as _;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use url::Url;

pub use self::span::{Operation, Span, Value};
use self::{export::Exporter, span::Ended};
use crate::{
    metrics::Metrics,
    trace::{SpanId, Trace, TraceId, TraceParent},
};

/// Spans that wait to be sent, a few hundred bytes each.
const QUEUE: usize = 4096;
/// How long spans that wait have to be sent at the end of a drain.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Where traces go, and which begin here.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http://` or `https://`, a host and perhaps a port.
    pub endpoint: Url,
    /// The part of requests without a `traceparent` that is recorded: from 0 to 1.
    pub sample_ratio: f64,
    /// This gateway's name.
    pub gateway: String,
}

/// Makes spans; the default makes none. Clones share the queue.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Shared>>);

struct Shared {
    sample_ratio: f64,
    queue: mpsc::Sender<Ended>,
    metrics: Arc<Metrics>,
}

/// Sends spans while the process lives.
#[derive(Debug, Default)]
pub struct Export(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

/// Begins to send traces; without a configuration there are none.
pub fn begin(config: Option<Config>, metrics: &Arc<Metrics>) -> (Tracer, Export) {
    let Some(config) = config else {
        return (Tracer::default(), Export::default());
    };
    let (queue, spans) = mpsc::channel(QUEUE);
    let shared = Shared {
        sample_ratio: config.sample_ratio,
        queue,
        metrics: metrics.clone(),
    };
    let (stop, stopped) = oneshot::channel();
    let exporter = Exporter::new(&config, spans, metrics.clone());
    // No task of `app`'s: where it fails, delivery goes on.
    let exporting = tokio::spawn(exporter.run(stopped));
    let tracer = Tracer(Some(Arc::new(shared)));
    (tracer, Export(Some((stop, exporting))))
}

impl Tracer {
    /// Whether there are traces at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The trace of what came with this `traceparent`; `None` if it is not recorded.
    pub fn follow(&self, parent: Option<TraceParent>) -> Option<Trace> {
        let shared = self.0.as_ref()?;
        match parent {
            Some(parent) => parent.followed(),
            None => {
                let ratio = shared.sample_ratio;
                let recorded = ratio > 0.0 && rand::rng().random_bool(ratio);
                recorded.then(|| Trace {
                    id: new_trace(),
                    parent: None,
                })
            }
        }
    }

    /// A span that begins now; `None` if its trace is not recorded.
    pub fn span(&self, operation: Operation, trace: Option<Trace>) -> Option<Span> {
        Some(Span::new(self.0.as_ref()?, operation, trace?))
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracer").field(&self.is_on()).finish()
    }
}

impl Shared {
    /// A span has ended.
    fn end(&self, span: Ended) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans("dropped", 1);
        }
    }
}

impl Export {
    /// Sends what waits, for 2 s at most. Spans that end later are lost.
    pub async fn finish(self) {
        let Some((stop, exporting)) = self.0 else {
            return;
        };
        let _ = stop.send(());
        let abort = exporting.abort_handle();
        if timeout(LAST_SPANS, exporting).await.is_err() {
            abort.abort();
            tracing::warn!("the last traces could not be sent in time; they are lost");
        }
    }
}

/// A number that no trace has; 0 is none.
fn new_trace() -> TraceId {
    rand::rng().random_range(1..=u128::MAX).to_be_bytes()
}

/// A number that no span of a trace has.
fn new_span() -> SpanId {
    rand::rng().random_range(1..=u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(sample_ratio: f64, room: usize) -> (Tracer, mpsc::Receiver<Ended>, Arc<Metrics>) {
        let (queue, spans) = mpsc::channel(room);
        let metrics = Arc::new(Metrics::new());
        let shared = Shared {
            sample_ratio,
            queue,
            metrics: metrics.clone(),
        };
        (Tracer(Some(Arc::new(shared))), spans, metrics)
    }

    #[test]
    fn a_callers_word_counts_before_chance() {
        let sampled = TraceParent::recorded([1; 16], [2; 8]);
        let quiet = sampled.to_string().replace("-01", "-00");
        let quiet = TraceParent::parse(quiet.as_bytes()).expect("a good one");
        let followed = Trace {
            id: [1; 16],
            parent: Some([2; 8]),
        };
        for ratio in [0.0, 1.0] {
            let (tracer, ..) = tracer(ratio, 1);
            assert_eq!(tracer.follow(Some(sampled)), Some(followed));
            assert_eq!(tracer.follow(Some(quiet)), None);
            let begun = tracer.follow(None);
            assert_eq!(begun.is_some(), ratio > 0.0);
            assert!(begun.is_none_or(|trace| trace.parent.is_none()));
        }
        let off = Tracer::default();
        assert_eq!(off.follow(Some(sampled)), None);
        assert!(off.span(Operation::Push, Some(followed)).is_none());
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted() {
        let (tracer, mut spans, metrics) = tracer(1.0, 1);
        for _ in 0..3 {
            drop(tracer.span(Operation::Push, tracer.follow(None)));
        }
        assert!(spans.try_recv().is_ok());
        assert!(spans.try_recv().is_err());
        assert!(
            metrics
                .render()
                .0
                .contains("usher_trace_spans_total{result=\"dropped\"} 2")
        );
    }

    #[test]
    fn a_span_that_counts_only_when_it_ends_is_else_forgotten() {
        let (tracer, mut spans, _metrics) = tracer(1.0, 8);
        let span = || {
            let span = tracer.span(Operation::Deliver, tracer.follow(None));
            span.expect("a span").only_if_ended()
        };
        drop(span());
        assert!(spans.try_recv().is_err());
        span().end();
        assert!(spans.try_recv().is_ok());
    }
}
