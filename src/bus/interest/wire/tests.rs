use proptest::prelude::*;

use super::*;

fn decode(bytes: &[u8]) -> Vec<ServerOp> {
    let mut decoder = Decoder::default();
    decoder.buffer.extend_from_slice(bytes);
    std::iter::from_fn(|| decoder.next().expect("the protocol")).collect()
}

fn message(bytes: &[u8]) -> ServerMessage {
    match decode(bytes).pop() {
        Some(ServerOp::Message(message)) => message,
        other => panic!("not a message: {other:?}"),
    }
}

#[test]
fn control_lines() {
    let ops = decode(b"PING\r\nPONG\r\n+OK\r\n-ERR 'Slow Consumer'\r\nping\r\n");
    assert_eq!(
        ops,
        [
            ServerOp::Ping,
            ServerOp::Pong,
            ServerOp::Ok,
            ServerOp::Error("Slow Consumer".into()),
            ServerOp::Ping
        ]
    );
}

#[test]
fn an_info_of_a_cluster_with_host_names() {
    let ops = decode(
        b"INFO {\"server_name\":\"a\",\"version\":\"2.15.1\",\"host\":\"nats.local\",\
          \"max_payload\":1048576,\"headers\":true,\"cluster\":\"c\",\
          \"connect_urls\":[\"127.0.0.1:4223\",\"[::1]:4224\"],\"future\":{}}\r\n",
    );
    let [ServerOp::Info(info)] = &ops[..] else {
        panic!("{ops:?}")
    };
    assert_eq!(info.cluster.as_deref(), Some("c"));
    assert_eq!(info.connect_urls, ["127.0.0.1:4223", "[::1]:4224"]);
}

#[test]
fn messages_with_and_without_reply_and_headers() {
    let plain = message(b"MSG a.b 7 5\r\nhello\r\n");
    assert_eq!(
        (plain.sid, &plain.payload[..], plain.reply),
        (7, &b"hello"[..], None)
    );
    let asked = message(b"MSG a.b 7 _INBOX.x 0\r\n\r\n");
    assert_eq!(asked.reply.as_deref(), Some(&b"_INBOX.x"[..]));
    let full = message(b"HMSG a.b 7 r 24 29\r\nNATS/1.0\r\nEvent: o.c\r\n\r\nhello\r\n");
    assert_eq!(full.headers.get("Event"), Some("o.c"));
    assert_eq!(full.headers.get("event"), None);
    assert_eq!(&full.payload[..], b"hello");
}

#[test]
fn of_a_forged_header_the_servers_own_counts() {
    let twice = message(
        b"HMSG a 1 56 56\r\nNATS/1.0\r\nNats-Sequence: 999\r\nX: 1\r\nNats-Sequence: 7\r\n\r\n\r\n",
    );
    assert_eq!(twice.headers.last("Nats-Sequence"), Some("7"));
    assert_eq!(twice.headers.last("Nats-Last-Sequence"), None);
    let own = b"NATS/1.0\r\nNats-Sequence: 999\r\nX: 1\r\n";
    assert_eq!(twice.headers.before("Nats-Sequence"), own);
    assert_eq!(twice.headers.before("Y"), twice.headers.as_bytes());
    assert_eq!(Headers::default().last("X"), None);
}

proptest! {
    /// However odd the lines are, a name has the value of its first line, or of its last.
    #[test]
    fn a_name_is_found_in_its_first_line_and_in_its_last(block in "[aN:/\r\n ]{0,40}") {
        let headers = Headers(block.clone().into());
        let lines: Vec<_> = block.split('\n').skip(1).collect();
        let value = |line: &&str| Some(line.strip_prefix("a:")?.trim_ascii().to_owned());
        let first = lines.iter().find_map(value);
        let last = lines.iter().rev().find_map(value);
        prop_assert_eq!(headers.get("a"), first.as_deref());
        prop_assert_eq!(headers.last("a"), last.as_deref());
        prop_assert_eq!(headers.any("A").is_some(), first.is_some());
    }
}

#[test]
fn a_name_that_libraries_write_differently_is_found_where_it_stands_once() {
    let with = |lines: &str| {
        let headers = format!("NATS/1.0\r\n{lines}\r\n");
        let bytes = format!("HMSG s 1 {0} {0}\r\n{headers}\r\n", headers.len());
        message(bytes.as_bytes()).headers
    };
    for lines in [
        "trace: 1\r\n",
        "Trace: 1\r\ntraces: 2\r\nx: y\r\n",
        "TRACE:1\r\n",
    ] {
        assert_eq!(with(lines).only("trace"), Some(&b"1"[..]), "{lines:?}");
    }
    for lines in ["", "trace 1\r\n", "tra: 1\r\n", "trace: 1\r\nTrace: 1\r\n"] {
        assert_eq!(with(lines).only("trace"), None, "{lines:?}");
    }
}

#[test]
fn a_status_is_read_from_the_first_line_only() {
    let gone = message(b"HMSG i 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    assert_eq!(gone.headers.status(), Some(503));
    let forged = message(b"HMSG i 1 25 25\r\nNATS/1.0\r\nStatus: 503\r\n\r\n\r\n");
    assert_eq!(forged.headers.status(), None);
    assert_eq!(Headers::default().status(), None);
}

#[test]
fn odd_headers_do_no_harm() {
    let odd =
        message(b"HMSG a 1 37 38\r\nNATS/1.0\r\nno colon\r\n\xff: \xfe\r\nEvent:x\r\n\r\n!\r\n");
    assert_eq!(odd.headers.get("Event"), Some("x"));
    assert_eq!(odd.headers.get("\u{fffd}"), None);
    assert_eq!(&odd.payload[..], b"!");
}

#[test]
fn what_is_not_the_protocol_is_an_error() {
    for bad in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"MSG a\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 99999999999\r\n",
        b"INFO {\r\n",
    ] {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(bad);
        assert!(decoder.next().is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

/// nats-server passes on such bytes in a reply subject; one publish must not cut the
/// connection of every gateway that holds the user.
#[test]
fn only_space_and_tab_divide_a_line() {
    for byte in [b'\x0b', b'\x0c', b'\r', b'\x1c', 0, 0x85] {
        let reply = [b"_INBOX.a", &[byte][..], b"b"].concat();
        let line = [b"MSG a 1\t", &reply[..], b" 1\r\nx\r\n"].concat();
        let message = message(&line);
        assert_eq!(message.reply.as_deref(), Some(&reply[..]));
        assert_eq!(&message.payload[..], b"x");
    }
}

#[test]
fn a_message_that_makes_no_sense_is_skipped_by_its_length() {
    for bad in [
        &b"MSG a one 2\r\nhi\r\n"[..],
        b"MSG 2\r\nhi\r\n",
        b"MSG a 1 2 3 4 5 6 2\r\nhi\r\n",
        b"HMSG a 1 9 2\r\nhi\r\n",
        b"HMSG a 1 x 2\r\nhi\r\n",
    ] {
        let ops = decode(&[bad, b"PING\r\n"].concat());
        assert_eq!(ops, [ServerOp::Nonsense, ServerOp::Ping], "{bad:?}");
    }
}

#[test]
fn a_line_that_is_too_long_is_so_in_one_piece_too() {
    let line = |length: usize| format!("PING{}\n", " ".repeat(length - 5));
    for (length, good) in [(MAX_LINE, true), (MAX_LINE + 1, false)] {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(line(length).as_bytes());
        assert_eq!(decoder.next().is_ok(), good, "{length}");
    }
}

#[test]
fn publishing_counts_its_headers() {
    let mut buffer = BytesMut::new();
    publish(&mut buffer, "a", None, &[], b"hi");
    publish(&mut buffer, "a", Some("r"), &[("Event", "o.c")], b"hi");
    assert_eq!(
        &buffer[..],
        &b"PUB a  2\r\nhi\r\nHPUB a r 24 26\r\nNATS/1.0\r\nEvent: o.c\r\n\r\nhi\r\n"[..]
    );
}

proptest::proptest! {
    /// However the bytes are cut, the same operations come out.
    #[test]
    fn cuts_do_not_matter(cuts in proptest::collection::vec(1usize..40, 0..40)) {
        let bytes = b"PING\r\nMSG a.b 1 6\r\n\r\nPING\r\nHMSG a 2 r 24 26\r\n\
            NATS/1.0\r\nEvent: o.c\r\n\r\nhi\r\n-ERR 'x'\r\nMSG a 1 0\r\n\r\nPONG\r\n";
        let mut decoder = Decoder::default();
        let mut ops = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.into_iter().chain([bytes.len()]) {
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            rest = tail;
            decoder.buffer.extend_from_slice(chunk);
            while let Some(op) = decoder.next().expect("the protocol") {
                ops.push(op);
            }
        }
        proptest::prop_assert_eq!(ops, decode(bytes));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(&bytes);
        while let Ok(Some(_)) = decoder.next() {}
    }
}
