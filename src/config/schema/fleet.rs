//! Clusters and their endpoints: where requests can go.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Clocks, Quota};
use crate::config::value::{Period, ProviderName, SecretRef, Url};

/// An upstream: a cloud API, or endpoints that share a balancing and health policy.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Who runs the API: `openai`, `anthropic`, `vllm`, any other that Forebay knows, or one of `providers`. It decides the base URL, paths,
    /// authentication, dialects, defaults below, and what a health check asks.
    pub provider: ProviderName,
    /// The provider's key: `env:NAME` or `file:PATH`. Clouds need one; engines take one if they were started with it.
    /// Left out at Amazon, requests are signed with AWS credentials; at Vertex AI, a service account gets the token.
    pub api_key: Option<SecretRef>,
    /// Where credentials come from that take the place of `api_key`, if not from where the cloud's own SDKs look.
    #[serde(default)]
    pub credentials: Credentials,
    /// Where it is, such as `eu-west-1`: what `regions` of routes and keys go by. At Amazon the address and the signature
    /// follow from it, and AWS_REGION says it where it is left out; at Vertex AI the address does, and it may be `global`.
    pub region: Option<String>,
    /// The project, of Vertex AI.
    pub project: Option<String>,
    /// Ask Amazon's endpoints that are validated for FIPS 140.
    #[serde(default)]
    pub fips: bool,
    /// The version of Azure's dated API, such as `2024-10-21`, in which models are deployments in the path. Left out at
    /// `azure`: its v1 API, which has none.
    pub api_version: Option<String>,
    /// Where the API is, if not where the provider usually is. For one address; for several use `endpoints`.
    pub base_url: Option<Url>,
    /// The addresses of the nodes, instead of `base_url`.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Find endpoints while running, besides or instead of `endpoints`.
    pub discover: Option<Discover>,
    /// Which endpoint the next attempt goes to.
    #[serde(default)]
    pub balance: Balance,
    /// The HTTP version spoken to the endpoints. Left out: `auto` for clouds, `1.1` for engines, most of which speak nothing else.
    pub http: Option<HttpVersion>,
    /// TLS to endpoints whose URL is https.
    #[serde(default)]
    pub tls: ClusterTls,
    /// Connections kept for reuse.
    #[serde(default)]
    pub pool: Pool,
    /// Active checks: what is asked of each endpoint, and how often.
    #[serde(default)]
    pub health: Health,
    /// Passive checks: endpoints that fail real requests, and a key that is refused, are left alone for a while.
    #[serde(default)]
    pub breaker: Breaker,
    /// How many requests may be under way at once, and how many wait for the rest. Left out: as many as come.
    pub admission: Option<Admission>,
    /// How much of it may be used, whoever asks: what its account allows. What is reached is passed over, as where its own
    /// API refuses.
    #[serde(default)]
    pub limits: Quota,
    /// When requests go to deployments of a higher priority number although this cluster could be asked, and when they come
    /// back. Left out: only when it cannot.
    pub spill: Option<Spill>,
    /// Ask a second endpoint while the first is slow to begin, and stay with whichever begins first: the slowest few
    /// replies become quicker, for a few requests more. Left out: never.
    pub hedge: Option<Hedge>,
    /// What the API can be asked, if not all of what its provider usually can; the best first. A client that asks for
    /// anything else is served by translation, where there is one.
    pub speaks: Option<Vec<Speaks>>,
    /// Ask for a stream where a client asks for a whole reply, and put it together here. A client that leaves is then
    /// noticed by engines that notice it only on streams, and the clocks of a stream hold. Members of a reply that no
    /// dialect knows are lost. Left out: true for llama.cpp.
    pub fold: Option<bool>,
    /// Go on with a stream whose endpoint dies in the midst of it: another endpoint, of this cluster or of another that
    /// continues and has the same model, is asked the same with what the client has as the beginning of the answer. The
    /// client sees one stream, and one usage. For vLLM, SGLang and llama.cpp, whose chat is asked whatever the client
    /// speaks; a stream that calls a tool, thinks in sight, tells likelihoods or keeps a shape ends with an error as
    /// ever. Members of a stream's events that no dialect knows are lost.
    #[serde(default)]
    pub continuation: bool,
    /// Headers added to every request to this cluster. A value may be `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretRef>,
    /// How long anything may take at this cluster.
    #[serde(default)]
    pub clocks: Clocks,
}

/// Second attempts beside slow ones: at another endpoint that is well or, without one, at another deployment of the same
/// priority. Only before a reply has begun; the slower attempt is cancelled at once, though its provider may bill it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hedge {
    /// An attempt is slow that takes longer than this share, in percent, of those of late of its deployment: of streams
    /// up to their first content, of others up to their whole reply. Nothing is slow until 50 are known. Left out: 95.
    #[schemars(range(min = 50, max = 99.9))]
    pub percentile: Option<f64>,
    /// No attempt is slow before, whatever the percentile. Left out: 50ms.
    pub min_delay: Option<Period>,
    /// A fixed time after which an attempt is slow, instead of `percentile`.
    pub delay: Option<Period>,
    /// How many second attempts are made at most, as a share of all attempts; besides, ten are always saved for a quiet
    /// hour.
    #[schemars(range(min = 0.001, max = 1))]
    pub budget: f64,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { percentile: None, min_delay: None, delay: None, budget: 0.05 }
    }
}

/// Where a cloud's credentials come from.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Credentials {
    /// The profile of AWS's files. Left out: the environment, AWS_PROFILE, a web identity, the container's service, or
    /// the instance's, whichever is there first.
    pub profile: Option<String>,
    /// The key file of a Google service account. Left out: GOOGLE_APPLICATION_CREDENTIALS, gcloud's own file, or the
    /// machine's metadata server. A relative path starts at the configuration file.
    pub file: Option<String>,
}

/// Something that an API can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Speaks {
    /// OpenAI chat completions.
    ChatCompletions,
    /// OpenAI completions, the old API.
    Completions,
    /// OpenAI embeddings.
    Embeddings,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Anthropic's count of tokens.
    CountTokens,
    /// Gemini `generateContent`.
    GenerateContent,
    /// Gemini's count of tokens.
    GeminiCount,
    /// Bedrock Converse.
    Converse,
    /// Cohere's own chat.
    CohereChat,
    /// Ollama's own chat.
    OllamaChat,
    /// Rerank.
    Rerank,
    /// Cohere's own embeddings.
    CohereEmbed,
    /// Gemini's own embeddings.
    GeminiEmbed,
    /// Vertex AI's own embeddings.
    VertexEmbed,
    /// Ollama's own embeddings.
    OllamaEmbed,
}

/// A node: its URL alone, or with a weight and a priority.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Endpoint {
    /// Its URL, with weight 1 and priority 0.
    Url(Url),
    /// Its URL and its share.
    Weighted(WeightedEndpoint),
}

/// A node and its share.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedEndpoint {
    /// Scheme, host and port; a path goes before every request's own.
    pub url: Url,
    /// Its share of the requests, against the weights of the others: the node with twice the GPUs gets 2. 0 takes it
    /// out of service.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
    /// Endpoints of a higher number are used only when none of a lower one is left. Heeded by `balance: priority`.
    #[serde(default)]
    #[schemars(range(max = 1000))]
    pub priority: u32,
}

pub(super) fn one() -> u32 {
    1
}

impl Endpoint {
    /// Its URL.
    pub fn url(&self) -> &Url {
        match self {
            Self::Url(url) => url,
            Self::Weighted(endpoint) => &endpoint.url,
        }
    }

    /// Its weight.
    pub fn weight(&self) -> u32 {
        match self {
            Self::Url(_) => 1,
            Self::Weighted(endpoint) => endpoint.weight,
        }
    }

    /// Its priority.
    pub fn priority(&self) -> u32 {
        match self {
            Self::Url(_) => 0,
            Self::Weighted(endpoint) => endpoint.priority,
        }
    }
}

/// How endpoints are found while running.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Discover {
    /// Make every address that a host name in `endpoints` resolves to an endpoint of its own: for a headless service,
    /// or a name with many records.
    pub dns: bool,
    /// A file with one endpoint a line, instead of `endpoints`: `URL [weight=N] [priority=N]`; `#` begins a comment.
    /// Whoever writes it should replace it whole (write another and rename it). A relative path starts at the
    /// configuration file.
    pub file: Option<String>,
    /// How often the file is looked at. Names are resolved as often as their records say.
    pub refresh: Period,
}

impl Default for Discover {
    fn default() -> Self {
        Self { dns: false, file: None, refresh: Period::seconds(30) }
    }
}

/// Which endpoint the next attempt goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The one with the fewest exchanges in flight for its weight. Right for almost everything: LLM exchanges differ
    /// in length a thousandfold.
    #[default]
    LeastConnections,
    /// Each in turn, by weight.
    RoundRobin,
    /// The first by priority that works.
    Priority,
    /// The one that lately gave its first token soonest.
    Latency,
    /// Any, by weight.
    Random,
}

/// The HTTP version spoken to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HttpVersion {
    /// HTTP/1.1 alone.
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2 alone; without TLS, with prior knowledge.
    #[serde(rename = "2")]
    Http2,
    /// HTTP/2 where ALPN offers it, else HTTP/1.1.
    #[serde(rename = "auto")]
    Auto,
}

/// TLS to the endpoints.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterTls {
    /// A PEM file of the authorities that are trusted instead of the system's. A relative path starts at the
    /// configuration file.
    pub ca: Option<String>,
    /// The name that is sent as SNI and that the certificate must have. Left out: the host of the URL.
    pub server_name: Option<String>,
    /// Check the certificate. Turning it off lets anyone on the way read keys and prompts.
    pub verify: bool,
}

impl Default for ClusterTls {
    fn default() -> Self {
        Self { ca: None, server_name: None, verify: true }
    }
}

/// Connections kept for reuse.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// How many idle connections are kept to each endpoint; where HTTP/2 may be spoken, to all of them together.
    #[schemars(range(max = 65536))]
    pub size: u32,
    /// How long an idle connection is kept. It must be less than the endpoint keeps it. Left out: 55s for clouds, 4s
    /// for most engines, which close theirs after 5s, and 3s for llama.cpp, which holds a thread for each.
    pub idle: Option<Period>,
}

impl Default for Pool {
    fn default() -> Self {
        Self { size: 128, idle: None }
    }
}

/// Active checks of each endpoint. No check costs money unless its path is set to one that does.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// What is checked. Left out: `http` for engines, `tls` for clouds.
    pub check: Option<Check>,
    /// The path that `http` asks for, from the root of the host. Left out: the provider's free one, such as `/health`.
    pub path: Option<String>,
    /// The method that `http` asks with.
    pub method: String,
    /// Headers that `http` sends besides those of the cluster, its authentication among them.
    pub headers: BTreeMap<String, SecretRef>,
    /// The statuses that pass.
    #[schemars(length(min = 1), inner(range(min = 100, max = 599)))]
    pub status: Vec<u16>,
    /// Text that the reply's first 64 KiB must hold.
    pub body: Option<String>,
    /// How often each endpoint is checked.
    pub interval: Period,
    /// By what share of the interval each check is moved at random, so that the checks of a fleet do not fall together.
    #[schemars(range(min = 0, max = 1))]
    pub jitter: f64,
    /// How long a check may take.
    pub timeout: Period,
    /// How many checks in a row must pass before an unhealthy endpoint is used again.
    #[schemars(range(min = 1, max = 100))]
    pub rise: u32,
    /// How many checks in a row must fail before an endpoint is no longer used.
    #[schemars(range(min = 1, max = 100))]
    pub fall: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: None,
            path: None,
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            status: vec![200],
            body: None,
            interval: Period::seconds(10),
            jitter: 0.1,
            timeout: Period::seconds(2),
            rise: 2,
            fall: 3,
        }
    }
}

/// What an active check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Nothing; the breaker alone decides.
    None,
    /// Connect.
    Tcp,
    /// Connect, and shake hands where the URL is https.
    Tls,
    /// Ask for a path and look at the reply.
    Http,
}

/// How many requests a cluster takes at once. The rest waits in front of it: the more important first (`priority` of keys
/// and routes), among those each caller in turn. Raw routes are not counted.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// How many may be under way at once: a number, or `adaptive`.
    pub limit: AdmissionLimit,
    /// How many may wait. Where all places are taken, one that comes takes that of the least important.
    #[serde(default = "Admission::queue")]
    #[schemars(range(max = 100_000))]
    pub queue: u32,
    /// How long each may wait. What cannot be its turn in that time, as far as is known, is refused at once.
    #[serde(default = "Admission::timeout")]
    pub timeout: Period,
}

impl Admission {
    fn queue() -> u32 {
        128
    }

    fn timeout() -> Period {
        Period::seconds(30)
    }
}

/// How many requests may be under way at once.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AdmissionLimit {
    /// So many.
    Fixed(#[schemars(range(min = 1, max = 1_000_000))] u32),
    /// As many as leave the time to first token short.
    Adaptive(AdaptiveLimit),
}

/// A limit that follows the time to first token of streams.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveLimit {
    /// No less than this; what it begins with. Write what the nodes serve together without getting slower.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min: u32,
    /// No more than this.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: u32,
    /// How many times longer than in a quiet cluster the first token may take.
    #[serde(default = "AdaptiveLimit::tolerance")]
    #[schemars(range(min = 1.1, max = 100.0))]
    pub tolerance: f64,
}

impl AdaptiveLimit {
    fn tolerance() -> f64 {
        2.0
    }
}

/// When requests go elsewhere. Each sign that is left out sends none away; all of them do only where a route and a key
/// allow it, and where there is a deployment of a higher priority number that can take them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Spill {
    /// From this expected wait for a place on, what finds no free one goes elsewhere. Needs `admission`.
    pub wait: Option<Period>,
    /// From this average time to first token on, everything does.
    pub first_token: Option<Period>,
    /// From this share of failures on.
    #[schemars(range(min = 0.01, max = 1))]
    pub error_rate: Option<f64>,
    /// After so many failures in a row, whichever endpoints they are of.
    #[schemars(range(min = 1, max = 100_000))]
    pub failures: Option<u32>,
    /// From this share of endpoints on that are down or left alone.
    #[schemars(range(min = 0.01, max = 1))]
    pub sick: Option<f64>,
    /// Over what time averages and shares are taken. Fewer than ten requests say nothing.
    pub over: Period,
    /// For how long requests go elsewhere at least. A tenth of them tries the cluster then, before all are back.
    pub back: Period,
}

impl Default for Spill {
    fn default() -> Self {
        Self {
            wait: None,
            first_token: None,
            error_rate: None,
            failures: None,
            sick: None,
            over: Period::seconds(30),
            back: Period::seconds(30),
        }
    }
}

/// Passive checks, by real traffic. Only what the upstream is to blame for counts.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// After how many failures in a row an endpoint is left alone; 0 for never.
    #[schemars(range(max = 1000))]
    pub failures: u32,
    /// The share of failures among the requests of late after which it is too; 0 for never.
    #[schemars(range(min = 0, max = 1))]
    pub failure_rate: f64,
    /// How many requests must have ended of late for their share to count.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_outcomes: u32,
    /// How long "of late" is.
    pub window: Period,
    /// For how long it is left alone; twice as long with every relapse.
    #[serde(rename = "for")]
    pub period: Period,
    /// For how long at most. An endpoint that is well for so long starts again with `for`.
    pub max_for: Period,
    /// How many real requests may try it at once after that.
    #[schemars(range(min = 1, max = 1000))]
    pub tries: u16,
    /// How many of them must succeed until it is used as before; one failure leaves it alone again.
    #[schemars(range(min = 1, max = 1000))]
    pub successes: u16,
    /// Over what time its weight then grows from a tenth to the whole; `0s` gives it back at once.
    pub slow_start: Period,
    /// The largest share of the endpoints that may be left alone at once. A lone one never is.
    #[schemars(range(min = 0, max = 1))]
    pub max_share: f64,
    /// For how long the key is left alone that the provider refuses, or whose quota or money is used up. It is used
    /// nevertheless where a model has no other deployment.
    pub key_for: Period,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_rate: 0.5,
            min_outcomes: 20,
            window: Period::seconds(10),
            period: Period::seconds(60),
            max_for: Period::seconds(600),
            tries: 1,
            successes: 3,
            slow_start: Period::seconds(30),
            max_share: 0.5,
            key_for: Period::seconds(60),
        }
    }
}
