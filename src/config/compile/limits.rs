//! How much anyone may use.

use std::sync::Arc;

use super::Check;
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Allowance, Config, ModelQuotas, Outage, Quota, Sharing, Spent, Unpriced};
use crate::config::value::{self, Dollars};
use crate::limit::{self, Limit, Limits, Measure, Per, Reached};
use crate::meter::ledger::Spec;
use crate::meter::price::Money;
use crate::pattern::Pattern;

/// The most that a budget may be, picodollars: ten million dollars.
const RICHEST: u64 = 10_000_000_000_000_000_000;

/// What of a quota is not said holds as `other` says.
fn or(own: &Quota, other: &Quota) -> Quota {
    let budget = &own.budget;
    let is_said = budget.day.is_some() || budget.month.is_some() || budget.total.is_some();
    Quota {
        requests_per_second: own.requests_per_second.or(other.requests_per_second),
        requests_per_minute: own.requests_per_minute.or(other.requests_per_minute),
        requests_per_day: own.requests_per_day.or(other.requests_per_day),
        tokens_per_second: own.tokens_per_second.or(other.tokens_per_second),
        tokens_per_minute: own.tokens_per_minute.or(other.tokens_per_minute),
        tokens_per_day: own.tokens_per_day.or(other.tokens_per_day),
        concurrency: own.concurrency.or(other.concurrency),
        budget: if is_said { budget.clone() } else { other.budget.clone() },
        sharing: own.sharing.or(other.sharing),
        outage: own.outage.or(other.outage),
    }
}

/// The limits of a principal: its own, and where they say nothing, those of everyone. They are checked where its grants
/// are.
pub(super) fn of_principal((own, models): (&Quota, &ModelQuotas), everyones: &Quota) -> Limits {
    such(&or(own, everyones), models)
}

/// The limits of what has some for such models besides.
pub(super) fn of((own, models): (&Quota, &ModelQuotas), path: &Path, check: &mut Check<'_>) -> Limits {
    allowance(&own.budget, &path.key("limits").key("budget"), check);
    for (name, quota) in models {
        let path = path.key("model_limits").key(name);
        if let Err(wrong) = name.parse::<value::Pattern>() {
            check.error(&path, wrong.message, wrong.help);
        }
        allowance(&quota.budget, &path.key("budget"), check);
    }
    such(own, models)
}

fn such(own: &Quota, models: &ModelQuotas) -> Limits {
    let models = models.iter().filter_map(|(name, quota)| Some((Pattern::parse(name)?, each(quota))));
    Limits { all: each(own), models: models.collect(), outage: outage(own.outage.unwrap_or_default()) }
}

/// The limits of anything else.
pub(super) fn limits(quota: &Quota, path: &Path, check: &mut Check<'_>) -> Limits {
    allowance(&quota.budget, &path.key("budget"), check);
    such(quota, &ModelQuotas::new())
}

fn outage(outage: Outage) -> limit::Outage {
    match outage {
        Outage::FailOpen => limit::Outage::Open,
        Outage::FailClosed => limit::Outage::Closed,
    }
}

/// Refuses amounts and shares that mean nothing.
fn allowance(allowance: &Allowance, path: &Path, check: &mut Check<'_>) {
    let amounts = [("day", &allowance.day), ("month", &allowance.month), ("total", &allowance.total)];
    for (key, dollars) in amounts {
        if dollars.as_ref().is_some_and(|dollars| picodollars(dollars).is_none()) {
            let help = "write dollars, more than 0 and at most 10000000";
            check.error(&path.key(key), "this is no budget", help);
        }
    }
    for (index, share) in allowance.warn_at.iter().enumerate() {
        if !(*share > 0.0 && *share <= 1.0) {
            let path = path.key("warn_at").index(index);
            check.error(&path, "this is no share", "write a number above 0 and up to 1, such as `0.8`");
        }
    }
}

/// A budget in picodollars, where it is one.
fn picodollars(dollars: &Dollars) -> Option<u64> {
    let count = Money::dollars(&dollars.0)?.count();
    u64::try_from(count).ok().filter(|count| (1..=RICHEST).contains(count))
}

fn each(quota: &Quota) -> Vec<Limit> {
    use Measure::{Concurrency, Money, Requests, Tokens};
    let sharing = match quota.sharing.unwrap_or_default() {
        Sharing::Leased => limit::Sharing::Leased,
        Sharing::Exact => limit::Sharing::Exact,
        Sharing::Local => limit::Sharing::Local,
    };
    let rate = |measure, per, most: Option<u64>| {
        most.map(|most| Limit { measure, per, most, reached: Reached::default(), sharing })
    };
    let rates = [
        rate(Requests, Per::Second, quota.requests_per_second),
        rate(Requests, Per::Minute, quota.requests_per_minute),
        rate(Requests, Per::Day, quota.requests_per_day),
        rate(Tokens, Per::Second, quota.tokens_per_second),
        rate(Tokens, Per::Minute, quota.tokens_per_minute),
        rate(Tokens, Per::Day, quota.tokens_per_day),
        rate(Concurrency, Per::Ever, quota.concurrency),
    ];
    let mut tell_at = quota.budget.warn_at.clone();
    tell_at.sort_by(f64::total_cmp);
    let reached = Reached {
        refuse: quota.budget.spent == Spent::Refuse,
        serves_unpriced: quota.budget.unpriced == Unpriced::Serve,
        tell_at: Arc::from(tell_at),
    };
    let money = |per, dollars: &Option<Dollars>| {
        let most = picodollars(dollars.as_ref()?)?;
        Some(Limit { measure: Money, per, most, reached: reached.clone(), sharing })
    };
    let budget = &quota.budget;
    let budgets =
        [money(Per::Day, &budget.day), money(Per::Month, &budget.month), money(Per::Ever, &budget.total)];
    rates.into_iter().chain(budgets).flatten().collect()
}

/// Warns of the first budget that is forgotten with the process: there is neither a ledger nor a store.
pub(super) fn forgotten(config: &Config, ledger: Option<&Spec>, check: &mut Check<'_>) {
    if ledger.is_none_or(|spec| spec.directory.is_some()) {
        return;
    }
    let is_shared = config.store.redis.is_some();
    let is_lost = |quota: &Quota| {
        let budget = &quota.budget;
        let is_said = budget.day.is_some() || budget.month.is_some() || budget.total.is_some();
        is_said && !(is_shared && quota.sharing != Some(Sharing::Local))
    };
    if let Some((path, _)) = quotas(config).into_iter().find(|(_, quota)| is_lost(quota)) {
        let help = "set `server.state` to a directory, where it is remembered";
        check.warning(&path.key("budget"), "what is spent of a budget is forgotten at each restart", help);
    }
}

/// Every quota of the configuration.
fn quotas(config: &Config) -> Vec<(Path, &Quota)> {
    let root = Path::root();
    let mut all = vec![(root.key("limits").key("principal"), &config.limits.principal)];
    let keys = config.keys.iter().map(|(name, key)| ("keys", name, &key.grants));
    let teams = config.teams.iter().map(|(name, group)| ("teams", name, &group.grants));
    let organisations =
        config.organisations.iter().map(|(name, group)| ("organisations", name, &group.grants));
    for (kind, name, grants) in keys.chain(teams).chain(organisations) {
        let path = root.key(kind).key(name);
        all.push((path.key("limits"), &grants.limits));
        let models = &grants.model_limits;
        all.extend(models.iter().map(|(model, quota)| (path.key("model_limits").key(model), quota)));
    }
    let models = config.models.iter();
    all.extend(models.map(|(name, model)| (root.key("models").key(name).key("limits"), &model.limits)));
    for (name, cluster) in &config.clusters {
        let path = root.key("clusters").key(name);
        all.push((path.key("limits"), &cluster.limits));
        let keys = cluster.keys.iter().enumerate();
        all.extend(keys.map(|(at, key)| (path.key("keys").index(at).key("limits"), &key.limits)));
    }
    all
}

/// What any one address may send.
pub(super) fn shield(written: &schema::Shield) -> crate::snapshot::Shield {
    crate::snapshot::Shield { requests: written.requests_per_second, concurrency: written.concurrency }
}
