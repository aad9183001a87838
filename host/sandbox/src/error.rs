//! Why a file did not become a plugin.

/// Why a file did not become a plugin. [`LoadError::code`] is stable, the sentence is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    code: &'static str,
    message: String,
}

/// Every code, with what an author or operator should do.
pub(crate) const CODES: [&str; 14] = [
    "not-wasm",
    "truncated",
    "precompiled",
    "invalid-wasm",
    "no-world",
    "unknown-import",
    "import-not-granted",
    "compile-limit",
    "describe-failed",
    "bad-descriptor",
    "too-large",
    "not-compiled",
    "cache-damaged",
    "host-error",
];

impl LoadError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(CODES.contains(&code), "{code}");
        Self { code, message: message.into() }
    }

    /// One of:
    ///
    /// * `not-wasm`: the file is something else.
    /// * `truncated`: the file ends too early.
    /// * `precompiled`: compiled code, which is never accepted.
    /// * `invalid-wasm`: WebAssembly, but not valid, or of a proposal that is switched off.
    /// * `no-world`: valid, but it does not export `waymark:task/lifecycle`.
    /// * `unknown-import`: it imports what no host offers.
    /// * `import-not-granted`: it imports a capability that is not granted.
    /// * `compile-limit`: compiling took too much memory or time.
    /// * `describe-failed`: its `describe` did not return.
    /// * `bad-descriptor`: its `describe` returned something unusable.
    /// * `too-large`: more bytes than allowed.
    /// * `not-compiled`: not in the cache of compiled code, or compiled by another version of Waymark.
    /// * `cache-damaged`: the compiled code is not what was written.
    /// * `host-error`: the host could not read, write or start something.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn host(what: &str, error: impl std::fmt::Display) -> Self {
        Self::new("host-error", format!("{what}: {error}"))
    }

    /// Back from the child's answer.
    pub(crate) fn from_parts(code: &str, message: String) -> Self {
        let code = CODES.iter().find(|&&known| known == code).copied().unwrap_or("host-error");
        Self { code, message }
    }
}
