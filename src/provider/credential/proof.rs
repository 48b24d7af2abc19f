//! What proves to a provider whose a request is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::{Error, Outside, Refreshed, aws, google};
use crate::provider::sigv4::{self, Credentials, Payload, Scope, Segments};
use crate::secret::Secret;

/// Where the proofs of a cluster's requests come from.
#[derive(Debug)]
pub enum Source {
    /// From its headers, which stand in the configuration.
    Headers,
    /// AWS credentials, which sign every request.
    Aws {
        /// The region that requests are signed for.
        region: String,
        /// The service's signing name.
        service: &'static str,
        /// The profile that takes the place of `AWS_PROFILE`.
        profile: Option<String>,
        /// What the chain gave.
        keys: Refreshed<Credentials>,
    },
    /// An access token of Google Cloud.
    Google {
        /// Where it is obtained.
        from: google::Source,
        /// What was obtained.
        token: Refreshed<Secret>,
    },
}

/// What one attempt is proved with.
#[derive(Clone, Debug)]
pub enum Proof<'s> {
    /// Nothing besides its headers.
    None,
    /// A token.
    Token(Arc<Secret>),
    /// A signature.
    Signature(Arc<Credentials>, Scope<'s>),
}

/// A request that is to be proved.
#[derive(Clone, Copy, Debug)]
pub struct Proved<'a> {
    /// The host as it is sent.
    pub host: &'a str,
    /// The path as it is on the wire.
    pub path: &'a str,
    /// The query as it is on the wire, without its question mark.
    pub query: &'a str,
    /// The pieces of the body.
    pub body: &'a [bytes::Bytes],
}

/// The headers that prove a request.
pub type Headers = SmallVec<[(HeaderName, HeaderValue); 3]>;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

impl Source {
    /// AWS's chain of credentials, from the profile of that name where one is given.
    pub fn aws(region: String, service: &'static str, profile: Option<String>) -> Self {
        Self::Aws { region, service, profile, keys: Refreshed::default() }
    }

    /// Google's default credentials, or those in a file.
    pub fn google(file: Option<PathBuf>) -> Self {
        let from = file.map_or(google::Source::Default, google::Source::File);
        Self::Google { from, token: Refreshed::default() }
    }

    /// Keeps what it gives fresh, for ever; at once over where there is nothing to keep. `what` names it in the log.
    pub async fn keep(&self, what: &str, mut outside: Outside) {
        match self {
            Self::Headers => {}
            Self::Aws { profile, keys, .. } => {
                if let Some(profile) = profile.clone() {
                    outside = outside.with_profile(profile);
                }
                keys.keep(what, || aws::obtain(&outside), SystemTime::now).await;
            }
            Self::Google { from, token } => {
                token.keep(what, || google::obtain(from, &outside), SystemTime::now).await;
            }
        }
    }

    /// What an attempt is proved with now. It waits only while there is none yet.
    ///
    /// # Errors
    ///
    /// Says why there is none.
    pub async fn proof(&self) -> Result<Proof<'_>, Arc<Error>> {
        Ok(match self {
            Self::Headers => Proof::None,
            Self::Aws { region, service, keys, .. } => {
                let scope = Scope { region, service, segments: Segments::Resolved };
                Proof::Signature(keys.get(SystemTime::now).await?, scope)
            }
            Self::Google { token, .. } => Proof::Token(token.get(SystemTime::now).await?),
        })
    }

    /// Why the last attempt to obtain one failed, if it did.
    pub fn trouble(&self) -> Option<Arc<Error>> {
        match self {
            Self::Headers => None,
            Self::Aws { keys, .. } => keys.trouble(),
            Self::Google { token, .. } => token.trouble(),
        }
    }
}

impl Proof<'_> {
    /// The headers that prove a `POST` of JSON, at that time.
    pub fn headers(&self, request: &Proved<'_>, time: SystemTime) -> Headers {
        let mut headers = Headers::new();
        let mut put = |name, text: &str| {
            if let Ok(mut value) = HeaderValue::from_str(text) {
                value.set_sensitive(true);
                headers.push((name, value));
            }
        };
        match self {
            Self::None => {}
            Self::Token(token) => {
                put(AUTHORIZATION, &Zeroizing::new(format!("Bearer {}", token.expose())));
            }
            Self::Signature(keys, scope) => {
                // A proxy on the way may add headers, so that no more is signed than has to be.
                let json = (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let signed = sigv4::Request {
                    method: "POST",
                    host: request.host,
                    path: request.path,
                    query: request.query,
                    headers: &HeaderMap::from_iter([json]),
                    payload: Payload::of(request.body.iter().map(|piece| &**piece)),
                };
                let signed = sigv4::sign(&signed, keys, scope, time);
                put(X_AMZ_DATE, &signed.date);
                if let Some(token) = &signed.token {
                    put(X_AMZ_SECURITY_TOKEN, token.expose());
                }
                put(AUTHORIZATION, &signed.authorization);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn of(proof: &Proof<'_>, body: &[Bytes]) -> Vec<(String, String)> {
        let request = Proved { host: "h", path: "/model/a%3A0/converse", query: "", body };
        let headers = proof.headers(&request, SystemTime::UNIX_EPOCH);
        assert!(headers.iter().all(|(_, value)| value.is_sensitive()));
        headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn a_token_is_a_bearer() {
        let token = Proof::Token(Arc::new(Secret::new("t")));
        assert_eq!(of(&token, &[]), [("authorization".to_owned(), "Bearer t".to_owned())]);
        assert!(of(&Proof::None, &[]).is_empty());
    }

    #[test]
    fn a_signature_is_over_the_body_whatever_its_pieces() {
        let keys =
            Credentials { id: "AKIA".into(), secret: Secret::new("s"), token: Some(Secret::new("session")) };
        let scope = Scope { region: "us-east-1", service: "bedrock", segments: Segments::Resolved };
        let proof = Proof::Signature(Arc::new(keys), scope);
        let whole = of(&proof, &[Bytes::from_static(b"{\"a\":1}")]);
        assert_eq!(of(&proof, &[Bytes::from_static(b"{\"a\""), Bytes::from_static(b":1}")]), whole);
        assert_ne!(of(&proof, &[Bytes::from_static(b"{}")]), whole);
        let names: Vec<&str> = whole.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-amz-date", "x-amz-security-token", "authorization"]);
        assert!(
            whole[2].1.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token"),
            "{}",
            whole[2].1
        );
    }
}
