//! A session that is open: it cuts frames, checks the numbers of messages, and answers pings.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
};

use super::{Count, Run, latencies};
use crate::{
    payload,
    reader::{Piece, websocket},
};

/// A close frame with 1000, and a pong, masked with zeros.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

thread_local! {
    /// All sessions read into this; only what is left of a frame is kept.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 128 * 1024]);
}

/// What all sessions of a process share.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) count: Count,
    pub(super) run: Run,
}

pub(super) struct Session {
    stream: TcpStream,
    /// The beginning of a frame.
    rest: Vec<u8>,
    user: u32,
    /// The run of the last message, and how many there were of it.
    run: u32,
    had: u32,
}

impl Session {
    /// One that is welcome; `rest` came after the welcome.
    pub(super) fn new(stream: TcpStream, rest: Vec<u8>, user: usize) -> Self {
        Self {
            stream,
            rest,
            user: user as u32,
            run: 0,
            had: 0,
        }
    }

    /// Reads until the end, and says what it was.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, tally: &RefCell<Tally>) -> Poll<String> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let kept = self.rest.len();
                scratch[..kept].copy_from_slice(&self.rest);
                let mut buffer = ReadBuf::new(scratch);
                buffer.set_filled(kept);
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                    Err(error) => return Poll::Ready(error.kind().to_string()),
                    Ok(()) if buffer.filled().len() == kept => {
                        return Poll::Ready("no close frame".to_owned());
                    }
                    Ok(()) => {}
                }
                // What is idle keeps no buffer.
                self.rest = Vec::new();
                if let Err(end) = self.take(buffer.filled(), &mut tally.borrow_mut()) {
                    return Poll::Ready(end);
                }
            }
        })
    }

    fn take(&mut self, mut bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        while let Some((piece, used)) = websocket(bytes) {
            bytes = &bytes[used..];
            match piece {
                Piece::Text(text) => self.message(text, tally),
                Piece::Ping => {
                    tally.count.pings += 1;
                    // A socket that is idle has room for it.
                    let _ = self.stream.try_write(&PONG);
                }
                Piece::Close(code) => return Err(format!("closed {code}")),
                Piece::Other => {}
            }
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    fn message(&mut self, text: &[u8], tally: &mut Tally) {
        let Some(numbers) = payload::read_frame(text) else {
            return;
        };
        let Run {
            number,
            each,
            holes,
        } = tally.run;
        if numbers.run != number {
            return;
        }
        if u64::from(self.run) != number {
            (self.run, self.had) = (number as u32, 0);
        }
        let first = u64::from(self.user) * each;
        let ours = each == 0 || (first..first + each).contains(&numbers.seq);
        if numbers.seq == first + u64::from(self.had) || (holes && ours) {
            self.had += 1;
            tally.count.messages += 1;
        } else {
            tally.count.wrong += 1;
        }
        if !numbers.at.is_zero() {
            tally.count.latencies.count(latencies::since(numbers.at));
        }
    }

    /// Says that it leaves; the connection ends when this is dropped.
    pub(super) fn close(self) {
        let _ = self.stream.try_write(&CLOSE);
    }
}
