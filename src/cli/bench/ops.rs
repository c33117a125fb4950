//! What the gateway says of itself, by `/metrics`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::header::HOST;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};
use url::{Position, Url};

use crate::cli::{connect::Dialer, output::in_words};

const ANSWER: Duration = Duration::from_secs(5);
/// The largest answer in bytes. A gateway's metrics are some 50 KB.
const LARGEST: usize = 4 << 20;
/// Between two looks while messages flow.
const BETWEEN: Duration = Duration::from_secs(1);

/// Where a gateway's metrics are.
#[derive(Clone)]
pub(super) struct Ops {
    url: Url,
    dialer: Dialer,
}

/// A gateway at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    /// Resident memory; only Linux tells it.
    pub(super) memory: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) sessions: u64,
}

/// The most memory that was seen, while it is watched.
pub(super) struct Peak {
    most: Arc<AtomicU64>,
    task: AbortHandle,
}

/// Reads `--ops`: `http://HOST:PORT`.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let bad = || "write for example http://127.0.0.1:9100".to_owned();
    let url = match text.contains("://") {
        true => Url::parse(text),
        false => Url::parse(&format!("http://{text}")),
    };
    let mut url = url.map_err(|_| bad())?;
    let bare = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare {
        return Err(bad());
    }
    if !url.path().ends_with("/metrics") {
        let path = format!("{}/metrics", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

impl Ops {
    pub(super) fn new(url: Url, dialer: Dialer) -> Self {
        Self { url, dialer }
    }

    /// The gateway now.
    ///
    /// # Errors
    ///
    /// Why it can't be read, in words.
    pub(super) async fn read(&self) -> Result<Reading, String> {
        let text = match timeout(ANSWER, self.get()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        };
        let url = &self.url;
        let text = text.map_err(|why| format!("{url} can't be read: {why}"))?;
        Reading::of(&text).ok_or_else(|| format!("{url} has no metrics of a gateway"))
    }

    /// Watches the memory until it is told to end.
    pub(super) fn watch(&self) -> Peak {
        let most = Arc::<AtomicU64>::default();
        let (ops, seen) = (self.clone(), most.clone());
        let watching = tokio::spawn(async move {
            loop {
                sleep(BETWEEN).await;
                if let Ok(Reading { memory, .. }) = ops.read().await {
                    seen.fetch_max(memory.unwrap_or_default(), Relaxed);
                }
            }
        });
        Peak {
            most,
            task: watching.abort_handle(),
        }
    }

    async fn get(&self) -> Result<String, String> {
        let url = &self.url;
        let port = url.port_or_known_default().unwrap_or(80);
        let address = format!("{}:{port}", url.host_str().unwrap_or_default());
        let stream = self.dialer.dial(&address).await.map_err(in_words)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(in_words)?;
        let asking = async {
            let request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
                .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
                .body(Empty::<Bytes>::new())
                .map_err(in_words)?;
            let response = sender.send_request(request).await.map_err(in_words)?;
            if response.status() != StatusCode::OK {
                return Err(format!("it answers {}", response.status()));
            }
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(in_words)?.to_bytes();
            Ok(String::from_utf8_lossy(&body).into_owned())
        };
        tokio::select! {
            answer = asking => answer,
            Err(error) = connection => Err(in_words(error)),
        }
    }
}

impl Reading {
    fn of(metrics: &str) -> Option<Self> {
        let sum = |wanted: &str| {
            let values = metrics.lines().filter_map(|line| {
                let (sample, value) = line.rsplit_once(' ')?;
                let name = sample.split('{').next()?;
                (name == wanted).then(|| value.parse::<f64>().ok())?
            });
            values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
        };
        sum("usher_build_info")?;
        Some(Self {
            memory: sum("process_resident_memory_bytes").map(|bytes| bytes as u64),
            cpu_seconds: sum("process_cpu_seconds_total"),
            sessions: sum("usher_sessions").unwrap_or_default() as u64,
        })
    }
}

impl Peak {
    /// Ends the watch; 0 where nothing was seen.
    pub(super) fn end(self) -> u64 {
        self.task.abort();
        self.most.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# HELP usher_sessions Open sessions.\nusher_build_info{version=\"1\"} 1\n\
                    usher_sessions{transport=\"sse\"} 2\nusher_sessions{transport=\"websocket\"} 3\n\
                    usher_sessions_waiting 7\nprocess_resident_memory_bytes 1.5e7\n";
        let reading = Reading::of(text).expect("a gateway");
        let expected = Reading {
            memory: Some(15_000_000),
            cpu_seconds: None,
            sessions: 5,
        };
        assert_eq!(reading, expected);
        assert_eq!(Reading::of("node_cpu_seconds_total 1\n"), None);
    }

    #[test]
    fn an_address_leads_to_the_metrics() {
        for (text, url) in [
            ("http://127.0.0.1:9100", "http://127.0.0.1:9100/metrics"),
            ("127.0.0.1:9100", "http://127.0.0.1:9100/metrics"),
            ("https://h/a/", "https://h/a/metrics"),
            ("http://h:1/metrics", "http://h:1/metrics"),
        ] {
            assert_eq!(parse(text).expect(text).as_str(), url);
        }
        for bad in ["", "ftp://h", "http://u:p@h", "http://"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
