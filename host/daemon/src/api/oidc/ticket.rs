//! What a browser keeps between its way to the provider and its way back: who began, and what the answer must say.
//!
//! It is a cookie that is encrypted and authenticated with a key that is derived from the client secret: every host of the
//! deployment reads it, nothing has to be kept meanwhile, and strangers who begin sign-ins fill no store.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Time to sign in at the provider, milliseconds.
pub(super) const TICKET_MS: u64 = 600_000;
/// Longest path that a ticket goes on to, bytes: browsers keep cookies of 4 KiB.
const NEXT_BYTES_MAX: usize = 1_024;
/// What the key is derived for, and in which version; what is sealed for something else does not open.
const PURPOSE: &[u8] = b"waymark.oidc.ticket.1";

/// A sign-in that has begun.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ticket {
    /// Comes back beside the code, so that the answer belongs to this browser (RFC 6749, 10.12).
    pub(super) state: String,
    /// Comes back within the ID token, so that the token belongs to this sign-in.
    pub(super) nonce: String,
    /// Proves to the provider that whoever has the code also began (RFC 7636).
    pub(super) verifier: String,
    /// Path of this host to go on to.
    pub(super) next: String,
    /// When it ends, Unix milliseconds.
    until_ms: u64,
}

impl Ticket {
    /// A new one.
    ///
    /// # Errors
    /// The operating system's random generator failed.
    pub(super) fn new(next: &str, now_ms: u64) -> Result<Self, getrandom::Error> {
        Ok(Self {
            state: random()?,
            nonce: random()?,
            verifier: random()?,
            next: if next.len() <= NEXT_BYTES_MAX { next.to_owned() } else { "/".to_owned() },
            until_ms: now_ms.saturating_add(TICKET_MS),
        })
    }

    /// What the provider is told of the verifier, by the method S256.
    pub(super) fn challenge(&self) -> String {
        BASE64.encode(Sha256::digest(&self.verifier))
    }
}

/// 256 random bits in 43 characters.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64.encode(bytes))
}

/// Seals and opens tickets.
pub(super) struct Sealer(RandomizedNonceKey);

impl Sealer {
    /// With a key of this client secret.
    ///
    /// # Errors
    /// The cipher does not take the key, which it does.
    pub(super) fn new(secret: &str) -> anyhow::Result<Self> {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), PURPOSE);
        RandomizedNonceKey::new(&AES_256_GCM, key.as_ref())
            .map(Self)
            .map_err(|_| anyhow::anyhow!("no key could be made of the client secret"))
    }

    /// The value of the cookie; `None` if the cipher failed.
    pub(super) fn seal(&self, ticket: &Ticket) -> Option<String> {
        let mut bytes = serde_json::to_vec(ticket).ok()?;
        let nonce = self.0.seal_in_place_append_tag(Aad::empty(), &mut bytes).ok()?;
        Some(BASE64.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    /// The ticket in a cookie; `None` if it is none of this deployment's, or is over.
    pub(super) fn open(&self, cookie: &str, now_ms: u64) -> Option<Ticket> {
        let mut bytes = BASE64.decode(cookie).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.0.open_in_place(nonce, Aad::empty(), sealed).ok()?;
        let ticket: Ticket = serde_json::from_slice(text).ok()?;
        (now_ms < ticket.until_ms).then_some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn a_ticket_is_read_by_every_host_with_the_secret_until_it_is_over() {
        let ticket = Ticket::new("/jobs?status=failed", 1_000).unwrap();
        let cookie = Sealer::new(SECRET).unwrap().seal(&ticket).unwrap();
        assert!(!cookie.contains(&ticket.state) && cookie.len() < 1_000, "{cookie}");
        let other = Sealer::new(SECRET).unwrap();
        assert_eq!(other.open(&cookie, 1_000), Some(ticket));
        assert!(other.open(&cookie, 1_000 + TICKET_MS - 1).is_some());
        assert_eq!(other.open(&cookie, 1_000 + TICKET_MS), None);
        assert_eq!(Sealer::new("0123456789abcdeg").unwrap().open(&cookie, 1_000), None);
    }

    #[test]
    fn a_changed_ticket_is_none() {
        let sealer = Sealer::new(SECRET).unwrap();
        let cookie = sealer.seal(&Ticket::new("/", 0).unwrap()).unwrap();
        let bytes = BASE64.decode(&cookie).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(sealer.open(&BASE64.encode(changed), 0), None, "byte {index}");
        }
        for short in ["", "AAAA", "not base64!", &cookie[..cookie.len() / 2]] {
            assert_eq!(sealer.open(short, 0), None);
        }
    }

    #[test]
    fn no_two_tickets_are_alike_and_a_long_path_is_forgotten() {
        let (one, other) = (Ticket::new("/a", 0).unwrap(), Ticket::new("/a", 0).unwrap());
        assert!(one.state != other.state && one.nonce != other.nonce && one.verifier != other.verifier);
        assert_eq!(Ticket::new(&format!("/{}", "a".repeat(2_000)), 0).unwrap().next, "/");
        // Appendix B of RFC 7636.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        let known = Ticket { verifier, ..one };
        assert_eq!(known.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
