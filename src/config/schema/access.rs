//! Who may call, and what for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::{ModelQuotas, Quota};
use super::traffic::{Priority, Regions};
use crate::config::value::{KeyHash, Moment, Pattern, Period, SecretRef, Size, Timer, Url};

/// What is permitted. A key, its team and its organisation each have their say: what one of them does not permit, the
/// others cannot.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Grants {
    /// The aliases that may be used, as clients send them. Left out: all.
    pub models: Vec<Pattern>,
    /// The routes that may be taken, by name. Left out: all.
    pub routes: Option<Vec<Pattern>>,
    /// What may be asked. Left out: everything, but `raw` only where `models`, `tools` and `max_output_tokens` bound nothing: in
    /// what a raw route carries nobody looks for them. A list of models may always be asked for, and holds only those that may be
    /// used; tokens may be counted for whatever may be asked.
    pub endpoints: Option<Vec<Callable>>,
    /// Whether requests may bring tools. If false, one that does is refused with 403.
    pub tools: bool,
    /// The largest request body, beside the route's own bound.
    pub max_body: Option<Size>,
    /// The most tokens of an answer. A request that asks for more is refused with 400, one that does not say is sent with
    /// this.
    #[schemars(range(min = 1))]
    pub max_output_tokens: Option<u32>,
    /// Where requests may go: data residency. It goes before every other choice, beside the route's.
    pub regions: Regions,
    /// How important requests are where not all can go at once. Left out: as the team says, then the organisation, then the
    /// route.
    pub priority: Option<Priority>,
    /// Whether requests may go to a deployment of a higher priority number because of load.
    pub spill: bool,
    /// How much may be used: of a team or an organisation, by all its members together. What a key leaves out is as
    /// `limits.principal` says.
    pub limits: Quota,
    /// How much of such models alone, besides, by the name that clients send; a name may hold one `*`.
    pub model_limits: ModelQuotas,
    /// Whether one is told, where a request has the header `x-forebay-explain`, where it went and why, in a header of the
    /// same name. It has to be permitted somewhere, and forbidden nowhere.
    pub explain: Option<bool>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            models: vec![Pattern("*".to_owned())],
            routes: None,
            endpoints: None,
            tools: true,
            max_body: None,
            max_output_tokens: None,
            regions: Regions::default(),
            priority: None,
            spill: true,
            limits: Quota::default(),
            model_limits: ModelQuotas::new(),
            explain: None,
        }
    }
}

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Callable {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
    /// `/v1beta/models/{model}:generateContent`
    GenerateContent,
    /// `/model/{model}/converse`
    Converse,
    /// `/v1/rerank`
    Rerank,
    /// Whatever raw routes carry.
    Raw,
}

/// A principal with its virtual keys, which it sends as `authorization: Bearer KEY`, `x-api-key: KEY`, or as the SDK of any
/// other dialect does.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Key {
    /// The key: `env:NAME` or `file:PATH`. It may be written out, with a warning.
    pub key: Option<SecretRef>,
    /// The hash of the key instead, as `forebay key new` prints it: then the key itself is nowhere but with its owner.
    pub hash: Option<KeyHash>,
    /// From when on the key is not taken any more. Left out: never.
    pub expires: Option<Moment>,
    /// Other keys of the same principal, such as the one before, which its owner has not replaced everywhere yet.
    pub previous: Vec<Previous>,
    /// If false, none of its keys is taken.
    #[serde(default = "super::traffic::yes")]
    pub enabled: bool,
    /// Its team, one of `teams`.
    pub team: Option<String>,
    /// Words to sort principals by.
    pub tags: Vec<String>,
    /// What else is to be kept with it, such as whom to ask. It shows on the admin listener.
    pub metadata: BTreeMap<String, String>,
    /// What it is permitted.
    #[serde(flatten)]
    pub grants: Grants,
}

/// Another key of a principal.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Previous {
    /// The key, as above.
    pub key: Option<SecretRef>,
    /// Its hash instead.
    pub hash: Option<KeyHash>,
    /// From when on it is not taken any more. Left out: never.
    pub expires: Option<Moment>,
}

/// A file with nothing but keys: that of `access.keys_file`, and the store's.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysFile {
    /// Virtual keys by the name of their principal. It has to be there, even if it is empty: a file without it may have been
    /// cut short.
    pub keys: BTreeMap<String, Key>,
}

/// A team, or an organisation: what it does not permit, none of its members may do.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Group {
    /// The organisation that a team is part of, one of `organisations`. An organisation has none.
    pub organisation: Option<String>,
    /// What is permitted to its members.
    #[serde(flatten)]
    pub grants: Grants,
}

/// Who may call, beside `keys`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// A file with more `keys`, in the same form. It is looked at every second; one that cannot be read changes nothing. A
    /// relative path starts at the configuration file.
    pub keys_file: Option<String>,
    /// Identity providers whose signed tokens (JWT) are taken, by the name that stands before the bearer's in logs.
    pub jwt: BTreeMap<String, Issuer>,
    /// Whose the certificates are that clients show to a listener with `client_ca`. The first that fits counts.
    pub certificates: Vec<CertificateRule>,
    /// What stops whoever guesses keys.
    pub guessing: Guessing,
}

/// An identity provider.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What its tokens say in `iss`, to the letter.
    pub issuer: String,
    /// What its tokens must say in `aud`: one of these.
    #[schemars(length(min = 1))]
    pub audiences: Vec<String>,
    /// Where its public keys are (JWKS). Left out: where its `.well-known/openid-configuration` says.
    pub jwks: Option<Url>,
    /// How its tokens may be signed. Left out: in any of these ways; a key is used only for what it is made for.
    pub algorithms: Option<Vec<Algorithm>>,
    /// Scopes that a token must have, all of them.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The claim that says who the bearer is: its name, or a JSON pointer such as `/user/id`.
    #[serde(default = "Issuer::sub")]
    pub name_claim: String,
    /// The claim that names their team: the first that is one of `teams` counts. Left out: none does.
    pub team_claim: Option<String>,
    /// The claim that names their organisation, one of `organisations`. Left out: none does.
    pub organisation_claim: Option<String>,
    /// The claim that lists the models they may use, as patterns. A token without it may use what its team may.
    pub models_claim: Option<String>,
    /// The team of bearers whose token names none. Left out: they are refused if a claim for it is set, and in no team else.
    pub team: Option<String>,
    /// How far its clock may be off.
    #[serde(default = "Issuer::minute")]
    pub skew: Period,
    /// How often its keys are fetched.
    #[serde(default = "Issuer::quarter")]
    pub refresh: Period,
    /// The least time between two fetches. A token with an unknown key asks for one; more often than this nobody can.
    #[serde(default = "Issuer::ten_seconds")]
    pub min_refresh: Period,
}

impl Issuer {
    fn sub() -> String {
        "sub".to_owned()
    }

    fn minute() -> Period {
        Period::seconds(60)
    }

    fn quarter() -> Period {
        Period::seconds(15 * 60)
    }

    fn ten_seconds() -> Period {
        Period::seconds(10)
    }
}

/// How a token may be signed. None of these has a secret that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Algorithm {
    /// RSA with PKCS #1 padding and SHA-256.
    RS256,
    /// The same with SHA-384.
    RS384,
    /// The same with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// The same with SHA-384.
    PS384,
    /// The same with SHA-512.
    PS512,
    /// ECDSA on P-256.
    ES256,
    /// ECDSA on P-384.
    ES384,
    /// ECDSA on P-521.
    ES512,
    /// Ed25519.
    EdDSA,
}

/// Whose a certificate is. All names that are written must be in it; at least one must be written.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRule {
    /// The principal's name.
    pub principal: String,
    /// The common name of the subject.
    pub common_name: Option<Pattern>,
    /// The organisation of the subject.
    pub organization: Option<Pattern>,
    /// A host among the alternative names.
    pub dns: Option<Pattern>,
    /// A URI among them, such as `spiffe://acme/ns/search/*`.
    pub uri: Option<Pattern>,
    /// An e-mail address among them.
    pub email: Option<Pattern>,
    /// Its team, one of `teams`, which says what it is permitted.
    pub team: Option<String>,
}

/// What stops whoever guesses keys. An address is one of IPv4, or a /64 of IPv6.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guessing {
    /// How many wrong keys may come from one address before it is refused with 429. Keys that were good there before stay
    /// good.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// In how long, and until when it is refused; `off` to refuse nobody.
    pub window: Timer,
}

impl Default for Guessing {
    fn default() -> Self {
        Self { failures: 30, window: Timer::Every(Period::seconds(60)) }
    }
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Whoever shows none is asked for a key.
    Optional,
    /// Whoever shows none gets no connection.
    #[default]
    Required,
}
