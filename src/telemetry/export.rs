//! Spans on their way to the collector: several at a time, tried again for a while.

use std::{error::Error, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use url::Url;

use super::{Config, otlp, span::Ended};
use crate::{
    jitter,
    metrics::Metrics,
    reach,
    tls::{ClientFiles, Stream},
};

/// Spans of one request.
const MAX_BATCH: usize = 512;
/// How long a span waits for others, to be sent with them.
const GATHER: Duration = Duration::from_secs(1);
/// The collector answers within this.
const ANSWER: Duration = Duration::from_secs(5);
/// The first pause before a request is sent again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a request is sent again.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// How often a request is sent; then its spans are lost, and newer ones have their turn.
const ATTEMPTS: u32 = 6;
/// Characters of what the collector says that are logged.
const WORDS: usize = 200;

/// Sends spans.
pub(super) struct Exporter {
    endpoint: Url,
    gateway: String,
    spans: mpsc::Receiver<Ended>,
    metrics: Arc<Metrics>,
    /// `None` before the first request, and after one that failed.
    client: Option<TraceServiceClient<Channel>>,
    /// The log has said that it does not work.
    failing: bool,
}

/// Why spans are not with the collector.
struct Failure {
    words: String,
    /// The collector refused the request: sending it again is of no use.
    refused: bool,
}

impl Exporter {
    pub(super) fn new(
        config: &Config,
        spans: mpsc::Receiver<Ended>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            endpoint: config.endpoint.clone(),
            gateway: config.gateway.clone(),
            spans,
            metrics,
            client: None,
            failing: false,
        }
    }

    /// Sends spans until it is told to `stop`; then what waits, as long as that works.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut batch = Vec::new();
        loop {
            let sending = async {
                self.gather(&mut batch).await;
                self.send(&mut batch).await;
            };
            tokio::select! {
                () = sending => {}
                _ = &mut stop => break,
            }
        }
        loop {
            while batch.len() < MAX_BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() || self.attempt(&batch).await.is_err() {
                return;
            }
            batch.clear();
        }
    }

    /// Waits for spans. Dropping the future loses none.
    async fn gather(&mut self, batch: &mut Vec<Ended>) {
        if batch.is_empty() {
            match self.spans.recv().await {
                Some(span) => batch.push(span),
                // All who make spans are gone.
                None => return std::future::pending().await,
            }
        }
        let until = Instant::now() + GATHER;
        while batch.len() < MAX_BATCH
            && let Ok(Some(span)) = timeout_at(until, self.spans.recv()).await
        {
            batch.push(span);
        }
    }

    /// Sends spans, or gives them up.
    async fn send(&mut self, batch: &mut Vec<Ended>) {
        let mut pause = FIRST_PAUSE;
        let mut result = "unsent";
        for attempt in 1..=ATTEMPTS {
            match self.attempt(batch).await {
                Ok(()) => return batch.clear(),
                Err(Failure { refused: true, .. }) => {
                    result = "refused";
                    break;
                }
                Err(_) if attempt < ATTEMPTS => {
                    sleep(jitter::fraction_of(pause, 0.5, 1.0)).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                Err(_) => {}
            }
        }
        self.metrics.spans(result, batch.len());
        batch.clear();
    }

    /// Sends spans once, and says in the log when that begins to fail, or works again.
    async fn attempt(&mut self, batch: &[Ended]) -> Result<(), Failure> {
        let outcome = self.call(batch).await;
        let endpoint = &self.endpoint;
        match &outcome {
            Ok(response) => {
                let partial = response.partial_success.as_ref();
                let rejected = partial.map_or(0, |partial| partial.rejected_spans);
                let rejected = usize::try_from(rejected).unwrap_or(0).min(batch.len());
                self.metrics.spans("refused", rejected);
                self.metrics.spans("sent", batch.len() - rejected);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(%endpoint, "traces are sent again");
                }
            }
            Err(Failure { words, .. }) => {
                // Of the next one all is new: addresses, authorities, the connection.
                self.client = None;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        %endpoint,
                        error = words.as_str(),
                        "traces can't be sent to telemetry.otlp_endpoint; they are tried again, \
                         and lost where too many wait (said once, until it works again)"
                    );
                }
            }
        }
        outcome.map(drop)
    }

    async fn call(&mut self, batch: &[Ended]) -> Result<ExportTraceServiceResponse, Failure> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(TraceServiceClient::new(channel(&self.endpoint)?)),
        };
        let request = otlp::request(&self.gateway, batch);
        match timeout(ANSWER, client.export(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(Failure {
                words: format!("no answer within {} s", ANSWER.as_secs()),
                refused: false,
            }),
        }
    }
}

/// A connection that is made by the first call.
fn channel(url: &Url) -> Result<Channel, Failure> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let encrypted = url.scheme() == "https";
    let endpoint = Endpoint::from_shared(format!("{}://{host}:{port}", url.scheme()));
    let endpoint = endpoint.map_err(|error| Failure {
        words: error.to_string(),
        refused: false,
    })?;
    let connector = service_fn(move |_| {
        let host = host.clone();
        async move { connect(&host, port, encrypted).await.map(TokioIo::new) }
    });
    let endpoint = endpoint.connect_timeout(ANSWER);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

async fn connect(host: &str, port: u16, encrypted: bool) -> io::Result<Stream> {
    let stream = reach::connect(host, port).await?;
    if !encrypted {
        return Ok(Stream::Plain(stream));
    }
    let connector = ClientFiles::default().load_for(b"h2");
    let connector = connector.map_err(io::Error::other)?;
    connector.connect(host, stream).await
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let refused = matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::Unimplemented
                | Code::Unauthenticated
        );
        let causes = std::iter::successors(status.source(), |&cause| cause.source());
        let words = match causes.last() {
            // What the operating system says, mostly.
            Some(cause) => cause.to_string(),
            None => format!("{:?}: {}", status.code(), status.message()),
        };
        Self {
            words: words.chars().take(WORDS).collect(),
            refused,
        }
    }
}
