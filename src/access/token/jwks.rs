//! An identity provider's public keys (RFC 7517, RFC 7518 §6, RFC 8037), and what is signed with them.
//!
//! Whether a signature is tried at all is decided by the kind of the key, never by what the token says alone: a token that
//! calls itself signed by HMAC, or not at all, finds no key of that kind, for none is ever kept.

use aws_lc_rs::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// How a token is signed. There is no symmetric one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with PKCS #1 padding and SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The name in the head of a token.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key with what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, if that is said.
    only: Option<Algorithm>,
    public: Public,
}

/// The keys of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

/// The most keys that are kept of one provider.
const MOST: usize = 64;

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a set. Keys that are not for signatures, or of a kind that is not known, are passed over.
    ///
    /// # Errors
    /// Says why there is no key in it.
    pub fn read(document: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|_| "it is no set of keys: JSON with a list `keys`".to_owned())?;
        let read = |value| serde_json::from_value::<Written>(value).ok().as_ref().and_then(key);
        let keys: Vec<Key> = document.keys.into_iter().filter_map(read).take(MOST).collect();
        if keys.is_empty() {
            return Err("there is no public key for signatures in it".to_owned());
        }
        Ok(Self(keys))
    }

    /// Those that may have signed: with that id, where the token names one, and of the algorithm's kind.
    pub fn fitting<'a>(&'a self, id: Option<&'a str>, algorithm: Algorithm) -> impl Iterator<Item = &'a Key> {
        self.0
            .iter()
            .filter(move |key| id.is_none() || key.id.as_deref() == id)
            .filter(move |key| key.only.is_none_or(|only| only == algorithm) && key.public.fits(algorithm))
    }

    /// Whether there is a key of that id, whatever its kind.
    pub fn has(&self, id: Option<&str>) -> bool {
        self.0.iter().any(|key| id.is_none() || key.id.as_deref() == id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Key {
    /// Whether this key has signed `message` so.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], sign: &[u8]) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let done = match (&self.public, algorithm) {
            (Public::Rsa { n, e }, _) => {
                let how = match algorithm {
                    Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    Es256 | Es384 | Es512 | EdDsa => return false,
                };
                RsaPublicKeyComponents { n: n.as_slice(), e: e.as_slice() }.verify(how, message, sign)
            }
            (Public::P256(point), Es256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, sign)
            }
            (Public::P384(point), Es384) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, sign)
            }
            (Public::P521(point), Es512) => {
                UnparsedPublicKey::new(&signature::ECDSA_P521_SHA512_FIXED, point).verify(message, sign)
            }
            (Public::Ed25519(point), EdDsa) => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(message, sign)
            }
            _ => return false,
        };
        done.is_ok()
    }
}

impl Public {
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Self::P256(_) => algorithm == Es256,
            Self::P384(_) => algorithm == Es384,
            Self::P521(_) => algorithm == Es512,
            Self::Ed25519(_) => algorithm == EdDsa,
        }
    }
}

/// A key that may verify signatures.
fn key(written: &Written) -> Option<Key> {
    let verifies = |operations: &Vec<String>| operations.iter().any(|operation| operation == "verify");
    if written.usage.as_deref().is_some_and(|usage| usage != "sig")
        || written.key_ops.as_ref().is_some_and(|operations| !verifies(operations))
    {
        return None;
    }
    let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?.trim_end_matches('=')).ok();
    // RFC 7518 §6.2.1.2: a coordinate has the full length of the curve's.
    let point = |size: usize| {
        let (x, y) = (bytes(&written.x)?, bytes(&written.y)?);
        (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
    };
    let public = match (written.kty.as_str(), written.crv.as_deref()) {
        ("RSA", _) => Public::Rsa { n: stripped(bytes(&written.n)?), e: stripped(bytes(&written.e)?) },
        ("EC", Some("P-256")) => Public::P256(point(32)?),
        ("EC", Some("P-384")) => Public::P384(point(48)?),
        ("EC", Some("P-521")) => Public::P521(point(66)?),
        ("OKP", Some("Ed25519")) => Public::Ed25519(bytes(&written.x).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    let only = match written.alg.as_deref() {
        // A key that is for something unknown is for nothing that is known.
        Some(name) => Some(Algorithm::named(name)?),
        None => None,
    };
    Some(Key { id: written.kid.clone(), only, public })
}

/// A number without zeros before it, which some write.
fn stripped(number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.into_iter().skip(zeros).collect()
}
