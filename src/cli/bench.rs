//! `usher bench`: what a deployment bears.

mod histogram;
mod marks;
mod ops;
mod pace;
mod plan;
mod progress;
mod publish;
mod report;
mod run;
mod seen;
mod sessions;
mod tally;

use std::time::Duration;

use url::Url;

use self::{ops::Ops, plan::Plan, run::Run};
use super::{
    connect::{Gateway, Where},
    failure::Failure,
    serve::raise_descriptors,
    values,
};

/// Descriptors for all but sessions: the runtime, gRPC, `/metrics`.
const SPARE: u64 = 64;
/// Sessions and topics that one run may ask for.
const MOST: i64 = 1_000_000;
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  usher bench --sessions 1000 --rate 500 --payload 256B --duration 30s
  usher bench --sessions 5000 --rate 10 --payload 1KiB --duration 1m --broadcast
  usher bench --sessions 1000 --rate 500 --payload 256B --duration 30s --topics 50
  usher bench --sessions 1000 --rate 500 --payload 256B --duration 30s --json \\
    --grpc gateway.internal:9090 --public https://gateway.internal \\
    --token-file token.txt --ops http://gateway.internal:9100

It opens the sessions on a running gateway as users bench-RANDOM-0, bench-RANDOM-1
and so on, so that it reaches no real user; but a broadcast reaches every session.
Then it publishes --rate messages a second in all, to one user after the other.
With --topics each session follows one of the topics bench-0, bench-1 and so on
(more, where there are fewer sessions than topics).

It prints a table, or one JSON object where the output is no terminal:
  latency    from just before the publish to the read of the frame here, so
             it includes this machine; run it elsewhere than the gateway
  lost       deliveries that did not come; a session that the gateway closes
             loses what comes after
  memory     of the gateway, from its /metrics: before, with the sessions, after
  CPU        of the gateway while messages flow, in whole seconds

Ctrl-C stops it, and it prints what there is; the second time at once. It exits 0;
1 where a message was lost or not published, or no session was opened; 64 is wrong
usage, 78 bad configuration. docs/sizing.md says what to make of the figures.")]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Where,
    /// How many sessions to open, 1 to 1,000,000; each is a file descriptor here and there.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST))]
    sessions: u32,
    /// Messages a second, of all sessions together, 1 to 1,000,000.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=MOST))]
    rate: u32,
    /// How large each message is, 64B to 8MiB.
    #[arg(long, value_name = "SIZE", value_parser = payload)]
    payload: usize,
    /// How long to publish, 1s to 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Duration,
    /// Publish each message to every session.
    #[arg(long, conflicts_with = "topics")]
    broadcast: bool,
    /// Publish to so many topics, one after the other.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST))]
    topics: Option<u32>,
    /// Fail unless the gateway is in durable mode, where sequences prove each loss.
    #[arg(long)]
    durable: bool,
    /// Where the gateway serves /metrics; otherwise `ops.listen`.
    #[arg(long, value_name = "URL", value_parser = ops::parse)]
    ops: Option<Url>,
    /// Print JSON on a terminal, too.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let possible = raise_descriptors().saturating_sub(SPARE);
    if u64::from(arguments.sessions) > possible {
        return Err(Failure::usage(format_args!(
            "--sessions {} are too many: each takes a file descriptor, and this process may have \
             {possible} sessions; raise the hard limit (ulimit -Hn), or run several at once",
            arguments.sessions
        )));
    }
    let plan = Plan::new(arguments)?;
    let gateway = arguments.gateway.load()?;
    // Frames of many sessions are read on all cores, or they would wait here.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("no runtime: {error}")))?;
    let done = runtime.block_on(async {
        let run = Run {
            api: gateway.api()?,
            public: gateway.public()?,
            dialer: gateway.dialer(gateway.public()?.is_encrypted())?,
            plan,
            must_be_durable: arguments.durable,
            in_json: arguments.json,
        };
        run.execute(arguments.ops(&gateway)?).await
    });
    runtime.shutdown_background();
    done
}

impl Arguments {
    /// Where the metrics are, and whether the user has said so.
    fn ops(&self, gateway: &Gateway<'_>) -> Result<Option<(Ops, bool)>, Failure> {
        let url = match (&self.ops, gateway.ops()) {
            (Some(url), _) => url.clone(),
            (None, Some(address)) => ops::parse(&address.to_string()).map_err(Failure::config)?,
            (None, None) => return Ok(None),
        };
        let dialer = gateway.dialer(url.scheme() == "https")?;
        Ok(Some((Ops::new(url, dialer), self.ops.is_some())))
    }
}

fn payload(text: &str) -> Result<usize, String> {
    let (smallest, largest) = (plan::SMALLEST, plan::LARGEST);
    match values::size(text)? {
        bytes if (smallest..=largest).contains(&bytes) => Ok(bytes),
        _ => Err(format!(
            "must be from \"{smallest}B\", which a message's number and time take, to \"8MiB\""
        )),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match values::duration(text)? {
        duration if duration >= Duration::from_secs(1) && duration <= LONGEST => Ok(duration),
        _ => Err("must be from \"1s\" to \"24h\"".to_owned()),
    }
}

#[cfg(test)]
impl Arguments {
    fn for_tests(sessions: u32, topics: Option<u32>) -> Self {
        #[derive(clap::Parser)]
        struct Bench {
            #[command(flatten)]
            arguments: Arguments,
        }
        let sessions = sessions.to_string();
        let mut words = vec!["bench", "--rate=1", "--payload=64", "--duration=1s"];
        words.extend(["--sessions", &sessions]);
        let topics = topics.map(|topics| topics.to_string());
        words.extend(topics.iter().flat_map(|topics| ["--topics", topics]));
        <Bench as clap::Parser>::parse_from(words).arguments
    }
}
