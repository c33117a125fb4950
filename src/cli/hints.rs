//! What to type next, for somebody who tries Usher out (`serve --embedded --demo`).

use std::{borrow::Cow, net::SocketAddr, path::Path};

use super::output::harmless;
use crate::config::Config;

/// Where the gateway listens, and how it was started.
pub(super) struct Hints<'a> {
    pub(super) config: &'a Config,
    /// As it was typed.
    pub(super) program: &'a str,
    pub(super) config_file: Option<&'a Path>,
    pub(super) public: SocketAddr,
    pub(super) grpc: SocketAddr,
}

impl Hints<'_> {
    /// The page's address.
    pub(super) fn page(&self) -> String {
        format!("{}/", self.url())
    }

    /// Lines that can be copied as they stand, whatever reads them: the page's address, and
    /// commands for another terminal.
    pub(super) fn text(&self) -> String {
        let mut usher = quoted(self.program).into_owned();
        let mut flags = String::new();
        if let Some(file) = self.config_file {
            flags = format!(" --config {}", quoted(&file.to_string_lossy()));
        }
        // The commands know the defaults by themselves.
        let defaults = Config::load(None, std::iter::empty()).ok();
        let is_default = defaults.is_some_and(|defaults| {
            (defaults.public.listen, defaults.grpc.listen) == (self.public, self.grpc)
        });
        if !is_default {
            flags += &format!(" --grpc {} --public {}", self.grpc, self.url());
        }
        usher = harmless(&usher).into_owned();
        let flags = harmless(&flags);
        format!(
            "\nUsher is ready. Open {} in a browser, or type in another terminal:\n\n  \
             {usher} listen --user alice{flags}\n  \
             {usher} push alice '{{\"order\":123}}'{flags}\n\n\
             Ctrl-C stops it.\n",
            self.page()
        )
    }

    fn url(&self) -> String {
        let scheme = match self.config.public_tls.certificate_file {
            Some(_) => "https",
            None => "http",
        };
        let prefix = &self.config.public.path_prefix;
        format!("{scheme}://{}{prefix}", self.public)
    }
}

/// A word for a shell.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_would_read_it_otherwise() {
        assert_eq!(quoted("target/debug/usher"), "target/debug/usher");
        assert_eq!(quoted("/my folder/it's"), r"'/my folder/it'\''s'");
    }
}
