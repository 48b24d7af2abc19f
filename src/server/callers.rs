//! Keeps fresh who may call: the file of keys, and the public keys of identity providers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;

use crate::access::Access;
use crate::access::table::Origin;
use crate::access::token::Issuer;
use crate::meter::metrics::METRICS;
use crate::upstream::fetch::{Call, Fetcher};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long an identity provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// When one that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(10);
/// The most of its answer that is read, bytes.
const MOST: usize = 1 << 20;

/// Looks at the file of keys again and again. What cannot be used changes nothing: the last good one counts.
pub(super) async fn watch_keys(access: Arc<Access>, path: PathBuf) {
    let mut file = Watched::default();
    loop {
        let read = tokio::fs::read_to_string(&path).await.map_err(|error| error.to_string());
        let is_first = file.taken.is_none();
        if let Some(read) = file.settled(read) {
            match read.as_ref().map_err(Clone::clone).and_then(|text| access.read(text, Origin::File, &path))
            {
                Ok(keys) => {
                    if !is_first {
                        log::info!("{}: {} principals are in force", path.display(), keys.len());
                    }
                    for name in access.replace(Origin::File, keys) {
                        log::warn!(
                            "{}: `{name}` is passed over: its name or its key is another's",
                            path.display()
                        );
                    }
                    METRICS.access.file_broken.set(0);
                }
                Err(why) => {
                    log::error!("{} cannot be used, the keys before it count: {why}", path.display());
                    METRICS.access.file_broken.set(1);
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a file held, or why it could not be read.
type Look = Result<String, String>;

/// A file that others write.
#[derive(Debug, Default)]
struct Watched {
    /// What it held when that was last taken.
    taken: Option<Look>,
    /// What it held at the last look, if that is something else.
    other: Option<Look>,
}

impl Watched {
    /// What is to be taken now. The first look is taken at once; what is different later, only when it is the same at the
    /// next look: it may be half written, and half of the keys would be out of force.
    fn settled(&mut self, look: Look) -> Option<&Look> {
        if self.taken.as_ref() == Some(&look) {
            self.other = None;
        } else if self.taken.is_none() || self.other.as_ref() == Some(&look) {
            self.other = None;
            return Some(self.taken.insert(look));
        } else {
            self.other = Some(look);
        }
        None
    }
}

/// Fetches the public keys of an identity provider: at once, as often as is configured, and when a token names one that is
/// not known. Where it does not answer, those from before count.
pub(super) async fn keep_issuer(issuer: Arc<Issuer>) {
    let fetcher = Fetcher::new("jwks", |_| true);
    loop {
        let began = SystemTime::now();
        let done = match fetch(&fetcher, &issuer).await {
            Ok(document) => issuer.learn(&document),
            Err(why) => Err(why),
        };
        let name = &*issuer.spec.name;
        let (outcome, next) = match &done {
            Ok(count) => {
                log::debug!("{count} public keys of the issuer {name}");
                ("ok", issuer.spec.refresh)
            }
            Err(why) => {
                log::warn!("the public keys of the issuer {name} cannot be fetched: {why}");
                ("failed", AGAIN.max(issuer.spec.least))
            }
        };
        METRICS.access.fetches.with_label_values(&[name, outcome]).inc();
        issuer.note_fetch(began, done.is_ok());
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = wanted_again(&issuer, began) => {}
        }
    }
}

/// Waits until the keys are wanted by someone who has not seen the last fetch.
async fn wanted_again(issuer: &Issuer, began: SystemTime) {
    loop {
        issuer.wanted().await;
        if began.elapsed().is_ok_and(|gone| gone >= issuer.spec.least) {
            return;
        }
    }
}

/// What is read of a discovery document (OpenID Connect Discovery 1.0 §3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

async fn fetch(fetcher: &Fetcher, issuer: &Issuer) -> Result<Vec<u8>, String> {
    if let Some(url) = &issuer.spec.jwks {
        return get(fetcher, url.clone()).await;
    }
    let named = &issuer.spec.issuer;
    let url = format!("{}/.well-known/openid-configuration", named.trim_end_matches('/'));
    let document = get(fetcher, url).await?;
    let found: Discovery = serde_json::from_slice(&document)
        .map_err(|_| "its discovery document has no `issuer` and `jwks_uri`".to_owned())?;
    if found.issuer != *named {
        return Err("its discovery document is another issuer's".to_owned());
    }
    if named.starts_with("https://") && !found.jwks_uri.starts_with("https://") {
        return Err("its discovery document leads to keys without TLS".to_owned());
    }
    get(fetcher, found.jwks_uri).await
}

async fn get(fetcher: &Fetcher, url: String) -> Result<Vec<u8>, String> {
    let (method, headers, body) = (Method::GET, HeaderMap::new(), Bytes::new());
    let got = fetcher.call(Call { method, url, headers, body, limit: PATIENCE, most: MOST }).await?;
    if got.status == 200 { Ok(got.body) } else { Err(format!("it answered {}", got.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_when_it_is_seen_twice() {
        let mut file = Watched::default();
        let mut taken = |text: &str| file.settled(Ok(text.to_owned())).is_some();
        assert!(taken("old"), "the first is taken at once");
        assert!(!taken("old") && !taken("ne"), "it may be half written");
        assert!(!taken("new") && taken("new"));
        assert!(!taken("new"));
        assert!(!taken("ne") && !taken("new") && !taken("ne"), "what goes away again changes nothing");
        assert!(taken("ne"));
        assert!(file.settled(Err("gone".to_owned())).is_none());
    }
}
