//! Who is calling: a virtual key denotes a principal.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;

use crate::limit::Bound;
use crate::pattern::{Pattern, Permit};
use crate::priority::Priority;

/// Who is calling, and what they may use.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The name used in logs.
    pub name: String,
    /// The models they may use.
    pub models: Vec<Pattern>,
    /// The regions that their requests may go to.
    pub regions: Permit,
    /// How important their requests are, whatever the route says.
    pub priority: Option<Priority>,
    /// Whether their requests may go to a later deployment because of load.
    pub spill: bool,
    /// How much they may use.
    pub limits: Arc<Bound>,
    /// Whether they may ask why a request went where it did.
    pub explain: bool,
}

impl Principal {
    /// Whether they may use `model`.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.matches(model))
    }
}

/// Why there is no principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No credential was sent.
    Missing,
    /// The credential denotes nobody.
    Unknown,
}

/// Every key of a configuration, as hashes.
#[derive(Debug)]
pub struct Access {
    keys: HashMap<[u8; 32], Arc<Principal>>,
    anonymous: Option<Arc<Principal>>,
}

impl Access {
    /// Takes each principal's key; `anonymous` lets callers without a key use every model.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, Principal)>, anonymous: bool) -> Self {
        let everything = || Principal {
            name: "anonymous".to_owned(),
            models: Pattern::parse("*").into_iter().collect(),
            regions: Permit::default(),
            priority: None,
            spill: true,
            limits: Arc::default(),
            explain: false,
        };
        Self {
            keys: keys
                .into_iter()
                .map(|(key, principal)| (hash(key.as_bytes()), Arc::new(principal)))
                .collect(),
            anonymous: anonymous.then(|| Arc::new(everything())),
        }
    }

    /// The principal of that name; without one, who is let in without a key.
    pub fn named(&self, name: Option<&str>) -> Option<&Principal> {
        match name {
            Some(name) => self.keys.values().find(|principal| principal.name == name).map(AsRef::as_ref),
            None => self.anonymous.as_deref(),
        }
    }

    /// Who sent these headers. The key is looked for where each dialect's SDK puts it.
    ///
    /// A key is compared by its SHA-256: what the time of the look-up tells is of no use for guessing.
    ///
    /// # Errors
    /// Says why they denote nobody. With anonymous access an unknown key is nobody's all the same.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Arc<Principal>, Denied> {
        if self.keys.is_empty()
            && let Some(anonymous) = &self.anonymous
        {
            return Ok(Arc::clone(anonymous));
        }
        match (credential(headers), &self.anonymous) {
            (Some(key), anonymous) => {
                self.keys.get(&hash(key)).or(anonymous.as_ref()).cloned().ok_or(Denied::Unknown)
            }
            (None, Some(anonymous)) => Ok(Arc::clone(anonymous)),
            (None, None) => Err(Denied::Missing),
        }
    }
}

/// The headers that carry a client's key; an exact header goes before `Authorization`, as in the Messages API itself.
pub const KEY_HEADERS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];

fn credential(headers: &HeaderMap) -> Option<&[u8]> {
    let own = KEY_HEADERS.iter().find_map(|name| headers.get(*name)).map(|value| value.as_bytes());
    own.or_else(|| bearer(headers.get(http::header::AUTHORIZATION)?.as_bytes()))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

fn hash(key: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn access(anonymous: bool) -> Access {
        let principal = Principal {
            name: "alice".into(),
            models: vec![Pattern::parse("gpt-*").unwrap()],
            regions: Permit::default(),
            priority: None,
            spill: true,
            limits: Arc::default(),
            explain: false,
        };
        Access::new([("sk-alice", principal)], anonymous)
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        [(http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    #[test]
    fn a_key_is_found_in_every_header_that_sdks_use() {
        for (name, value) in [
            ("authorization", "Bearer sk-alice"),
            ("authorization", "bearer  sk-alice"),
            ("x-api-key", "sk-alice"),
            ("api-key", "sk-alice"),
            ("x-goog-api-key", "sk-alice"),
        ] {
            let principal = access(false).identify(&headers(name, value)).unwrap();
            assert_eq!(principal.name, "alice");
            assert!(principal.may_use("gpt-5") && !principal.may_use("claude"));
        }
    }

    #[test]
    fn a_wrong_or_missing_key_is_nobody() {
        let identify = |headers| access(false).identify(&headers).map(|_| ()).unwrap_err();
        assert_eq!(identify(headers("authorization", "Bearer sk-bob")), Denied::Unknown);
        assert_eq!(identify(headers("authorization", "Basic sk-alice")), Denied::Missing);
        assert_eq!(identify(headers("authorization", "Bear")), Denied::Missing);
        assert_eq!(identify(HeaderMap::new()), Denied::Missing);
    }

    #[test]
    fn anonymous_callers_are_let_in_where_the_configuration_says_so() {
        assert_eq!(access(true).identify(&HeaderMap::new()).unwrap().name, "anonymous");
        let open = Access::new([], true);
        assert_eq!(open.identify(&headers("x-api-key", "whatever")).unwrap().name, "anonymous");
    }
}
