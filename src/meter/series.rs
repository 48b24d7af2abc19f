//! Series whose labels are known when a configuration is compiled, looked up then, so that an exchange only counts.

use std::sync::OnceLock;

use prometheus::{Counter, Histogram, IntCounter};

use super::metrics::METRICS;
use super::price::Money;
use crate::dialect::Operation;
use crate::dialect::usage::Usage;

/// The series of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterSeries {
    /// Connections made for an attempt.
    pub new_connections: IntCounter,
    /// Connections taken from the pool.
    pub reused_connections: IntCounter,
    /// From the request sent to the response head, seconds.
    pub latency: Histogram,
}

impl ClusterSeries {
    /// The series of that cluster.
    pub fn new(provider: &str, cluster: &str) -> Self {
        let connections = |kind| METRICS.upstream.connections.with_label_values(&[cluster, kind]);
        Self {
            new_connections: connections("new"),
            reused_connections: connections("reused"),
            latency: METRICS.upstream.latency.with_label_values(&[provider, cluster]),
        }
    }
}

/// The series of one cluster's gate. Its refusals come to be with the first.
#[derive(Debug)]
pub struct AdmissionSeries {
    cluster: String,
    /// How long those waited that were let in, seconds.
    pub waited: Histogram,
}

impl AdmissionSeries {
    /// The series of that cluster.
    pub fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), waited: METRICS.admission.waited.with_label_values(&[cluster]) }
    }

    /// Counts an exchange that was not let in.
    pub fn refused(&self, why: &str) {
        METRICS.admission.refused.with_label_values(&[self.cluster.as_str(), why]).inc();
    }
}

/// The series of one route: exchanges that went well, by operation. They come to be with the first such exchange, so
/// that a scrape is not full of noughts.
#[derive(Debug)]
pub struct RouteSeries {
    route: String,
    by_operation: [OnceLock<(IntCounter, Histogram)>; Operation::ALL.len()],
}

impl RouteSeries {
    /// The series of that route.
    pub fn new(route: &str) -> Self {
        Self { route: route.to_owned(), by_operation: Default::default() }
    }

    /// Counts an exchange that was answered with 200 after that many seconds.
    pub fn count(&self, operation: Operation, seconds: f64) {
        let Some(series) = self.by_operation.get(operation as usize) else { return };
        let (requests, duration) = series.get_or_init(|| {
            let labels = [operation.method(), self.route.as_str(), operation.name(), "200"];
            let duration = [self.route.as_str(), operation.name()];
            (
                METRICS.http.requests.with_label_values(&labels),
                METRICS.http.duration.with_label_values(&duration),
            )
        });
        requests.inc();
        duration.observe(seconds);
    }
}

/// The series of one deployment. They come to be with its first attempt.
#[derive(Debug)]
pub struct DeploymentSeries {
    provider: String,
    cluster: String,
    model: String,
    found: OnceLock<Found>,
}

#[derive(Debug)]
struct Found {
    requests: IntCounter,
    first_token: Histogram,
    inter_token: Histogram,
    tokens: [IntCounter; 5],
    cost: Counter,
}

impl DeploymentSeries {
    /// The series of the deployment of `model`, an alias's configured name, in that cluster.
    pub fn new(provider: &str, cluster: &str, model: &str) -> Self {
        let (provider, cluster, model) = (provider.to_owned(), cluster.to_owned(), model.to_owned());
        Self { provider, cluster, model, found: OnceLock::new() }
    }

    fn found(&self) -> &Found {
        self.found.get_or_init(|| {
            let (upstream, cluster, model) = (&METRICS.upstream, self.cluster.as_str(), self.model.as_str());
            let provider = self.provider.as_str();
            let kinds = ["input", "cached", "written", "output", "reasoning"];
            Found {
                requests: upstream.requests.with_label_values(&[provider, cluster, model]),
                first_token: upstream.first_token.with_label_values(&[cluster, model]),
                inter_token: upstream.inter_token.with_label_values(&[cluster, model]),
                tokens: kinds
                    .map(|kind| upstream.tokens.with_label_values(&[provider, cluster, model, kind])),
                cost: METRICS.money.cost.with_label_values(&[provider, cluster, model]),
            }
        })
    }

    /// Attempts.
    pub fn requests(&self) -> &IntCounter {
        &self.found().requests
    }

    /// From the request sent to the first content token, seconds.
    pub fn first_token(&self) -> &Histogram {
        &self.found().first_token
    }

    /// Between two content tokens, seconds.
    pub fn inter_token(&self) -> &Histogram {
        &self.found().inter_token
    }

    /// Counts what one attempt cost.
    pub fn spend(&self, cost: Money) {
        if cost > Money::ZERO {
            self.found().cost.inc_by(cost.approximate());
        }
    }

    /// Counts the tokens of one exchange.
    pub fn count(&self, usage: &Usage) {
        let Usage { input, output, .. } = usage;
        let tokens = [input.total, input.cached, input.written, output.total, output.reasoning];
        for (counter, tokens) in self.found().tokens.iter().zip(tokens) {
            if let Some(tokens) = tokens.filter(|tokens| *tokens > 0) {
                counter.inc_by(tokens);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::usage::{Input, Output};

    #[test]
    fn an_exchange_is_counted_under_its_own_operation() {
        let series = RouteSeries::new("series-test");
        series.count(Operation::Messages, 0.5);
        let labels = ["POST", "series-test", "messages", "200"];
        assert_eq!(METRICS.http.requests.with_label_values(&labels).get(), 1);
        assert!(Operation::ALL.iter().enumerate().all(|(index, operation)| index == *operation as usize));
    }

    #[test]
    fn each_kind_of_token_goes_to_its_own_series() {
        let series = DeploymentSeries::new("p", "series-test", "m");
        let usage = Usage {
            input: Input { total: Some(7), cached: Some(2), written: None },
            output: Output { total: Some(5), reasoning: Some(3) },
            ..Usage::default()
        };
        series.count(&usage);
        series.count(&usage);
        let counts: Vec<u64> = series.found().tokens.iter().map(IntCounter::get).collect();
        assert_eq!(counts, [14, 4, 0, 10, 6]);
    }
}
