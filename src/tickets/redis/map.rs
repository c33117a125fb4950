//! Which server is asked for a key, as far as it is known now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    config::{Address, Config},
    node::Node,
    slots::{self, Range},
};

/// The servers in use. Commands read it, and the watch changes it.
#[derive(Debug)]
pub(super) struct Map {
    config: Arc<Config>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The only server, or the primary that the Sentinels named.
    single: Option<Arc<Node>>,
    /// A Cluster's primaries.
    nodes: HashMap<Address, Arc<Node>>,
    ranges: Vec<Range>,
}

impl Map {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            inner: Mutex::default(),
        }
    }

    /// The server for `key`. `None` before one was found.
    pub(super) fn route(&self, key: &[u8]) -> Option<Arc<Node>> {
        let inner = self.lock();
        if let Some(node) = &inner.single {
            return Some(node.clone());
        }
        if inner.ranges.is_empty() {
            return None;
        }
        let slot = slots::slot(key);
        let range = inner.ranges.iter().find(|range| range.has(slot))?;
        inner.nodes.get(&range.address).cloned()
    }

    /// The node to which another one of the Cluster has pointed; a new one until the next
    /// look at the slots.
    pub(super) fn node(&self, address: &Address) -> Arc<Node> {
        let mut inner = self.lock();
        let node = inner.nodes.entry(address.clone());
        let node = node.or_insert_with(|| Node::new(&self.config, address.clone()));
        node.clone()
    }

    /// The only server now.
    pub(super) fn single(&self) -> Option<Arc<Node>> {
        self.lock().single.clone()
    }

    /// From now on this one is asked. What is under way at another one ends there.
    pub(super) fn set_single(&self, node: Arc<Node>) {
        self.lock().single = Some(node);
    }

    /// Takes up where a Cluster's slots are. Returns each primary with its ranges.
    pub(super) fn set_ranges(&self, ranges: Vec<Range>) -> Vec<(Arc<Node>, Vec<Range>)> {
        let mut by_address = HashMap::<Address, Vec<Range>>::new();
        for range in &ranges {
            let own = by_address.entry(range.address.clone()).or_default();
            own.push(range.clone());
        }
        let mut inner = self.lock();
        let mut primaries = Vec::new();
        let mut nodes = HashMap::new();
        for (address, ranges) in by_address {
            let node = inner.nodes.remove(&address);
            let node = node.unwrap_or_else(|| Node::new(&self.config, address.clone()));
            nodes.insert(address, node.clone());
            primaries.push((node, ranges));
        }
        inner.nodes = nodes;
        inner.ranges = ranges;
        primaries
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
