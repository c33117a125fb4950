//! The chart's package as an OCI artifact: pushed to a registry, found, and installed from there.

use std::fs;

use tempfile::TempDir;

use crate::{
    helm::{helm, read},
    support::{
        eventually,
        process::{Process, free_port, server},
    },
};

/// What helm says, where it does what it is asked.
#[track_caller]
fn said(arguments: &[&str]) -> String {
    let output = helm(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_package_is_pushed_and_rendered_from_a_registry() {
    let folder = TempDir::new().expect("a folder");
    let root = folder.path().display().to_string();
    let address = format!("127.0.0.1:{}", free_port());
    let config = folder.path().join("config.yml");
    let settings = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}/store}}}}\nhttp: {{addr: '{address}'}}\n"
    );
    fs::write(&config, settings).expect("written");
    let mut command = std::process::Command::new(server("docker-registry"));
    command.arg("serve").arg(&config);
    let _registry = Process::spawn(command);
    eventually("the registry listens", || async {
        tokio::net::TcpStream::connect(&address).await.is_ok()
    })
    .await;

    let version = env!("CARGO_PKG_VERSION");
    said(&["package", "helm", "--destination", &root]);
    let package = format!("{root}/usher-{version}.tgz");
    let charts = format!("oci://{address}/charts");
    said(&["push", &package, &charts, "--plain-http"]);

    let there = format!("{charts}/usher");
    let described = format!("oci://registry.example.com/charts/usher --version {version}");
    assert!(read("helm/README.md").contains(&described), "{described}");
    let from_there = ["--plain-http", "--version", version];
    let chart = said(&[&["show", "chart", &there][..], &from_there].concat());
    assert!(chart.contains(&format!("version: {version}")), "{chart}");
    let values = ["--set", "nats.url=nats://nats.nats.svc:4222"];
    let values = [
        &values[..],
        &["--set", "redis.url=redis://redis.redis.svc:6379"],
    ]
    .concat();
    let values = [&values[..], &["--set", "grpc.existingSecret=usher-grpc"]].concat();
    let render = |chart: &str, more: &[&str]| {
        said(&[&["template", "live", chart][..], more, &values].concat())
    };
    assert_eq!(render(&there, &from_there), render("helm", &[]));
}
