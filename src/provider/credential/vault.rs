//! Secrets in HashiCorp Vault, or OpenBao: the second version of its key-value engine, read over HTTP.
//!
//! A token is obtained by the first of the configured logins that gives one, and renewed ahead of its end. What Vault
//! answers is never shown: it holds secrets. Source: Vault's HTTP API, the pages on KV version 2, tokens, AppRole and
//! Kubernetes.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method};
use log::{info, warn};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::{Error, Outside, Request, json, needed};
use crate::moment::read_rfc3339;
use crate::secret::Secret;

const VAULT: &str = "Vault";
/// How long a token that Vault does not renew is used before it is asked again whether it does.
const FIXED: Duration = Duration::from_hours(1);
/// How long after a failed renewal there is another.
const AGAIN: Duration = Duration::from_secs(10);

/// A Vault.
#[derive(Debug)]
pub struct Vault {
    /// Its address, without a slash at the end.
    pub address: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// A PEM file of the authorities that are trusted instead of the system's.
    pub ca: Option<String>,
    /// The ways to a token, in their order.
    pub logins: Vec<Login>,
    /// How often a secret is read again.
    pub refresh: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// The token in use.
    pub token: Mutex<Option<Token>>,
}

/// A way to a token.
#[derive(Debug)]
pub enum Login {
    /// It is there.
    Token(Source),
    /// By the account of a pod.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role.
        role: String,
        /// The file with the account's token.
        file: PathBuf,
    },
    /// By an id and a secret.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The id.
        role_id: String,
        /// The secret.
        secret_id: Source,
    },
}

/// Where a secret for Vault is.
#[derive(Debug)]
pub enum Source {
    /// Here.
    Fixed(Secret),
    /// In a file that is read each time.
    File(PathBuf),
}

/// A token of Vault's.
pub struct Token {
    secret: HeaderValue,
    /// When it is to be renewed.
    due: SystemTime,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is in a Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The mount of the engine.
    pub mount: String,
    /// The path below it.
    pub path: String,
    /// The member of what is there.
    pub field: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.mount.contains('/') { "//" } else { "/" };
        write!(f, "{}{between}{}#{}", self.mount, self.path, self.field)
    }
}

impl Place {
    /// Reads `MOUNT/PATH#FIELD`; a mount that holds a slash ends with two.
    pub fn read(text: &str) -> Option<Self> {
        let (rest, field) = text.rsplit_once('#')?;
        let (mount, path) = rest.split_once("//").or_else(|| rest.split_once('/'))?;
        let plain = |text: &str| {
            let segment = |part: &str| !matches!(part, "" | "." | "..");
            text.split('/').all(segment)
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\\".contains(&byte))
        };
        let whole = plain(mount) && plain(path) && !field.is_empty();
        whole.then(|| Self { mount: mount.to_owned(), path: path.to_owned(), field: field.to_owned() })
    }
}

/// A secret that a Vault keeps.
#[derive(Debug)]
pub struct Kept {
    /// The secret.
    pub secret: Secret,
    /// When its version was made.
    pub created: Option<SystemTime>,
}

/// What `auth` says of a token.
#[derive(Deserialize)]
struct Auth {
    client_token: Option<String>,
    #[serde(default)]
    lease_duration: u64,
}

#[derive(Deserialize)]
struct Authenticated {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Versioned>,
}

#[derive(Deserialize)]
struct Versioned {
    data: Option<Map<String, Value>>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    created_time: Option<String>,
}

impl Vault {
    /// Reads a secret.
    ///
    /// # Errors
    /// Says why there is none, naming the place and never what is there.
    pub async fn read(&self, outside: &Outside, place: &Place) -> Result<Kept, Error> {
        let token = self.token(outside).await?;
        let first = self.get(outside, place, &token).await;
        let Err(Error::Refused { status: 403, .. }) = &first else { return first };
        // It may be the token that ended before its time.
        if !self.forget(&token).await {
            return first;
        }
        let token = self.token(outside).await?;
        self.get(outside, place, &token).await
    }

    /// How long after a good reading there should be another: as is configured, but not after the time at which the token is
    /// to be renewed.
    pub async fn pause(&self, now: SystemTime) -> Duration {
        let due = self.token.lock().await.as_ref().map(|token| token.due);
        let left = due.map(|due| due.duration_since(now).unwrap_or_default());
        left.map_or(self.refresh, |left| left.min(self.refresh))
    }

    async fn get(&self, outside: &Outside, place: &Place, token: &HeaderValue) -> Result<Kept, Error> {
        let path = format!("{}/data/{}", place.mount, place.path);
        let answered = outside.ask(VAULT, self.request(Method::GET, &path, Some(token), None), words).await;
        let text = answered.map_err(|error| match error {
            Error::Refused { status: 404, .. } => {
                let why =
                    "there is nothing; check the mount, the path, and that its latest version is not deleted";
                super::setting(format_args!("Vault's {place}"), why)
            }
            error => error,
        })?;
        let Answer { data } = json(VAULT, &text)?;
        let Some(Versioned { data: Some(mut data), metadata }) = data else {
            let why = "holds no data; is it the second version of the key-value engine?";
            return Err(Error::Malformed { whom: VAULT, why: why.into() });
        };
        let value = match data.remove(&place.field) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let why = || super::setting(format_args!("Vault's {place}"), "there is no such field with a text");
        let secret = needed(VAULT, &place.field, Some(value.ok_or_else(why)?))?;
        let created = metadata.and_then(|about| read_rfc3339(&about.created_time?));
        Ok(Kept { secret, created })
    }

    /// The token in use, renewed where that is due, or a new one.
    async fn token(&self, outside: &Outside) -> Result<HeaderValue, Error> {
        let mut held = self.token.lock().await;
        let now = (outside.now)();
        let renewed = match &*held {
            Some(token) if now < token.due => return Ok(token.secret.clone()),
            Some(token) => Some(self.renew(outside, token, now).await),
            None => None,
        };
        let token = match renewed {
            Some(Ok(token)) => token,
            // It is another token that is needed, if there is one.
            Some(Err(Error::Refused { status: ..500, .. })) | None => self.login(outside, now).await?,
            // Vault is not there: what is held may still be good when it is back.
            Some(Err(why)) => {
                if let Some(token) = &mut *held {
                    token.due = now + AGAIN;
                }
                return Err(why);
            }
        };
        let secret = token.secret.clone();
        *held = Some(token);
        Ok(secret)
    }

    /// Forgets a token that was refused. Says whether another may be obtained in its place.
    async fn forget(&self, token: &HeaderValue) -> bool {
        let mut held = self.token.lock().await;
        if held.as_ref().is_some_and(|held| held.secret == *token) {
            *held = None;
        }
        self.logins.iter().any(|login| !matches!(login, Login::Token(Source::Fixed(_))))
    }

    /// Obtains a token by the first login that gives one.
    async fn login(&self, outside: &Outside, now: SystemTime) -> Result<Token, Error> {
        let mut last = Error::Nowhere { looked: "a login of Vault" };
        for login in &self.logins {
            match self.login_by(outside, login, now).await {
                Ok(token) => return Ok(token),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn login_by(&self, outside: &Outside, login: &Login, now: SystemTime) -> Result<Token, Error> {
        let (mount, body) = match login {
            Login::Token(source) => {
                let secret = header(&source.get(outside)?)?;
                return self.first(outside, Token { secret, due: now + FIXED }, now).await;
            }
            Login::Kubernetes { mount, role, file } => {
                let jwt = outside.required(file)?;
                (mount, Secret::new(serde_json::json!({ "role": role, "jwt": jwt.expose() }).to_string()))
            }
            Login::AppRole { mount, role_id, secret_id } => {
                let secret = secret_id.get(outside)?;
                let body = serde_json::json!({ "role_id": role_id, "secret_id": secret.expose() });
                (mount, Secret::new(body.to_string()))
            }
        };
        let path = format!("auth/{mount}/login");
        let text = outside.ask(VAULT, self.request(Method::POST, &path, None, Some(body)), words).await?;
        let Authenticated { auth } = json(VAULT, &text)?;
        let auth = auth.unwrap_or(Auth { client_token: None, lease_duration: 0 });
        let secret = header(&needed(VAULT, "client_token", auth.client_token)?)?;
        info!("Vault: there is a token for {} s", auth.lease_duration);
        Ok(Token { secret, due: due(now, auth.lease_duration) })
    }

    /// Finds out how long a token lasts that was given: Vault says so where it renews it, and does not renew one that never
    /// ends.
    async fn first(&self, outside: &Outside, token: Token, now: SystemTime) -> Result<Token, Error> {
        match self.renew(outside, &token, now).await {
            Err(Error::Refused { status: status @ ..500, says, .. }) => {
                warn!(
                    "Vault: the token is not renewed ({status}: {says}); where it ends, it must be replaced"
                );
                Ok(token)
            }
            renewed => renewed,
        }
    }

    async fn renew(&self, outside: &Outside, token: &Token, now: SystemTime) -> Result<Token, Error> {
        let empty = Some(Secret::new("{}"));
        let request = self.request(Method::POST, "auth/token/renew-self", Some(&token.secret), empty);
        let text = outside.ask(VAULT, request, words).await?;
        let Authenticated { auth } = json(VAULT, &text)?;
        let lease = auth.map_or(0, |auth| auth.lease_duration);
        Ok(Token { secret: token.secret.clone(), due: due(now, lease) })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&HeaderValue>,
        body: Option<Secret>,
    ) -> Request {
        let mut request = Request::get(format!("{}/v1/{path}", self.address), self.timeout);
        request.method = method;
        request.headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(token) = token {
            request.headers.insert("x-vault-token", token.clone());
        }
        if let Some(namespace) = self.namespace.as_deref().and_then(|name| HeaderValue::from_str(name).ok()) {
            request.headers.insert("x-vault-namespace", namespace);
        }
        if let Some(body) = body {
            let json = HeaderValue::from_static("application/json");
            request.headers.insert(http::header::CONTENT_TYPE, json);
            request.body = body;
        }
        request
    }
}

impl Source {
    fn get(&self, outside: &Outside) -> Result<Secret, Error> {
        match self {
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::File(path) => outside.required(path),
        }
    }
}

/// When a token of that lease is to be renewed: with a third of it left. One without an end is looked at now and then.
fn due(now: SystemTime, seconds: u64) -> SystemTime {
    match seconds {
        0 => now + FIXED,
        seconds => now + Duration::from_secs(seconds.min(365 * 86_400)) * 2 / 3,
    }
}

fn header(token: &Secret) -> Result<HeaderValue, Error> {
    let value = HeaderValue::from_str(token.expose()).ok().filter(|_| !token.is_empty());
    let mut value = value.ok_or_else(|| super::setting("the token of Vault", "it is no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Vault's own words: a list of errors.
fn words(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    serde_json::from_str::<Errors>(body).ok().map(|said| said.errors.join("; "))
}

#[cfg(test)]
mod tests;
