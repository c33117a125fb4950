//! A journey with clients that we did not write: `tests/foreign.py`.

use std::{path::Path, process::Command, time::Duration};

use crate::support::{Gateway, process::Process, secrets, servers};

#[tokio::test]
async fn clients_that_we_did_not_write_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let clients = root.join(".servers/python");
    assert!(
        clients.exists(),
        "the Python clients are not there yet: run \"make test\" once"
    );

    let (nats, redis) = servers().await;
    let here = Gateway::start(&nats, &redis).await;
    let there = Gateway::start(&nats, &redis).await;

    let mut command = Command::new("python3");
    command
        .arg(root.join("tests/foreign.py"))
        .arg(root.join("proto"))
        .args([nats.publishers_url(), redis.url()])
        .args([&here.public, &here.grpc, &there.public, &there.grpc])
        .env("PYTHONPATH", clients)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let mut script = Process::spawn(command);
    let status = script.wait_for(Duration::from_secs(120)).await;
    let output = script.output();
    assert!(status.success(), "{output}");

    // It says which tickets it used, for the gateways' logs to be searched.
    let tickets: Vec<&str> = output
        .lines()
        .filter_map(|l| l.strip_prefix("ticket "))
        .collect();
    assert!(tickets.len() >= 4, "{output}");
    for ticket in tickets {
        secrets::secret(ticket);
    }
}
