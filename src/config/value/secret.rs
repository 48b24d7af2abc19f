//! Where a secret is, as it is written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::Wrong;
use crate::provider::credential::vault::Place;
use crate::secret::Secret;

/// Where a secret is: `env:NAME`, `file:PATH`, `vault:MOUNT/PATH#FIELD`, or (with a warning) written out.
#[derive(Clone, Debug)]
pub enum SecretRef {
    /// In this environment variable.
    Env(String),
    /// In this file: absolute, or else sought in systemd's credentials directory and then beside the configuration.
    File(PathBuf),
    /// In the Vault of `vault`: keys of clusters alone.
    Vault(Place),
    /// Here.
    Literal(Secret),
}

impl FromStr for SecretRef {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let help = "write `env:NAME` or `file:PATH`";
        match text.split_once(':') {
            Some(("env" | "file", "")) => Err(Wrong::new(format!("`{text}` names nothing"), help)),
            Some(("env", name)) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) => Ok(Self::File(PathBuf::from(path))),
            Some(("vault", place)) => match Place::read(place) {
                Some(place) => Ok(Self::Vault(place)),
                None => {
                    let help = "write `vault:MOUNT/PATH#FIELD`, such as `vault:secret/openai/main#key`; a mount that holds \
                                a slash ends with two";
                    Err(Wrong::new("not a place in a Vault", help))
                }
            },
            _ if text.trim().is_empty() => Err(Wrong::new("an empty secret", help)),
            _ => Ok(Self::Literal(Secret::new(text))),
        }
    }
}

impl fmt::Display for SecretRef {
    /// A secret that was written out shows as `***`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Vault(place) => write!(f, "vault:{place}"),
            Self::Literal(_) => f.write_str("***"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_vault_is_read_and_printed() {
        for (text, mount, path) in [
            ("vault:secret/openai/main#key", "secret", "openai/main"),
            ("vault:team/kv//openai#key", "team/kv", "openai"),
        ] {
            let read: SecretRef = text.parse().unwrap();
            let SecretRef::Vault(place) = &read else { panic!("{read:?}") };
            assert_eq!(
                (place.mount.as_str(), place.path.as_str(), place.field.as_str()),
                (mount, path, "key")
            );
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "vault:",
            "vault:a#b",
            "vault:a/b",
            "vault:a/b#",
            "vault:a/../b#c",
            "vault:a/b?c#d",
            "vault:/b#c",
        ] {
            assert!(text.parse::<SecretRef>().is_err(), "{text}");
        }
    }
}
