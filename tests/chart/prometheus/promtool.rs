//! `promtool test rules`: with the times and limits of the chart, each alert fires where it must
//! and is silent where it must be. One minute a sample, an hour of them, judged after 40 minutes.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::names;
use crate::{
    helm::{NAME, NAMESPACE, Render},
    support::process::server,
};

/// A metric with the labels that it has besides the gateway's, and its samples.
type Series = (&'static str, &'static str);

/// The same value for an hour.
const ALWAYS_0: &str = "0x60";
const ALWAYS_1: &str = "1x60";
/// A counter that grows by 1, 10 or 100 a minute; that grew once, half an hour in.
const BY_1: &str = "0+1x60";
const BY_10: &str = "0+10x60";
const BY_100: &str = "0+100x60";
const BY_100_000: &str = "0+100000x60";
const ONCE: &str = "0x37 1x22";

/// An alert; what makes it fire; worlds in which it is silent.
struct Case {
    alert: &'static str,
    fires: &'static [Series],
    silent: &'static [&'static [Series]],
}

const fn case(
    alert: &'static str,
    fires: &'static [Series],
    silent: &'static [&'static [Series]],
) -> Case {
    Case {
        alert,
        fires,
        silent,
    }
}

const CASES: &[Case] = &[
    case("UsherAbsent", &[("up", ALWAYS_0)], &[&[("up", ALWAYS_1)]]),
    case("UsherDown", &[("up", ALWAYS_0)], &[&[("up", ALWAYS_1)]]),
    case(
        "UsherNotReady",
        &[("usher_ready", ALWAYS_0), ("usher_draining", ALWAYS_0)],
        &[
            &[("usher_ready", ALWAYS_1), ("usher_draining", ALWAYS_0)],
            &[("usher_ready", ALWAYS_0), ("usher_draining", ALWAYS_1)],
        ],
    ),
    case(
        "UsherNatsDown",
        &[(r#"usher_nats_connected{connection="push"}"#, ALWAYS_0)],
        &[&[(r#"usher_nats_connected{connection="push"}"#, ALWAYS_1)]],
    ),
    case(
        "UsherUnavailable",
        &[
            (r#"usher_admissions_total{result="unavailable"}"#, BY_10),
            (r#"usher_admissions_total{result="admitted"}"#, BY_10),
        ],
        &[
            // One newcomer in a quiet night.
            &[
                (r#"usher_admissions_total{result="unavailable"}"#, ONCE),
                (r#"usher_admissions_total{result="admitted"}"#, ALWAYS_0),
            ],
            // A few of very many.
            &[
                (r#"usher_admissions_total{result="unavailable"}"#, BY_10),
                (r#"usher_admissions_total{result="admitted"}"#, BY_100_000),
            ],
        ],
    ),
    case(
        "UsherRedisSlow",
        &[
            (r#"usher_redis_command_seconds_bucket{le="0.1"}"#, BY_10),
            (r#"usher_redis_command_seconds_bucket{le="0.5"}"#, BY_100),
            (r#"usher_redis_command_seconds_bucket{le="+Inf"}"#, BY_100),
        ],
        &[&[
            (r#"usher_redis_command_seconds_bucket{le="0.1"}"#, BY_100),
            (r#"usher_redis_command_seconds_bucket{le="0.5"}"#, BY_100),
            (r#"usher_redis_command_seconds_bucket{le="+Inf"}"#, BY_100),
        ]],
    ),
    case(
        "UsherFull",
        &[
            (r#"usher_admissions_total{result="full"}"#, BY_10),
            (r#"usher_admissions_total{result="admitted"}"#, BY_10),
        ],
        &[
            &[
                (r#"usher_admissions_total{result="full"}"#, ONCE),
                (r#"usher_admissions_total{result="admitted"}"#, ALWAYS_0),
            ],
            &[
                (r#"usher_admissions_total{result="full"}"#, BY_10),
                (r#"usher_admissions_total{result="admitted"}"#, BY_100_000),
            ],
        ],
    ),
    case(
        "UsherNearlyFull",
        &[
            (r#"usher_sessions{transport="websocket"}"#, "16000x60"),
            (r#"usher_sessions{transport="sse"}"#, "1000x60"),
        ],
        &[&[
            (r#"usher_sessions{transport="websocket"}"#, "14000x60"),
            (r#"usher_sessions{transport="sse"}"#, "1000x60"),
        ]],
    ),
    case(
        "UsherQueuesNearlyFull",
        &[("usher_queued_bytes", "220000000x60")],
        &[&[("usher_queued_bytes", "200000000x60")]],
    ),
    case(
        "UsherSlowConsumers",
        &[
            (
                r#"usher_session_closes_total{reason="slow_consumer"}"#,
                BY_10,
            ),
            (r#"usher_sessions{transport="websocket"}"#, "1000x60"),
        ],
        &[
            &[
                (
                    r#"usher_session_closes_total{reason="slow_consumer"}"#,
                    BY_10,
                ),
                (r#"usher_sessions{transport="websocket"}"#, "10000x60"),
            ],
            &[
                (r#"usher_session_closes_total{reason="idle"}"#, BY_10),
                (r#"usher_sessions{transport="websocket"}"#, "1000x60"),
            ],
        ],
    ),
    case(
        "UsherMessagesDropped",
        &[
            (
                r#"usher_messages_dropped_total{reason="slow_consumer"}"#,
                BY_1,
            ),
            (r#"usher_messages_delivered_total{transport="sse"}"#, BY_100),
        ],
        &[&[
            (
                r#"usher_messages_dropped_total{reason="slow_consumer"}"#,
                BY_1,
            ),
            (
                r#"usher_messages_delivered_total{transport="sse"}"#,
                BY_100_000,
            ),
        ]],
    ),
    case(
        "UsherNotFromTheStream",
        &[(r#"usher_messages_dropped_total{reason="not_stored"}"#, BY_1)],
        &[&[
            (
                r#"usher_messages_dropped_total{reason="not_stored"}"#,
                ALWAYS_1,
            ),
            (
                r#"usher_messages_dropped_total{reason="slow_consumer"}"#,
                BY_1,
            ),
        ]],
    ),
    case(
        "UsherDeliverySlow",
        &[
            (r#"usher_delivery_seconds_bucket{le="0.5"}"#, BY_10),
            (r#"usher_delivery_seconds_bucket{le="1"}"#, BY_100),
            (r#"usher_delivery_seconds_bucket{le="+Inf"}"#, BY_100),
        ],
        &[&[
            (r#"usher_delivery_seconds_bucket{le="0.1"}"#, BY_100),
            (r#"usher_delivery_seconds_bucket{le="0.5"}"#, BY_100),
            (r#"usher_delivery_seconds_bucket{le="+Inf"}"#, BY_100),
        ]],
    ),
    case(
        "UsherRefusals",
        &[
            (r#"usher_admissions_total{result="ticket_unknown"}"#, BY_10),
            (r#"usher_admissions_total{result="admitted"}"#, BY_10),
        ],
        &[&[
            (r#"usher_admissions_total{result="ticket_unknown"}"#, BY_1),
            (r#"usher_admissions_total{result="full"}"#, BY_100),
            (r#"usher_admissions_total{result="admitted"}"#, BY_10),
        ]],
    ),
    case(
        "UsherConnectionsCut",
        &[(r#"usher_connections_cut_total{reason="tls"}"#, "0+1000x60")],
        &[&[(r#"usher_connections_cut_total{reason="tls"}"#, BY_100)]],
    ),
    case(
        "UsherFileDescriptors",
        &[
            ("process_open_fds", "900x60"),
            ("process_max_fds", "1000x60"),
        ],
        &[&[
            ("process_open_fds", "700x60"),
            ("process_max_fds", "1000x60"),
        ]],
    ),
    case(
        "UsherCertificateNotTakenUp",
        &[(r#"usher_tls_stale{listener="public"}"#, ALWAYS_1)],
        &[&[(r#"usher_tls_stale{listener="public"}"#, ALWAYS_0)]],
    ),
    case(
        "UsherKeysNotFetched",
        &[(r#"usher_jwks_fetches_total{result="failed"}"#, ONCE)],
        &[&[
            (r#"usher_jwks_fetches_total{result="failed"}"#, ALWAYS_1),
            (r#"usher_jwks_fetches_total{result="ok"}"#, BY_1),
        ]],
    ),
    case(
        "UsherGatewayLost",
        &[("usher_gateways_lost_total", ONCE)],
        &[&[("usher_gateways_lost_total", ALWAYS_1)]],
    ),
    case(
        "UsherCallsIncomplete",
        &[(
            r#"usher_control_calls_total{op="presence",result="incomplete"}"#,
            BY_1,
        )],
        &[
            &[(
                r#"usher_control_calls_total{op="presence",result="complete"}"#,
                BY_1,
            )],
            // A gateway that has just begun does not know the others yet.
            &[(
                r#"usher_control_calls_total{op="presence",result="incomplete"}"#,
                ONCE,
            )],
        ],
    ),
    case(
        "UsherCallersRefused",
        &[(
            r#"usher_grpc_refused_total{reason="in_flight_bytes"}"#,
            BY_1,
        )],
        &[&[(r#"usher_grpc_refused_total{reason="too_slow"}"#, BY_1)]],
    ),
    case(
        "UsherStreamReplaced",
        &[(r#"usher_stream_replaced_total{reason="made_anew"}"#, ONCE)],
        &[&[(
            r#"usher_stream_replaced_total{reason="made_anew"}"#,
            ALWAYS_1,
        )]],
    ),
    case(
        "UsherHeldBack",
        &[("usher_sessions_held_back", ALWAYS_1)],
        &[&[("usher_sessions_held_back", ALWAYS_0)]],
    ),
    case(
        "UsherStreamNotReady",
        &[(r#"usher_findings{reason="stream_away"}"#, ALWAYS_1)],
        &[&[(r#"usher_findings{reason="redis_away"}"#, ALWAYS_1)]],
    ),
    case(
        "UsherStreamHoles",
        &[
            (r#"usher_catch_ups_total{reason="hole"}"#, BY_10),
            (r#"usher_sessions{transport="websocket"}"#, "1000x60"),
        ],
        &[
            &[
                (r#"usher_catch_ups_total{reason="hole"}"#, ONCE),
                (r#"usher_sessions{transport="websocket"}"#, "10x60"),
            ],
            &[
                (r#"usher_catch_ups_total{reason="hole"}"#, BY_1),
                (r#"usher_sessions{transport="websocket"}"#, "10000x60"),
            ],
        ],
    ),
];

/// One world, and how many alerts of this name fire in it.
fn world(alert: &str, series: &[Series], firing: usize) -> Value {
    let own = format!(r#"namespace="{NAMESPACE}",job="{NAME}-ops",pod="usher-0""#);
    let input = series.iter().map(|(metric, values)| {
        let (name, labels) = metric.split_once('{').unwrap_or((metric, "}"));
        let labels = labels.trim_end_matches('}');
        json!({"series": format!("{name}{{{own},{labels}}}"), "values": values})
    });
    let samples = (firing > 0).then(|| json!({"labels": "{}", "value": firing}));
    json!({
        "name": format!("{alert}: {series:?}"),
        "interval": "1m",
        "input_series": input.collect::<Vec<_>>(),
        "promql_expr_test": [{
            "expr": format!(r#"count(ALERTS{{alertname="{alert}",alertstate="firing"}})"#),
            "eval_time": "40m",
            "exp_samples": samples.into_iter().collect::<Vec<_>>(),
        }],
    })
}

/// Whether promtool finds these worlds as they say, and what it says.
fn judged(worlds: &[Value]) -> (bool, String) {
    let folder = TempDir::new().expect("a folder");
    let objects = Render::minimal()
        .set("prometheusRule.enabled=true")
        .objects();
    let rules = &objects.one("PrometheusRule", "")["spec"];
    fs::write(folder.path().join("rules.yaml"), rules.to_string()).expect("written");
    let test = json!({
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": worlds,
    });
    let file = folder.path().join("test.yaml");
    fs::write(&file, test.to_string()).expect("written");
    let mut command = Command::new(server("promtool"));
    let output = command.args(["test", "rules"]).arg(&file).output();
    let output = output.expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
fn each_alert_fires_and_is_silent_by_the_charts_own_times() {
    let cases: BTreeSet<_> = CASES.iter().map(|case| case.alert.to_owned()).collect();
    assert_eq!(cases, names());
    let mut worlds = Vec::new();
    for case in CASES {
        worlds.push(world(case.alert, case.fires, 1));
        worlds.extend(
            case.silent
                .iter()
                .map(|silent| world(case.alert, silent, 0)),
        );
    }
    let (good, said) = judged(&worlds);
    assert!(good, "{said}");
}

/// A judge that finds everything as it is told proves nothing.
#[test]
fn an_alert_that_does_not_fire_is_found() {
    let (good, said) = judged(&[world("UsherDown", &[("up", ALWAYS_1)], 1)]);
    assert!(!good, "{said}");
    let (good, said) = judged(&[world("UsherDown", &[("up", ALWAYS_0)], 0)]);
    assert!(!good, "{said}");
}
