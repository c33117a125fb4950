//! Where Redis is: one server, Sentinels, or a Cluster.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{
    servers::{parse as parse_url, scheme, wrong},
    value::{Complaint, Shown, Value, quoted},
};
use crate::secret::Secret;

/// Where Redis is. `Debug` hides the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisServers {
    /// What the servers are.
    pub kind: RedisKind,
    /// Whether the connections are encrypted; to the Sentinels too.
    pub tls: bool,
    /// Host names or addresses (IPv6 without brackets), each with its port.
    pub hosts: Vec<(String, u16)>,
    /// The number of the database.
    pub database: u32,
    /// The user in the URL.
    pub user: Option<String>,
    /// The password in the URL.
    pub password: Option<Secret>,
}

/// What the servers of `redis.url` are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Single,
    /// Sentinels, which know the primary of this name.
    Sentinel {
        /// The name under which they watch it.
        master: String,
    },
    /// Some nodes of a Cluster, which know the others.
    Cluster,
}

/// All are asked at the same time.
const MAX_HOSTS: usize = 64;

const SINGLE: &str = "redis://HOST:PORT";
const SENTINEL: &str = "redis-sentinel://HOST:PORT,HOST:PORT/0?master=NAME";
const CLUSTER: &str = "redis-cluster://HOST:PORT,HOST:PORT";

impl RedisKind {
    fn scheme(&self, tls: bool) -> &'static str {
        match (self, tls) {
            (Self::Single, false) => "redis",
            (Self::Single, true) => "rediss",
            (Self::Sentinel { .. }, false) => "redis-sentinel",
            (Self::Sentinel { .. }, true) => "rediss-sentinel",
            (Self::Cluster, false) => "redis-cluster",
            (Self::Cluster, true) => "rediss-cluster",
        }
    }

    fn default_port(&self) -> u16 {
        match self {
            Self::Sentinel { .. } => 26379,
            Self::Single | Self::Cluster => 6379,
        }
    }
}

impl Value for Option<RedisServers> {
    const KIND: &'static str = "a Redis URL";
    const EXAMPLE: &'static str = r#""redis://127.0.0.1:6379""#;
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Complaint> {
        // Rules say when there may be none.
        if text.is_empty() {
            return Ok(None);
        }
        // What stands before the first `@` may be a password with a comma in it.
        let hosts = text.split_once('@').map_or(text, |(_, hosts)| hosts);
        match scheme(text) {
            "redis" | "rediss" if hosts.contains(',') => Err(wrong(
                text,
                &format!("names several servers; write {SENTINEL}, or {CLUSTER}"),
            )),
            "redis" | "rediss" => single(text).map(Some),
            "redis-sentinel" | "rediss-sentinel" => sentinel(text).map(Some),
            "redis-cluster" | "rediss-cluster" => cluster(text).map(Some),
            other => {
                let mend = match other {
                    _ if other.contains("sentinel") => SENTINEL,
                    _ if other.contains("cluster") => CLUSTER,
                    _ => SINGLE,
                };
                Err(wrong(text, &format!("is not a URL of Redis; write {mend}")))
            }
        }
    }

    /// An empty file more often is a secret that failed to arrive than a wish.
    fn from_content(content: &str) -> Result<Self, Complaint> {
        match content {
            "" => Err(format!("is empty; write {SINGLE}")),
            content => Self::parse(content),
        }
    }

    fn show(&self) -> Shown {
        match self {
            None => Shown::plain(quoted("")),
            Some(servers) => servers.shown(),
        }
    }
}

impl fmt::Debug for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown().toml)
    }
}

impl RedisServers {
    fn shown(&self) -> Shown {
        let toml = quoted(&self.without_credentials());
        match (&self.user, &self.password) {
            (None, None) => Shown::plain(toml),
            _ => Shown::hidden(toml),
        }
    }

    fn without_credentials(&self) -> String {
        let host = |(host, port): &(String, u16)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let hosts: Vec<_> = self.hosts.iter().map(host).collect();
        let credentials = match (&self.user, &self.password) {
            (None, None) => "",
            _ => "…@",
        };
        let database = match self.database {
            0 => String::new(),
            number => format!("/{number}"),
        };
        let query = match &self.kind {
            RedisKind::Sentinel { master } => {
                let mut query = form_urlencoded::Serializer::new(String::new());
                format!("?{}", query.append_pair("master", master).finish())
            }
            RedisKind::Single | RedisKind::Cluster => String::new(),
        };
        let scheme = self.kind.scheme(self.tls);
        format!(
            "{scheme}://{credentials}{}{database}{query}",
            hosts.join(",")
        )
    }
}

fn single(text: &str) -> Result<RedisServers, Complaint> {
    let url = parse_url(text)?;
    let kind = RedisKind::Single;
    let Some(database) = database(url.path()) else {
        let complaint =
            "names a database that is not a number; write redis://HOST:PORT/NUMBER".to_owned();
        return Err(wrong(text, &complaint));
    };
    let (user, password) = credentials(&url);
    Ok(RedisServers {
        tls: url.scheme() == "rediss",
        hosts: vec![host(&url, kind.default_port())],
        kind,
        database,
        user,
        password,
    })
}

fn sentinel(text: &str) -> Result<RedisServers, Complaint> {
    let parts = Parts::of(text, SENTINEL)?;
    let mut master = None;
    for (name, value) in form_urlencoded::parse(parts.query.as_bytes()) {
        match (&*name, &master) {
            ("master", None) if !value.is_empty() => master = Some(value.into_owned()),
            _ => return Err(parts.wrong(&format!("has a bad query; write {SENTINEL}"))),
        }
    }
    let Some(master) = master else {
        let complaint = format!("does not name the primary; write {SENTINEL}");
        return Err(parts.wrong(&complaint));
    };
    parts.servers(RedisKind::Sentinel { master })
}

fn cluster(text: &str) -> Result<RedisServers, Complaint> {
    let parts = Parts::of(text, CLUSTER)?;
    if !parts.query.is_empty() {
        return Err(parts.wrong(&format!("has a query; write {CLUSTER}")));
    }
    if database(parts.path).is_some_and(|number| number != 0) {
        let complaint = format!("names a database, and a Cluster has only 0; write {CLUSTER}");
        return Err(parts.wrong(&complaint));
    }
    parts.servers(RedisKind::Cluster)
}

/// A URL of several hosts, which the usual parsers do not read.
struct Parts<'a> {
    scheme: &'a str,
    /// With the scheme and an `@`, to be read as a URL of its own.
    credentials: Option<Url>,
    hosts: Vec<Url>,
    path: &'a str,
    query: &'a str,
    mend: &'static str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str, mend: &'static str) -> Result<Self, Complaint> {
        let scheme = scheme(text);
        let rest = &text[scheme.len() + "://".len()..];
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        // Nothing of a text that does not read as it should is shown: any part of it
        // may belong to a password.
        let bad = |why: &str| {
            format!(
                "{} is not a good URL ({why}); write {mend}, and %XX for special characters in a \
                 password",
                quoted(&format!("{scheme}://…"))
            )
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\' || c == '#';
        if text.contains(odd) {
            return Err(bad("it has a space, a `\\` or a `#` in it"));
        }
        if rest.contains('@') {
            return Err(bad("it has a `/` or a `?` before an `@`"));
        }
        let credentials = match credentials {
            None => None,
            Some(text) => match Url::parse(&format!("redis://{text}@host")) {
                Ok(url) => Some(url),
                Err(_) => return Err(bad("its user or password")),
            },
        };
        let mut urls = Vec::new();
        for host in hosts.split(',') {
            match Url::parse(&format!("redis://{host}")) {
                Ok(url) if url.has_host() => urls.push(url),
                Ok(_) => return Err(bad("empty host")),
                Err(error) => return Err(bad(&error.to_string())),
            }
        }
        if urls.len() > MAX_HOSTS {
            return Err(bad("it names more than 64 servers; some are enough"));
        }
        Ok(Self {
            scheme,
            credentials,
            hosts: urls,
            path,
            query,
            mend,
        })
    }

    /// A complaint that shows the hosts and the path.
    fn wrong(&self, complaint: &str) -> Complaint {
        let hosts = self
            .hosts
            .iter()
            .map(|url| &url.as_str()["redis://".len()..]);
        let hosts: Vec<_> = hosts.collect();
        let credentials = self.credentials.as_ref().map_or("", |_| "…@");
        let shown = format!(
            "{}://{credentials}{}{}",
            self.scheme,
            hosts.join(","),
            self.path
        );
        format!("{} {complaint}", quoted(&shown))
    }

    fn servers(self, kind: RedisKind) -> Result<RedisServers, Complaint> {
        let Some(database) = database(self.path) else {
            let complaint = format!("names a database that is not a number; write {}", self.mend);
            return Err(self.wrong(&complaint));
        };
        let port = kind.default_port();
        let (user, password) = self.credentials.as_ref().map_or((None, None), credentials);
        Ok(RedisServers {
            tls: self.scheme.starts_with("rediss"),
            hosts: self.hosts.iter().map(|url| host(url, port)).collect(),
            kind,
            database,
            user,
            password,
        })
    }
}

fn host(url: &Url, port: u16) -> (String, u16) {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), url.port().unwrap_or(port))
}

/// `None` where the path is no number.
fn database(path: &str) -> Option<u32> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Some(0),
        number => number.parse().ok(),
    }
}

fn credentials(url: &Url) -> (Option<String>, Option<Secret>) {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = Some(url.username()).filter(|user| !user.is_empty());
    let password = url.password().map(|password| Secret::new(decode(password)));
    (user.map(decode), password)
}
