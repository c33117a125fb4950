//! A login that signs tokens: `tests/tokens.py`, with a library that we did not
//! write.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

/// The running login.
pub(crate) struct Login {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Login {
    pub(crate) fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new("python3")
            .arg(root.join("tests/tokens.py"))
            .env("PYTHONPATH", root.join(".servers/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        Self {
            orders: child.stdin.take().expect("a pipe"),
            answers: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    /// Makes a key: its `pem`, `private` and `jwk`.
    pub(crate) fn key(&mut self, name: &str, kind: &str) -> Value {
        self.ask(&json!({ "key": name, "kind": kind }))
    }

    /// Signs these claims with a key that it made.
    pub(crate) fn sign(&mut self, key: &str, algorithm: &str, claims: &Value) -> String {
        let headers = json!({ "kid": key });
        self.order(json!(key), algorithm, claims, &headers)
    }

    /// Signs these claims with a secret.
    pub(crate) fn sign_with_secret(
        &mut self,
        secret: &str,
        algorithm: &str,
        claims: &Value,
    ) -> String {
        self.order(json!({ "secret": secret }), algorithm, claims, &json!({}))
    }

    /// Signs these claims, under other headers.
    pub(crate) fn order(
        &mut self,
        key: Value,
        algorithm: &str,
        claims: &Value,
        headers: &Value,
    ) -> String {
        let order = json!({ "sign": key, "alg": algorithm, "claims": claims, "headers": headers });
        let answer = self.ask(&order);
        answer["token"].as_str().expect("a token").to_owned()
    }

    fn ask(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").expect("the login runs");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the login runs");
        serde_json::from_str(&answer).expect("an answer")
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// So many seconds from now, as tokens say it.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_secs()).expect("a time") + seconds
}
