//! What a provider takes for what was used: exact, in whole numbers.
//!
//! Prices come from a dated table that is part of the binary, and from the configuration, which goes first. Nothing is ever
//! fetched. What has no price is [`Quote::Unknown`], and never free.

mod table;

use std::collections::HashMap;
use std::fmt;
use std::iter::Sum;
use std::num::NonZeroU64;
use std::ops::{Add, AddAssign};
use std::sync::Arc;

use crate::dialect::usage::Usage;
use crate::json::decimal::scaled;
use crate::pattern::Pattern;

pub use table::{Book, Over, Row, Tier, shipped};

/// A sum of money, in picodollars: a dollar has 10^12. A price of a millionth of a cent for a million tokens is still a
/// whole number of them for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u128);

/// Decimal places of a dollar that are kept.
const PLACES: u32 = 12;
/// Decimal places of a price for a million tokens: a token's is a whole number of picodollars then.
const RATE: u32 = 6;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many picodollars.
    pub const fn picodollars(count: u128) -> Self {
        Self(count)
    }

    /// Dollars as they are written: `0.0006306`, also with an exponent. Nothing where that is no sum, or finer than a
    /// picodollar.
    pub fn dollars(text: &str) -> Option<Self> {
        scaled(text, PLACES).map(Self)
    }

    /// In picodollars.
    pub const fn count(self) -> u128 {
        self.0
    }

    /// In dollars, for gauges alone: a float does not hold every sum.
    pub fn approximate(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// What it is more than `other`, nothing where it is less.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

/// In dollars, exact: `0.0006306`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u128.pow(PLACES);
        let (whole, rest) = (self.0 / unit, self.0 % unit);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{rest:012}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// What a token of each kind costs, in picodollars. Where a table says nothing of a kind, it is what the kind is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of the prompt.
    pub input: u64,
    /// Of the prompt, read from the cache.
    pub cached: u64,
    /// Written to the cache.
    pub written: u64,
    /// Written to the cache, for an hour.
    pub written_hour: u64,
    /// Sound in the prompt.
    pub audio_input: u64,
    /// A picture in the prompt.
    pub image_input: u64,
    /// Of the reply.
    pub output: u64,
    /// Of reasoning.
    pub reasoning: u64,
    /// Sound in the reply.
    pub audio_output: u64,
    /// A picture in the reply.
    pub image_output: u64,
}

/// What a model costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// A token of each kind.
    pub rates: Rates,
    /// Above how many tokens of prompt every token of the request costs what; the smallest bound first.
    pub over: Vec<(u64, Rates)>,
    /// A request, besides its tokens.
    pub request: Money,
    /// A search, of a ranking.
    pub search: Money,
}

impl Price {
    /// What that usage costs.
    ///
    /// The prompt's total holds what was cached, written, sound and pictures; the reply's holds reasoning. A report in
    /// which one of them is more than the total it should be part of leaves it out of that (Azure's Grok and Mistral's
    /// Voxtral do): it is paid for on top. What an upstream says it bills goes before what was used.
    pub fn cost(&self, usage: &Usage) -> Money {
        let searches = usage.kinds.billed.map_or(0, |billed| billed.searches);
        let once = self.request + Money(self.search.0.saturating_mul(u128::from(searches)));
        let Some(billed) = usage.kinds.billed.filter(|billed| billed.input > 0 || billed.output > 0) else {
            let rates = self.rates(usage.input.total.unwrap_or(0));
            return once + input(rates, usage) + output(rates, usage);
        };
        let rates = self.rates(billed.input.into());
        once + times(billed.input.into(), rates.input) + times(billed.output.into(), rates.output)
    }

    /// The rates for a prompt of that many tokens.
    fn rates(&self, tokens: u64) -> &Rates {
        let over = self.over.iter().rev().find(|(bound, _)| tokens > *bound);
        over.map_or(&self.rates, |(_, rates)| rates)
    }
}

fn times(tokens: u64, rate: u64) -> Money {
    Money(u128::from(tokens) * u128::from(rate))
}

fn input(rates: &Rates, usage: &Usage) -> Money {
    let (input, kinds) = (&usage.input, &usage.kinds);
    let (cached, written) = (input.cached.unwrap_or(0), input.written.unwrap_or(0));
    let hour = u64::from(kinds.written_hour).min(written);
    let (audio, image) = (u64::from(kinds.audio_in), u64::from(kinds.image_in));
    let plain = without(input.total.unwrap_or(0), [cached.saturating_add(written), audio + image]);
    times(plain, rates.input)
        + times(cached, rates.cached)
        + times(written - hour, rates.written)
        + times(hour, rates.written_hour)
        + times(audio, rates.audio_input)
        + times(image, rates.image_input)
}

fn output(rates: &Rates, usage: &Usage) -> Money {
    let (output, kinds) = (&usage.output, &usage.kinds);
    let reasoning = output.reasoning.unwrap_or(0);
    let (audio, image) = (u64::from(kinds.audio_out), u64::from(kinds.image_out));
    let plain = without(output.total.unwrap_or(0), [reasoning, audio + image]);
    times(plain, rates.output)
        + times(reasoning, rates.reasoning)
        + times(audio, rates.audio_output)
        + times(image, rates.image_output)
}

/// What is left of a total without its parts; a part that is more than the total was never in it.
fn without(total: u64, parts: [u64; 2]) -> u64 {
    let within = parts.into_iter().filter(|part| *part <= total);
    total.saturating_sub(within.fold(0, u64::saturating_add))
}

/// What is known of the price of a model at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quote {
    /// It costs nothing: someone's own machine.
    Free,
    /// It costs this.
    At(Arc<Price>),
    /// The upstream says itself what each reply costs. Where it did not, it is this.
    Told(Option<Arc<Price>>),
    /// Nobody knows.
    Unknown,
}

impl Quote {
    /// What that usage costs; nothing where nobody knows.
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        let told = |told: NonZeroU64| Money(told.get().into());
        match self {
            Self::Free => Some(Money::ZERO),
            Self::At(price) => Some(price.cost(usage)),
            Self::Told(price) => {
                usage.kinds.told.map(told).or_else(|| price.as_ref().map(|price| price.cost(usage)))
            }
            Self::Unknown => None,
        }
    }
}

/// Where a model is asked.
#[derive(Clone, Copy, Debug)]
pub struct Seller<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The provider's name.
    pub provider: &'a str,
    /// Whether people run it themselves.
    pub is_engine: bool,
}

/// Every price that is known.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// The configuration's, by cluster or provider.
    own: HashMap<String, Models>,
    shipped: Arc<Book>,
}

/// The models of a seller.
#[derive(Clone, Debug, Default)]
struct Models {
    exact: HashMap<String, Arc<Price>>,
    /// The most specific first.
    patterns: Vec<(Pattern, Arc<Price>)>,
}

impl Models {
    fn add(&mut self, pattern: &Pattern, price: &Arc<Price>) {
        match pattern {
            // The first that is written goes before later ones.
            Pattern::Exact(name) => {
                self.exact.entry(name.clone()).or_insert_with(|| Arc::clone(price));
            }
            Pattern::Star(..) => {
                let at =
                    self.patterns.partition_point(|(other, _)| other.specificity() >= pattern.specificity());
                self.patterns.insert(at, (pattern.clone(), Arc::clone(price)));
            }
        }
    }

    fn find(&self, model: &str) -> Option<&Arc<Price>> {
        let matched = || self.patterns.iter().find(|(pattern, _)| pattern.matches(model));
        self.exact.get(model).or_else(|| matched().map(|(_, price)| price))
    }
}

impl Prices {
    /// The shipped prices, behind those rows of the configuration: each with its cluster or provider, a model or a pattern
    /// of models, and a price.
    pub fn new(rows: impl IntoIterator<Item = (String, Pattern, Arc<Price>)>, shipped: Arc<Book>) -> Self {
        let mut own: HashMap<String, Models> = HashMap::new();
        for (seller, pattern, price) in rows {
            own.entry(seller).or_default().add(&pattern, &price);
        }
        Self { own, shipped }
    }

    /// What a model costs there, by its name upstream.
    pub fn find(&self, seller: Seller<'_>, model: &str) -> Quote {
        let named = |name| self.own.get(name).and_then(|models| models.find(model));
        if let Some(price) = named(seller.cluster).or_else(|| named(seller.provider)) {
            return Quote::At(Arc::clone(price));
        }
        if seller.is_engine {
            return Quote::Free;
        }
        let price = self.shipped.find(seller.provider, model).cloned();
        match (self.shipped.tells(seller.provider), price) {
            (true, price) => Quote::Told(price),
            (false, Some(price)) => Quote::At(price),
            (false, None) => Quote::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
