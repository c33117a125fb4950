//! The floor: a process that does nothing but `write(2)` the very frames that a
//! gateway has to write, one call a frame. No gateway that writes each message
//! by itself can do with less.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{ChildStdin, Command},
    time::Duration,
};

use crate::{
    Outcome,
    payload::{self, Numbers, Payload},
    process::Process,
};

/// As the first argument it makes this program a floor.
pub(crate) const ARGUMENT: &str = "--be-the-floor";

pub(crate) struct Floor {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    orders: ChildStdin,
}

impl Floor {
    pub(crate) fn start(sessions: usize) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(ARGUMENT).arg(sessions.to_string());
        let mut process = Process::start_with_pipes(&command)?;
        let orders = process.child().stdin.take().ok_or("no stdin")?;
        let stdout = process.child().stdout.take().ok_or("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self {
            address: line.trim().parse()?,
            process,
            orders,
        })
    }

    /// Writes `count` messages to random sessions.
    pub(crate) fn unicast(&mut self, run: u64, count: usize) -> io::Result<()> {
        writeln!(self.orders, "unicast {run} {count}")
    }

    /// Writes message `seq` to every session.
    pub(crate) fn broadcast(&mut self, run: u64, seq: u64) -> io::Result<()> {
        writeln!(self.orders, "broadcast {run} {seq}")
    }
}

/// What the child does: `arguments` say for how many sessions.
pub(crate) fn be(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let sessions: usize = arguments.next().ok_or("how many sessions?")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    let mut streams = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    for line in io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let order = words.next();
        let mut number = || {
            words
                .next()
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let (run, last) = (number(), number());
        match order {
            Some("unicast") => unicast(&mut streams, run, last as usize)?,
            _ => broadcast(&mut streams, run, last)?,
        }
    }
    Ok(())
}

fn unicast(streams: &mut [TcpStream], run: u64, count: usize) -> io::Result<()> {
    let (mut frame, at) = payload::frame(false);
    let mut payload = Payload::new();
    let mut next = vec![0; streams.len()];
    for user in payload::random_users(run, streams.len(), count) {
        let numbers = Numbers {
            run,
            seq: next[user],
            at: Duration::ZERO,
        };
        next[user] += 1;
        frame[at..at + payload::SIZE].copy_from_slice(payload.number(numbers));
        streams[user].write_all(&frame)?;
    }
    Ok(())
}

fn broadcast(streams: &mut [TcpStream], run: u64, seq: u64) -> io::Result<()> {
    let (mut frame, at) = payload::frame(true);
    let numbers = Numbers {
        run,
        seq,
        at: Duration::ZERO,
    };
    frame[at..at + payload::SIZE].copy_from_slice(Payload::new().number(numbers));
    streams
        .iter_mut()
        .try_for_each(|stream| stream.write_all(&frame))
}
