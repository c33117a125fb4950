//! What commands print: for people on a terminal, for programs otherwise.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write as _},
};

use serde::Serialize;

use super::failure::Failure;

/// Prints to standard output; each item is a line, its control characters spelled out.
///
/// Whoever reads it may have had enough (`| head -1`): that is no failure.
pub(super) fn print(text: impl fmt::Display) -> Result<(), Failure> {
    let text = text.to_string();
    written(writeln!(io::stdout(), "{}", harmless(&text)))
}

/// Tells a person something on standard error; a script may have closed it.
pub(super) fn tell(text: impl fmt::Display) {
    let text = text.to_string();
    let _ = writeln!(io::stderr(), "{}", harmless(&text));
}

/// A value as JSON on one line.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what commands print is JSON")
}

/// The failure to write to standard output, if it is one.
pub(super) fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(unwritten(&error)),
    }
}

pub(super) fn unwritten(error: &io::Error) -> Failure {
    Failure::new(format_args!("standard output can't be written: {error}"))
}

/// Text from elsewhere, with its control characters spelled out, so that
/// nothing that is shown can move the cursor or worse. JSON stays JSON.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character.is_control() {
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// An error in words, without the number that the operating system has for it.
pub(super) fn in_words(error: impl fmt::Display) -> String {
    let text = harmless(&error.to_string()).into_owned();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// JSON on one line: outside its strings, where alone a line break or a tab may stand, a
/// space means the same.
pub(super) fn on_one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r', '\t']) {
        Cow::Owned(json.replace(['\n', '\r', '\t'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(harmless("{\"a\":\"ü\"}"), "{\"a\":\"ü\"}");
        assert_eq!(
            harmless("a\u{1b}[2J\u{9b}b\u{7f}"),
            "a\\u001b[2J\\u009bb\\u007f"
        );
    }

    #[test]
    fn json_fits_on_a_line() {
        let json = on_one_line("{\r\n \"a\":\t\"b\\n\"\n}");
        assert_eq!(json, "{   \"a\": \"b\\n\" }");
    }
}
