//! The Centrifuge client protocol: from a request for a WebSocket to its session.
//!
//! The client says who it is in its first command, so a session is admitted after the
//! upgrade. Until then the connection counts as pending, and has the time of a handshake.

pub(super) mod command;

use std::{collections::BTreeMap, future::poll_fn, net::IpAddr, pin::pin, sync::Arc, task::Poll};

use serde::Deserialize;
use tokio::time::timeout;
use tungstenite::Message;
use warp::{Rejection, reply::Response};

use super::{
    admit::{Admissions, Admitted, conclude},
    closing::{LINGER, poll_flush, say},
    refusal::Refusal,
    request::{Request, Shown},
    session::{Sessions, burst},
    socket::Socket,
    transport::{Kind, Transport},
    upgrade::Upgrade,
    websocket,
};
use crate::{
    close::CloseReason,
    frame::{Protocol, centrifuge},
    position::{Mark, Since},
    proto::centrifuge::{Command, ConnectRequest, Error, Reply},
    telemetry::Span,
    tls::Stream,
    tokens::{EXPIRED, NOT_YET, UNKNOWN_KEY},
};

/// Messages that are read after `connect` and before its answer. SDKs send none; where more wait,
/// the gateway reads no further.
const EARLY: usize = 8;
/// Error: an SDK may try again where it is temporary.
pub(super) const INTERNAL: u32 = 100;
/// Error: an SDK gets itself another token.
const TOKEN_EXPIRED: u32 = 109;
/// Close: the client did not say `connect` in time. It may reconnect.
const STALE: u16 = 3003;
/// Close: the client was told an error, and did not close. It may reconnect.
const REFUSED: u16 = 3000;
/// Close: no other ticket and no other time changes the answer.
const INVALID: u16 = 3500;

/// The command that opened a session.
#[derive(Debug)]
pub(super) struct Connect {
    /// Its reply repeats it.
    pub(super) id: u32,
    /// It brought a token.
    pub(super) by_token: bool,
    /// Where the client was, by the names of channels.
    marks: BTreeMap<String, Mark>,
    /// It named more channels than a session can have: of some it is not known where it was.
    more: bool,
    /// What the client sent after it, in the same message or before its answer.
    pub(super) rest: Vec<Command>,
}

impl Connect {
    /// Whether the client wants what it missed of a channel. If it named too many channels, it is
    /// told for each that it does not get everything.
    pub(super) fn recovers(&self, channel: &str) -> bool {
        self.more || self.marks.contains_key(channel)
    }
}

/// A connection whose client has yet to say who it is.
pub(super) struct Newcomer {
    client: IpAddr,
    admissions: Arc<Admissions>,
    request: Request,
    upgrade: Upgrade,
    span: Option<Span>,
}

/// Why no session begins.
enum End {
    /// The client left, or sent what is not this protocol.
    Broken(CloseReason),
    /// The client took too long.
    TooSlow,
    /// The command of this id is refused.
    Refused(u32, Refusal),
}

/// Checks a request for an upgrade.
pub(super) async fn check(
    client: IpAddr,
    admissions: Arc<Admissions>,
    mut request: Request,
) -> Result<Newcomer, Rejection> {
    let span = admissions.record(&mut request, Kind::Centrifuge);
    match Upgrade::read_centrifuge(&mut request) {
        Ok(upgrade) => Ok(Newcomer {
            client,
            admissions,
            request,
            upgrade,
            span,
        }),
        Err(refusal) => {
            let refusal = admissions.refuse(client, &request.headers, refusal);
            conclude(span, &Err::<(), _>(refusal));
            Err(refusal.into())
        }
    }
}

/// Answers 101. What follows happens on the WebSocket.
pub(super) fn begin(newcomer: Newcomer, sessions: Arc<Sessions>) -> Response {
    let Newcomer {
        client,
        admissions,
        request,
        upgrade,
        span,
    } = newcomer;
    let protocol = upgrade.protocol.0;
    let (response, on_upgrade) = upgrade.accept();
    tokio::spawn(async move {
        let Ok(upgraded) = on_upgrade.await else {
            return;
        };
        let burst = burst(&sessions.config);
        let rate = sessions.rate().with_burst(burst);
        let socket = websocket::socket(&sessions, upgraded, rate, Kind::Centrifuge);
        let Some(mut socket) = socket else {
            return;
        };
        let admission = async {
            let from = (&request, client);
            let admitted = admission(&mut socket, &admissions, from, (protocol, burst));
            let Some(handshake) = &request.handshake else {
                return admitted.await;
            };
            handshake.begins_anew();
            tokio::select! {
                admitted = admitted => admitted,
                () = handshake.over() => Err(End::TooSlow),
            }
        };
        let admitted = admission.await;
        match &admitted {
            Ok(_) => conclude(span, &Ok(())),
            Err(End::Refused(_, refusal)) => conclude(span, &Err::<(), _>(*refusal)),
            // It says already that the client is gone.
            Err(End::Broken(_) | End::TooSlow) => drop(span),
        }
        match admitted {
            Ok(admitted) => {
                // Its permits among the pending connections go with it.
                drop(request);
                admissions.count("admitted");
                sessions.begin(socket, admitted);
            }
            Err(end) => {
                refuse(socket, protocol, end, &admissions, &sessions).await;
                drop(request);
            }
        }
    });
    response
}

/// Waits for the client's `connect`, and admits its session. A client that leaves meanwhile leaves
/// nothing behind.
async fn admission(
    socket: &mut Socket<Stream>,
    admissions: &Admissions,
    (request, client): (&Request, IpAddr),
    (protocol, burst): (Protocol, u32),
) -> Result<Admitted, End> {
    let mut said = commands(socket, protocol, burst).await?.into_iter();
    let first = said.next().filter(|first| first.id > 0);
    let Some((id, connect)) = first.and_then(|first| Some((first.id, first.connect?))) else {
        return Err(End::Broken(CloseReason::BadFrame));
    };
    let shown = shown(&connect);
    let by_token = matches!(&*shown, [Shown::Token(_)]);
    let subs = connect.subs.into_iter();
    let mut marks = subs.filter_map(|(name, sub)| Some((name, command::mark(&sub)?)));
    let known: BTreeMap<_, _> = marks.by_ref().take(burst as usize).collect();
    let more = marks.next().is_some();
    drop(marks);
    let since = (!known.is_empty()).then_some(Since::Each(known));
    let mut rest: Vec<_> = said.collect();
    let admitted = {
        let mut joining = pin!(admissions.admit(request, client, shown, protocol, since.as_ref()));
        let mut early = 0;
        loop {
            if rest.len() > burst as usize {
                return Err(End::Broken(CloseReason::TooManyFrames));
            }
            tokio::select! {
                admitted = &mut joining => break admitted,
                more = commands(socket, protocol, burst), if early < EARLY => {
                    rest.extend(more?);
                    early += 1;
                }
            }
        }
    };
    let mut admitted = admitted.map_err(|refusal| {
        End::Refused(id, admissions.refuse(client, &request.headers, refusal))
    })?;
    admitted.connect = Some(Box::new(Connect {
        id,
        by_token,
        marks: match since {
            Some(Since::Each(marks)) => marks,
            _ => BTreeMap::new(),
        },
        more,
        rest,
    }));
    Ok(admitted)
}

/// The tickets and tokens that a `connect` brings.
fn shown(connect: &ConnectRequest) -> Vec<Shown> {
    /// What Usher reads of an app's `data`.
    #[derive(Deserialize)]
    struct Data {
        ticket: Option<String>,
    }

    let data = serde_json::from_slice::<Data>(&connect.data).ok();
    let ticket = data.and_then(|data| data.ticket).map(Shown::Ticket);
    let token = Some(connect.token.clone()).filter(|token| !token.is_empty());
    ticket.into_iter().chain(token.map(Shown::Token)).collect()
}

/// The commands of the client's next message; its pings are answered meanwhile. Dropping the future
/// is safe.
async fn commands(
    socket: &mut Socket<Stream>,
    protocol: Protocol,
    burst: u32,
) -> Result<Vec<Command>, End> {
    let message = poll_fn(|cx| {
        loop {
            match socket.poll_receive(cx) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(message))) => return Poll::Ready(Ok(message)),
                Poll::Ready(Err(reason)) => return Poll::Ready(Err(reason)),
                Poll::Pending => break,
            }
        }
        match poll_flush(socket, cx) {
            Poll::Ready(false) => Poll::Ready(Err(CloseReason::ConnectionLost)),
            Poll::Ready(true) | Poll::Pending => Poll::Pending,
        }
    })
    .await;
    message
        .and_then(|message: Message| command::read(protocol, &message, burst))
        .map_err(End::Broken)
}

/// Tells a client that no session begins, and why.
async fn refuse(
    mut socket: Socket<Stream>,
    protocol: Protocol,
    end: End,
    admissions: &Admissions,
    sessions: &Sessions,
) {
    let patience = sessions.config.write_timeout;
    let (code, words, reason) = match end {
        End::Broken(reason) => {
            admissions.metrics().connections_cut(reason.name());
            let Some(code) = reason.centrifuge_code() else {
                return;
            };
            (code, reason.name(), reason)
        }
        End::TooSlow => {
            admissions.metrics().connections_cut("too_slow");
            (STALE, "stale", CloseReason::Idle)
        }
        End::Refused(id, refusal) => {
            admissions.count(refusal.code());
            if is_final(refusal) {
                (INVALID, refusal.code(), CloseReason::BadFrame)
            } else {
                let expired = refusal == Refusal::TokenInvalid(EXPIRED);
                let error = Error {
                    code: if expired { TOKEN_EXPIRED } else { INTERNAL },
                    message: refusal.words(),
                    temporary: !expired,
                };
                socket.queue(centrifuge::reply(
                    protocol,
                    &Reply {
                        id,
                        error: Some(error),
                        ..Reply::default()
                    },
                ));
                // An SDK acts on the error and closes. A close code that overtakes that in
                // the SDK would hide the error.
                let heard = poll_fn(|cx| match poll_flush(&mut socket, cx) {
                    Poll::Ready(true) => socket.poll_heard(cx, CloseReason::ClientLeft),
                    Poll::Ready(false) => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                });
                if timeout(LINGER, heard).await.is_ok() {
                    let flushed = poll_fn(|cx| poll_flush(&mut socket, cx));
                    let _ = timeout(LINGER, flushed).await;
                    return;
                }
                (REFUSED, refusal.code(), CloseReason::ClientLeft)
            }
        }
    };
    say(&mut socket, (code, words.to_owned()), reason, patience).await;
}

/// Whether neither another ticket nor another time changes the answer.
fn is_final(refusal: Refusal) -> bool {
    if let Refusal::TokenInvalid(EXPIRED | NOT_YET | UNKNOWN_KEY) = refusal {
        return false;
    }
    matches!(
        refusal,
        Refusal::BadRequest(_)
            | Refusal::TicketMissing
            | Refusal::CredentialMissing
            | Refusal::NoTickets
            | Refusal::TokenMissing
            | Refusal::TokenInvalid(_)
            | Refusal::OriginDenied
    )
}
