//! The URLs of Redis: one server, Sentinels, a Cluster.

use super::*;
use crate::secret::Secret;

fn read(url: &str) -> RedisServers {
    good(&row("redis.url", &format!("\"{url}\"")), &[])
        .redis
        .url
        .expect("a URL")
}

fn complaint(url: &str) -> String {
    let line = error("", &[("USHER_REDIS__URL", url)]);
    let complaint = line.strip_prefix("redis.url (from USHER_REDIS__URL): ");
    complaint.expect("the key").to_owned()
}

#[test]
fn one_server() {
    for (url, shown) in [
        ("redis://cache", "redis://cache:6379"),
        ("redis://u:p%40w@cache:6380/0", "redis://…@cache:6380"),
        ("redis://:a,b@cache/", "redis://…@cache:6379"),
        ("redis://[::1]/3", "redis://[::1]:6379/3"),
        ("rediss://:p@cache:6379/1", "rediss://…@cache:6379/1"),
    ] {
        let servers = read(url);
        assert_eq!(format!("{servers:?}"), format!("\"{shown}\""));
        assert_eq!(servers.kind, RedisKind::Single);
        assert_eq!(servers.tls, url.starts_with("rediss"));
    }
    let servers = read("redis://u%2Fv:p%40w@cache");
    assert_eq!(servers.user.as_deref(), Some("u/v"));
    assert_eq!(servers.password, Some(Secret::new("p@w")));
}

#[test]
fn sentinels() {
    let servers = read("redis-sentinel://u:a,b@h1,[::1]:26380,h3:1/2?master=my%20master");
    let master = "my master".to_owned();
    assert_eq!(servers.kind, RedisKind::Sentinel { master });
    let hosts = [("h1", 26379), ("::1", 26380), ("h3", 1)];
    let hosts = hosts.map(|(host, port)| (host.to_owned(), port));
    assert_eq!(servers.hosts, hosts);
    assert_eq!((servers.database, servers.tls), (2, false));
    assert_eq!(servers.user.as_deref(), Some("u"));
    assert_eq!(servers.password, Some(Secret::new("a,b")));
    assert_eq!(
        format!("{servers:?}"),
        "\"redis-sentinel://…@h1:26379,[::1]:26380,h3:1/2?master=my+master\""
    );
    assert!(read("rediss-sentinel://h/0?master=m").tls);
}

#[test]
fn a_cluster() {
    let servers = read("redis-cluster://h1,h2:7000/0");
    assert_eq!(servers.kind, RedisKind::Cluster);
    assert_eq!(
        format!("{servers:?}"),
        "\"redis-cluster://h1:6379,h2:7000\""
    );
    assert!(read("rediss-cluster://h1").tls);
}

#[test]
fn what_is_printed_reads_back() {
    for url in [
        "redis://cache/3",
        "rediss-sentinel://a,[::1]:1/2?master=a%26b",
        "redis-cluster://a,b",
    ] {
        let servers = read(url);
        let again = read(format!("{servers:?}").trim_matches('"'));
        assert_eq!(again, servers);
    }
}

#[test]
fn an_unusable_url_is_told_the_mend() {
    const SENTINEL: &str = "write redis-sentinel://HOST:PORT,HOST:PORT/0?master=NAME";
    const CLUSTER: &str = "redis-cluster://HOST:PORT,HOST:PORT";
    for (url, shown, what, mend) in [
        (
            "redis+sentinel://a:1",
            "redis+sentinel://a:1",
            "is not a URL of Redis",
            SENTINEL,
        ),
        (
            "redis+cluster://a",
            "redis+cluster://a",
            "is not a URL of Redis",
            CLUSTER,
        ),
        (
            "redis://a,b",
            "redis://a,b",
            "names several servers",
            SENTINEL,
        ),
        (
            "redis://:hunter2@a:1,:hunter2@b:2",
            "redis://…@b:2",
            "names several servers",
            CLUSTER,
        ),
        (
            "redis-sentinel://a,b:1/0",
            "redis-sentinel://a,b:1/0",
            "does not name the primary",
            SENTINEL,
        ),
        (
            "redis-sentinel://u:hunter2@a?master=",
            "redis-sentinel://…@a",
            "has a bad query",
            SENTINEL,
        ),
        (
            "redis-sentinel://a/0?master=m&password=hunter2",
            "redis-sentinel://a/0",
            "has a bad query",
            SENTINEL,
        ),
        (
            "redis-sentinel://a/x?master=m",
            "redis-sentinel://a/x",
            "names a database that is not a number",
            SENTINEL,
        ),
        (
            "redis-cluster://a,b/1",
            "redis-cluster://a,b/1",
            "names a database, and a Cluster has only 0",
            CLUSTER,
        ),
        (
            "redis-cluster://a?master=m",
            "redis-cluster://a",
            "has a query",
            CLUSTER,
        ),
        (
            "redis-cluster://a,,b",
            "redis-cluster://…",
            "is not a good URL (empty host)",
            CLUSTER,
        ),
        (
            "redis-cluster://a:x,b",
            "redis-cluster://…",
            "is not a good URL (invalid port number)",
            CLUSTER,
        ),
    ] {
        let said = complaint(url);
        let begins = format!("\"{shown}\" {what}");
        assert!(
            said.starts_with(&begins) && said.contains(mend),
            "{url}: {said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
    let many = vec!["a"; 65].join(",");
    let said = complaint(&format!("redis-cluster://{many}"));
    assert!(said.contains("names more than 64 servers"), "{said}");
}
