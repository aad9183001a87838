//! ID tokens: whose they are, for whom, by whom, and until when (OpenID Connect Core 1.0, 3.1.3.7).
//!
//! A key is good for one algorithm, which its type and curve decide, never the token: a token cannot choose to be taken as
//! unsigned, nor have a public key taken for a shared secret.

use super::settings::Claims;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde_json::Value;

/// How wrong clocks may be, seconds.
const LEEWAY_S: u64 = 60;
/// Most keys that are taken from a provider.
const KEYS_MAX: usize = 100;

/// Why a token is not taken. Its text is for the log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it is not well-formed: {0}")]
    Malformed(String),
    #[error("its algorithm is not taken, or is not that of its key")]
    Algorithm,
    #[error("the provider has no key {0:?}")]
    UnknownKey(String),
    #[error("its signature is wrong")]
    Signature,
    #[error("it is over")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is for another client")]
    Audience,
    #[error("it belongs to another sign-in: its nonce differs")]
    Nonce,
}

/// What a token must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// Names of the algorithms that the provider says it uses; empty: it does not say.
    pub(super) offered: &'a [String],
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys that a provider signs with.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Those keys of a set (RFC 7517) that sign as we take it; others are left out, as is asked of readers of sets.
    pub(super) fn read(set: &[Value]) -> Self {
        let read = |value: &Value| {
            let key: Jwk = serde_json::from_value(value.clone()).ok()?;
            let (algorithm, name) = match &key.algorithm {
                AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
                AlgorithmParameters::EllipticCurve(of) if of.curve == EllipticCurve::P256 => {
                    (Algorithm::ES256, KeyAlgorithm::ES256)
                }
                AlgorithmParameters::OctetKeyPair(of) if of.curve == EllipticCurve::Ed25519 => {
                    (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
                }
                _ => return None,
            };
            let signs = key.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
            let fits = key.common.key_algorithm.is_none_or(|of| of == name);
            if !signs || !fits {
                return None;
            }
            Some(Key { id: key.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(&key).ok()? })
        };
        Self(set.iter().filter_map(read).take(KEYS_MAX).collect())
    }

    /// The claims of a token that is what it should be.
    ///
    /// # Errors
    /// It is not; [`Refusal::UnknownKey`] may pass with newer keys.
    pub(super) fn verify(&self, token: &str, expected: &Expected<'_>) -> Result<Claims, Refusal> {
        // An algorithm that the library does not know, such as none, does not even parse.
        let header = decode_header(token).map_err(refusal)?;
        let algorithm = header.alg;
        if !matches!(algorithm, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
            return Err(Refusal::Algorithm);
        }
        if header.crit.is_some() {
            return Err(Refusal::Malformed("its header has extensions that must be understood".into()));
        }
        // A key that is not known comes first: with new keys there may come new algorithms.
        let key = self.find(header.kid.as_deref(), algorithm)?;
        let offered = expected.offered;
        if !offered.is_empty() && !offered.iter().any(|name| *name == format!("{algorithm:?}")) {
            return Err(Refusal::Algorithm);
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[expected.issuer]);
        validation.set_audience(&[expected.client_id]);
        validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
        let claims = decode::<Claims>(token, key, &validation).map_err(refusal)?.claims;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        // The library takes lists of issuers as well.
        if text("iss") != Some(expected.issuer) {
            return Err(Refusal::Issuer);
        }
        // A token for several must say who asked for it; whoever is named must be us.
        let several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        let party = claims.get("azp");
        if party.map_or(several, |party| party.as_str() != Some(expected.client_id)) {
            return Err(Refusal::Audience);
        }
        if text("nonce") != Some(expected.nonce) {
            return Err(Refusal::Nonce);
        }
        Ok(claims)
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, Refusal> {
        let Some(id) = id else {
            let mut fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(&only.key),
                (None, _) => Err(Refusal::UnknownKey(String::new())),
                _ => Err(Refusal::Malformed("it does not say which of several keys signed it".into())),
            };
        };
        let mut named = self.0.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
        if named.peek().is_none() {
            return Err(Refusal::UnknownKey(crate::api::request::shorten(id).into_owned()));
        }
        named.find(|key| key.algorithm == algorithm).map(|key| &key.key).ok_or(Refusal::Algorithm)
    }
}

fn refusal(error: jsonwebtoken::errors::Error) -> Refusal {
    match error.kind() {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Refusal::Algorithm,
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::Early,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        _ => Refusal::Malformed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::{
        hmac,
        rand::SystemRandom,
        rsa::KeySize,
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
            RsaKeyPair, RsaPublicKeyComponents,
        },
    };
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    use serde_json::json;
    use std::time::{SystemTime, UNIX_EPOCH};

    const EXPECTED: Expected<'static> =
        Expected { issuer: "https://id.example.com", client_id: "waymark", nonce: "n-1", offered: &[] };

    /// Keys of our own, of each kind.
    struct Signer {
        rsa: RsaKeyPair,
        ec: EcdsaKeyPair,
        ed: Ed25519KeyPair,
    }

    impl Signer {
        fn new() -> Self {
            Self {
                rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
                ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
                ed: Ed25519KeyPair::generate().unwrap(),
            }
        }

        fn set(&self) -> Vec<Value> {
            let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public_key());
            // An uncompressed point: 4, x, y.
            let point = self.ec.public_key().as_ref();
            let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
            let ed = BASE64.encode(self.ed.public_key().as_ref());
            vec![
                json!({"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256",
                       "n": BASE64.encode(&rsa.n), "e": BASE64.encode(&rsa.e)}),
                json!({"kty": "EC", "kid": "e", "crv": "P-256", "x": x, "y": y}),
                json!({"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": ed, "use": "sig"}),
            ]
        }

        fn keys(&self) -> Keys {
            Keys::read(&self.set())
        }

        fn token(&self, header: &Value, claims: &Value) -> String {
            let message =
                format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
            let (bytes, random) = (message.as_bytes(), SystemRandom::new());
            let signature = match header["alg"].as_str() {
                Some("RS256") => {
                    let mut signature = vec![0; self.rsa.public_modulus_len()];
                    self.rsa.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).unwrap();
                    signature
                }
                Some("ES256") => self.ec.sign(&random, bytes).unwrap().as_ref().to_vec(),
                Some("EdDSA") => self.ed.sign(bytes).as_ref().to_vec(),
                _ => Vec::new(),
            };
            format!("{message}.{}", BASE64.encode(signature))
        }
    }

    fn now_s() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    /// Claims that are taken, with some of them changed; null takes one away.
    fn claims(changes: Value) -> Value {
        let mut claims = json!({
            "iss": "https://id.example.com", "sub": "7", "aud": "waymark", "nonce": "n-1",
            "exp": now_s() + 300, "iat": now_s(), "email": "anna@example.com",
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => {
                    claims.as_object_mut().unwrap().remove(name);
                }
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    #[test]
    fn a_token_is_taken_by_the_key_that_signed_it() {
        let (signer, stranger) = (Signer::new(), Signer::new());
        let keys = signer.keys();
        for (algorithm, id) in [("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")] {
            for header in [json!({"alg": algorithm, "kid": id, "typ": "JWT"}), json!({"alg": algorithm})] {
                let token = signer.token(&header, &claims(json!({})));
                assert_eq!(keys.verify(&token, &EXPECTED).unwrap()["email"], "anna@example.com");
                assert_eq!(stranger.keys().verify(&token, &EXPECTED), Err(Refusal::Signature), "{header}");
                let (head, signature) = token.rsplit_once('.').unwrap();
                let (header_part, _) = head.split_once('.').unwrap();
                let other = BASE64.encode(claims(json!({"sub": "8"})).to_string());
                let forged = format!("{header_part}.{other}.{signature}");
                assert_eq!(keys.verify(&forged, &EXPECTED), Err(Refusal::Signature), "{header}");
            }
        }
        let token = signer.token(&json!({"alg": "RS256", "kid": "new"}), &claims(json!({})));
        assert_eq!(keys.verify(&token, &EXPECTED), Err(Refusal::UnknownKey("new".into())));
        let mut two = signer.set();
        two.extend(stranger.set());
        let token = signer.token(&json!({"alg": "RS256"}), &claims(json!({})));
        assert!(matches!(Keys::read(&two).verify(&token, &EXPECTED), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn a_token_does_not_choose_how_it_is_verified() {
        let signer = Signer::new();
        let keys = signer.keys();
        let body = claims(json!({}));
        for name in ["none", "None", "NONE", ""] {
            let unsigned = signer.token(&json!({"alg": name}), &body);
            assert!(matches!(keys.verify(&unsigned, &EXPECTED), Err(Refusal::Malformed(_))), "{name}");
            let cut = unsigned.trim_end_matches('.');
            assert!(matches!(keys.verify(cut, &EXPECTED), Err(Refusal::Malformed(_))), "{name}");
        }
        // A public key as the secret of an HMAC, in every form that a careless reader may take it in.
        let set = signer.set();
        let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(signer.rsa.public_key());
        let secrets = [
            rsa.n.clone(),
            signer.rsa.public_key().as_ref().to_vec(),
            set[0].to_string().into_bytes(),
            set[0]["n"].as_str().unwrap().as_bytes().to_vec(),
            signer.ec.public_key().as_ref().to_vec(),
            signer.ed.public_key().as_ref().to_vec(),
        ];
        for secret in secrets {
            for id in ["r", "e", "d"] {
                let header = json!({"alg": "HS256", "kid": id});
                let message =
                    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(body.to_string()));
                let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
                let token = format!("{message}.{}", BASE64.encode(hmac::sign(&key, message.as_bytes())));
                assert_eq!(keys.verify(&token, &EXPECTED), Err(Refusal::Algorithm));
            }
        }
        // A key is good for its own algorithm alone.
        for (algorithm, id) in [("RS256", "e"), ("ES256", "r"), ("EdDSA", "e"), ("ES256", "d")] {
            let token = signer.token(&json!({"alg": algorithm, "kid": id}), &body);
            assert_eq!(keys.verify(&token, &EXPECTED), Err(Refusal::Algorithm), "{algorithm} {id}");
        }
        let token = signer.token(&json!({"alg": "ES256", "kid": "e"}), &body);
        let (some, others) = (["RS256".to_owned()], ["RS256".to_owned(), "ES256".to_owned()]);
        let verify = |offered| keys.verify(&token, &Expected { offered, ..EXPECTED });
        assert_eq!(verify(&some), Err(Refusal::Algorithm));
        assert!(verify(&others).is_ok());
        let critical = signer.token(&json!({"alg": "ES256", "kid": "e", "crit": ["b64"]}), &body);
        assert!(matches!(keys.verify(&critical, &EXPECTED), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn a_token_is_for_this_sign_in_of_this_client_and_for_now() {
        let signer = Signer::new();
        let keys = signer.keys();
        let verify = |changes: Value| {
            let token = signer.token(&json!({"alg": "EdDSA", "kid": "d"}), &claims(changes));
            keys.verify(&token, &EXPECTED).map(drop)
        };
        for taken in [
            json!({}),
            json!({"aud": ["waymark"]}),
            json!({"aud": ["other", "waymark"], "azp": "waymark"}),
            json!({"azp": "waymark"}),
            json!({"exp": now_s() - 30}),
            json!({"nbf": now_s() + 30}),
        ] {
            assert_eq!(verify(taken.clone()), Ok(()), "{taken}");
        }
        for (changes, refusal) in [
            (json!({"exp": now_s() - 90}), Refusal::Expired),
            (json!({"nbf": now_s() + 90}), Refusal::Early),
            (json!({"iss": "https://id.example.com/"}), Refusal::Issuer),
            (json!({"iss": ["https://id.example.com"]}), Refusal::Issuer),
            (json!({"aud": "other"}), Refusal::Audience),
            (json!({"aud": []}), Refusal::Audience),
            (json!({"aud": ["other", "waymark"]}), Refusal::Audience),
            (json!({"aud": ["other", "waymark"], "azp": "other"}), Refusal::Audience),
            (json!({"azp": "other"}), Refusal::Audience),
            (json!({"azp": 7}), Refusal::Audience),
            (json!({"nonce": "n-2"}), Refusal::Nonce),
            (json!({"nonce": null}), Refusal::Nonce),
        ] {
            assert_eq!(verify(changes.clone()), Err(refusal), "{changes}");
        }
        for changes in [
            json!({"exp": null}),
            json!({"exp": "tomorrow"}),
            json!({"exp": -1}),
            json!({"nbf": "now"}),
            json!({"iss": null}),
            json!({"sub": null}),
            json!({"aud": null}),
            json!({"aud": {"waymark": true}}),
        ] {
            assert!(matches!(verify(changes.clone()), Err(Refusal::Malformed(_))), "{changes}");
        }
        for text in ["", ".", "..", "a.b.c", "a.b.c.d", &"x".repeat(100_000)] {
            assert!(matches!(keys.verify(text, &EXPECTED), Err(Refusal::Malformed(_))));
        }
    }

    #[test]
    fn keys_that_do_not_sign_id_tokens_are_left_out() {
        let signer = Signer::new();
        let set = signer.set();
        let with = |index: usize, name: &str, value: &str| {
            let mut key: Value = set[index].clone();
            key[name] = value.into();
            key
        };
        let others = [
            json!({"kty": "oct", "kid": "r", "k": "c2VjcmV0"}),
            json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
            json!({"kty": "new"}),
            json!(7),
            with(0, "use", "enc"),
            with(0, "alg", "RSA-OAEP"),
            with(0, "alg", "HS256"),
            with(1, "alg", "RS256"),
            with(2, "x", "not base64!"),
        ];
        assert!(Keys::read(&others).0.is_empty());
        assert_eq!(Keys::read(&[&others[..], &set[..]].concat()).0.len(), 3);
        let many: Vec<_> = (0..KEYS_MAX + 50).map(|_| set[1].clone()).collect();
        assert_eq!(Keys::read(&many).0.len(), KEYS_MAX);
    }
}
