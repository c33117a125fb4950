//! Finds the servers that hold tickets, and examines each.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{FromRedisValue as _, Value, cmd};
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};

use super::{
    config::{Address, Config, Servers},
    fault::{Fault, Kind, describe},
    inspect::{self, Mode},
    link::{Link, Peer, connect},
    map::Map,
    node::Node,
    slots::{self, Range, SLOTS},
};

/// Nodes that are asked for the slots besides those that are configured.
const MAX_ASKED: usize = 8;
/// How often a Cluster is asked for its slots while no node redirects us.
const SLOTS_AGE: Duration = Duration::from_secs(30);

/// What it keeps from one look to the next.
pub(super) struct Finder {
    config: Arc<Config>,
    map: Arc<Map>,
    /// The Sentinel that answered last, and the connection to it.
    sentinel: Option<(Address, Link)>,
    /// A Cluster's primaries, and when it was asked for them.
    primaries: Option<(Instant, Vec<Primary>)>,
    /// Where a Cluster was when it was last asked: more addresses to ask.
    known: Vec<Address>,
}

struct Primary {
    node: Arc<Node>,
    /// A key that it answers for.
    own_key: String,
    slots: u32,
}

impl Finder {
    pub(super) fn new(config: Arc<Config>, map: Arc<Map>) -> Self {
        Self {
            config,
            map,
            sentinel: None,
            primaries: None,
            known: Vec::new(),
        }
    }

    /// Forgets what may be old: a Cluster's slots are read anew.
    pub(super) fn doubt(&mut self) {
        self.primaries = None;
    }

    /// Finds the servers and examines them; bounded by a few times `redis.timeout`.
    ///
    /// # Errors
    ///
    /// The first [`Fault`]; unusable ones first. A Cluster's other nodes serve all the same.
    pub(super) async fn look(&mut self) -> Result<(), Fault> {
        match self.config.servers.clone() {
            Servers::Single(address) => self.single(address).await,
            Servers::Sentinel(sentinels, master) => self.sentinel(&sentinels, &master).await,
            Servers::Cluster(seeds) => self.cluster(&seeds).await,
        }
    }

    async fn single(&self, address: Address) -> Result<(), Fault> {
        let current = self.map.single().filter(|node| node.address == address);
        let node = current.unwrap_or_else(|| Node::new(&self.config, address));
        node.examine(self.config.own_key(rand::random())).await?;
        self.map.set_single(node);
        Ok(())
    }

    /// Asks the Sentinel that answered last, then all at the same time, and takes the first server
    /// that says itself that it is the primary. Where no Sentinel answers, a primary that
    /// works stays.
    async fn sentinel(&mut self, sentinels: &[Address], master: &str) -> Result<(), Fault> {
        let mut tried = Vec::new();
        let mut faults = Vec::new();
        if let Some((sentinel, mut link)) = self.sentinel.take()
            && let Ok(primary) = ask_sentinel(&self.config, &sentinel, &mut link, master).await
        {
            self.sentinel = Some((sentinel, link));
            match self.single(primary.clone()).await {
                Ok(()) => return Ok(()),
                Err(fault) => faults.push(fault),
            }
            tried.push(primary);
        }
        let config = self.config.clone();
        let asked = sentinels.iter().map(|sentinel| async {
            let answer = primary_of(&config, sentinel, master).await;
            (sentinel.clone(), answer)
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some((sentinel, answer)) = asked.next().await {
            let (primary, link) = match answer {
                Ok(answer) => answer,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            if tried.contains(&primary) {
                continue;
            }
            match self.single(primary.clone()).await {
                Ok(()) => {
                    self.sentinel = Some((sentinel, link));
                    return Ok(());
                }
                // What is wrong with a primary says more than what is with a Sentinel.
                Err(fault) => faults.insert(0, fault),
            }
            tried.push(primary);
        }
        match self.map.single() {
            Some(node) if tried.is_empty() => {
                node.examine(self.config.own_key(rand::random())).await
            }
            Some(node) => {
                // The Sentinels name another one, or this one does not work.
                node.set_down();
                Err(first(faults))
            }
            None => Err(first(faults)),
        }
    }

    async fn cluster(&mut self, seeds: &[Address]) -> Result<(), Fault> {
        let old = |(read, _): &(Instant, _)| read.elapsed() >= SLOTS_AGE;
        if self.primaries.as_ref().is_none_or(old) {
            self.primaries = None;
            let ranges = self.slots(seeds).await?;
            let primaries = self.map.set_ranges(ranges).into_iter();
            let primaries: Vec<_> = primaries
                .map(|(node, ranges)| Primary {
                    node,
                    own_key: key_in(&self.config, &ranges),
                    slots: ranges.iter().map(Range::slots).sum(),
                })
                .collect();
            let known = primaries.iter().take(MAX_ASKED);
            self.known = known.map(|primary| primary.node.address.clone()).collect();
            self.primaries = Some((Instant::now(), primaries));
        }
        let Some((_, primaries)) = &self.primaries else {
            return Ok(());
        };
        let covered: u32 = primaries.iter().map(|primary| primary.slots).sum();
        let examined = primaries
            .iter()
            .map(|primary| primary.node.examine(primary.own_key.clone()));
        let examined = join_all(examined).await.into_iter();
        let mut faults: Vec<_> = examined.filter_map(Result::err).collect();
        if covered < SLOTS.into() {
            let what = format!("the Cluster serves only {covered} of its {SLOTS} slots");
            faults.push(Fault::of_many(what));
        }
        if faults.is_empty() {
            return Ok(());
        }
        // The next look begins with the slots.
        self.primaries = None;
        Err(first(faults))
    }

    /// The first answer of those nodes that are configured or known.
    async fn slots(&self, seeds: &[Address]) -> Result<Vec<Range>, Fault> {
        let new = self.known.iter().filter(|known| !seeds.contains(known));
        let asked = seeds.iter().chain(new);
        let asked = asked.map(|address| slots_of(&self.config, address));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut faults = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(ranges) if !ranges.is_empty() => return Ok(ranges),
                Ok(_) => faults.push(Fault::of_many("the Cluster has no slots yet".to_owned())),
                Err(fault) => faults.push(fault),
            }
        }
        Err(first(faults))
    }
}

/// Asks one Sentinel.
pub(super) async fn primary_of(
    config: &Config,
    sentinel: &Address,
    master: &str,
) -> Result<(Address, Link), Fault> {
    let mut link = connect(config, sentinel, Peer::Sentinel).await?;
    let address = ask_sentinel(config, sentinel, &mut link, master).await?;
    Ok((address, link))
}

async fn ask_sentinel(
    config: &Config,
    sentinel: &Address,
    link: &mut Link,
    master: &str,
) -> Result<Address, Fault> {
    let mut command = cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let limit = config.timeout;
    let answer = match timeout(limit, link.connection.send_packed_command(&command)).await {
        Ok(answer) => answer.and_then(Value::extract_error),
        Err(_) => return Err(Fault::silent(sentinel, limit)),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.code() == Some("NOPERM") => {
            let what = "allow SENTINEL to redis.sentinel.user";
            return Err(Fault::unusable(
                sentinel,
                format_args!("{}; {what}", describe(&error)),
            ));
        }
        Err(error) if inspect::refuses(&error) => {
            let what = "it is no Sentinel; write redis://HOST:PORT in redis.url, or the port of \
                        a Sentinel, usually 26379";
            return Err(Fault::unusable(sentinel, what));
        }
        Err(error) => return Err(Fault::read(sentinel, &error, limit)),
    };
    match Option::<(String, u16)>::from_redis_value(answer) {
        Ok(Some((host, port))) => Ok(Address { host, port }),
        Ok(None) => {
            let what = format!("this Sentinel knows no {master:?}; is master= in redis.url right?");
            Err(Fault::new(sentinel, what))
        }
        Err(_) => Err(Fault::new(sentinel, "it names no address")),
    }
}

/// Asks one node for the slots of all.
pub(super) async fn slots_of(config: &Config, address: &Address) -> Result<Vec<Range>, Fault> {
    let mut link = connect(config, address, Peer::Server).await?;
    let report = inspect::ask(config, address, &mut link).await?;
    if matches!(report.mode, Some(Mode::Standalone | Mode::Sentinel)) {
        report.check(config, address)?;
    }
    let mut command = cmd("CLUSTER");
    command.arg("SLOTS");
    let limit = config.timeout;
    let answer = match timeout(limit, link.connection.send_packed_command(&command)).await {
        Ok(answer) => answer.and_then(Value::extract_error),
        Err(_) => return Err(Fault::silent(address, limit)),
    };
    match answer {
        Ok(answer) => slots::read(answer, address)
            .ok_or_else(|| Fault::new(address, "its answer to CLUSTER SLOTS cannot be read")),
        Err(error) if error.code() == Some("NOPERM") => {
            let what = "allow CLUSTER SLOTS to redis.user";
            Err(Fault::unusable(
                address,
                format_args!("{}; {what}", describe(&error)),
            ))
        }
        Err(error) => Err(Fault::read(address, &error, limit)),
    }
}

/// A key of ours in one of these slots. A node has 16 slots at the least in a Cluster of
/// 1,024 primaries, so a few thousand tries find one; without one any key will do.
fn key_in(config: &Config, ranges: &[Range]) -> String {
    let has = |key: &String| {
        let slot = slots::slot(key.as_bytes());
        ranges.iter().any(|range| range.has(slot))
    };
    let mut keys = (0..20_000).map(|number| config.own_key(number));
    keys.find(has).unwrap_or_else(|| config.own_key(0))
}

fn first(mut faults: Vec<Fault>) -> Fault {
    let unusable = faults.iter().position(|fault| fault.kind == Kind::Unusable);
    match faults.is_empty() {
        true => Fault::of_many("no server answered".to_owned()),
        false => faults.swap_remove(unusable.unwrap_or(0)),
    }
}
