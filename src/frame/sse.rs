//! Server-sent events (the HTML standard, 9.2.6).

use std::fmt;

use bytes::Bytes;

/// A comment: it keeps a connection alive, and no script sees it.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// The line before an event that makes a position its `id`.
pub fn id(position: impl fmt::Display) -> Bytes {
    format!("id: {position}\n").into()
}

/// One event without a name, whose `data` is `json`.
///
/// What a client joins again with `\n` is what came apart at `\n`, `\r\n` or `\r`: in
/// a JSON text those stand between its tokens only, where one is as good as another.
pub fn frame(json: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(json.len() + 8);
    let mut rest = json;
    loop {
        out.extend_from_slice(b"data: ");
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(end) = end else {
            break;
        };
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        let length = if rest[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = &rest[end + length..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\n\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str, id: Option<&str>) -> String {
        let frame = frame(json.as_bytes());
        let id = id.map_or_else(Bytes::new, super::id);
        String::from_utf8([id, frame].concat()).expect("UTF-8")
    }

    #[test]
    fn a_line_is_a_field_and_a_blank_line_ends_the_event() {
        assert_eq!(text("{}", None), "data: {}\n\n");
        assert_eq!(text(" {} ", None), "data:  {} \n\n");
        assert_eq!(text("{}", Some("k3f9.121")), "id: k3f9.121\ndata: {}\n\n");
    }

    #[test]
    fn line_breaks_of_every_kind_come_apart() {
        let expected = "data: [1,\ndata: 2,\ndata: 3,\ndata: \ndata: 4]\ndata: \n\n";
        assert_eq!(text("[1,\n2,\r\n3,\r\r4]\n", None), expected);
        assert_eq!(text("\n\r", None), "data: \ndata: \ndata: \n\n");
    }

    proptest::proptest! {
        /// Whatever is in it: a client that reads lines gets one event with that data.
        #[test]
        fn nothing_breaks_out_of_its_event(json in "[a\n\r :id]{0,40}") {
            let text = text(&json, None);
            let body = text.strip_suffix("\n\n").expect("a blank line at the end");
            proptest::prop_assert!(!body.contains('\r') && !body.contains("\n\n"));
            let lines: Option<Vec<&str>> =
                body.split('\n').map(|line| line.strip_prefix("data: ")).collect();
            let seen = json.replace("\r\n", "\n").replace('\r', "\n");
            proptest::prop_assert_eq!(lines.map(|lines| lines.join("\n")), Some(seen));
        }
    }
}
