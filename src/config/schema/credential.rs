//! Keys of providers, and where they are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fleet::one;
use super::limits::Quota;
use crate::config::value::{Period, SecretRef, Url};

/// One of a cluster's keys.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderKey {
    /// Its name in logs, metrics and marks of ids. It must say nothing of the key.
    pub name: String,
    /// The key: `env:NAME`, `file:PATH` or `vault:MOUNT/PATH#FIELD`. A file is looked at each second, a Vault as often as
    /// `vault.refresh` says; a variable is read when the process starts.
    pub key: SecretRef,
    /// Its share of the requests, against the weights of the others: twice the limits get 2. 0 takes it out of service.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
    /// How much of it may be used: what its account allows. What is reached goes to another key.
    #[serde(default)]
    pub limits: Quota,
    /// How old it may get before it should be replaced; then there is a line in the log each day, and a metric. Its age
    /// counts from the file's time, from when its version in Vault was made, or from the start of the process. Left out:
    /// any age.
    pub rotate_every: Option<Period>,
}

/// A HashiCorp Vault, or OpenBao: the second version of its key-value engine. Give at least one of `token`, `kubernetes`
/// and `app_role`; the first of them, in this order, that gives a token is used.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Where it is.
    pub address: Url,
    /// A token, which is renewed ahead of its end: `env:NAME`, or `file:PATH`, which is read again when it is refused.
    pub token: Option<SecretRef>,
    /// Log in with the account of a Kubernetes pod.
    pub kubernetes: Option<VaultKubernetes>,
    /// Log in with an AppRole.
    pub app_role: Option<VaultAppRole>,
    /// The namespace.
    pub namespace: Option<String>,
    /// A PEM file of the authorities that are trusted instead of the system's. A relative path starts at the configuration
    /// file.
    pub ca: Option<String>,
    /// How often each key is read again.
    #[serde(default = "Vault::refresh")]
    pub refresh: Period,
    /// How long an answer may take.
    #[serde(default = "Vault::timeout")]
    pub timeout: Period,
}

impl Vault {
    fn refresh() -> Period {
        Period::seconds(60)
    }

    fn timeout() -> Period {
        Period::seconds(5)
    }
}

/// Vault's Kubernetes method.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultKubernetes {
    /// The role in Vault.
    pub role: String,
    /// Where the method is mounted.
    #[serde(default = "VaultKubernetes::mount")]
    pub mount: String,
    /// The file with the account's token.
    #[serde(default = "VaultKubernetes::token_file")]
    pub token_file: String,
}

impl VaultKubernetes {
    fn mount() -> String {
        "kubernetes".to_owned()
    }

    fn token_file() -> String {
        "/var/run/secrets/kubernetes.io/serviceaccount/token".to_owned()
    }
}

/// Vault's AppRole method.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultAppRole {
    /// The role's id, which is no secret.
    pub role_id: String,
    /// Its secret: `env:NAME` or `file:PATH`.
    pub secret_id: SecretRef,
    /// Where the method is mounted.
    #[serde(default = "VaultAppRole::mount")]
    pub mount: String,
}

impl VaultAppRole {
    fn mount() -> String {
        "approle".to_owned()
    }
}
