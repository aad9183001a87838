//! Detached signatures of plugins: Ed25519 over the bytes of the file, in Base64, beside it as `FILE.wasm.sig`.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Bytes of a public key.
const KEY_BYTES: usize = 32;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;
/// Longest file that is read as a signature.
const FILE_BYTES_MAX: u64 = 4096;
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Which plugins a host takes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Public keys, Ed25519, in Base64. With any, a plugin that none of them signed is refused. Default none.
    pub trusted_keys: Vec<String>,
}

/// Why a signature is refused: a stable code, and what is wrong.
pub type Refusal = (&'static str, String);

impl Policy {
    /// # Errors
    /// A key is none.
    pub fn check(&self) -> Result<(), String> {
        match self.trusted_keys.iter().find(|key| decoded(key, KEY_BYTES).is_none()) {
            Some(key) => Err(format!(
                "trusted_keys: {key:?} is no public key: Ed25519 keys are 32 bytes in Base64, as `waymark plugin \
                 keygen` prints them"
            )),
            None => Ok(()),
        }
    }

    /// Must plugins be signed?
    #[must_use]
    pub fn asks(&self) -> bool {
        !self.trusted_keys.is_empty()
    }

    /// Did one of the trusted keys sign these bytes? Always so where there are none.
    ///
    /// # Errors
    /// `unsigned` or `bad-signature`.
    pub fn admit(&self, file: &[u8], signature: Option<&str>) -> Result<(), Refusal> {
        if !self.asks() {
            return Ok(());
        }
        let Some(signature) = signature else {
            let message = "this host takes signed plugins only, and there is no signature: sign the file with `waymark \
                           plugin sign`, and put the file .sig beside it";
            return Err(("unsigned", message.into()));
        };
        let signed = decoded(signature.trim(), SIGNATURE_BYTES).is_some_and(|signature| {
            let mut keys = self.trusted_keys.iter().filter_map(|key| decoded(key, KEY_BYTES));
            keys.any(|key| UnparsedPublicKey::new(&ED25519, key).verify(file, &signature).is_ok())
        });
        if signed {
            return Ok(());
        }
        let message = "the signature is not one of a trusted key over this very file: it was made for another file, or \
                       its key is not among plugins_policy.trusted_keys";
        Err(("bad-signature", message.into()))
    }
}

fn decoded(text: &str, bytes: usize) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok().filter(|found| found.len() == bytes)
}

/// Where the signature of a file lies.
#[must_use]
pub fn beside(file: &Path) -> PathBuf {
    file.with_added_extension("sig")
}

/// The signature beside a file; `None` where there is none.
///
/// # Errors
/// It cannot be read, or is far too long for one.
pub fn read_beside(file: &Path) -> std::io::Result<Option<String>> {
    let path = beside(file);
    let length = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("{} is too long for a signature", path.display())));
    }
    Ok(Some(std::fs::read_to_string(&path)?.trim().to_owned()))
}

/// A private key.
pub struct Key(Ed25519KeyPair);

impl Key {
    /// A new key, and its text (PKCS#8 in PEM).
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> anyhow::Result<(Self, String)> {
        let unspecified = |_| anyhow::anyhow!("no randomness");
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(unspecified)?;
        let text = format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", BASE64_STANDARD.encode(document.as_ref()));
        Ok((Self::read(&text)?, text))
    }

    /// Reads what [`Key::generate`] or `openssl genpkey -algorithm ed25519` wrote.
    ///
    /// # Errors
    /// It is no such key.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let inner = text.trim().strip_prefix(PEM_BEGIN).and_then(|text| text.strip_suffix(PEM_END));
        let bytes = inner.and_then(|text| {
            let plain: String = text.split_whitespace().collect();
            BASE64_STANDARD.decode(plain).ok()
        });
        let pair = bytes.and_then(|bytes| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).ok());
        pair.map(Self).ok_or_else(|| {
            anyhow::anyhow!("this is no Ed25519 key in PEM: make one with `waymark plugin keygen FILE`")
        })
    }

    /// The public key, as `trusted_keys` takes it.
    #[must_use]
    pub fn public(&self) -> String {
        BASE64_STANDARD.encode(self.0.public_key().as_ref())
    }

    /// The signature of a file.
    #[must_use]
    pub fn sign(&self, file: &[u8]) -> String {
        BASE64_STANDARD.encode(self.0.sign(file).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_keys_signature_over_the_very_file_is_admitted() {
        let (key, text) = Key::generate().unwrap();
        let (other, _) = Key::generate().unwrap();
        assert_eq!(Key::read(&text).unwrap().public(), key.public());
        let policy = Policy { trusted_keys: vec![other.public(), key.public()] };
        policy.check().unwrap();
        let signature = key.sign(b"file");
        policy.admit(b"file", Some(&format!("{signature}\n"))).unwrap();
        let code = |refused: Result<(), Refusal>| refused.unwrap_err().0;
        assert_eq!(code(policy.admit(b"filf", Some(&signature))), "bad-signature");
        assert_eq!(code(policy.admit(b"file", Some("garbage"))), "bad-signature");
        assert_eq!(code(policy.admit(b"file", None)), "unsigned");
        let stranger = Policy { trusted_keys: vec![other.public()] };
        assert_eq!(code(stranger.admit(b"file", Some(&signature))), "bad-signature");
        Policy::default().admit(b"file", None).unwrap();
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(Policy { trusted_keys: vec!["abc".into()] }.check().is_err());
        assert!(Key::read("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
        // As openssl writes one, without the public half.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTwzrOkKz8ZssE8Ms+FpA1XfW1ZHI/YbQdq7vs6pGHI\n-----END PRIVATE KEY-----\n";
        assert_eq!(Key::read(pem).unwrap().public(), "qU/H9mf3w3fdFk1klpjbVhY+6mdRbBIon7RZbh7Ih3c=");
    }
}
