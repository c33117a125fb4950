//! Which source a program is built from, found out when the program itself is compiled. As a
//! build script of the whole package it would build everything anew at each commit; as a macro
//! it builds only the file that calls it.

use std::{env, fs, path::Path, process::Command};

use proc_macro::TokenStream;

/// Characters of a commit that are shown.
const COMMIT: usize = 12;

/// Where there is no git, these say which source it is.
const VARIABLES: [&str; 2] = ["REVISION", "SOURCE_DATE_EPOCH"];

/// The package's version and its source: `"0.2.0 (0123456789ab 2026-11-30)"`, a commit and its
/// day in UTC; what is not known is left out. It comes from git, else from the variables
/// `REVISION` and `SOURCE_DATE_EPOCH`.
#[proc_macro]
pub fn version(_: TokenStream) -> TokenStream {
    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // The compiler notes what is named here, and cargo compares it at the next build.
    let (source, noted) = match Source::of_git(&here) {
        Some(source) => (source, watched(&here)),
        None => (
            Source::of_environment(),
            VARIABLES
                .map(|name| format!("::core::option_env!({name:?});"))
                .concat(),
        ),
    };
    let text = source.beside(&version);
    format!("{{ {noted} {text:?} }}")
        .parse()
        .expect("statements and a text are Rust")
}

/// The commit that the source is of, and the day of that commit, as far as they are known.
struct Source {
    commit: Option<String>,
    day: Option<String>,
}

impl Source {
    /// As git says. None where this folder is not the top of a repository: a tarball's source
    /// may lie inside of another project's repository.
    fn of_git(here: &str) -> Option<Self> {
        let top = git(here, &["rev-parse", "--show-toplevel"])?;
        if fs::canonicalize(here).ok()? != fs::canonicalize(top).ok()? {
            return None;
        }
        Some(Self {
            commit: shortened(&git(here, &["rev-parse", "HEAD"])?),
            day: day(&git(here, &["log", "-1", "--format=%ct"])?),
        })
    }

    fn of_environment() -> Self {
        let [revision, seconds] = VARIABLES.map(|name| env::var(name).unwrap_or_default());
        Self {
            commit: shortened(&revision),
            day: day(&seconds),
        }
    }

    fn beside(self, version: &str) -> String {
        let known: Vec<_> = self.commit.into_iter().chain(self.day).collect();
        match known.is_empty() {
            true => version.to_owned(),
            false => format!("{version} ({})", known.join(" ")),
        }
    }
}

/// Names the files that change with a commit. HEAD names a branch, and the branch's file the
/// commit; a branch that git has packed has no file, but the log of HEAD grows then too.
fn watched(here: &str) -> String {
    let branch = git(here, &["symbolic-ref", "--quiet", "HEAD"]);
    let files = [Some("HEAD"), branch.as_deref(), Some("logs/HEAD")];
    let paths = files.into_iter().flatten().filter_map(|file| {
        let path = git(here, &["rev-parse", "--git-path", file])?;
        let path = Path::new(here).join(path);
        let path = path.exists().then(|| path.to_string_lossy().into_owned());
        path.map(|path| format!("const _: &[u8] = ::core::include_bytes!({path:?});"))
    });
    paths.collect()
}

/// What git prints on one line; none where it is missing or fails.
fn git(here: &str, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    let output = git.args(["-C", here]).args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

/// The first characters of a commit. None of what is no commit, such as `unknown`.
fn shortened(commit: &str) -> Option<String> {
    let is_commit = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| commit.chars().take(COMMIT).collect())
}

/// The day of a Unix time, as `2026-11-30`.
fn day(seconds: &str) -> Option<String> {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut left = seconds.trim().parse::<u64>().ok()? / 86_400;
    let mut year = 1970;
    loop {
        let days = if is_leap(year) { 366 } else { 365 };
        if left < days {
            break;
        }
        (left, year) = (left - days, year + 1);
        if year > 9999 {
            return None;
        }
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < days {
            break;
        }
        (left, month) = (left - days, month + 1);
    }
    Some(format!("{year:04}-{month:02}-{:02}", left + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_day() {
        for (seconds, expected) in [
            ("0", "1970-01-01"),
            ("951782399", "2000-02-28"),
            ("951782400", "2000-02-29"),
            ("951868800", "2000-03-01"),
            ("1798675199", "2026-12-30"),
            ("1798761599", "2026-12-31"),
            ("1798761600", "2027-01-01"),
        ] {
            assert_eq!(day(seconds).as_deref(), Some(expected), "{seconds}");
        }
        assert_eq!(day(""), None);
        assert_eq!(day(&u64::MAX.to_string()), None);
    }

    #[test]
    fn what_is_known_is_shown() {
        let source = |commit: &str, seconds| Source {
            commit: shortened(commit),
            day: day(seconds),
        };
        let full = "0123456789abcdef0123456789abcdef01234567";
        for (commit, seconds, shown) in [
            (full, "0", "1.2.3 (0123456789ab 1970-01-01)"),
            (full, "", "1.2.3 (0123456789ab)"),
            ("unknown", "0", "1.2.3 (1970-01-01)"),
            ("", "", "1.2.3"),
        ] {
            assert_eq!(source(commit, seconds).beside("1.2.3"), shown);
        }
    }
}
