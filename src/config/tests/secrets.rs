//! How secrets are given, and that nothing shows them.

use super::*;
use crate::secret::Secret;

fn exposed(secret: &Option<crate::secret::Secret>) -> String {
    secret.as_ref().expect("a secret").expose()
}

fn tokens(config: &Config) -> Vec<String> {
    config
        .grpc
        .tokens
        .iter()
        .map(crate::secret::Secret::expose)
        .collect()
}

/// A folder with the files of the names and contents given.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("a file");
    }
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    for (content, secret) in [
        ("hunter2", "hunter2"),
        ("hunter2\n", "hunter2"),
        ("hunter2\r\n", "hunter2"),
        ("hunter2\n\n", "hunter2\n"),
        (" hunter2 \n", " hunter2 "),
    ] {
        let folder = folder(&[("token", content)]);
        let file = path(&folder, "token");
        let by_variable = good("", &[("USHER_NATS__TOKEN_FILE", &file)]);
        assert_eq!(exposed(&by_variable.nats.token), secret);
        let by_file = good(&row("nats.token_file", &format!("{file:?}")), &[]);
        assert_eq!(by_file, by_variable);
    }
}

#[test]
fn files_are_read_again_and_a_bad_one_changes_nothing() {
    let folder = folder(&[("token", "hunter2"), ("tokens", "0123456789abcdef")]);
    let files = ["token", "tokens"].map(|name| path(&folder, name));
    let environment = [
        ("USHER_NATS__TOKEN_FILE", &files[0][..]),
        ("USHER_GRPC__TOKENS_FILE", &files[1]),
    ];
    let begun = good("", &environment);
    let (same, errors) = begun.reread();
    assert!(errors.is_empty() && same == begun);
    fs::write(&files[0], "hunter3").expect("written");
    fs::write(&files[1], "hunter3").expect("written");
    let (fresh, errors) = same.reread();
    assert_eq!(exposed(&fresh.nats.token), "hunter3");
    assert_eq!(tokens(&fresh), ["0123456789abcdef"]);
    let [error] = &errors[..] else {
        panic!("{errors:?}");
    };
    let error = error.to_string();
    assert!(
        error.starts_with(&format!("grpc.tokens_file = {:?} (read again)", files[1])),
        "{error}"
    );
    assert!(!error.contains("hunter3"), "{error}");
    assert_eq!(exposed(&begun.nats.token), "hunter2", "of its own");
    fs::write(&files[1], "fedcba9876543210").expect("written");
    let (fresh, errors) = fresh.reread();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(tokens(&fresh), ["fedcba9876543210"]);
}

#[test]
fn a_file_of_tokens_has_one_a_line() {
    let folder = folder(&[
        ("good", "0123456789abcdef\r\nfedcba9876543210,x\n"),
        ("short", "0123456789abcdef\nhunter2\n"),
        ("empty", "\n"),
    ]);
    let of = |name| {
        let file = path(&folder, name);
        load_in(&folder, None, &[("USHER_GRPC__TOKENS_FILE", &file)])
    };
    let config = of("good").expect("good tokens");
    assert_eq!(tokens(&config), ["0123456789abcdef", "fedcba9876543210,x"]);
    assert_eq!(
        of("short").expect_err("a short token"),
        "grpc.tokens_file = \"short\" (from USHER_GRPC__TOKENS_FILE): token 2 of 2 has fewer than \
         16 characters; `openssl rand -hex 32` prints a good one"
    );
    assert_eq!(
        of("empty").expect_err("no token"),
        "grpc.tokens_file = \"empty\" (from USHER_GRPC__TOKENS_FILE): empty; give it a value, or \
         leave it out altogether"
    );
    assert_eq!(
        of("absent").expect_err("no file"),
        "grpc.tokens_file = \"absent\" (from USHER_GRPC__TOKENS_FILE): can't be read: No such file \
         or directory (os error 2); name a file that exists and may be read"
    );
}

#[test]
fn a_url_may_stand_in_a_file_too() {
    let folder = folder(&[("url", "redis://:hunter2@cache:6380\n")]);
    let config = good("", &[("USHER_REDIS__URL_FILE", &path(&folder, "url"))]);
    let url = config.redis.url.expect("a URL");
    assert_eq!(url.hosts, [("cache".to_owned(), 6380)]);
    let password = url.password.as_ref().map(Secret::expose);
    assert_eq!(password, Some("hunter2".to_owned()));
}

/// An empty one more often is a secret that did not arrive than a wish for no Redis.
#[test]
fn a_file_without_a_url_is_no_wish_for_none() {
    let folder = folder(&[("url", "\n")]);
    let line = error(
        "[tickets.jwt]\nsecret = \"0123456789abcdef0123456789abcdef\"\nconnect = true",
        &[("USHER_REDIS__URL_FILE", &path(&folder, "url"))],
    );
    assert!(line.contains("is empty; write redis://HOST:PORT"), "{line}");
}

#[test]
fn a_layer_gives_a_secret_once_and_a_later_layer_replaces_it() {
    let folder = folder(&[("token", "from its own file")]);
    let file = path(&folder, "token");
    let both = format!("[nats]\ntoken = \"hunter2\"\ntoken_file = {file:?}");
    assert_eq!(
        error(&both, &[]),
        "nats.token_file (in \"usher.toml\") is given beside nats.token; keep one of them"
    );
    assert_eq!(
        error(
            "",
            &[
                ("USHER_NATS__TOKEN_FILE", &file),
                ("USHER_NATS__TOKEN", "hunter2")
            ]
        ),
        "nats.token (from USHER_NATS__TOKEN) is given beside nats.token_file; keep one of them"
    );
    let config = good(
        &row("nats.token", "\"hunter2\""),
        &[("USHER_NATS__TOKEN_FILE", &file)],
    );
    assert_eq!(exposed(&config.nats.token), "from its own file");
    let absent = row("nats.token_file", "\"/absent\"");
    let config = good(&absent, &[("USHER_NATS__TOKEN", "from the environment")]);
    assert_eq!(exposed(&config.nats.token), "from the environment");
}

#[test]
fn a_token_is_long_and_fits_a_header() {
    let config = good(
        "",
        &[("USHER_GRPC__TOKENS", "0123456789abcdef, fedcba9876543210")],
    );
    assert_eq!(tokens(&config), ["0123456789abcdef", "fedcba9876543210"]);
    assert_eq!(
        error(
            &row("grpc.tokens", "[\"0123456789abcdef\", \"hunter2hunter2h\"]"),
            &[]
        ),
        "grpc.tokens (in \"usher.toml\"): token 2 of 2 has fewer than 16 characters; \
         `openssl rand -hex 32` prints a good one"
    );
    assert_eq!(
        error(&row("grpc.tokens", "[\"hunter2 hunter2 hunter2\"]"), &[]),
        "grpc.tokens (in \"usher.toml\"): token 1 of 1 has a character that no header can carry; \
         write letters, digits and ASCII punctuation only"
    );
}

#[test]
fn no_error_shows_a_secret() {
    for toml in [
        "[nats]\ntoken = [\"hunter2\"]",
        "[nats]\ntoken = { hunter2 = 1, x = \"hunter2\" }",
        "[nats]\npasword = \"hunter2\"",
        "[nats]\npassword = hunter2",
        "[nats]\npassword = \"hunter2",
        "[grpc]\ntokens = \"hunter2\"",
        "[grpc]\ntokens = [\"hunter2\"]",
        "[nats]\ntoken_file = \"hunter2\"",
        "[nats]\ntoken_file = [\"hunter2\"]",
        "[redis]\nurl = [\"redis://:hunter2@cache\"]",
    ] {
        let line = error(toml, &[]);
        let hidden = line.replace("nats.token.hunter2", "");
        assert!(!hidden.contains("hunter2"), "{line}");
    }
}

#[test]
fn neither_debug_nor_the_printed_configuration_shows_a_secret() {
    let config = good(
        "[grpc]\ntokens = [\"hunter2-hunter2-hunter2\"]\n\
         [nats]\nurl = \"nats://u:hunter2@a,nats://u:hunter2@b:1\"\n\
         [redis]\npassword = \"hunter2\"\nurl = \"redis://u:hunter2@cache:6379/3\"",
        &[],
    );
    let debug = format!("{config:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
    let printed = config.to_toml();
    assert!(!printed.contains("hunter2"), "{printed}");
    for line in [
        "# tokens = [\"…\", \"…\"] # set, but not shown: give it again",
        "# password = \"…\" # set, but not shown: give it again",
        "# token = \"…\" # not set",
        "# url = \"nats://…@a,nats://…@b:1\" # set, but not shown: give it again",
        "# url = \"redis://…@cache:6379/3\" # set, but not shown: give it again",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line} is not in {printed}"
        );
    }
}

/// The path is no secret, and with it the printed configuration loads as it is.
#[test]
fn a_secret_from_a_file_is_printed_as_that_file() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, b"hunter2\n").expect("written");
    let path = file.path().to_str().expect("a path");
    for (toml, variables) in [
        (
            format!("[nats]\nuser = \"u\"\npassword_file = \"{path}\""),
            vec![],
        ),
        (
            "[nats]\nuser = \"u\"\npassword = \"other\"".to_owned(),
            vec![("USHER_NATS__PASSWORD_FILE", path)],
        ),
    ] {
        let config = good(&toml, &variables);
        let printed = config.to_toml();
        let line = format!("password_file = \"{path}\"");
        assert!(printed.lines().any(|printed| printed == line), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(good(&printed, &[]), config);
    }
}
