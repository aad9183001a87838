//! What failures have in common: the same mistake met by a thousand jobs is one group.
//!
//! Two failures are the same if job type and kind are, and the message and the innermost calls of the back-trace are
//! once everything that differs from job to job is taken out of them.

use crate::JobError;
use regex::{Captures, Regex};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// Calls of the back-trace that count, innermost first. Further out the same mistake is reached in many ways.
const FRAMES: usize = 3;
/// Longest pattern, characters.
const PATTERN_CHARS_MAX: usize = 300;
/// Hexadecimal digits of a fingerprint.
const LENGTH: usize = 16;

/// What differs from job to job, longest kinds first: quoted text, addresses and paths, identifiers, numbers. It
/// compiles, as the tests of this module show.
static VARIABLE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"(?P<text>"[^"]*"|`[^`]*`|\B'[^']*'\B)"#,
        r"|(?P<path>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s,;)\]]+|(?:[\w.~-]+)?(?:/[\w.~@%+-]+)+/?)",
        r"|(?P<id>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b[0-9A-HJKMNP-TV-Z]{26}\b)",
        r"|(?P<hex>\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]*(?:[0-9][a-fA-F]|[a-fA-F][0-9])[0-9a-fA-F]*\b)",
        r"|(?P<number>[0-9]+(?:[.,_:][0-9]+)*)",
    ))
    .ok()
});

/// Calls that every panic passes through, whatever brought it about.
const MACHINERY: [&str; 9] = [
    "__rust",
    "rust_panic",
    "_rust",
    "abort",
    "core::panicking",
    "core::option::",
    "core::result::",
    "std::panicking",
    "std::sys",
];

/// What a failure has in common with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The message with `<text>`, `<path>`, `<id>`, `<hex>` and `<number>` for what differs; at most 300 characters.
    pub pattern: String,
    /// The innermost calls of the guest, at most three.
    pub frames: Vec<String>,
}

impl Fingerprint {
    /// The fingerprint of a failure of a job of this type.
    #[must_use]
    pub fn of(job_type: &str, error: &JobError) -> Self {
        let pattern = pattern(&error.message);
        let frames = error.trace.as_deref().map(frames).unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [job_type, &error.kind, &pattern].into_iter().chain(frames.iter().map(String::as_str)) {
            hash.update(part);
            hash.update([0]);
        }
        let mut id: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        id.truncate(LENGTH);
        Self { id, pattern, frames }
    }
}

fn pattern(message: &str) -> String {
    let placeholder = |found: &Captures<'_>| {
        let kind =
            ["text", "path", "id", "hex", "number"].into_iter().find(|kind| found.name(kind).is_some());
        format!("<{}>", kind.unwrap_or_default())
    };
    let replaced =
        VARIABLE.as_ref().map_or(message.into(), |variable| variable.replace_all(message, placeholder));
    let words: Vec<_> = replaced.split_whitespace().collect();
    words.join(" ").chars().take(PATTERN_CHARS_MAX).collect()
}

/// Names without their offsets, which change with every build.
fn frames(trace: &str) -> Vec<String> {
    let names = trace.lines().map(|line| line.rsplit_once(" + 0x").map_or(line, |(name, _)| name).trim());
    let own =
        names.filter(|name| !MACHINERY.iter().any(|part| name.trim_start_matches('<').starts_with(part)));
    own.take(FRAMES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(message: &str, trace: Option<&str>) -> JobError {
        JobError { kind: "permanent".into(), message: message.into(), trace: trace.map(str::to_owned) }
    }

    #[test]
    fn what_differs_from_job_to_job_is_taken_out() {
        for (message, expected) in [
            ("row 17 of 2,000 has 3.5 columns", "row <number> of <number> has <number> columns"),
            (r#"no column "price" in 'orders'"#, "no column <text> in <text>"),
            ("can't read the job's file", "can't read the job's file"),
            ("/srv/data/a.csv: not found", "<path>: not found"),
            ("tables/a.csv is empty", "<path> is empty"),
            ("https://api.example.com/v1/x?y=1 answered 503", "<path> answered <number>"),
            ("job 01K0Q5Z3V6T4S8W2R9YBXNCMDE is gone", "job <id> is gone"),
            ("id 6f1c9f3e-9d1b-4c58-8f7a-0d6f0c9a1b2c", "id <id>"),
            ("digest deadbeef01 at 0x7f00", "digest <hex> at <hex>"),
            ("10.0.0.1:6379 refused", "<number> refused"),
            ("a face was added", "a face was added"),
            ("one\n  two", "one two"),
        ] {
            assert_eq!(pattern(message), expected, "{message}");
        }
        assert_eq!(pattern(&"x".repeat(5_000)).len(), PATTERN_CHARS_MAX);
    }

    #[test]
    fn the_same_mistake_has_the_same_fingerprint() {
        let of = |message, trace| Fingerprint::of("t", &failure(message, trace)).id;
        assert_eq!(of("row 1 is bad", None), of("row 2 is bad", None));
        assert_ne!(of("row 1 is bad", None), of("row 1 is worse", None));
        assert_ne!(of("row 1 is bad", None), Fingerprint::of("u", &failure("row 1 is bad", None)).id);
        let other = JobError { kind: "transient".into(), ..failure("row 1 is bad", None) };
        assert_ne!(of("row 1 is bad", None), Fingerprint::of("t", &other).id);
        assert_eq!(of("row 1 is bad", None).len(), LENGTH);
    }

    #[test]
    fn the_innermost_calls_of_the_guest_count_and_offsets_do_not() {
        let trace = |offset: &str, third: &str| {
            format!(
                "abort + 0x1\ncore::panicking::panic_fmt + 0x2\nmine::inner + {offset}\nmine::outer + 0x4\n\
                 {third}\nmine::main + 0x6"
            )
        };
        let of = |trace: &str| Fingerprint::of("t", &failure("unreachable", Some(trace)));
        let first = of(&trace("0x3", "mine::far + 0x5"));
        assert_eq!(first.frames, ["mine::inner", "mine::outer", "mine::far"]);
        assert_eq!(first, of(&trace("0x99", "mine::far")));
        assert_ne!(first.id, of(&trace("0x3", "mine::other")).id);
    }
}
