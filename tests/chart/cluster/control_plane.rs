//! Kubernetes's control plane on this machine: etcd, the API server, the controllers, the scheduler,
//! and kwok, which plays the nodes. Pods start and end there, and no container runs.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    helm::project,
    support::{
        eventually,
        process::{Process, free_port, server},
        tls::Ca,
    },
};

/// Who may do everything, and who may do something in one namespace.
const ADMIN: &str = "admin-of-the-cluster";
const TENANT: &str = "tenant-of-a-namespace";

/// A running control plane.
pub(super) struct ControlPlane {
    folder: TempDir,
    processes: Vec<Process>,
    /// Its files are needed as long as the server is.
    _ca: Ca,
}

/// A part that `make cluster` has built.
fn built(name: &str) -> Command {
    let path = parts().join("bin").join(name);
    assert!(
        path.exists(),
        "there is no {name} yet: run \"make cluster\""
    );
    Command::new(path)
}

fn parts() -> PathBuf {
    project().join(".servers/cluster")
}

/// All files of a folder, as one YAML stream.
fn documents(folder: &str) -> String {
    let mut files: Vec<_> = parts()
        .join(folder)
        .read_dir()
        .expect("the folder")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    let texts = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("a text"));
    texts.collect::<Vec<_>>().join("\n---\n")
}

impl ControlPlane {
    pub(super) async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path().display().to_string();
        let [client, peer, api] = [(); 3].map(|()| free_port());
        let ca = Ca::new();
        let identity = ca.issue();
        let key = identity.key_file.display().to_string();
        // What tokens of service accounts are signed with.
        let signing = KeyPair::generate().expect("a key");
        for (name, pem) in [
            ("signing.key", signing.serialize_pem()),
            ("signing.pub", signing.public_key_pem()),
        ] {
            fs::write(folder.path().join(name), pem).expect("written");
        }
        let tokens = format!("{ADMIN},admin,1,system:masters\n{TENANT},tenant,2,\n");
        fs::write(folder.path().join("tokens.csv"), tokens).expect("written");
        for (name, token) in [("admin", ADMIN), ("tenant", TENANT)] {
            let config = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "it",
                "clusters": [{"name": "it", "cluster": {
                    "server": format!("https://127.0.0.1:{api}"),
                    "certificate-authority-data": BASE64_STANDARD.encode(fs::read(ca.file()).expect("a file")),
                }}],
                "users": [{"name": "it", "user": {"token": token}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            });
            fs::write(folder.path().join(name), config.to_string()).expect("written");
        }
        let mut this = Self {
            folder,
            processes: Vec::new(),
            _ca: ca,
        };
        let etcd = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new(server("etcd"));
        command
            .arg(format!("--data-dir={root}/etcd"))
            .arg(format!("--listen-client-urls={etcd}"))
            .arg(format!("--advertise-client-urls={etcd}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"));
        this.run(command);
        let mut command = built("kube-apiserver");
        command
            .arg(format!("--etcd-servers={etcd}"))
            .arg(format!("--secure-port={api}"))
            .args([
                "--bind-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
            ])
            .arg(format!(
                "--tls-cert-file={}",
                identity.certificate_file.display()
            ))
            .arg(format!("--tls-private-key-file={key}"))
            .arg(format!("--service-account-key-file={root}/signing.pub"))
            .arg(format!(
                "--service-account-signing-key-file={root}/signing.key"
            ))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg("--service-cluster-ip-range=10.96.0.0/16")
            .arg(format!("--token-auth-file={root}/tokens.csv"))
            .arg("--authorization-mode=RBAC");
        this.run(command);
        this.answers(&["get", "--raw", "/readyz"]).await;
        let kubeconfig = format!("--kubeconfig={root}/admin");
        let mut command = built("kube-controller-manager");
        command
            .arg(&kubeconfig)
            .arg(format!(
                "--service-account-private-key-file={root}/signing.key"
            ))
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={}", free_port()))
            .arg("--horizontal-pod-autoscaler-sync-period=1s")
            // A busy machine is late with the nodes' signs of life, and their pods would be
            // called not ready.
            .arg("--node-monitor-grace-period=1h");
        this.run(command);
        let mut command = built("kube-scheduler");
        command
            .arg(&kubeconfig)
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={}", free_port()));
        this.run(command);
        fs::write(this.path("stages.yaml"), documents("stages")).expect("written");
        let mut command = built("kwok");
        command
            .arg(&kubeconfig)
            .args([
                "--manage-all-nodes=true",
                "--node-lease-duration-seconds=40",
            ])
            .arg(format!("--config={root}/stages.yaml"));
        this.run(command);
        this.furnish().await;
        this
    }

    fn run(&mut self, mut command: Command) {
        command.current_dir(self.folder.path());
        self.processes.push(Process::spawn(command));
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Three nodes, and the definitions of others' resources.
    async fn furnish(&self) {
        let nodes = (0..3).map(|index| {
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {
                    "name": format!("node-{index}"),
                    "labels": {
                        "kubernetes.io/hostname": format!("node-{index}"),
                        "topology.kubernetes.io/zone": format!("zone-{index}"),
                    },
                },
            })
        });
        self.apply(
            &json!({"apiVersion": "v1", "kind": "List", "items": nodes.collect::<Vec<_>>()})
                .to_string(),
        );
        fs::write(self.path("crds.yaml"), documents("crds")).expect("written");
        let file = self.path("crds.yaml").display().to_string();
        // Some are too large for the annotation that kubectl's own way of applying writes.
        self.kubectl(&["apply", "--server-side", "--filename", &file]);
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "customresourcedefinitions",
            "--all",
            "--timeout=60s",
        ]);
        self.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "nodes",
            "--all",
            "--timeout=60s",
        ]);
    }

    async fn answers(&self, arguments: &[&str]) {
        eventually("the API server answers", || async {
            self.try_kubectl("admin", arguments, "").status.success()
        })
        .await;
    }

    /// Runs kubectl as this user, with this input.
    pub(super) fn try_kubectl(&self, user: &str, arguments: &[&str], input: &str) -> Output {
        let file = self.path("input");
        fs::write(&file, input).expect("written");
        let mut command = built("kubectl");
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.path(user))
            .stdin(Stdio::from(fs::File::open(&file).expect("it is there")));
        command.output().expect("kubectl runs")
    }

    /// What kubectl says to who may do everything.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl("admin", arguments, "");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub(super) fn apply(&self, text: &str) {
        let output = self.try_kubectl("admin", &["apply", "--filename", "-"], text);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
    }

    /// What kubectl prints as JSON.
    pub(super) fn get(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "--output", "json"];
        all.extend(arguments);
        serde_json::from_str(&self.kubectl(&all)).expect("JSON")
    }

    /// A kubectl that goes on, such as a watch.
    pub(super) fn watch(&self, arguments: &[&str]) -> Process {
        let mut command = built("kubectl");
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.path("admin"));
        Process::spawn(command)
    }

    /// Runs helm as this user; what it says.
    pub(super) fn helm(&self, user: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(server("helm"));
        let output = command
            .args(arguments)
            .current_dir(project())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.path(user))
            .output()
            .expect("helm runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(format!("{said}{error}")),
            false => Err(format!("{arguments:?}: {said}{error}")),
        }
    }
}
