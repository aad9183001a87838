//! Encryption of what callers and plugins put into the store: inputs, metadata, results, output records, checkpoints,
//! signals, log lines, graphs of workflows, kept answers of language models.
//!
//! AES-256-GCM. Every job has a key of its own, derived from one of the ring's, so that random nonces never run out; and
//! what is sealed for one job, or as one kind of value, opens as no other. A sealed value names its key: old ones stay
//! readable as long as their key is in the ring, whichever is active. Scripts pass sealed values on and never look into
//! them.

use crate::Error;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc};

/// What a sealed value begins with; no JSON text does, nor a reference to an object, nor a compressed value.
const MARK: u8 = 2;
/// Length of a key, bytes.
pub const KEY_BYTES: usize = 32;
/// Longest name of a key, bytes: it stands in every value.
const NAME_BYTES_MAX: usize = 64;
/// What keys of jobs are derived for, and in which version.
const PURPOSE: &str = "waymark.seal.1";

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Input,
    Metadata,
    Result,
    Output,
    Checkpoint,
    Signal,
    Log,
    Graph,
    Answer,
}

/// Keys that values are sealed and opened with. Cheap to clone; shows no key.
#[derive(Clone, Default)]
pub struct Keyring(Option<Arc<Keys>>);

struct Keys {
    by_name: HashMap<String, hmac::Key>,
    /// The key that new values are sealed with; `None`: they are kept as they are.
    active: Option<String>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(keys) = &self.0 else { return f.write_str("Keyring(none)") };
        let mut names: Vec<_> = keys.by_name.keys().collect();
        names.sort();
        f.debug_struct("Keyring").field("keys", &names).field("active", &keys.active).finish()
    }
}

impl Keyring {
    /// Keys by name, each of [`KEY_BYTES`], and the name of the one that new values are sealed with.
    ///
    /// # Errors
    /// A name is empty, too long or there twice, a key has another length, or the active key is not there; the message says
    /// which.
    pub fn new(keys: Vec<(String, Vec<u8>)>, active: Option<String>) -> Result<Self, String> {
        let mut by_name = HashMap::new();
        for (name, key) in keys {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(format!("the id of a key must have 1 to {NAME_BYTES_MAX} bytes: {name:?}"));
            }
            if key.len() != KEY_BYTES {
                return Err(format!("the key {name:?} has {} bytes; it must have {KEY_BYTES}", key.len()));
            }
            if by_name.insert(name.clone(), hmac::Key::new(hmac::HMAC_SHA256, &key)).is_some() {
                return Err(format!("the key {name:?} is there twice"));
            }
        }
        if let Some(name) = active.as_ref().filter(|name| !by_name.contains_key(*name)) {
            return Err(format!("active: there is no key {name:?}"));
        }
        Ok(Self((!by_name.is_empty()).then(|| Arc::new(Keys { by_name, active }))))
    }

    /// Id of the key that new values are sealed with.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        self.0.as_ref()?.active.as_deref()
    }

    /// Does it seal new values?
    #[must_use]
    pub fn seals(&self) -> bool {
        self.active().is_some()
    }

    /// The value as it is kept. `owner`: the job that it belongs to.
    pub(crate) fn seal<'a>(&self, owner: &str, kind: Kind, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        let active = self.0.as_ref().and_then(|keys| keys.active.as_ref().map(|name| (name, &keys.by_name)));
        let Some((name, keys)) = active else { return Ok(Cow::Borrowed(plain)) };
        let failed = |_| Error::corrupt("a value to be sealed", "encryption failed");
        let Some(key) = keys.get(name) else { return Err(missing(name)) };
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(2 + name.len() + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(MARK);
        // No longer than the bound.
        sealed.push(name.len() as u8);
        sealed.extend_from_slice(name.as_bytes());
        sealed.extend_from_slice(&nonce);
        let head = sealed.len();
        sealed.extend_from_slice(plain);
        let tag = of_owner(key, owner)
            .and_then(|key| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_separate_tag(nonce, about(kind), &mut sealed[head..])
            })
            .map_err(failed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(Cow::Owned(sealed))
    }

    /// A value as it was before it was kept, sealed or not.
    pub(crate) fn open<'a>(&self, owner: &str, kind: Kind, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        let Some((&MARK, rest)) = stored.split_first() else { return Ok(Cow::Borrowed(stored)) };
        let corrupt = || Error::corrupt(format!("{kind:?} of {owner}"), "it is not what was sealed");
        let (length, rest) = rest.split_first().ok_or_else(corrupt)?;
        let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(corrupt)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(corrupt)?;
        let name = std::str::from_utf8(name).map_err(|_| corrupt())?;
        let key = self.0.as_ref().and_then(|keys| keys.by_name.get(name)).ok_or_else(|| missing(name))?;
        let mut plain = rest.to_vec();
        let length = of_owner(key, owner)
            .and_then(|key| {
                let nonce = Nonce::assume_unique_for_key(*nonce);
                key.open_in_place(nonce, about(kind), &mut plain).map(|plain| plain.len())
            })
            .map_err(|_| corrupt())?;
        plain.truncate(length);
        Ok(Cow::Owned(plain))
    }

    /// The same for what is kept as text: compressed, sealed, and in base64 behind the mark.
    pub(crate) fn seal_text<'a>(
        &self,
        owner: &str,
        kind: Kind,
        plain: &'a str,
    ) -> Result<Cow<'a, str>, Error> {
        if !self.seals() {
            return Ok(Cow::Borrowed(plain));
        }
        let short = crate::pack::compressed(plain.as_bytes())?;
        let sealed = self.seal(owner, kind, &short)?;
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, &sealed[1..]);
        Ok(Cow::Owned(format!("{}{text}", char::from(MARK))))
    }

    /// A text as it was before it was kept, sealed or not.
    pub(crate) fn open_text(&self, owner: &str, kind: Kind, stored: String) -> Result<String, Error> {
        let Some(text) = stored.strip_prefix(char::from(MARK)) else { return Ok(stored) };
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD_NO_PAD, text)
            .map_err(|error| Error::corrupt(format!("{kind:?} of {owner}"), error))?;
        let sealed = [&[MARK], bytes.as_slice()].concat();
        let plain = self.open(owner, kind, &sealed)?;
        crate::pack::text(&plain)
    }

    /// Id of the key that sealed a value; `None`: none did.
    pub(crate) fn key_of(stored: &[u8]) -> Option<&str> {
        let Some((&MARK, rest)) = stored.split_first() else { return None };
        let (length, rest) = rest.split_first()?;
        std::str::from_utf8(rest.get(..usize::from(*length))?).ok()
    }

    /// The same for what is kept as text.
    pub(crate) fn key_of_text(stored: &str) -> Option<String> {
        // The length and the longest id, in whole groups of base64.
        const HEAD: usize = (1 + NAME_BYTES_MAX).div_ceil(3) * 4;
        let text = stored.strip_prefix(char::from(MARK))?;
        let head = text.get(..text.len().min(HEAD))?;
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD_NO_PAD, head).ok()?;
        Self::key_of(&[&[MARK], bytes.as_slice()].concat()).map(str::to_owned)
    }

    /// A value, sealed by the active key instead of another one.
    pub(crate) fn reseal(&self, owner: &str, kind: Kind, stored: &[u8]) -> Result<Vec<u8>, Error> {
        let plain = self.open(owner, kind, stored)?;
        Ok(self.seal(owner, kind, &plain)?.into_owned())
    }

    /// The same for what is kept as text.
    pub(crate) fn reseal_text(&self, owner: &str, kind: Kind, stored: String) -> Result<String, Error> {
        let plain = self.open_text(owner, kind, stored)?;
        Ok(self.seal_text(owner, kind, &plain)?.into_owned())
    }
}

fn missing(name: &str) -> Error {
    Error::KeyMissing(name.to_owned())
}

/// A key of the ring, for one job.
fn of_owner(key: &hmac::Key, owner: &str) -> Result<LessSafeKey, aws_lc_rs::error::Unspecified> {
    let derived = hmac::sign(key, format!("{PURPOSE}\0{owner}").as_bytes());
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, derived.as_ref())?))
}

fn about(kind: Kind) -> Aad<[u8; 1]> {
    Aad::from([kind as u8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(names: &[&str], active: Option<&str>) -> Keyring {
        let keys = names.iter().map(|name| ((*name).to_owned(), vec![name.len() as u8; KEY_BYTES]));
        Keyring::new(keys.collect(), active.map(str::to_owned)).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_job_and_kind_only() {
        let ring = ring(&["a"], Some("a"));
        let sealed = ring.seal("job", Kind::Result, b"secret").unwrap().into_owned();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(&*ring.open("job", Kind::Result, &sealed).unwrap(), b"secret");
        assert!(matches!(ring.open("other", Kind::Result, &sealed), Err(Error::Corrupt { .. })));
        assert!(matches!(ring.open("job", Kind::Input, &sealed), Err(Error::Corrupt { .. })));
        for at in [5, sealed.len() - 20, sealed.len() - 1] {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert!(ring.open("job", Kind::Result, &broken).is_err(), "byte {at}");
        }
        for length in 1..sealed.len() {
            assert!(ring.open("job", Kind::Result, &sealed[..length]).is_err(), "{length} bytes");
        }
        assert_ne!(sealed, ring.seal("job", Kind::Result, b"secret").unwrap().into_owned());
    }

    #[test]
    fn old_keys_open_and_the_active_one_seals() {
        let old = ring(&["a"], Some("a"));
        let sealed = old.seal_text("job", Kind::Input, "{\"a\":1}").unwrap().into_owned();
        let both = ring(&["a", "bb"], Some("bb"));
        assert_eq!(both.open_text("job", Kind::Input, sealed.clone()).unwrap(), "{\"a\":1}");
        let fresh = both.seal_text("job", Kind::Input, "{}").unwrap().into_owned();
        let error = old.open_text("job", Kind::Input, fresh).unwrap_err();
        assert!(matches!(&error, Error::KeyMissing(name) if name == "bb"), "{error}");
        // Without an active key nothing is sealed, and everything is read.
        let none = ring(&["a"], None);
        assert_eq!(none.seal_text("job", Kind::Input, "{}").unwrap(), "{}");
        assert_eq!(none.open_text("job", Kind::Input, sealed).unwrap(), "{\"a\":1}");
        assert_eq!(Keyring::default().open_text("job", Kind::Input, "{}".into()).unwrap(), "{}");
    }

    #[test]
    fn a_value_names_its_key_and_is_sealed_again_by_another() {
        let longest = "k".repeat(NAME_BYTES_MAX);
        let both = ring(&["a", longest.as_str()], Some(longest.as_str()));
        for plain in ["{}", "x".repeat(5_000).as_str()] {
            let old = ring(&["a"], Some("a")).seal_text("job", Kind::Log, plain).unwrap().into_owned();
            assert_eq!(Keyring::key_of_text(&old).as_deref(), Some("a"));
            let new = both.reseal_text("job", Kind::Log, old).unwrap();
            assert_eq!(Keyring::key_of_text(&new), Some(longest.clone()));
            assert_eq!(both.open_text("job", Kind::Log, new).unwrap(), plain);
            let old =
                ring(&["a"], Some("a")).seal("job", Kind::Result, plain.as_bytes()).unwrap().into_owned();
            assert_eq!(Keyring::key_of(&old), Some("a"));
            let new = both.reseal("job", Kind::Result, &old).unwrap();
            assert_eq!(Keyring::key_of(&new), Some(longest.as_str()));
        }
        for plain in ["", "{}", "\u{2}", "\u{2}?"] {
            assert_eq!((Keyring::key_of(plain.as_bytes()), Keyring::key_of_text(plain)), (None, None));
        }
    }

    #[test]
    fn a_ring_is_checked_and_shows_no_key() {
        let key = |name: &str, length| (name.to_owned(), vec![7; length]);
        for (keys, active) in [
            (vec![key("", 32)], None),
            (vec![key("a", 31)], None),
            (vec![key("a", 32), key("a", 32)], None),
            (vec![key("a", 32)], Some("b".to_owned())),
        ] {
            assert!(Keyring::new(keys, active).is_err());
        }
        assert_eq!(
            format!("{:?}", ring(&["a"], Some("a"))),
            "Keyring { keys: [\"a\"], active: Some(\"a\") }"
        );
    }
}
