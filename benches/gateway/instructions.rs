//! How many instructions the hot paths take, counted by valgrind's callgrind, beside those that
//! are recorded. A count repeats where a time does not, so a small loss shows on a busy machine.
//!
//! Each scene is a whole gateway on a runtime of one thread, with a real nats-server and Redis
//! in processes of their own. Clients have sent, and the servers have passed on, all before
//! counting begins; what is counted is the gateway's part alone, until it is in the sockets of
//! all clients.

mod clients;
mod record;
mod scene;

use std::{env, fs, path::Path, process::Command};

use tempfile::TempDir;

pub(crate) use self::scene::be;
use self::{
    record::{Count, Record},
    scene::Scene,
};
use crate::{
    Outcome,
    parts::Bench,
    servers::{JetStream, find},
};

/// As the first argument it makes this program a gateway whose instructions are counted.
pub(crate) const ARGUMENT: &str = "--be-counted";

/// Where counts are recorded.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// Set, it has the counts recorded instead of compared.
const WRITE: &str = "INSTRUCTIONS_RECORD";

impl Bench {
    /// # Errors
    ///
    /// Where a count is beyond its bound.
    pub(crate) fn instructions(&mut self) -> Outcome<()> {
        self.report
            .title("Instructions of a gateway, counted by callgrind");
        let stream = JetStream::start()?;
        let mut counts = Vec::new();
        for scene in Scene::ALL {
            let nats = match scene.is_durable() {
                true => stream.address,
                false => self.servers.nats,
            };
            let arguments = [
                scene.name().to_owned(),
                nats.to_string(),
                self.servers.redis.to_string(),
            ];
            let all = counted(&arguments)?;
            counts.push(Count {
                name: scene.name().to_owned(),
                each: all / scene.operations(),
            });
        }
        let now = Record::new(counts)?;
        let path = Path::new(RECORD);
        if env::var_os(WRITE).is_some() {
            fs::write(path, now.to_string())?;
            self.report.say(&format!("recorded in {RECORD}"));
            return Ok(());
        }
        let Ok(text) = fs::read_to_string(path) else {
            self.report.say(&now.to_string());
            self.report
                .say("nothing is compared: no counts are recorded. Run make instructions-record");
            return Ok(());
        };
        now.compare(&Record::read(&text)?, &self.report)
    }
}

/// Runs this program with these arguments under callgrind; returns how many instructions it
/// has counted.
fn counted(arguments: &[String]) -> Outcome<u64> {
    let folder = TempDir::new()?;
    let file = folder.path().join("callgrind.out");
    let output = Command::new(find("valgrind")?)
        .args(["--tool=callgrind", "--vgdb=no"])
        .arg(format!("--toggle-collect=*{}*", scene::COUNTED))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe()?)
        .arg(ARGUMENT)
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind ended with {}:\n{said}", output.status).into());
    }
    let text = fs::read_to_string(&file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.and_then(|total| total.trim().parse().ok());
    let total = total.filter(|total| *total > 0);
    total.ok_or_else(|| format!("callgrind has counted nothing:\n{said}").into())
}
