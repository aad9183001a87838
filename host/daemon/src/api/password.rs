//! Passwords, kept as salted PBKDF2 digests in the PHC string format
//! (<https://github.com/P-H-C/phc-string-format>): `$pbkdf2-sha256$i=600000$SALT$DIGEST`.

use anyhow::Context as _;
use aws_lc_rs::pbkdf2;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use std::num::NonZeroU32;

/// Rounds of a new digest: what OWASP's password storage cheat sheet asks of PBKDF2-HMAC-SHA256.
const ROUNDS: u32 = 600_000;
/// Fewest and most rounds that are taken from a configuration: below is guessed too fast, above is a mistake.
const ROUNDS_BOUNDS: std::ops::RangeInclusive<u32> = 100_000..=10_000_000;
/// Longest password, bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
const NAME: &str = "pbkdf2-sha256";

/// What a password is compared with.
#[derive(Clone, Debug)]
pub struct Password {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

impl Password {
    /// Digests a password with a new salt.
    ///
    /// # Errors
    /// It is empty or longer than 1,024 bytes, or the operating system's random generator failed.
    pub fn new(password: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(!password.is_empty(), "the password is empty");
        anyhow::ensure!(
            password.len() <= PASSWORD_BYTES_MAX,
            "the password is longer than {PASSWORD_BYTES_MAX} bytes"
        );
        let mut salt = vec![0; 16];
        getrandom::fill(&mut salt).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN);
        let mut digest = vec![0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut digest);
        Ok(Self { rounds, salt, digest })
    }

    /// Reads what [`Self::text`] wrote.
    ///
    /// # Errors
    /// The text has another form; the message says which one is expected.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let read = || {
            let mut parts = text.split('$');
            (parts.next() == Some("") && parts.next() == Some(NAME)).then_some(())?;
            let rounds: u32 = parts.next()?.strip_prefix("i=")?.parse().ok()?;
            ROUNDS_BOUNDS.contains(&rounds).then_some(())?;
            let salt = BASE64.decode(parts.next()?).ok()?;
            let digest = BASE64.decode(parts.next()?).ok()?;
            (parts.next().is_none() && salt.len() >= 8 && digest.len() == 32).then_some(())?;
            Some(Self { rounds: NonZeroU32::new(rounds)?, salt, digest })
        };
        read().context("expected `$pbkdf2-sha256$i=ROUNDS$SALT$DIGEST`, as `waymark password` prints it")
    }

    /// The text that a configuration keeps.
    #[must_use]
    pub fn text(&self) -> String {
        let (salt, digest) = (BASE64.encode(&self.salt), BASE64.encode(&self.digest));
        format!("${NAME}$i={}${salt}${digest}", self.rounds)
    }

    /// Is it this one? Takes about a tenth of a second of one core, whatever the answer.
    #[must_use]
    pub fn is(&self, password: &str) -> bool {
        password.len() <= PASSWORD_BYTES_MAX
            && pbkdf2::verify(
                pbkdf2::PBKDF2_HMAC_SHA256,
                self.rounds,
                &self.salt,
                password.as_bytes(),
                &self.digest,
            )
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_knows_its_password_and_no_other() {
        let written = Password::new("correct horse").unwrap().text();
        assert!(!written.contains("horse"));
        let read = Password::read(&written).unwrap();
        assert!(read.is("correct horse"));
        assert!(!read.is("correct horse ") && !read.is(""));
        assert_ne!(written, Password::new("correct horse").unwrap().text(), "each has a salt of its own");
    }

    #[test]
    fn a_known_answer_of_another_program_is_verified() {
        // python3 -c "import hashlib,base64;print(base64.b64encode(
        //   hashlib.pbkdf2_hmac('sha256',b'secret',b'saltsalt',100000)))"
        let text = "$pbkdf2-sha256$i=100000$c2FsdHNhbHQ$XfivEVCH0mX9EiaMWqSDoTlew308dfZa/7tE0a6Ai4w";
        assert!(Password::read(text).unwrap().is("secret"));
    }

    #[test]
    fn a_text_of_another_form_is_refused() {
        for text in [
            "",
            "secret",
            "$argon2id$v=19$m=1,t=1,p=1$c2FsdA$AAAA",
            "$pbkdf2-sha256$i=1$c2FsdHNhbHQ$AAAA",
            "$pbkdf2-sha256$i=600000$c2FsdHNhbHQ$AAAA",
        ] {
            assert!(Password::read(text).is_err(), "{text}");
        }
        assert!(Password::new("").is_err() && Password::new(&"x".repeat(2_000)).is_err());
    }
}
