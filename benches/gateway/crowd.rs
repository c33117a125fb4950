//! A process full of clients that keep the contract's rule, and what they count.

use std::{
    collections::{BTreeMap, HashSet},
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{ChildStdin, ChildStdout, Command},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use deadpool_redis::redis;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    Outcome,
    browser::{Connection, End, Rule},
    process::Process,
    servers,
};

/// As the first argument it makes this program a crowd.
pub(crate) const ARGUMENT: &str = "--be-a-crowd";

/// Who comes, and when.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) redis: SocketAddr,
    /// The number of the first client; each is its own user.
    pub(crate) first: usize,
    pub(crate) clients: usize,
    /// When the first connects, in Unix milliseconds; tickets are had before.
    pub(crate) begin: u64,
    /// The others follow evenly across this.
    pub(crate) across: Duration,
}

/// What all have seen since somebody asked before; `here` is the state of now.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Score {
    /// Welcome at this moment.
    pub(crate) here: usize,
    /// Connections that were tried.
    pub(crate) tries: u64,
    /// How often a connection ended in which way.
    pub(crate) ends: BTreeMap<String, u64>,
    /// When somebody was welcome, in Unix milliseconds, and which gateway had ended
    /// the session before; none the first time.
    pub(crate) welcomes: Vec<(u64, Option<String>)>,
    /// Clients that one gateway sent away twice.
    pub(crate) twice: u64,
}

impl Score {
    /// Both together.
    pub(crate) fn add(&mut self, other: Self) {
        self.here += other.here;
        self.tries += other.tries;
        for (end, times) in other.ends {
            *self.ends.entry(end).or_default() += times;
        }
        self.welcomes.extend(other.welcomes);
        self.twice += other.twice;
    }
}

/// Now, as two processes agree on it.
pub(crate) fn unix_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

/// The process, seen from outside.
pub(crate) struct Crowd {
    process: Process,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crowd {
    pub(crate) fn start(plan: &Plan) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([ARGUMENT, &serde_json::to_string(plan)?]);
        let mut process = Process::start_with_pipes(&command)?;
        let ask = process.child().stdin.take().ok_or("no stdin")?;
        let stdout = process.child().stdout.take().ok_or("no stdout")?;
        Ok(Self {
            process,
            ask,
            answers: BufReader::new(stdout),
        })
    }

    /// What they have seen since the last time.
    pub(crate) fn score(&mut self) -> Outcome<Score> {
        writeln!(self.ask)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line)
            .map_err(|error| format!("{error}: the crowd said {}", self.process.said()).into())
    }
}

/// What the child does: the argument is its plan.
pub(crate) fn be(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let plan: Plan = serde_json::from_str(&arguments.next().ok_or("PLAN")?)?;
    let redis = redis::Client::open(format!("redis://{}", plan.redis))?;
    let users: Vec<_> = (0..plan.clients)
        .map(|index| user(plan.first + index))
        .collect();
    let tickets = servers::mint(&mut redis.get_connection()?, &users)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let street = Arc::new(Street {
        redis: runtime.block_on(redis.get_multiplexed_async_connection())?,
        score: Mutex::default(),
        address: plan.address,
    });
    for (index, ticket) in tickets.into_iter().enumerate() {
        let street = street.clone();
        let begins = Duration::from_millis(plan.begin.saturating_sub(unix_millis()))
            + plan.across.mul_f64(index as f64 / plan.clients as f64);
        let index = plan.first + index;
        runtime.spawn(async move {
            sleep(begins).await;
            street.live(index, ticket).await;
        });
    }
    thread::spawn(move || {
        for _ in io::stdin().lines() {
            let mut score = street.score();
            let here = score.here;
            let said = std::mem::replace(
                &mut *score,
                Score {
                    here,
                    ..Score::default()
                },
            );
            drop(score);
            println!("{}", serde_json::to_string(&said).unwrap_or_default());
        }
        // Nobody asks any more.
        std::process::exit(0);
    });
    runtime.block_on(std::future::pending::<()>());
    Ok(())
}

fn user(index: usize) -> String {
    format!("browser-{index}")
}

/// What all clients share.
struct Street {
    address: SocketAddr,
    redis: redis::aio::MultiplexedConnection,
    score: Mutex<Score>,
}

impl Street {
    /// Comes back for as long as the rule says so.
    async fn live(&self, index: usize, mut ticket: String) {
        let mut rule = Rule::default();
        let mut sent_away_by = HashSet::new();
        let mut before = None;
        loop {
            self.score().tries += 1;
            let end = match Connection::open(self.address, index, &ticket).await {
                Ok(mut connection) => {
                    {
                        let mut score = self.score();
                        score.here += 1;
                        score.welcomes.push((unix_millis(), before.take()));
                    }
                    let end = connection.listen().await;
                    self.score().here -= 1;
                    before = Some(connection.gateway.clone());
                    if !sent_away_by.insert(connection.gateway) {
                        self.score().twice += 1;
                    }
                    end
                }
                Err(end) => end,
            };
            self.count(&end);
            let Some(wait) = rule.wait(&end) else { return };
            sleep(wait).await;
            ticket = loop {
                match self.ticket(index).await {
                    Ok(ticket) => break ticket,
                    Err(error) => self.count_end(format!("no ticket: {error}")),
                }
                sleep(Duration::from_secs(1)).await;
            };
        }
    }

    async fn ticket(&self, index: usize) -> redis::RedisResult<String> {
        let ticket = format!("{:032x}", rand::random::<u128>());
        let mut set = redis::cmd("SET");
        set.arg(format!("ticket:{ticket}")).arg(user(index));
        set.arg("EX").arg(60);
        set.query_async::<()>(&mut self.redis.clone()).await?;
        Ok(ticket)
    }

    fn count(&self, end: &End) {
        let hint = if end.hint.is_some() {
            " with a hint"
        } else {
            ""
        };
        self.count_end(format!("{}{hint}", end.how));
    }

    fn count_end(&self, end: String) {
        *self.score().ends.entry(end).or_default() += 1;
    }

    fn score(&self) -> MutexGuard<'_, Score> {
        self.score.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
