//! What the operator tells a job type (`wasi:config`): texts under keys, the same for all jobs.
//!
//! ```
//! use waymark_sdk::config;
//!
//! fn threshold() -> f64 {
//!     config::get("threshold").and_then(|text| text.parse().ok()).unwrap_or(0.5)
//! }
//! # fn main() {
//! # assert_eq!(threshold(), 0.5);
//! # config::tell_on_this_thread(&[("threshold", "0.7")]);
//! # assert_eq!(threshold(), 0.7);
//! # }
//! ```
//!
//! Natively, in tests, there is what was given to [`tell_on_this_thread`].

#[cfg(not(target_arch = "wasm32"))]
pub use inner::tell_on_this_thread;

/// The text under a key, if the operator tells one. *Pure* while a host runs; another host may tell something else.
pub fn get(key: &str) -> Option<String> {
    inner::get(key)
}

/// Keys and texts, in the order of the keys.
pub fn all() -> Vec<(String, String)> {
    let mut all = inner::all();
    all.sort();
    all
}

#[cfg(target_arch = "wasm32")]
mod inner {
    #[allow(missing_docs, clippy::all, reason = "written by wit-bindgen")]
    mod bindings {
        wit_bindgen::generate!({ path: "../../wit/deps/config", world: "imports" });
    }

    use bindings::wasi::config::store;

    // The host answers from memory: its errors never come.
    pub(super) fn get(key: &str) -> Option<String> {
        store::get(key).ok().flatten()
    }

    pub(super) fn all() -> Vec<(String, String)> {
        store::get_all().unwrap_or_default()
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod inner {
    use std::{cell::RefCell, collections::BTreeMap};

    thread_local! {
        static TOLD: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// From now on this thread's jobs are told this. For tests.
    pub fn tell_on_this_thread(told: &[(&str, &str)]) {
        TOLD.set(told.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect());
    }

    pub(super) fn get(key: &str) -> Option<String> {
        TOLD.with_borrow(|told| told.get(key).cloned())
    }

    pub(super) fn all() -> Vec<(String, String)> {
        TOLD.with_borrow(|told| told.clone().into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_what_there_is() {
        assert_eq!(get("a"), None);
        tell_on_this_thread(&[("b", "2"), ("a", "1")]);
        assert_eq!(get("a").as_deref(), Some("1"));
        assert_eq!(all(), [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    }
}
