//! How a session is opened, or refused.

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::super::{RawWs, Response, http, wait::patiently};
use super::{Builder, Client, Upgraded};

impl Builder {
    /// Offers these sub-protocols, in this order.
    pub(crate) fn protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Says where it left off.
    pub(crate) fn since(self, since: &str) -> Self {
        self.query("since", since)
    }

    /// Another parameter in the URL.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Connects there rather than to the gateway itself.
    pub(crate) fn at(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// Comes from a page of this origin.
    pub(crate) fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    /// Another header; one of the handshake's own is replaced.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks for another path than `/ws`.
    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// Shows the ticket as a sub-protocol rather than in the URL.
    pub(crate) fn ticket_in_protocol(mut self) -> Self {
        self.ticket_in_protocol = true;
        self
    }

    /// Shows no ticket.
    pub(crate) fn no_ticket(mut self) -> Self {
        self.ticket = None;
        self
    }

    /// Has the kernel keep as little as it can of what comes.
    pub(crate) fn small_buffers(mut self) -> Self {
        self.small_buffers = true;
        self
    }

    /// Opens the session, and reads the `welcome` where its protocol has one.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub(crate) async fn open(self) -> Client {
        let opened = self.try_open().await;
        opened.unwrap_or_else(|response| panic!("refused: {response:?}"))
    }

    /// Tries to; a refusal comes back as it was answered.
    pub(crate) async fn try_open(self) -> Result<Client, Response> {
        let Upgraded {
            stream,
            rest,
            response,
        } = self.handshake().await?;
        let config = WebSocketConfig::default();
        let socket =
            WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
        let mut client = Client {
            socket,
            response,
            welcome: Value::Null,
            seen: Vec::new(),
        };
        let protocol = client.response.header("sec-websocket-protocol");
        if protocol.is_none_or(|protocol| protocol == "usher.v1") {
            let mut first = client.next_json().await;
            client.welcome = first["welcome"].take();
            assert!(
                client.welcome.is_object(),
                "the first frame is no welcome: {:?}",
                client.seen
            );
        }
        Ok(client)
    }

    /// Opens the session for frames that are written and read by hand.
    pub(crate) async fn raw(self) -> RawWs {
        match self.handshake().await {
            Ok(Upgraded { stream, rest, .. }) => RawWs::new(stream, rest),
            Err(response) => panic!("refused: {response:?}"),
        }
    }

    /// Asks in vain.
    ///
    /// # Panics
    ///
    /// When it is let in.
    pub(crate) async fn refused(self) -> Response {
        match self.try_open().await {
            Ok(client) => panic!("let in: {}", client.welcome),
            Err(response) => response,
        }
    }

    async fn handshake(self) -> Result<Upgraded, Response> {
        let key = generate_key();
        let request = self.request(&key);
        let mut stream = self.connect().await;
        let mut rest = Vec::new();
        let response = patiently("an answer to a handshake", async {
            stream
                .write_all(request.as_bytes())
                .await
                .expect("a request is taken");
            http::read(&mut stream, &mut rest).await
        })
        .await;
        if response.status != 101 {
            return Err(response);
        }
        let accept = derive_accept_key(key.as_bytes());
        assert_eq!(
            response.header("sec-websocket-accept"),
            Some(&*accept),
            "{response:?}"
        );
        let chosen = response.header("sec-websocket-protocol");
        let offered = |name| self.protocols.iter().any(|protocol| protocol == name);
        assert!(chosen.is_none_or(offered), "never offered: {response:?}");
        Ok(Upgraded {
            stream,
            rest,
            response,
        })
    }

    async fn connect(&self) -> TcpStream {
        let address = self.address.parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        if self.small_buffers {
            socket.set_recv_buffer_size(4096).expect("a small buffer");
        }
        patiently("a connection", socket.connect(address))
            .await
            .expect("the listener takes connections")
    }

    fn request(&self, key: &str) -> String {
        let mut query = self.query.clone();
        let mut protocols = self.protocols.clone();
        match &self.ticket {
            Some(ticket) if self.ticket_in_protocol => {
                protocols.push(format!("usher.ticket.{ticket}"));
            }
            Some(ticket) => query.insert(0, ("ticket".to_owned(), ticket.clone())),
            None => {}
        }
        let mut path = self.path.clone();
        for (index, (name, value)) in query.iter().enumerate() {
            path += &format!("{}{name}={value}", if index == 0 { '?' } else { '&' });
        }
        let protocols = protocols.join(", ");
        let mut headers = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ];
        if !protocols.is_empty() {
            headers.push(("Sec-WebSocket-Protocol", &protocols));
        }
        for (name, value) in &self.headers {
            headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
            headers.push((name, value));
        }
        http::head("GET", &self.address, &path, &headers)
    }
}
