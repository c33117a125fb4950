//! The NATS servers of a run: one alone, or a cluster of three whose routes lead through
//! proxies.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{sync::Mutex, time::sleep};

use crate::{
    proxy::Proxy,
    support::{
        Nats,
        nats::{Role, Routes},
    },
};

/// How many NATS servers a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    One,
    /// The stream has a replica on each.
    Three,
}

impl Servers {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Three => 3,
        }
    }
}

pub(crate) struct Nodes {
    /// A fault that hurts one of them holds the lock, so that the others are a majority.
    pub(crate) all: Mutex<Vec<Nats>>,
    /// What gateways and publishers take them for.
    urls: Vec<String>,
    routes: Vec<Route>,
}

/// The way that one server takes when it connects to another.
struct Route {
    from: usize,
    to: usize,
    address: String,
    proxy: Proxy,
}

impl Nodes {
    pub(crate) async fn start(servers: Servers) -> Self {
        let (all, routes) = match servers {
            Servers::One => (vec![Nats::keeping().await], Vec::new()),
            Servers::Three => cluster(servers.count()).await,
        };
        Self {
            urls: all.iter().map(Nats::url).collect(),
            all: Mutex::new(all),
            routes,
        }
    }

    /// The URL of each.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Cuts every route between two servers for this long. The third reaches both.
    pub(crate) async fn cut_routes(&self, between: [usize; 2], lasts: Duration) {
        let of_both = |route: &&Route| between == [route.from, route.to];
        let of_both = |route: &&Route| of_both(route) || between == [route.to, route.from];
        for route in self.routes.iter().filter(of_both) {
            route.proxy.shut();
        }
        sleep(lasts).await;
        for route in self.routes.iter().filter(of_both) {
            route.proxy.leads_to(&route.address);
        }
    }
}

async fn cluster(count: usize) -> (Vec<Nats>, Vec<Route>) {
    let listeners = Routes::of(count);
    let mut routes = Vec::new();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (proxy, address) = (Proxy::wide().await, listeners.address(to).to_owned());
            proxy.leads_to(&address);
            routes.push(Route {
                from,
                to,
                address,
                proxy,
            });
        }
    }
    let nodes = (0..count).map(|index| {
        let own = routes.iter().filter(move |route| route.from == index);
        let ways: Vec<_> = own.map(|route| route.proxy.address.clone()).collect();
        let listeners = &listeners;
        async move { listeners.start_behind(index, &ways).await }
    });
    let nodes = join_all(nodes).await;
    Nats::reach_each_other(&nodes).await;
    (nodes, routes)
}

/// A connection to any of these servers.
pub(crate) async fn connect(urls: &[String], login: (&str, &str)) -> async_nats::Client {
    let (user, password) = login;
    let options =
        async_nats::ConnectOptions::new().user_and_password(user.to_owned(), password.to_owned());
    let client = options.connect(urls.to_vec()).await;
    client.expect("nats-server takes connections")
}

/// A connection as a publisher has one.
pub(crate) async fn publishing(urls: &[String]) -> async_nats::Client {
    let (user, password) = Role::Publisher.login();
    connect(urls, (&user, &password)).await
}
