//! Releases under restricted pod security: installed by a tenant, upgraded, rolled back, scaled,
//! drained and uninstalled.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::control_plane::ControlPlane;
use crate::{
    helm::{NAME, RELEASE, Render},
    support::process::Process,
};

/// On a busy machine a rollout of some pods takes as long as that.
const PATIENCE: Duration = Duration::from_secs(300);

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(300)).await;
    }
}

/// A namespace of its own, whose tenant may do in it what an admin of a namespace may.
struct Tenant<'a> {
    plane: &'a ControlPlane,
    namespace: String,
    /// Whether Helm applies on the server's side.
    sides: &'a str,
}

impl<'a> Tenant<'a> {
    fn new(plane: &'a ControlPlane, purpose: &str, sides: &'a str) -> Self {
        let namespace = format!("{purpose}-{sides}");
        let restricted = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        });
        plane.apply(&restricted.to_string());
        let rights = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "tenant", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "User", "name": "tenant", "apiGroup": "rbac.authorization.k8s.io"}],
        });
        plane.apply(&rights.to_string());
        Self {
            plane,
            namespace,
            sides,
        }
    }

    /// Drains that are soon over, and a policy.
    fn values(&self) -> Render {
        Render::minimal()
            .set("drain.delay=500ms")
            .set("drain.window=500ms")
            .set("networkPolicy.enabled=true")
    }

    fn helm(&self, words: &[&str], render: &Render) -> Result<String, String> {
        let mut arguments = words.to_vec();
        arguments.extend(["--namespace", &self.namespace]);
        arguments.extend(render.arguments().iter().map(String::as_str));
        self.plane.helm("tenant", &arguments)
    }

    #[track_caller]
    fn install(&self, render: &Render) -> String {
        let side = format!("--server-side={}", self.sides);
        let words = [
            "install",
            RELEASE,
            "helm",
            &side,
            "--wait",
            "--timeout",
            "300s",
        ];
        self.helm(&words, render)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn upgrade(&self, render: &Render) -> String {
        let side = format!("--server-side={}", self.sides);
        let words = [
            "upgrade",
            RELEASE,
            "helm",
            &side,
            "--wait",
            "--timeout",
            "300s",
        ];
        self.helm(&words, render)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn deployment(&self) -> Value {
        self.plane
            .get(&["deployment", NAME, "--namespace", &self.namespace])
    }

    fn replicas(&self) -> Option<i64> {
        self.deployment()["spec"]["replicas"].as_i64()
    }

    /// The Deployment as it changes: what is asked for, and what is ready, a line each time.
    fn watched(&self) -> Process {
        self.plane.watch(&[
            "get",
            "deployment",
            NAME,
            "--namespace",
            &self.namespace,
            "--watch",
            "--output",
            "jsonpath={.spec.replicas} {.status.readyReplicas}{\"\\n\"}",
        ])
    }

    /// All that there is in the namespace but what comes and goes by itself.
    fn everything(&self) -> BTreeSet<String> {
        let kinds = self.plane.kubectl(&[
            "api-resources",
            "--namespaced",
            "--verbs=list",
            "--output",
            "name",
        ]);
        let passing = [
            "events",
            "events.events.k8s.io",
            "leases.coordination.k8s.io",
        ];
        let kinds: Vec<_> = kinds
            .lines()
            .filter(|kind| !passing.contains(kind))
            .collect();
        let all = self.plane.kubectl(&[
            "get",
            &kinds.join(","),
            "--namespace",
            &self.namespace,
            "--output",
            "name",
            "--ignore-not-found",
        ]);
        all.lines().map(str::to_owned).collect()
    }
}

/// The fewest that were asked for, and that were ready, while it was watched.
fn fewest(mut watched: Process) -> (i64, i64) {
    watched.kill();
    let said = watched.output();
    let mut asked = i64::MAX;
    let mut ready = i64::MAX;
    for line in said.lines() {
        let mut numbers = line.split(' ').map(|number| number.parse().unwrap_or(0));
        asked = asked.min(numbers.next().unwrap_or(0));
        ready = ready.min(numbers.next().unwrap_or(0));
    }
    assert!(said.lines().count() > 0, "nothing was watched");
    println!("watched: {}", said.trim().replace('\n', ", "));
    (asked, ready)
}

/// Installed, tested, upgraded, rolled back and uninstalled by somebody who has rights in the
/// namespace alone; nothing is left.
pub(super) async fn a_tenants_release(plane: &ControlPlane, sides: &str) {
    let tenant = Tenant::new(plane, "release", sides);
    eventually("the namespace has what every namespace has", || {
        let all = tenant.everything();
        ["serviceaccount/default", "configmap/kube-root-ca.crt"]
            .iter()
            .all(|name| all.contains(*name))
    })
    .await;
    let before = tenant.everything();
    let first = tenant.values();
    let said = tenant.install(&first);
    assert!(!said.to_lowercase().contains("warning"), "{said}");
    assert_eq!(tenant.deployment()["status"]["readyReplicas"], 2);

    // Its pod ends well here, since no container runs; that the API takes it is what is seen.
    let tested = tenant.helm(&["test", RELEASE], &Render::bare());
    let tested = tested.unwrap_or_else(|error| panic!("{error}"));
    assert!(tested.contains("Succeeded"), "{tested}");
    let pods = plane.kubectl(&[
        "get",
        "pods",
        "--namespace",
        &tenant.namespace,
        "--output",
        "name",
    ]);
    assert!(!pods.contains("-test"), "{pods}");

    let watched = tenant.watched();
    let configuration = |tenant: &Tenant<'_>| {
        let map = tenant
            .plane
            .get(&["configmap", NAME, "--namespace", &tenant.namespace]);
        map["data"]["usher.toml"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    let original = configuration(&tenant);
    tenant.upgrade(
        &first
            .clone()
            .set("session.pingInterval=20s")
            .set("durable.enabled=true"),
    );
    assert_ne!(configuration(&tenant), original);
    let (_, ready) = fewest(watched);
    assert!(
        ready >= 2,
        "no gateway goes before its successor is ready: {ready}"
    );
    for kind in ["LoadBalancer", "NodePort", "ClusterIP"] {
        // A load balancer never comes here, so nothing waits for it.
        let render = first.clone().set(&format!("service.type={kind}"));
        let side = format!("--server-side={sides}");
        let said = tenant.helm(&["upgrade", RELEASE, "helm", &side], &render);
        said.unwrap_or_else(|error| panic!("{error}"));
        let service = plane.get(&["service", NAME, "--namespace", &tenant.namespace]);
        assert_eq!(service["spec"]["type"], kind);
    }
    let rolled = tenant.helm(
        &["rollback", RELEASE, "1", "--wait", "--timeout", "300s"],
        &Render::bare(),
    );
    rolled.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(configuration(&tenant), original);

    let gone = tenant.helm(&["uninstall", RELEASE, "--wait"], &Render::bare());
    gone.unwrap_or_else(|error| panic!("{error}"));
    eventually("nothing is left", || {
        let left: Vec<_> = tenant.everything().difference(&before).cloned().collect();
        if !left.is_empty() {
            println!("still there: {left:?}");
        }
        left.is_empty()
    })
    .await;
    println!(
        "{}: installed, tested, upgraded, rolled back, uninstalled; nothing is left",
        tenant.namespace
    );
}

/// Six gateways, then an autoscaler whose minimum is three: six stay.
pub(super) async fn an_autoscaler_is_turned_on_and_off(plane: &ControlPlane, sides: &str) {
    let tenant = Tenant::new(plane, "autoscaler", sides);
    let fixed = tenant.values().set("replicaCount=6");
    tenant.install(&fixed);
    let watched = tenant.watched();
    let scaled = fixed
        .clone()
        .set("autoscaling.enabled=true")
        .set("autoscaling.minReplicas=3");
    tenant.upgrade(&scaled);
    let seen = |what: &str| {
        let scaler = plane.get(&[
            "horizontalpodautoscaler",
            NAME,
            "--namespace",
            &tenant.namespace,
        ]);
        scaler["status"][what].as_i64()
    };
    eventually("the autoscaler has seen six", || {
        seen("currentReplicas") == Some(6)
    })
    .await;
    // Again, and with other values, and back.
    tenant.upgrade(&scaled);
    tenant.upgrade(&scaled.clone().set("autoscaling.minReplicas=7"));
    eventually("the autoscaler makes seven", || {
        tenant.replicas() == Some(7)
    })
    .await;
    tenant.upgrade(&scaled);
    assert_eq!(tenant.replicas(), Some(7));
    tenant.upgrade(&fixed.clone().set("replicaCount=7"));
    assert_eq!(tenant.replicas(), Some(7));
    let (asked, ready) = fewest(watched);
    assert_eq!((asked, ready), (6, 6));
    println!(
        "{}: an autoscaler on and off, and never fewer than six gateways",
        tenant.namespace
    );
}

/// `replicaCount=null`: KEDA, or an operator's own hand.
pub(super) async fn somebody_else_scales(plane: &ControlPlane, sides: &str) {
    let tenant = Tenant::new(plane, "by-hand", sides);
    let render = tenant.values().set("replicaCount=null");
    tenant.install(&render);
    assert_eq!(tenant.replicas(), Some(1));
    let deployment = format!("deployment/{NAME}");
    let scale = [
        "scale",
        &deployment,
        "--namespace",
        &tenant.namespace,
        "--replicas=4",
    ];
    plane.kubectl(&scale);
    let watched = tenant.watched();
    tenant.upgrade(&render.clone().set("session.pingInterval=20s"));
    tenant.upgrade(&render);
    assert_eq!(tenant.replicas(), Some(4));
    let (asked, _) = fewest(watched);
    assert_eq!(asked, 4);
    println!(
        "{}: scaled by hand, and upgrades keep that",
        tenant.namespace
    );
}

/// A node is emptied: its gateways go one at a time.
pub(super) async fn a_drain_obeys_the_budget(plane: &ControlPlane) {
    let tenant = Tenant::new(plane, "drained", "true");
    tenant.install(&tenant.values().set("replicaCount=6"));
    let on_node = || {
        let pods = plane.get(&[
            "pods",
            "--namespace",
            &tenant.namespace,
            "--field-selector",
            "spec.nodeName=node-0",
        ]);
        pods["items"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(on_node(), 2, "six gateways spread over three nodes");
    let watched = tenant.watched();
    let selector = format!("--pod-selector=app.kubernetes.io/instance={RELEASE}");
    let said = plane.try_kubectl(
        "admin",
        &[
            "drain",
            "node-0",
            &selector,
            "--ignore-daemonsets",
            "--timeout=300s",
        ],
        "",
    );
    let said = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("node/node-0 drained"), "{said}");
    // The second one had to wait.
    assert!(
        said.contains("violate the pod's disruption budget"),
        "{said}"
    );
    assert_eq!(on_node(), 0);
    let (_, ready) = fewest(watched);
    assert!(ready >= 5, "only {ready} of six were ready");
    plane.kubectl(&["uncordon", "node-0"]);
    println!("a node's drain took one gateway at a time");
}
