//! Values that a job type keeps beyond its jobs (`wasi:keyvalue`), for as long as the operator says: a cache that all hosts share.
//!
//! Writes take effect at once, whether or not the step is committed: a place for what can be had again, not for results.
//!
//! ```
//! use waymark_sdk::{keyvalue::Bucket, prelude::*};
//!
//! fn rate(currency: &str) -> Result<f64, Failure> {
//!     let bucket = Bucket::open("default")?;
//!     if let Some(kept) = bucket.get(currency)? {
//!         return String::from_utf8_lossy(&kept).parse().or_permanent("a kept rate");
//!     }
//!     let rate = 1.25; // from far away
//!     bucket.set(currency, rate.to_string().as_bytes())?;
//!     Ok(rate)
//! }
//! # fn main() {
//! # assert_eq!(rate("EUR").unwrap(), 1.25);
//! # assert_eq!(rate("EUR").unwrap(), 1.25);
//! # }
//! ```
//!
//! Natively, in tests, every thread has buckets of its own, of any name; [`grant_on_this_thread`] names those that there are.

use crate::Failure;
use std::fmt::{Display, Formatter};

#[cfg(not(target_arch = "wasm32"))]
pub use inner::grant_on_this_thread;

/// Why a bucket does not serve. As a [`Failure`] it is what the host should make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Buckets are not granted to the job type.
    NotGranted,
    /// There is no bucket of this name for the job type.
    NoSuchBucket,
    /// The bucket is full, or the store does not answer.
    Other(String),
}

impl Error {
    /// There are no buckets for this job type: a job that can do without goes on without.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NotGranted)
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotGranted => formatter.write_str("bucket: `keyvalue` is not granted to this job type"),
            Self::NoSuchBucket => {
                formatter.write_str("bucket: there is none of this name in grants.keyvalue.buckets")
            }
            Self::Other(why) => write!(formatter, "bucket: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Other(_) => Self::transient(error),
            _ => Self::permanent(error),
        }
    }
}

/// A bucket of values. Names have at most 1 KiB.
#[derive(Debug)]
pub struct Bucket(inner::Bucket);

impl Bucket {
    /// Opens a bucket; the operator says which there are, and `default` is one unless told otherwise.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(name: &str) -> Result<Self, Error> {
        inner::Bucket::open(name).map(Self)
    }

    /// A value, if it is there and has not expired. *Immediate.*
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(name)
    }

    /// Writes a value, which expires when the operator says. *Immediate.*
    ///
    /// # Errors
    /// See [`Error`]; `Other` where the bucket would hold more than it may.
    pub fn set(&self, name: &str, value: &[u8]) -> Result<(), Error> {
        self.0.set(name, value)
    }

    /// Removes a value. *Immediate.*
    ///
    /// # Errors
    /// See [`Error`].
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        self.0.delete(name)
    }

    /// Adds to a number, which begins at 0, and returns the sum. *Immediate*: a step that runs again adds again.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn increment(&self, name: &str, delta: u64) -> Result<u64, Error> {
        self.0.increment(name, delta)
    }

    /// All names, in no order. *Immediate.*
    ///
    /// # Errors
    /// See [`Error`].
    pub fn names(&self) -> Result<Vec<String>, Error> {
        self.0.names()
    }
}

#[cfg(target_arch = "wasm32")]
mod inner {
    use super::Error;

    #[allow(missing_docs, clippy::all, reason = "written by wit-bindgen")]
    mod bindings {
        wit_bindgen::generate!({ path: "../../wit/deps/keyvalue", world: "imports" });
    }

    use bindings::wasi::keyvalue::{atomics, store};

    #[derive(Debug)]
    pub(super) struct Bucket(store::Bucket);

    impl Bucket {
        pub(super) fn open(name: &str) -> Result<Self, Error> {
            store::open(name).map(Self).map_err(told)
        }

        pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
            self.0.get(name).map_err(told)
        }

        pub(super) fn set(&self, name: &str, value: &[u8]) -> Result<(), Error> {
            self.0.set(name, value).map_err(told)
        }

        pub(super) fn delete(&self, name: &str) -> Result<(), Error> {
            self.0.delete(name).map_err(told)
        }

        pub(super) fn increment(&self, name: &str, delta: u64) -> Result<u64, Error> {
            atomics::increment(&self.0, name, delta).map_err(told)
        }

        pub(super) fn names(&self) -> Result<Vec<String>, Error> {
            let (mut names, mut from) = (Vec::new(), None);
            loop {
                let page = self.0.list_keys(from).map_err(told)?;
                names.extend(page.keys);
                from = page.cursor;
                if from.is_none() {
                    return Ok(names);
                }
            }
        }
    }

    fn told(error: store::Error) -> Error {
        match error {
            store::Error::AccessDenied => Error::NotGranted,
            store::Error::NoSuchStore => Error::NoSuchBucket,
            store::Error::Other(why) => Error::Other(why),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod inner {
    use super::Error;
    use std::{cell::RefCell, collections::BTreeMap};

    #[derive(Default)]
    struct Buckets {
        granted: Option<Vec<String>>,
        values: BTreeMap<(String, String), Vec<u8>>,
    }

    thread_local! {
        static BUCKETS: RefCell<Buckets> = RefCell::default();
    }

    /// From now on this thread's jobs have these buckets; with none, buckets are not granted. For tests.
    pub fn grant_on_this_thread(buckets: &[&str]) {
        let granted = buckets.iter().map(|name| (*name).to_owned()).collect();
        BUCKETS.with_borrow_mut(|all| all.granted = Some(granted));
    }

    #[derive(Debug)]
    pub(super) struct Bucket(String);

    impl Bucket {
        pub(super) fn open(name: &str) -> Result<Self, Error> {
            BUCKETS.with_borrow(|all| match &all.granted {
                Some(granted) if granted.is_empty() => Err(Error::NotGranted),
                Some(granted) if !granted.iter().any(|known| known == name) => Err(Error::NoSuchBucket),
                _ => Ok(Self(name.to_owned())),
            })
        }

        fn key(&self, name: &str) -> (String, String) {
            (self.0.clone(), name.to_owned())
        }

        pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
            Ok(BUCKETS.with_borrow(|all| all.values.get(&self.key(name)).cloned()))
        }

        pub(super) fn set(&self, name: &str, value: &[u8]) -> Result<(), Error> {
            BUCKETS.with_borrow_mut(|all| all.values.insert(self.key(name), value.to_vec()));
            Ok(())
        }

        pub(super) fn delete(&self, name: &str) -> Result<(), Error> {
            BUCKETS.with_borrow_mut(|all| all.values.remove(&self.key(name)));
            Ok(())
        }

        pub(super) fn increment(&self, name: &str, delta: u64) -> Result<u64, Error> {
            let before = match self.get(name)? {
                None => 0,
                Some(value) => String::from_utf8_lossy(&value)
                    .parse::<u64>()
                    .map_err(|_| Error::Other("the value is no number".to_owned()))?,
            };
            let sum = before.saturating_add(delta);
            self.set(name, sum.to_string().as_bytes())?;
            Ok(sum)
        }

        pub(super) fn names(&self) -> Result<Vec<String>, Error> {
            let own = |all: &Buckets| {
                let names = all.values.keys().filter(|(bucket, _)| *bucket == self.0);
                names.map(|(_, name)| name.clone()).collect()
            };
            Ok(BUCKETS.with_borrow(own))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_bucket_and_numbers_added_up() {
        let (one, other) = (Bucket::open("default").unwrap(), Bucket::open("rates").unwrap());
        one.set("a", b"1").unwrap();
        assert_eq!(other.get("a").unwrap(), None);
        assert_eq!(one.increment("a", 2).unwrap(), 3);
        assert_eq!(one.get("a").unwrap().as_deref(), Some(&b"3"[..]));
        assert_eq!(one.names().unwrap(), ["a"]);
        one.delete("a").unwrap();
        assert!(one.names().unwrap().is_empty());
    }

    #[test]
    fn without_a_grant_buckets_fail_in_a_way_that_a_job_can_tell() {
        grant_on_this_thread(&["rates"]);
        assert_eq!(Bucket::open("default").unwrap_err(), Error::NoSuchBucket);
        grant_on_this_thread(&[]);
        let error = Bucket::open("default").unwrap_err();
        assert!(error.is_absent());
        assert!(matches!(Failure::from(error), Failure::Permanent(_)));
    }
}
