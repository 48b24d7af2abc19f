//! Series whose labels are known when a configuration is compiled, looked up then, so that an exchange only counts.

use prometheus::{Histogram, IntCounter};

use super::metrics::METRICS;
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

/// The series of one deployment.
#[derive(Clone, Debug)]
pub struct DeploymentSeries {
    /// Attempts.
    pub requests: IntCounter,
    /// From the request sent to the first content token, seconds.
    pub first_token: Histogram,
    /// Between two content tokens, seconds.
    pub inter_token: Histogram,
    tokens: [IntCounter; 5],
}

impl DeploymentSeries {
    /// The series of the deployment of `model`, an alias's configured name, in that cluster.
    pub fn new(provider: &str, cluster: &str, model: &str) -> Self {
        let upstream = &METRICS.upstream;
        let tokens = ["input", "cached", "written", "output", "reasoning"];
        Self {
            requests: upstream.requests.with_label_values(&[provider, cluster, model]),
            first_token: upstream.first_token.with_label_values(&[cluster, model]),
            inter_token: upstream.inter_token.with_label_values(&[cluster, model]),
            tokens: tokens.map(|kind| upstream.tokens.with_label_values(&[provider, cluster, model, kind])),
        }
    }

    /// Counts the tokens of one exchange.
    pub fn count(&self, usage: &Usage) {
        let Usage { input, output } = usage;
        let tokens = [input.total, input.cached, input.written, output.total, output.reasoning];
        for (counter, tokens) in self.tokens.iter().zip(tokens) {
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
    fn each_kind_of_token_goes_to_its_own_series() {
        let series = DeploymentSeries::new("p", "series-test", "m");
        let usage = Usage {
            input: Input { total: Some(7), cached: Some(2), written: None },
            output: Output { total: Some(5), reasoning: Some(3) },
        };
        series.count(&usage);
        series.count(&usage);
        let counts: Vec<u64> = series.tokens.iter().map(IntCounter::get).collect();
        assert_eq!(counts, [14, 4, 0, 10, 6]);
    }
}
