//! What the chart accepts the program accepts: each value of the configuration is given odd
//! values, and what is rendered is fed to the real `usher config`. What the program would refuse
//! the chart has refused before, in words that name the value.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value, json};
use usher::config::reference;

use crate::{
    configuration::{as_value, installed},
    helm::{Objects, Render},
    values::documented,
};

const URLS: &[(&str, &[&str])] = &[
    (
        "nats.url",
        &[
            "http://nats:4222",
            "nats",
            "nats://",
            "nats://nats:99999",
            "nats://nats:4222/x",
            "ws://nats:4222",
            "nats://a:1,tls://b:1",
            "tls://a:1,tls://[::1]:4222",
            "nats://a b",
        ],
    ),
    (
        "redis.url",
        &[
            "redis://",
            "redis://redis/x",
            "redis://a:1,b:2",
            "rediss://redis:6380/3",
            "redis-sentinel://a,b/0?master=x",
            "redis-cluster://a,b/3",
            "redis-cluster://a,b?x=y",
            "redis-cluster://a:6379,b:6379",
        ],
    ),
    (
        "tickets.jwt.jwksUrl",
        &[
            "https://me:word@login/keys",
            "https:///keys",
            "https://login/keys?a=b",
        ],
    ),
    (
        "telemetry.otlpEndpoint",
        &["http://collector:x", "https://[::1]:4317/"],
    ),
    ("public.pathPrefix", &["/a/./b", "/a.b"]),
];

/// Every section is rendered, and no other check is in the way.
fn everything() -> Render {
    Render::minimal()
        .set("resources.limits=null")
        .set("durable.enabled=true")
        .set("telemetry.otlpEndpoint=http://collector:4317")
        .set("tickets.jwt.jwksUrl=https://login.example.com/jwks")
        .set("tickets.jwt.issuer=login")
        .set("tickets.jwt.audience=push")
        .set("centrifuge.enabled=true")
}

/// Odd values of the kind that this default is of.
fn odd(default: &Value) -> Vec<Value> {
    let texts: &[&str] = match default {
        Value::Bool(_) => return vec![json!(true), json!(false)],
        Value::Number(number) if number.is_f64() => return vec![json!(0), json!(1)],
        Value::Number(_) => return vec![json!(0), json!(1), json!(1_000_000), json!(i32::MAX)],
        Value::String(text) if is_measure(text, &["ms", "s", "m", "h"]) => &[
            "0s",
            "1ms",
            "1500ms",
            "301s",
            "87600h",
            "87601h",
            "999999999999h",
        ],
        Value::String(text) if is_measure(text, &["B", "KiB", "MiB", "GiB"]) => {
            &["0B", "1B", "9KiB", "100MiB", "999999999GiB"]
        }
        Value::String(_) => &[
            "",
            "x",
            "a b",
            "a..b",
            "a.b",
            "$x",
            "_INBOX.x",
            "*",
            "/a/../b",
            "auto",
            "\"'\\ü",
            "http://x",
            "https://x.example.com/a?b=c",
        ],
        Value::Array(_) => {
            let items = [
                "garbage",
                "10.0.0.0/8",
                "10.0.0.1",
                "010.0.0.0/8",
                "10.0.0.0/33",
                "2001:db8::/32",
                "::1",
                "1::2::3",
                "::ffff:10.0.0.0/104",
                "::ffff:a00:0/104",
                "0:0:0:0:0:ffff:a00:0/104",
                "https://app.example.com",
                "HTTPS://APP.example.com:8443",
                "https://*.example.com",
                "https://app.example.com/",
                "https://me@app.example.com",
                "https://[::1]:8080",
                "https://app.example.com:65536",
                "wss://app.example.com",
                "capacitor://localhost",
                "chrome-extension://abc",
                "app.example.com",
                "null",
                "*",
                "HS256",
                "RS256",
                "ES512",
                "none",
            ];
            let lists = items.iter().map(|item| json!([item]));
            return lists
                .chain([json!([]), json!(["*", "https://a.example.com"])])
                .collect();
        }
        other => panic!("{other} is no value of the configuration"),
    };
    texts.iter().map(|text| json!(text)).collect()
}

fn is_measure(text: &str, units: &[&str]) -> bool {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < text.len() && units.contains(&digits)
}

/// What `usher config` complains of.
fn complaint(objects: &Objects) -> Option<String> {
    let folder = installed(objects);
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    command.env_clear().args(["config", "--config"]);
    let output = command.arg(folder.path().join("usher.toml")).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| said.into_owned())
}

/// Sets all of these at once, without those that the chart refuses by their names, and has the
/// program read what is rendered. What is wrong, if something is.
fn fault(mut values: BTreeMap<String, Value>) -> Option<String> {
    while !values.is_empty() {
        let render = values.iter().fold(everything(), |render, (name, value)| {
            render.json(&format!("{name}={value}"))
        });
        let words = match render.try_text() {
            Ok(text) => {
                let said = complaint(&Objects::parse(&text))?;
                return Some(format!("exit 78 with {values:?}: {said}"));
            }
            Err(words) => words,
        };
        let parsers = ["YAML parse error", "error calling", "json: "];
        if parsers.iter().any(|parser| words.contains(parser)) {
            return Some(format!("not in words, with {values:?}: {words}"));
        }
        let before = values.len();
        values.retain(|name, _| {
            let pointer = format!("/{}'", name.replace('.', "/"));
            !words.contains(name.as_str()) && !words.contains(&pointer)
        });
        if values.len() == before {
            return Some(format!("refused without a name, with {values:?}: {words}"));
        }
    }
    None
}

#[test]
fn what_the_chart_accepts_the_program_accepts() {
    let values: BTreeMap<_, _> = documented()
        .into_iter()
        .map(|value| (value.path, value.default))
        .collect();
    let mut cases: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for key in reference() {
        let name = as_value(key.key);
        // Those that become files, and those that go with a Secret, have rules of their own.
        if let Some(default) = values.get(&name) {
            cases.insert(name, odd(default));
        }
    }
    assert!(cases.len() > 70, "only {}", cases.len());
    for (name, urls) in URLS {
        let odd = cases.get_mut(*name).expect("a value");
        odd.extend(urls.iter().map(|url| json!(url)));
    }
    let rounds = cases.values().map(Vec::len).max().unwrap_or_default();
    let faults = (0..rounds).filter_map(|round| {
        let values = cases.iter().filter_map(|(name, odd)| {
            let value = odd.get(round)?.clone();
            Some((name.clone(), value))
        });
        fault(values.collect())
    });
    let faults: Vec<_> = faults.collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A type that the API or a parser would refuse is refused by its name.
#[test]
fn wrong_types_are_refused_by_name() {
    for (name, value, words) in [
        ("podAnnotations", json!({"x": 1}), "/podAnnotations/x"),
        ("podLabels", json!({"x": true}), "/podLabels/x"),
        ("commonLabels", json!({"x": 1}), "/commonLabels/x"),
        (
            "service.annotations",
            json!({"x": 1}),
            "/service/annotations/x",
        ),
        ("nodeSelector", json!({"x": 1}), "/nodeSelector/x"),
        (
            "updateStrategy.type",
            json!("Sudden"),
            "/updateStrategy/type",
        ),
        ("updateStrategy.partition", json!(1), "partition"),
        ("public.port", Value::Null, "missing property 'port'"),
        (
            "session.pingInterval",
            Value::Null,
            "missing property 'pingInterval'",
        ),
        (
            "livenessProbe",
            json!({"httpGet": {"path": "/"}}),
            "livenessProbe.httpGet: the chart says what is asked",
        ),
        (
            "readinessProbe",
            json!({"exec": {}}),
            "readinessProbe.exec: the chart",
        ),
        ("hosts", json!([1]), "/hosts/0"),
    ] {
        Render::minimal()
            .json(&format!("{name}={value}"))
            .refused(words);
    }
}

/// Null takes away what is not needed.
#[test]
fn what_is_not_needed_can_be_taken_away() {
    let objects = Render::minimal()
        .set("livenessProbe=null")
        .set("startupProbe=null")
        .set("resources=null")
        .set("securityContext=null")
        .set("podSecurityContext=null")
        .set("affinity=null")
        .objects();
    let container = &objects.pod()["containers"][0];
    assert!(container["livenessProbe"].is_null() && container["startupProbe"].is_null());
    assert!(container["readinessProbe"].is_object());
    let recreate = Render::minimal()
        .set("updateStrategy.type=Recreate")
        .objects();
    let strategy = &recreate.deployment()["spec"]["strategy"];
    assert_eq!(strategy, &json!({"type": "Recreate"}));
}
