//! Every object that is rendered, over all presets and a matrix of values, is valid by the
//! schemas of three Kubernetes versions; what is not Kubernetes's own is valid by its own.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::{
    helm::{Render, project},
    presets,
    support::process::server,
};

const WAYS: [&[&str]; 5] = [
    &[],
    &[
        "httpRoute.enabled=true",
        "httpRoute.parentRefs[0].name=public",
    ],
    &[
        "httpRoute.enabled=true",
        "httpRoute.parentRefs[0].name=public",
        "httpRoute.sessionPersistence=true",
        "cookieAffinity.enabled=true",
    ],
    &["traefik.enabled=true", "cookieAffinity.enabled=true"],
    &[
        "nginx.enabled=true",
        "nginx.tlsSecret=push-tls",
        "cookieAffinity.enabled=true",
    ],
];
const MESHES: [&[&str]; 5] = [
    &[],
    &["mesh.type=istio"],
    &["mesh.type=istio", "mesh.ambient=true"],
    &["mesh.type=linkerd"],
    &["mesh.type=linkerd", "mesh.nativeSidecar=false"],
];
const SCALES: [&[&str]; 3] = [
    &[
        "service.type=LoadBalancer",
        "service.sessionAffinity=ClientIP",
        "service.ipFamilyPolicy=PreferDualStack",
        "service.ipFamilies={IPv4}",
        "grpc.service.type=NodePort",
        "initContainers[0].name=wait",
        "initContainers[0].image=busybox",
        "envFrom[0].secretRef.name=usher-env",
        "dnsConfig.options[0].name=ndots",
        "hostAliases[0].ip=10.0.0.1",
        "hostAliases[0].hostnames={nats.local}",
        "runtimeClassName=gvisor",
        "commonAnnotations.team=push",
        "nats.tls.caConfigMap=bundle",
    ],
    &[
        "autoscaling.enabled=true",
        "networkPolicy.enabled=true",
        "serviceMonitor.enabled=true",
    ],
    &[
        "autoscaling.enabled=true",
        "autoscaling.targetCpu=0",
        "autoscaling.targetSessions=10000",
        "podMonitor.enabled=true",
        "prometheusRule.enabled=true",
        "grafanaDashboard.enabled=true",
        "durable.enabled=true",
        "networkPolicy.enabled=true",
        "networkPolicy.grpcNamespaces={orders,chat}",
    ],
];

/// All presets, and the matrix.
fn renders() -> Vec<Render> {
    let mut renders = Vec::new();
    for preset in presets::all() {
        renders.push(preset.render());
    }
    for way in WAYS {
        for mesh in MESHES {
            for scale in SCALES {
                let mut render = Render::minimal();
                if !way.is_empty() {
                    render = render
                        .set("hosts={push.example.com,live.example.com}")
                        .set("public.trustedProxies={10.0.0.0/8}");
                }
                for value in way.iter().chain(mesh).chain(scale) {
                    render = render.set(value);
                }
                renders.push(render);
            }
        }
    }
    renders
}

/// Everything that is rendered, each object once.
pub(crate) fn objects() -> Vec<Value> {
    let mut known = BTreeSet::new();
    let all = renders().into_iter().flat_map(|render| render.objects().0);
    all.filter(|object| known.insert(object.to_string()))
        .collect()
}

#[test]
fn every_object_is_valid() {
    let objects = objects();
    assert!(objects.len() > 80, "only {} objects", objects.len());
    // Each says how many were its business: none may be nobody's.
    let kubernetes = kubernetes(&objects).unwrap_or_else(|error| panic!("{error}"));
    let others = others(&objects).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(kubernetes + others, objects.len());
    assert!(others > 10, "only {others} are others' objects");
}

/// A judge that lets everything pass proves nothing.
#[test]
fn a_field_that_nobody_knows_is_found() {
    let mut deployment = Render::minimal().objects().deployment().clone();
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 30.into();
    let error = kubernetes(&[deployment]).expect_err("it is wrong");
    assert!(error.contains("terminationGracePeriod"), "{error}");
    let monitor = Render::minimal()
        .set("serviceMonitor.enabled=true")
        .objects();
    let mut monitor = monitor.one("ServiceMonitor", "").clone();
    monitor["spec"]["endpoints"][0]["portName"] = "ops".into();
    let error = others(&[monitor]).expect_err("it is wrong");
    assert!(error.contains("no field portName"), "{error}");
}

/// How many are Kubernetes's own, and good.
fn kubernetes(objects: &[Value]) -> Result<usize, String> {
    let script = project().join("tests/chart/kubernetes.py");
    let modules = project().join(".servers/kubernetes");
    let mut command = Command::new("python3");
    judge(command.arg(script).env("PYTHONPATH", modules), objects)
}

/// How many are others', and good.
fn others(objects: &[Value]) -> Result<usize, String> {
    let script = project().join("tests/chart/resources.mjs");
    let modules = project().join(".servers/resources/node_modules");
    let mut command = Command::new(server("node"));
    judge(command.arg(script).arg(modules), objects)
}

fn judge(command: &mut Command, objects: &[Value]) -> Result<usize, String> {
    let mut file = NamedTempFile::new().expect("a file");
    for object in objects {
        writeln!(file, "{object}").expect("written");
    }
    let input = File::open(file.path()).expect("it is there");
    let output = command.stdin(Stdio::from(input)).output();
    let output = output.expect("the judge runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    match (output.status.success(), said.trim().parse()) {
        (true, Ok(count)) => Ok(count),
        _ => Err(format!("{said}{error}")),
    }
}
