//! A process full of hostile clients. Each has one attack, does it until it is cut
//! off, and is back a moment later.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{ChildStdin, ChildStdout, Command},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use deadpool_redis::redis;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::{Instant, sleep, timeout},
};

use usher::tls::{ClientFiles, Connector, Stream};

use crate::{
    Outcome, attacks,
    centrifuge::Encoding,
    process::Process,
    servers::{self, Gateway},
};

/// As the first argument it makes this program the attackers.
pub(crate) const ARGUMENT: &str = "--be-hostile";

/// Between being cut off and the next connection.
const AWAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(800));
/// All have begun after this.
pub(crate) const RAMP: Duration = Duration::from_secs(5);
/// Who is let do as it likes goes by itself then.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where an attack is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The public listener.
    Public,
    /// The push listener, before TLS.
    Grpc,
    /// The same, behind TLS.
    GrpcByTls,
}

/// What a session of an attacker speaks.
#[derive(Clone, Copy)]
pub(crate) enum Speaks {
    Usher,
    Centrifuge(Encoding),
}

/// What a client does.
pub(crate) struct Attack {
    name: &'static str,
    /// Where it connects.
    way: Way,
    /// With a session of its own, which speaks this.
    in_session: Option<Speaks>,
    first: Vec<u8>,
    then: Vec<u8>,
    pause: Duration,
    half_closed: bool,
}

impl Attack {
    /// On a connection that was just made.
    pub(crate) fn on_http(name: &'static str, first: &[u8], then: &[u8], pause: Duration) -> Self {
        Self {
            name,
            way: Way::Public,
            in_session: None,
            first: first.to_vec(),
            then: then.to_vec(),
            pause,
            half_closed: false,
        }
    }

    /// On a session, which takes a good ticket.
    pub(crate) fn on_session(
        name: &'static str,
        first: &[u8],
        then: &[u8],
        pause: Duration,
    ) -> Self {
        Self {
            in_session: Some(Speaks::Usher),
            ..Self::on_http(name, first, then, pause)
        }
    }

    /// On a connection to the push listener, which speaks TLS.
    pub(crate) fn on_grpc(name: &'static str, first: &[u8]) -> Self {
        Self {
            way: Way::Grpc,
            ..Self::on_http(name, first, b"", Duration::from_secs(1))
        }
    }

    /// On a connection to the push listener with which TLS is agreed on.
    pub(crate) fn on_http2(name: &'static str, first: &[u8], then: &[u8], pause: Duration) -> Self {
        Self {
            way: Way::GrpcByTls,
            ..Self::on_http(name, first, then, pause)
        }
    }

    /// In a session that speaks this.
    pub(crate) fn speaking(self, speaks: Speaks) -> Self {
        Self {
            in_session: Some(speaks),
            ..self
        }
    }

    /// Says after its first words that there will be no more.
    pub(crate) fn half_closed(self) -> Self {
        Self {
            half_closed: true,
            ..self
        }
    }
}

/// What all have done so far.
#[derive(Default, Clone, Serialize, Deserialize)]
pub(crate) struct Score {
    /// Connections that were made.
    pub(crate) connections: u64,
    /// Bytes that the kernel took.
    pub(crate) bytes: u64,
    /// Connected at this moment.
    pub(crate) here: u64,
    /// How often each attack ended in which way.
    pub(crate) ends: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The process, seen from outside.
pub(crate) struct Attackers {
    pub(crate) process: Process,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Attackers {
    /// So many clients, which begin evenly across [`RAMP`]. `ca_file` vouches for the push
    /// listener.
    pub(crate) fn start(
        gateway: &Gateway,
        redis: SocketAddr,
        ca_file: &Path,
        count: usize,
    ) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(ARGUMENT);
        command.args([gateway.public.to_string(), gateway.grpc.to_string()]);
        command.args([redis.to_string(), count.to_string()]);
        command.arg(ca_file);
        let mut process = Process::start_with_pipes(&command)?;
        let ask = process.child().stdin.take().ok_or("no stdin")?;
        let stdout = process.child().stdout.take().ok_or("no stdout")?;
        Ok(Self {
            process,
            ask,
            answers: BufReader::new(stdout),
        })
    }

    /// What they have done so far.
    pub(crate) fn score(&mut self) -> Outcome<Score> {
        writeln!(self.ask)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line)
            .map_err(|error| format!("{error}: the attackers said {}", self.process.said()).into())
    }
}

/// What the child does: the arguments say against whom, with whose tickets, and how
/// many.
pub(crate) fn be(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let mut argument = || arguments.next().ok_or("PUBLIC GRPC REDIS COUNT CA_FILE");
    let gateway: SocketAddr = argument()?.parse()?;
    let grpc: SocketAddr = argument()?.parse()?;
    let redis = redis::Client::open(format!("redis://{}", argument()?))?;
    let count: usize = argument()?.parse()?;
    let tls = ClientFiles::new(Some(argument()?.into()), None);
    let attacks: Vec<_> = attacks::all(&gateway.to_string())
        .into_iter()
        .map(Arc::new)
        .collect();
    let ends = attacks
        .iter()
        .map(|attack| (attack.name.to_owned(), BTreeMap::new()));
    let fleet = Arc::new(Fleet {
        gateway,
        grpc,
        tls: tls.load()?,
        redis: Mutex::new(redis.get_connection()?),
        score: Mutex::new(Score {
            ends: ends.collect(),
            ..Score::default()
        }),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for (index, attack) in (0..count).zip(attacks.iter().cycle()) {
        let (fleet, attack) = (fleet.clone(), attack.clone());
        let begins = RAMP.mul_f64(index as f64 / count as f64);
        runtime.spawn(async move {
            sleep(begins).await;
            fleet.attack(index, &attack).await;
        });
    }
    thread::spawn(move || {
        for _ in io::stdin().lines() {
            let score = serde_json::to_string(&*fleet.score()).unwrap_or_default();
            println!("{score}");
        }
        // Nobody asks any more.
        std::process::exit(0);
    });
    runtime.block_on(std::future::pending::<()>());
    Ok(())
}

struct Fleet {
    gateway: SocketAddr,
    grpc: SocketAddr,
    tls: Connector,
    redis: Mutex<redis::Connection>,
    score: Mutex<Score>,
}

impl Fleet {
    /// Attacks for ever.
    async fn attack(&self, index: usize, attack: &Attack) {
        loop {
            let end = match self.connect(index, attack.way).await {
                Ok(stream) => {
                    self.count(|score| {
                        score.connections += 1;
                        score.here += 1;
                    });
                    let end = self.once(index, stream, attack).await;
                    self.count(|score| score.here -= 1);
                    end
                }
                Err(error) => format!("not connected: {}", error.kind()),
            };
            self.count(|score| {
                let ends = score.ends.entry(attack.name.to_owned()).or_default();
                *ends.entry(end).or_default() += 1;
            });
            let (least, most) = AWAY;
            sleep(least + (most - least).mul_f64(rand::random())).await;
        }
    }

    /// Each comes from an address of its own, as a botnet does.
    async fn connect(&self, index: usize, way: Way) -> io::Result<Stream> {
        let socket = TcpSocket::new_v4()?;
        let [high, low] = (index as u16).to_be_bytes();
        socket.bind((Ipv4Addr::new(127, 66, high, low), 0).into())?;
        let to = match way {
            Way::Public => self.gateway,
            Way::Grpc | Way::GrpcByTls => self.grpc,
        };
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        match way {
            Way::Public | Way::Grpc => Ok(Stream::Plain(stream)),
            Way::GrpcByTls => self.tls.connect("localhost", stream).await,
        }
    }

    /// One connection, until its end; returns how that came.
    async fn once(&self, index: usize, mut stream: Stream, attack: &Attack) -> String {
        let mut heard = Vec::new();
        let outcome = self.act(index, &mut stream, attack, &mut heard).await;
        last_word(&heard).unwrap_or_else(|| {
            let way = match outcome {
                Ok(true) => "cut off",
                Ok(false) => "let be",
                Err(_) => "reset",
            };
            way.to_owned()
        })
    }

    /// False where it was not cut off.
    async fn act(
        &self,
        index: usize,
        stream: &mut Stream,
        attack: &Attack,
        heard: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if let Some(speaks) = attack.in_session {
            let ticket = self.ticket(index).map_err(io::Error::other)?;
            let (request, says) = attacks::opening(speaks, &self.gateway.to_string(), &ticket);
            self.write(stream, request.as_bytes()).await?;
            while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(heard).await? == 0 {
                    return Ok(true);
                }
            }
            self.write(stream, &says).await?;
        }
        self.write(stream, &attack.first).await?;
        if attack.half_closed {
            stream.shutdown().await?;
        }
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if !attack.half_closed {
                self.write(stream, &attack.then).await?;
            }
            let next = Instant::now() + attack.pause;
            while let Ok(read) = tokio::time::timeout_at(next, stream.read_buf(heard)).await {
                if read? == 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Who is not read from for a while is cut off, too.
    async fn write(&self, stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, stream.write_all(bytes)).await??;
        timeout(PATIENCE, stream.flush()).await??;
        self.count(|score| score.bytes += bytes.len() as u64);
        Ok(())
    }

    fn ticket(&self, index: usize) -> Outcome<String> {
        let mut redis = self.redis.lock().unwrap_or_else(PoisonError::into_inner);
        let tickets = servers::mint(&mut redis, &[format!("mallory-{index}")])?;
        tickets.into_iter().next().ok_or("no ticket".into())
    }

    fn count(&self, change: impl FnOnce(&mut Score)) {
        change(&mut self.score());
    }

    fn score(&self) -> MutexGuard<'_, Score> {
        self.score.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last thing that the gateway said: a status, or a close code.
fn last_word(heard: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(heard);
    let (at, _) = text.rmatch_indices("HTTP/1.1 ").next()?;
    let status = text.get(at + 9..at + 12)?;
    if status != "101" {
        return Some(status.to_owned());
    }
    let start = heard.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let mut frames = heard.get(start..)?;
    while let [first, length, rest @ ..] = frames {
        let (length, rest) = match (length, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (length, rest) => (usize::from(*length), rest),
        };
        let payload = rest.get(..length)?;
        if let (0x88, [high, low, ..]) = (first, payload) {
            return Some(format!("closed {}", u16::from_be_bytes([*high, *low])));
        }
        frames = &rest[length..];
    }
    None
}
