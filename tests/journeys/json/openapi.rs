//! The description of JSON over HTTP, judged by tools that we did not write: it is OpenAPI
//! 3.1, and the gateway does what it says.

use std::{fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use super::{TOKEN, refused};
use crate::support::{Client, Gateway, http, process::Process, servers};

/// What its checks would misjudge. A schema counts characters and knows no clock, so some
/// user ids and ends that fit it are refused; and a batch answers 200 for pushes that do not
/// fit it, each with an error in its place.
const SETTINGS: &str = "\
[checks]
positive_data_acceptance.enabled = false

[[operations]]
include-path = \"/v1/push/batch\"
checks.negative_data_rejection.enabled = false
";

/// Runs a tool out of `.servers/openapi`, and returns what it says.
async fn run(tool: &str, folder: &TempDir, arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = root.join(".servers/openapi");
    assert!(
        tools.exists(),
        "{tool} is not there yet: run \"make test\" once"
    );
    let mut command = Command::new("python3");
    command
        .arg(tools.join("bin").join(tool))
        .args(arguments)
        .current_dir(folder.path())
        .env("PYTHONPATH", &tools)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUTF8", "1");
    let mut process = Process::spawn(command);
    let status = process.wait_for(Duration::from_secs(180)).await;
    let output = process.output();
    assert!(status.success(), "{tool}: {output}");
    output
}

#[tokio::test]
async fn the_description_is_valid_and_true() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", &bearer[..])];
    let served = http::get(&gateway.grpc, "/v1/openapi.json", &headers).await;
    assert_eq!(served.status, 200, "{served:?}");
    assert_eq!(served.header("content-type"), Some("application/json"));
    let description = served.json();
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));

    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("openapi.json");
    fs::write(&file, &served.body).expect("a file");
    let file = file.display().to_string();
    let says = run("openapi-spec-validator", &folder, &[&file]).await;
    assert!(says.contains("OK"), "{says}");

    let settings = folder.path().join("schemathesis.toml");
    fs::write(&settings, SETTINGS).expect("a file");
    let url = format!("http://{}", gateway.grpc);
    let authorization = format!("Authorization: {bearer}");
    let arguments = [
        "--config-file",
        &settings.display().to_string(),
        "run",
        &file,
        "--url",
        &url,
        "--header",
        &authorization,
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "20",
        "--seed",
        "1",
        "--generation-database",
        "none",
        "--no-shrink",
        "--continue-on-failure",
        "--no-color",
    ];
    let says = run("schemathesis", &folder, &arguments).await;
    // Every path was tried, and some of what was tried went well.
    let paths = description["paths"].as_object().expect("paths");
    for (path, method) in paths {
        let code = if path == "/v1/tickets" { "201" } else { "200" };
        let responses = method
            .as_object()
            .and_then(|methods| methods.values().next());
        assert!(
            responses.is_some_and(|r| r["responses"][code].is_object()),
            "{path}"
        );
    }
    for method in [
        "PushNotification",
        "Broadcast",
        "GetPresence",
        "Disconnect",
        "IssueTicket",
    ] {
        for code in ["OK", "INVALID_ARGUMENT"] {
            let counted = super::calls(method, code);
            assert!(gateway.metric(&counted).await > 5.0, "{counted}: {says}");
        }
    }
    // The gateway is well after all that.
    let ticket = redis.ticket("42").await;
    let mut client = Client::open(&gateway, &ticket).await;
    let body = "{\"user_id\":\"42\",\"data\":\"well\"}";
    let answer = super::post_with(&gateway, "/v1/push", &headers, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(client.next_data().await, "well");
    let answer = http::get(&gateway.grpc, "/v1/openapi.json", &[]).await;
    refused(&answer, 401, "unauthenticated");
}
