//! Prices and the ledger.

use std::path::Path as FilePath;
use std::sync::Arc;

use super::{Check, list, plain};
use crate::config::diagnostic::{Path, nearest};
use crate::config::schema::{Config, LedgerSync, LongPrompt, PriceRow};
use crate::config::value::Dollars;
use crate::meter::ledger::{Http, Spec, Sync};
use crate::meter::price::{Over, Price, Prices, Row, Tier, shipped};
use crate::pattern::Pattern;
use crate::provider::PROVIDERS;

/// A price, whose it is, and of which models.
type Priced = (String, Pattern, Arc<Price>);

/// Every price; nothing and diagnostics where one cannot be read.
pub(super) fn prices(config: &Config, check: &mut Check<'_>) -> Option<Prices> {
    let root = Path::root().key("prices");
    let mut rows: Vec<Priced> = Vec::new();
    for (i, row) in config.prices.rows.iter().enumerate() {
        rows.extend(inline(row, &root.key("rows").index(i), config, check));
    }
    if let Some(file) = &config.prices.file {
        rows.extend(from_file(file, &root.key("file"), check)?);
    }
    let book = if config.prices.shipped { shipped() } else { Arc::default() };
    Some(Prices::new(rows, book))
}

fn inline(row: &PriceRow, path: &Path, config: &Config, check: &mut Check<'_>) -> Option<Priced> {
    let seller = match (&row.cluster, &row.provider) {
        (Some(cluster), None) => {
            check.known_cluster(&path.key("cluster"), cluster, config);
            cluster.clone()
        }
        (None, Some(provider)) => {
            known_provider(provider, &path.key("provider"), config, check);
            provider.clone()
        }
        (Some(_), Some(_)) => {
            let help = "leave `provider` out: the cluster has one";
            check.error(&path.key("provider"), "a price is for a cluster or for a provider", help);
            return None;
        }
        (None, None) => {
            let help = "add `cluster: NAME` or `provider: NAME`";
            check.error(path, "nobody has this price", help);
            return None;
        }
    };
    let table = Row {
        providers: Vec::new(),
        models: Vec::new(),
        tier: tier(row),
        over: row.over.as_ref().map(|over| Over { tokens: over.tokens, tier: long(over) }),
        request: text(row.request.as_ref()),
        search: text(row.search.as_ref()),
    };
    let is_empty = table.tier.is_empty() && table.request.is_none() && table.search.is_none();
    if is_empty {
        let help = "add `input` and `output`; write 0 for what costs nothing";
        check.error(path, "it says no price", help);
    }
    match table.price() {
        Ok(price) => Some((seller, Pattern::parse(&row.model.0)?, Arc::new(price))),
        Err(key) => {
            let help = "write dollars for a million tokens, to six places at most";
            check.error(&path.key(key), "finer than a price can be", help);
            None
        }
    }
}

fn known_provider(name: &str, path: &Path, config: &Config, check: &mut Check<'_>) {
    let shipped = || PROVIDERS.iter().map(|provider| &*provider.name);
    if config.providers.contains_key(name) || shipped().any(|known| known == name) {
        return;
    }
    let help = match nearest(name, shipped().chain(config.providers.keys().map(String::as_str))) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            format!("write the name of a provider; of your own there are: {}", list(config.providers.keys()))
        }
    };
    check.error(path, format!("there is no provider `{name}`"), help);
}

fn from_file(file: &str, path: &Path, check: &mut Check<'_>) -> Option<Vec<Priced>> {
    let name = check.file(file);
    let read = std::fs::read_to_string(&name).map_err(|error| plain(&error));
    let rows = match read.and_then(|text| crate::meter::price::Book::rows(&text)) {
        Ok(rows) => rows,
        Err(why) => {
            let help = "write it in the form of the shipped table, as docs/money.md has it";
            check.error(path, format!("{}: {why}", name.display()), help);
            return None;
        }
    };
    let mut priced = Vec::new();
    for row in &rows {
        let (models, price) = (row.models.iter().map(|model| Pattern::parse(model)), row.price());
        let (Some(models), Ok(price)) = (models.collect::<Option<Vec<_>>>(), price) else {
            let help = "write prices as strings, in dollars, and one `*` in a model at most";
            check.error(
                path,
                format!("{}: the row of {:?} cannot be read", name.display(), row.models),
                help,
            );
            return None;
        };
        let price = Arc::new(price);
        for provider in &row.providers {
            priced.extend(models.iter().map(|model| (provider.clone(), model.clone(), Arc::clone(&price))));
        }
    }
    Some(priced)
}

fn text(dollars: Option<&Dollars>) -> Option<String> {
    dollars.map(|dollars| dollars.0.clone())
}

fn tier(row: &PriceRow) -> Tier {
    Tier {
        input: text(row.input.as_ref()),
        cached: text(row.cached.as_ref()),
        written: text(row.written.as_ref()),
        written_hour: text(row.written_hour.as_ref()),
        audio_input: text(row.audio_input.as_ref()),
        image_input: text(row.image_input.as_ref()),
        output: text(row.output.as_ref()),
        reasoning: text(row.reasoning.as_ref()),
        audio_output: text(row.audio_output.as_ref()),
        image_output: text(row.image_output.as_ref()),
    }
}

fn long(row: &LongPrompt) -> Tier {
    Tier {
        input: text(row.input.as_ref()),
        cached: text(row.cached.as_ref()),
        written: text(row.written.as_ref()),
        written_hour: text(row.written_hour.as_ref()),
        audio_input: text(row.audio_input.as_ref()),
        image_input: text(row.image_input.as_ref()),
        output: text(row.output.as_ref()),
        reasoning: text(row.reasoning.as_ref()),
        audio_output: text(row.audio_output.as_ref()),
        image_output: text(row.image_output.as_ref()),
    }
}

/// How the ledger is kept; nothing and a diagnostic where it could not be.
pub(super) fn ledger(config: &Config, state: Option<&FilePath>, check: &mut Check<'_>) -> Option<Spec> {
    let (written, root) = (&config.ledger, Path::root().key("ledger"));
    check.positive(&root.key("interval"), written.interval);
    check.positive(&root.key("rotate_age"), written.rotate_age);
    if written.directory.is_some() && !written.files {
        check.error(&root.key("directory"), "there are no files to be there", "remove `files: false`");
    }
    if written.rotate_size.0 == 0 {
        check.error(&root.key("rotate_size"), "no record fits", "write a size above zero, such as `256MiB`");
    }
    let configured = written.directory.as_deref().map(|directory| check.file(directory));
    let directory = configured.or_else(|| state.map(|state| state.join("ledger")));
    let http = match &written.http {
        None => None,
        Some(http) => {
            let path = root.key("http").key("token");
            let token = match &http.token {
                None => None,
                Some(token) => {
                    check.warn_of_literal(&path, token);
                    Some(check.secret(&path, token)?)
                }
            };
            Some(Http { url: http.url.to_string(), token, buffer: http.buffer.0 })
        }
    };
    Some(Spec {
        directory: directory.filter(|_| written.files),
        sync: match written.sync {
            LedgerSync::Interval => Sync::Every(written.interval.0),
            LedgerSync::Always => Sync::Always,
            LedgerSync::Never => Sync::Never,
        },
        size: written.rotate_size.0,
        age: written.rotate_age.0,
        keep: written.keep.map(|keep| keep.0),
        stdout: written.stdout,
        http,
    })
}
