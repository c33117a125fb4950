//! Why a session was not opened.

use std::{fmt, time::Duration};

use serde::Deserialize;

use crate::cli::{
    failure::Trouble,
    output::{harmless, in_words},
};

/// Why there is no session.
pub(in crate::cli) struct Refused {
    trouble: Trouble,
    kind: Kind,
}

/// How long a refusal lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    /// A gateway is there, and may let us in another time.
    Shortly,
    /// Another ticket may be good; not after the third refusal of this kind in a row.
    UntilThird,
    /// Nothing that we repeat would mend it.
    ForGood,
    /// Nobody is there, or somebody who speaks otherwise.
    Unknown,
}

enum Kind {
    /// Nobody is there, or nobody who speaks WebSocket.
    Unreachable,
    /// A gateway's answer: the status, its code, and when to come back.
    Answer(u16, String, Option<Duration>),
}

impl Refused {
    /// Nobody is there, or nobody who speaks WebSocket.
    pub(super) fn unreachable(address: &str, cause: impl fmt::Display) -> Self {
        Self {
            trouble: Trouble::new(
                format!("no gateway is reached at {address} ({})", in_words(cause)),
                "is it running? If it is elsewhere, say where by --public URL, or public.listen \
                 in the configuration",
            ),
            kind: Kind::Unreachable,
        }
    }

    /// A refusal as the contract words it, or a proxy's.
    pub(super) fn by(url: &url::Url, answer: &http::Response<Option<Vec<u8>>>) -> Self {
        #[derive(Default, Deserialize)]
        struct Body {
            #[serde(default)]
            error: Said,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Said {
            code: String,
            message: String,
        }
        let body = answer.body().as_deref().unwrap_or_default();
        let Body { error: said } = serde_json::from_slice(body).unwrap_or_default();
        let status = answer.status();
        let retry_after = answer.headers().get(http::header::RETRY_AFTER);
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let mut what = format!("{url} answers {status}");
        if !said.code.is_empty() {
            what += &format!(", {}: {}", harmless(&said.code), harmless(&said.message));
        }
        let mend = match status {
            http::StatusCode::NOT_FOUND => {
                "--public is the URL before /ws, public.path_prefix included"
            }
            _ => "",
        };
        Self {
            trouble: Trouble::new(what, mend),
            kind: Kind::Answer(status.as_u16(), said.code, retry_after),
        }
    }

    /// What follows for somebody who mints a ticket for each attempt.
    pub(super) fn lasts(&self) -> Lasts {
        match self.kind {
            Kind::Answer(429 | 503, ..) => Lasts::Shortly,
            Kind::Answer(401, ..) => Lasts::UntilThird,
            Kind::Answer(400 | 403 | 404 | 405 | 426, ..) => Lasts::ForGood,
            Kind::Answer(..) | Kind::Unreachable => Lasts::Unknown,
        }
    }

    /// When to come back.
    pub(super) fn hint(&self) -> Option<Duration> {
        match self.kind {
            Kind::Answer(_, _, hint) => hint,
            Kind::Unreachable => None,
        }
    }

    /// A short name of it: the answer's code, or its status where it has none.
    pub(in crate::cli) fn code(&self) -> String {
        match &self.kind {
            Kind::Unreachable => "unreachable".to_owned(),
            Kind::Answer(status, code, _) if code.is_empty() => status.to_string(),
            Kind::Answer(_, code, _) => code.clone(),
        }
    }

    /// What to tell somebody who brought a ticket.
    pub(super) fn for_a_ticket_holder(self) -> Trouble {
        self.or_if_unknown(
            "a ticket opens one session, once, and soon expires: `usher ticket USER` mints another",
        )
    }

    /// What to tell somebody whose ticket we have just minted.
    pub(in crate::cli) fn for_a_user(self) -> Trouble {
        self.or_if_unknown(
            "it was minted just now: do --grpc and --public, or grpc.listen and public.listen, \
             lead to gateways with the same Redis?",
        )
    }

    fn or_if_unknown(mut self, mend: &str) -> Trouble {
        if matches!(&self.kind, Kind::Answer(_, code, _) if code == "ticket_unknown") {
            mend.clone_into(&mut self.trouble.mend);
        }
        self.trouble
    }
}
