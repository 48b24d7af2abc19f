//! Metric families, in Prometheus's form. Every label comes from a closed set: configured names, operations,
//! statuses; never from a client's text.

mod access;
mod keys;
mod limits;
mod money;

use std::sync::LazyLock;

use prometheus::{
    CounterVec, Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use access::Access;
pub use keys::ProviderKeys;
pub use limits::{Limits, Store};
pub use money::Money;

/// Every family.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The client's side.
    pub http: Http,
    /// The upstreams' side.
    pub upstream: Upstream,
    /// What is left alone.
    pub breakers: Breakers,
    /// Keys of providers.
    pub keys: ProviderKeys,
    /// What is let in.
    pub admission: Admission,
    /// What is taken out of service.
    pub drains: Drains,
    /// Who may call.
    pub access: Access,
    /// Second attempts made beside slow ones, by cluster and what became of them: `won`, `lost`, `failed`.
    pub hedges: IntCounterVec,
    /// What callers may use.
    pub limits: Limits,
    /// Streams that broke off where they may be gone on with elsewhere, by cluster and outcome.
    pub continuations: IntCounterVec,
    /// What was taken out of requests, by side and kind.
    pub redactions: IntCounterVec,
    /// Lines of journals, by journal and what became of them: `written`, `lost`, `unshipped`.
    pub journal: IntCounterVec,
    /// What is spent.
    pub money: Money,
    /// The store that nodes share.
    pub store: Store,
}

/// Families of the client's side.
#[derive(Debug)]
pub struct Http {
    /// Exchanges by method, route, operation and status.
    pub requests: IntCounterVec,
    /// Whole exchanges, seconds, by route and operation.
    pub duration: HistogramVec,
    /// Exchanges under way.
    pub in_flight: IntGauge,
    /// Streams under way.
    pub streams: IntGauge,
    /// Client connections open.
    pub connections: IntGauge,
    /// Bytes of request bodies held.
    pub held_bytes: IntGauge,
    /// Time that Forebay added, seconds, by leg: `request`, `reply`, `event`.
    pub added: Added,
    /// Exchanges ended by their client, by phase.
    pub client_gone: IntCounterVec,
    /// Heads refused by the HTTP screen, by status.
    pub screened: IntCounterVec,
    /// Panics caught.
    pub panics: IntCounter,
}

/// What Forebay added, by leg.
#[derive(Debug)]
pub struct Added {
    /// On a request, before its connection to the upstream is asked for.
    pub request: Histogram,
    /// On a reply, from its last byte read to its last byte written.
    pub reply: Histogram,
    /// On one chunk of a stream, from read to written; every eighth is measured.
    pub event: Histogram,
}

impl Added {
    fn new(make: &Builder) -> Self {
        let legs = make.histograms(
            "forebay_added_seconds",
            "Time Forebay added: on the request before it is sent, on a reply, on one event of a stream",
            &["leg"],
            TINY,
        );
        let leg = |name| legs.with_label_values(&[name]);
        Self { request: leg("request"), reply: leg("reply"), event: leg("event") }
    }
}

/// Families of the upstreams' side.
#[derive(Debug)]
pub struct Upstream {
    /// Attempts by provider, cluster and model alias.
    pub requests: IntCounterVec,
    /// Attempts that failed, by provider, cluster and kind.
    pub errors: IntCounterVec,
    /// Attempts after which another was allowed, by cluster and cause.
    pub failed_attempts: IntCounterVec,
    /// From the request sent to the response head, seconds, by provider and cluster.
    pub latency: HistogramVec,
    /// 1 for an endpoint that takes exchanges, by provider, cluster and endpoint.
    pub health: IntGaugeVec,
    /// Tokens by provider, cluster, model alias and kind.
    pub tokens: IntCounterVec,
    /// From the request sent to the first content token, seconds, by cluster and model alias.
    pub first_token: HistogramVec,
    /// Between two content tokens, seconds, by cluster and model alias.
    pub inter_token: HistogramVec,
    /// Exchanges under way, by cluster and endpoint.
    pub in_flight: IntGaugeVec,
    /// Average time to first token of an endpoint, seconds.
    pub average_first_token: GaugeVec,
    /// Connections taken for attempts, by cluster and whether they were new or reused.
    pub connections: IntCounterVec,
    /// Connections open to a cluster over HTTP/1.1, idle ones among them.
    pub open: IntGaugeVec,
    /// Streams that the upstream broke off.
    pub cut_streams: IntCounterVec,
    /// Exchanges that ended without their usage being known, by cluster.
    pub unknown_usage: IntCounterVec,
}

/// Families of what is left alone for its failures.
#[derive(Debug)]
pub struct Breakers {
    /// An endpoint's breaker: 0 closed, 1 open, 2 half-open; by cluster and endpoint.
    pub state: IntGaugeVec,
    /// The same of a cluster's credential.
    pub key: IntGaugeVec,
    /// Breakers opened, by cluster and reason.
    pub trips: IntCounterVec,
}

/// Families of what is let in.
#[derive(Debug)]
pub struct Admission {
    /// Exchanges under way, by cluster.
    pub used: IntGaugeVec,
    /// How many may be.
    pub limit: IntGaugeVec,
    /// Exchanges that wait.
    pub waiting: IntGaugeVec,
    /// How long those waited that were let in, seconds.
    pub waited: HistogramVec,
    /// How often a cluster's requests began to go elsewhere, by cluster and reason.
    pub spills: IntCounterVec,
    /// How near the process is to its bounds, as a share of each: `delay`, `memory`, `files`.
    pub pressure: GaugeVec,
    /// Exchanges refused near those bounds, by priority.
    pub shed: IntCounterVec,
    /// Exchanges not let in, by cluster and reason: `full`, `late`, `shed`.
    pub refused: IntCounterVec,
}

/// Families of what is taken out of service.
#[derive(Debug)]
pub struct Drains {
    /// 1 for an endpoint that is drained, 0 for any other, by cluster and endpoint.
    pub endpoints: IntGaugeVec,
    /// Exchanges that were ended, or moved to another endpoint, because the deadline of a drain had come, by cluster.
    pub evicted: IntCounterVec,
}

/// The one set of families of the process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Second buckets for whole exchanges: a cache hit to an hour of reasoning.
const LONG: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
    3600.0,
];
/// Second buckets between tokens.
const SHORT: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Second buckets for what Forebay adds.
const TINY: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05,
    0.25,
];

/// Makes families and registers them. A family's name is a constant and registered once, so neither step can fail;
/// should one, the family is left out of the scrape rather than the process out of service.
struct Builder {
    registry: Registry,
}

impl Builder {
    fn registered<T: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<T>,
    ) -> Option<T> {
        let family = made.ok()?;
        self.registry.register(Box::new(family.clone())).ok()?;
        Some(family)
    }

    #[expect(clippy::expect_used, reason = "names and labels are constants; a unit test builds every family")]
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)).expect("a valid family")
    }

    #[expect(clippy::expect_used, reason = "names and labels are constants; a unit test builds every family")]
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels)).expect("a valid family")
    }

    #[expect(clippy::expect_used, reason = "names and labels are constants; a unit test builds every family")]
    fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.registered(GaugeVec::new(Opts::new(name, help), labels)).expect("a valid family")
    }

    #[expect(clippy::expect_used, reason = "names and labels are constants; a unit test builds every family")]
    fn float_counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.registered(CounterVec::new(Opts::new(name, help), labels)).expect("a valid family")
    }

    #[expect(clippy::expect_used, reason = "names and labels are constants; a unit test builds every family")]
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.registered(IntGauge::new(name, help)).expect("a valid family")
    }

    #[expect(clippy::expect_used, reason = "names and labels are constants; a unit test builds every family")]
    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.registered(IntCounter::new(name, help)).expect("a valid family")
    }

    #[expect(clippy::expect_used, reason = "names and labels are constants; a unit test builds every family")]
    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.registered(HistogramVec::new(options, labels)).expect("a valid family")
    }
}

impl Http {
    fn new(make: &Builder) -> Self {
        Self {
            requests: make.counters(
                "http_requests_total",
                "Exchanges by method, route, operation and status (499: the client left)",
                &["method", "route", "operation", "status"],
            ),
            duration: make.histograms(
                "http_request_duration_seconds",
                "Whole exchanges, streams to their end",
                &["route", "operation"],
                LONG,
            ),
            in_flight: make.gauge("forebay_in_flight", "Exchanges under way"),
            streams: make.gauge("forebay_streams", "Streams under way"),
            connections: make.gauge("forebay_connections", "Client connections open"),
            held_bytes: make.gauge("forebay_held_bytes", "Bytes of request bodies held"),
            added: Added::new(make),
            client_gone: make.counters(
                "forebay_client_gone_total",
                "Exchanges that their client left, by phase",
                &["phase"],
            ),
            screened: make.counters(
                "forebay_screened_total",
                "Requests refused for their HTTP, by status",
                &["status"],
            ),
            panics: make.counter("forebay_panics_total", "Panics caught; each is a bug"),
        }
    }
}

impl Upstream {
    fn new(make: &Builder) -> Self {
        Self {
            requests: make.counters(
                "llm_provider_requests_total",
                "Attempts at a provider",
                &["provider", "cluster", "model"],
            ),
            errors: make.counters(
                "llm_provider_errors_total",
                "Attempts that failed by the provider's fault",
                &["provider", "cluster", "kind"],
            ),
            failed_attempts: make.counters(
                "llm_provider_failed_attempts_total",
                "Attempts that failed before the client was told anything, by why another may help",
                &["cluster", "cause"],
            ),
            latency: make.histograms(
                "llm_provider_latency_seconds",
                "From the request sent to the response head",
                &["provider", "cluster"],
                LONG,
            ),
            health: make.gauges(
                "llm_provider_health_status",
                "1 for an endpoint that takes new exchanges, 0 for one that is down or left alone",
                &["provider", "cluster", "endpoint"],
            ),
            tokens: make.counters(
                "llm_tokens_total",
                "Tokens as reported; cached and written are part of input, reasoning is part of output",
                &["provider", "cluster", "model", "kind"],
            ),
            first_token: make.histograms(
                "llm_time_to_first_token_seconds",
                "From the request sent to the first content token of a stream",
                &["cluster", "model"],
                LONG,
            ),
            inter_token: make.histograms(
                "llm_inter_token_latency_seconds",
                "Between two events with content of a stream",
                &["cluster", "model"],
                SHORT,
            ),
            in_flight: make.gauges(
                "forebay_endpoint_in_flight",
                "Exchanges under way at an endpoint",
                &["cluster", "endpoint"],
            ),
            average_first_token: make.float_gauges(
                "forebay_endpoint_first_token_seconds",
                "Moving average of an endpoint's time to first token",
                &["cluster", "endpoint"],
            ),
            connections: make.counters(
                "forebay_upstream_connections_total",
                "Connections taken for attempts: new, or reused from the pool",
                &["cluster", "kind"],
            ),
            open: make.gauges(
                "forebay_upstream_connections_open",
                "HTTP/1.1 connections open to a cluster, idle ones in the pool among them",
                &["cluster"],
            ),
            cut_streams: make.counters(
                "forebay_cut_streams_total",
                "Streams that the upstream broke off after their first byte",
                &["cluster"],
            ),
            unknown_usage: make.counters(
                "forebay_unknown_usage_total",
                "Exchanges that ended well without their usage being reported",
                &["cluster"],
            ),
        }
    }
}

impl Breakers {
    fn new(make: &Builder) -> Self {
        Self {
            state: make.gauges(
                "forebay_breaker_state",
                "Whether an endpoint is left alone for its failures: 0 closed, 1 open, 2 half-open",
                &["cluster", "endpoint"],
            ),
            key: make.gauges(
                "forebay_key_state",
                "Whether a cluster's credential is left alone because it was refused: 0 closed, 1 open, 2 half-open",
                &["cluster"],
            ),
            trips: make.counters(
                "forebay_breaker_trips_total",
                "Breakers opened, by reason: row, rate, try; of the credential: credential, payment, quota",
                &["cluster", "reason"],
            ),
        }
    }
}

impl Admission {
    fn new(make: &Builder) -> Self {
        Self {
            used: make.gauges(
                "forebay_admission_used",
                "Exchanges under way at a cluster with an admission limit",
                &["cluster"],
            ),
            limit: make.gauges(
                "forebay_admission_limit",
                "How many exchanges may be under way",
                &["cluster"],
            ),
            waiting: make.gauges("forebay_admission_waiting", "Exchanges waiting for a place", &["cluster"]),
            waited: make.histograms(
                "forebay_admission_wait_seconds",
                "How long exchanges waited for a place that got one",
                &["cluster"],
                LONG,
            ),
            spills: make.counters(
                "forebay_spills_total",
                "How often a cluster's requests began to go elsewhere, by reason: wait, first_token, error_rate, failures, sick",
                &["cluster", "reason"],
            ),
            pressure: make.float_gauges(
                "forebay_pressure",
                "How near the process is to its bounds, as a share of each: delay, memory, files",
                &["bound"],
            ),
            shed: make.counters(
                "forebay_shed_total",
                "Exchanges refused because the process is near its bounds, by priority",
                &["priority"],
            ),
            refused: make.counters(
                "forebay_admission_refused_total",
                "Exchanges that got no place, by reason: full, late, shed",
                &["cluster", "reason"],
            ),
        }
    }
}

impl Drains {
    fn new(make: &Builder) -> Self {
        Self {
            endpoints: make.gauges(
                "forebay_endpoint_draining",
                "1 for an endpoint that takes no new exchanges because it is drained",
                &["cluster", "endpoint"],
            ),
            evicted: make.counters(
                "forebay_evicted_total",
                "Exchanges ended or moved because the time of their drained endpoint was over",
                &["cluster"],
            ),
        }
    }
}

impl Metrics {
    fn new() -> Self {
        let make = Builder { registry: Registry::new() };
        Self {
            http: Http::new(&make),
            upstream: Upstream::new(&make),
            breakers: Breakers::new(&make),
            keys: ProviderKeys::new(&make),
            admission: Admission::new(&make),
            limits: Limits::new(&make),
            drains: Drains::new(&make),
            access: Access::new(&make),
            hedges: make.counters(
                "forebay_hedges_total",
                "Second attempts made while the first was slow, by what became of them: won, lost, failed",
                &["cluster", "outcome"],
            ),
            continuations: make.counters(
                "forebay_continuations_total",
                "Streams that broke off where they may be gone on with elsewhere: continued, failed (nobody could), \
                 refused (it could not be exact), complete (all that it may hold was there)",
                &["cluster", "outcome"],
            ),
            money: Money::new(&make),
            store: Store::new(&make),
            redactions: make.counters(
                "forebay_redactions_total",
                "Requests out of which something was taken, by kind",
                &["side", "kind"],
            ),
            journal: make.counters(
                "forebay_journal_lines_total",
                "Lines of journals: written, lost before they were, or never shipped",
                &["journal", "outcome"],
            ),
            registry: make.registry,
        }
    }

    /// Every family in Prometheus's text format 0.0.4.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Encoding to memory fails only on a family without a name, which none is.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

/// A status as a label: the text of every status Forebay can log, without allocating.
pub fn status_label(status: u16) -> &'static str {
    match status {
        200 => "200",
        201 => "201",
        204 => "204",
        301 => "301",
        302 => "302",
        400 => "400",
        401 => "401",
        402 => "402",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        414 => "414",
        415 => "415",
        417 => "417",
        421 => "421",
        422 => "422",
        429 => "429",
        431 => "431",
        499 => "499",
        500 => "500",
        501 => "501",
        502 => "502",
        503 => "503",
        504 => "504",
        505 => "505",
        529 => "529",
        other => match other / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        },
    }
}

/// A method as a label.
pub fn method_label(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::DELETE => "DELETE",
        http::Method::HEAD => "HEAD",
        http::Method::OPTIONS => "OPTIONS",
        http::Method::PATCH => "PATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_can_be_made_and_is_rendered_once_used() {
        let metrics = Metrics::new();
        metrics.http.requests.with_label_values(&["POST", "main", "messages", "200"]).inc();
        metrics.http.added.event.observe(0.000_02);
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains("http_requests_total{method=\"POST\",operation=\"messages\""), "{text}");
        assert!(text.contains("forebay_added_seconds_bucket{leg=\"event\",le=\"0.000025\"} 1"), "{text}");
    }
}
