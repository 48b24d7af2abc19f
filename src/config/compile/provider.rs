//! Providers: those that are shipped, and those that the configuration brings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::Check;
use super::cluster::operations;
use crate::config::diagnostic::{Path, nearest};
use crate::config::schema::{self, Capabilities, Config, MaxTokensName, StructuredOutput, Thinking};
use crate::config::value::ProviderName;
use crate::dialect::ir::target::{Knob, LimitName, Sampling, Structured, Taken};
use crate::pattern::Pattern;
use crate::provider::facts::Override;
use crate::provider::{Address, Auth, FreeProbe, PROVIDERS, Provider, find};

/// The providers that a configuration may name.
pub(super) struct Known(BTreeMap<String, Arc<Provider>>);

/// What an own provider is like that says nothing of it.
const USUAL: &str = "compatible";

impl Known {
    /// The shipped ones, and the configuration's own in the place of any of the same name.
    pub(super) fn new(config: &Config, check: &mut Check<'_>) -> Self {
        let shipped = PROVIDERS.iter().map(|provider| (provider.name.to_string(), Arc::clone(provider)));
        let mut known = Self(shipped.collect());
        let root = Path::root().key("providers");
        for (name, own) in &config.providers {
            let path = root.key(name);
            if let Err(wrong) = name.parse::<ProviderName>() {
                check.error(&path, wrong.message, wrong.help);
            }
            if let Some(provider) = compile(name, own, &path, check) {
                known.0.insert(name.clone(), Arc::new(provider));
            }
        }
        known
    }

    /// The provider of that name, which stands at `path`.
    pub(super) fn find(
        &self,
        name: &ProviderName,
        path: &Path,
        check: &mut Check<'_>,
    ) -> Option<Arc<Provider>> {
        let found = self.0.get(&name.0);
        if found.is_none() {
            unknown(&name.0, self.0.keys().map(String::as_str), path, check);
        }
        found.cloned()
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone, path: &Path, check: &mut Check<'_>) {
    let help = match nearest(name, known.clone()) {
        Some(near) => format!("write `{near}`"),
        None => format!(
            "write `compatible` for anything that speaks OpenAI's API, or one of {}",
            known.collect::<Vec<_>>().join(", ")
        ),
    };
    check.error(path, format!("unknown provider `{name}`"), help);
}

fn compile(name: &str, own: &schema::Provider, path: &Path, check: &mut Check<'_>) -> Option<Provider> {
    let like = match &own.like {
        Some(like) => like.0.as_str(),
        None if find(name).is_some() => name,
        None => USUAL,
    };
    let Some(kin) = find(like) else {
        unknown(like, PROVIDERS.iter().map(|row| &*row.name), &path.key("like"), check);
        return None;
    };
    let mut provider = Provider::clone(kin);
    provider.name = Cow::Owned(name.to_owned());
    if let Some(url) = &own.base_url {
        provider.address = Address::Fixed(Cow::Owned(format!("{}{}", url.0, url.0.prefix)));
    }
    if let Some(header) = &own.key_header {
        provider.auth = HeaderName::from_bytes(header.0.as_bytes()).map_or(Auth::Bearer, Auth::Header);
    }
    if let Some(speaks) = &own.speaks {
        provider.speaks = Cow::Owned(operations(speaks, &path.key("speaks"), check));
    }
    if let Some(probe) = &own.health_path {
        if !probe.starts_with('/') {
            check.error(&path.key("health_path"), "not a path", "write a path that begins with `/`");
        }
        provider.probe = FreeProbe::Get(Cow::Owned(probe.clone()));
    }
    provider.headers.extend(headers(own, &path.key("headers"), check));
    let models = path.key("models");
    provider.models =
        own.models.iter().enumerate().map(|(i, row)| row_of(row, &models.index(i), check)).collect();
    Some(provider)
}

fn headers(own: &schema::Provider, path: &Path, check: &mut Check<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in &own.headers {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => check.error(&path.key(name), "not a header", "write visible ASCII characters"),
        }
    }
    headers
}

fn row_of(row: &Capabilities, path: &Path, check: &mut Check<'_>) -> Override {
    let taken = |said: Option<bool>| said.map(|yes| if yes { Taken::Yes } else { Taken::No });
    if row.sampling == Some(false) && row.max_temperature.is_some() {
        let help = "remove one of the two";
        check.error(&path.key("max_temperature"), "no temperature is taken without sampling", help);
    }
    let sampling = match (row.sampling, row.max_temperature) {
        (Some(false), _) => Some(Sampling::Refused),
        (_, Some(most)) => Some(Sampling::UpTo(most)),
        (Some(true), None) => Some(Sampling::Taken),
        (None, None) => None,
    };
    Override {
        models: row.names.iter().filter_map(|name| Pattern::parse(&name.0)).collect(),
        limit_name: row.max_tokens_name.map(|name| match name {
            MaxTokensName::MaxTokens => LimitName::MaxTokens,
            MaxTokensName::MaxCompletionTokens => LimitName::MaxCompletionTokens,
        }),
        default_limit: row.default_max_tokens,
        most_output: row.most_max_tokens,
        sampling,
        most_stops: row.most_stops.map(|most| most as usize),
        structured: row.structured_output.map(|how| match how {
            StructuredOutput::Schema => Structured::Schema,
            StructuredOutput::Tool => Structured::Tool,
            StructuredOutput::None => Structured::No,
        }),
        thinking: row.thinking.map(|how| match how {
            Thinking::Effort => Knob::Effort,
            Thinking::Budget => Knob::Budget,
            Thinking::None => Knob::None,
        }),
        images: taken(row.images),
        image_urls: taken(row.image_urls),
        documents: taken(row.documents),
        audio: taken(row.audio),
        cache_marks: taken(row.cache_marks),
        forced_tools: taken(row.forced_tools),
        top_k: taken(row.top_k),
    }
}
