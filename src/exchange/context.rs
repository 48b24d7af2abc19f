//! What is known of an exchange while it runs, and what its line in the log is made of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::log_enabled;

use super::Shared;
use super::affinity::Owner;
use super::bill::Bill;
use super::carry::lost;
use super::intake::Share;
use super::limits::{self, Use};
use super::retry::Tried;
use super::shield::Counted;
use crate::access::Principal;
use crate::access::grants::{ANONYMOUS, Known};
use crate::clocks::Overrides;
use crate::dialect::ir::Notes;
use crate::dialect::usage::Usage;
use crate::dialect::{Dialect, Operation};
use crate::error::Error;
use crate::meter::access_log::{Record, When, Who};
use crate::meter::ledger::Ledger;
use crate::meter::logger::{self, ACCESS};
use crate::meter::metrics::{METRICS, method_label, status_label};
use crate::meter::series::DeploymentSeries;
use crate::meter::timeline::Timeline;
use crate::moment::rfc3339_millis;
use crate::network;
use crate::priority::Priority;
use crate::route::alias::Alias;
use crate::route::matcher::Route;
use crate::snapshot::Snapshot;
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::{Endpoint, InFlight};
use crate::upstream::keys::KeyUse;

/// Where the present attempt goes.
#[derive(Clone, Debug)]
pub struct Place {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// The key that is used, where the cluster has several or one that changes.
    pub key: Option<KeyUse>,
    /// The model's name there, where it differs from the client's.
    pub model: Option<String>,
    /// The deployment's series; a raw route has none.
    pub series: Option<Arc<DeploymentSeries>>,
}

impl Place {
    /// Where an attempt was made, and with which key.
    pub(super) fn tried(&self) -> Tried<'_> {
        Tried { endpoint: &self.endpoint, key: self.key.as_ref() }
    }

    /// The name of the key that is used, where there was a choice; empty elsewhere.
    pub fn key_name(&self) -> &str {
        let chosen = self.key.as_ref().filter(|_| self.cluster.choice().is_some());
        chosen.map_or("", |used| used.key.name.as_str())
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the reply's body.
    pub bytes_out: u64,
    /// Events with content.
    pub tokens: u64,
    /// The prompt in tokens, by its bytes.
    pub prompt: u64,
    /// Usage as reported.
    pub usage: Option<Usage>,
    /// What of it is counted already, where others went on with a stream: each part is its own deployment's.
    pub settled: Usage,
    /// Whether the reply was a stream.
    pub stream: bool,
}

/// The state of one exchange.
#[derive(Debug)]
pub struct Context {
    /// The configuration it began with.
    pub snapshot: Arc<Snapshot>,
    /// Its id: the client's `x-request-id`, or one of ours.
    pub id: String,
    /// The client's address, after trusted proxies.
    pub client: Option<IpAddr>,
    /// The chain of addresses to pass on.
    pub forwarded: String,
    /// When each phase ended.
    pub timeline: Timeline,
    /// The dialect that errors are written in.
    pub dialect: Dialect,
    /// What is asked.
    pub operation: Option<Operation>,
    /// The route it takes.
    pub route: Option<Arc<Route>>,
    /// Who asks.
    pub principal: Option<Arc<Principal>>,
    /// Who keeps what it refers to, where that is known.
    pub owner: Option<Arc<Owner>>,
    /// How important it is where not all can go at once.
    pub priority: Priority,
    /// The model that the client named.
    pub model: String,
    /// The alias it stands for.
    pub alias: Option<Arc<Alias>>,
    /// What the alias's star stands for.
    pub starred: String,
    /// Attempts made.
    pub attempts: u32,
    /// Why it did not stay with the first place alone; empty where it did.
    pub story: String,
    /// Whether the caller is to be told where it went, and why.
    pub explain: bool,
    /// Where the last attempt went.
    pub place: Option<Place>,
    /// The upstream's own request id.
    pub upstream_id: String,
    /// What was counted.
    pub tally: Tally,
    /// What it may use, and does.
    pub(super) used: Use,
    /// What its attempts cost.
    pub bill: Bill,
    /// The status sent, 0 while there is none.
    pub status: u16,
    /// The phase it is in.
    pub phase: When,
    /// Why it ended before its time.
    pub failure: Option<Error>,
    /// What the log is to say of an exchange that ended as it should.
    pub note: String,
    /// Whether the client was sent a proper end.
    pub ended: bool,
    /// The memory of what was brought in for the request.
    pub brought: Option<Share>,
    /// What had no place in the upstream's dialect, or in the client's.
    pub lost: String,
    /// The endpoint's count of this exchange, on a raw route.
    pub raw: Option<InFlight>,
    /// Endpoints that a raw route could not connect to.
    pub tried: Vec<Arc<Endpoint>>,
    /// What counts for the caller's address.
    pub(super) counted: Option<Counted>,
    _live: super::Live,
}

impl Context {
    /// An exchange that begins now.
    pub fn new(shared: &Arc<Shared>, now: Instant) -> Self {
        Self {
            snapshot: shared.snapshot.load_full(),
            id: String::new(),
            client: None,
            forwarded: String::new(),
            timeline: Timeline::begin(now),
            dialect: Dialect::OpenaiChat,
            operation: None,
            route: None,
            principal: None,
            owner: None,
            priority: Priority::default(),
            model: String::new(),
            alias: None,
            starred: String::new(),
            attempts: 0,
            story: String::new(),
            explain: false,
            place: None,
            upstream_id: String::new(),
            tally: Tally::default(),
            used: Use::default(),
            bill: Bill::default(),
            status: 0,
            phase: When::Request,
            failure: None,
            note: String::new(),
            ended: false,
            brought: None,
            lost: String::new(),
            raw: None,
            tried: Vec::new(),
            counted: None,
            _live: shared.enter(),
        }
    }

    /// The context of another attempt of the same exchange, beside the present one.
    pub(super) fn beside(&self) -> Self {
        Self {
            snapshot: Arc::clone(&self.snapshot),
            id: self.id.clone(),
            client: self.client,
            forwarded: self.forwarded.clone(),
            timeline: Timeline { own: Duration::ZERO, ..self.timeline },
            dialect: self.dialect,
            operation: self.operation,
            route: self.route.clone(),
            principal: self.principal.clone(),
            owner: self.owner.clone(),
            priority: self.priority,
            model: self.model.clone(),
            alias: self.alias.clone(),
            starred: self.starred.clone(),
            attempts: self.attempts,
            story: self.story.clone(),
            explain: self.explain,
            place: None,
            upstream_id: String::new(),
            tally: self.tally,
            used: self.used.beside(),
            bill: self.bill.beside(),
            status: self.status,
            phase: self.phase,
            failure: None,
            note: String::new(),
            ended: false,
            brought: None,
            lost: String::new(),
            raw: None,
            tried: Vec::new(),
            counted: None,
            _live: self._live.again(),
        }
    }

    /// Stays with the attempt of a context that was made for one beside this.
    pub(super) fn adopt(&mut self, beside: Self) {
        let own = self.timeline.own + beside.timeline.own;
        self.timeline = Timeline { own, ..beside.timeline };
        self.place = beside.place;
        self.upstream_id = beside.upstream_id;
        self.tally = beside.tally;
        // What is replaced was overtaken, and is recorded as that.
        self.bill = beside.bill;
        self.phase = beside.phase;
        self.note = beside.note;
        self.lost = beside.lost;
    }

    /// Another attempt begins: what was known of the last is not of this one.
    pub fn begin_attempt(&mut self, now: Instant) {
        self.attempts += 1;
        self.timeline.restart(now);
        self.upstream_id.clear();
        self.note.clear();
    }

    /// Whether the request may go to that cluster: only to the owner of what it refers to, and only to regions that both
    /// the route and the caller permit.
    pub fn permits(&self, cluster: &Cluster) -> bool {
        if self.owner.as_ref().is_some_and(|owner| owner.cluster != cluster.name()) {
            return false;
        }
        let region = cluster.spec.region.as_deref();
        self.route.as_ref().is_none_or(|route| route.regions.permits(region))
            && self.principal.as_ref().is_none_or(|principal| principal.permits_region(region))
    }

    /// Whether the request may go to a later deployment because of load.
    pub fn spills(&self) -> bool {
        self.route.as_ref().is_none_or(|route| route.spill)
            && self.principal.as_ref().is_none_or(|principal| principal.may_spill())
    }

    /// Whose turn it is where callers take turns: a principal's, or an address's of those without a key.
    pub fn tenant(&self) -> Arc<str> {
        let named = self.principal.as_ref().filter(|principal| principal.known != Known::Anonymous);
        match (named, self.client) {
            (None, Some(address)) => Arc::from(network::of(address).to_string()),
            (None, None) => Arc::from(ANONYMOUS),
            (Some(principal), _) => Arc::clone(&principal.name),
        }
    }

    /// Where it went and why, as the caller is told who asked for it and may know.
    pub fn explained(&self) -> Option<String> {
        if !self.explain {
            return None;
        }
        let place = self.place.as_ref().filter(|_| self.attempts > 0);
        let last = place.map_or_else(
            || "nowhere".to_owned(),
            |place| match place.key_name() {
                "" => format!("{} at {}", place.cluster.name(), place.endpoint.name),
                key => format!("{} at {} with key {key}", place.cluster.name(), place.endpoint.name),
            },
        );
        Some(if self.story.is_empty() { last } else { format!("{}; {last}", self.story) })
    }

    /// Notes for the log what had no place.
    pub(super) fn lose(&mut self, notes: &Notes) {
        let lost = lost(notes);
        if !lost.is_empty() {
            self.lost = if self.lost.is_empty() { lost } else { format!("{}, {lost}", self.lost) };
        }
    }

    /// Takes memory for that many bytes besides the request's own, until the exchange is over.
    ///
    /// # Errors
    /// Where too much is held already.
    pub fn hold(&mut self, bytes: u64) -> Result<(), Error> {
        self.brought = Some(self.share(bytes)?);
        Ok(())
    }

    /// Memory for that many bytes, until what is returned is dropped.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub(super) fn share(&self, bytes: u64) -> Result<Share, Error> {
        let mut share = Share::none(&self._live.shared.budget);
        share.grow(bytes, self.snapshot.intake.held)?;
        Ok(share)
    }

    /// The ledger, if there is one.
    pub(super) fn ledger(&self) -> Option<&Arc<Ledger>> {
        self._live.shared.ledger.get()
    }

    /// The clocks that the route sets.
    pub fn overrides(&self) -> Overrides {
        self.route.as_ref().map(|route| route.clocks).unwrap_or_default()
    }

    /// The route's name, for labels.
    fn route_name(&self) -> &str {
        self.route.as_ref().map_or("none", |route| route.name.as_str())
    }

    fn operation_name(&self) -> &'static str {
        match self.operation {
            Some(operation) => operation.name(),
            None if self.raw.is_some() => "raw",
            None => "none",
        }
    }

    /// Who ended the exchange, and when.
    pub(super) fn end(&self) -> (Who, When) {
        let Some(error) = &self.failure else { return (Who::Nobody, When::End) };
        (Who::of(error), self.phase)
    }

    /// The status to log: 499 where the client left before one was sent.
    fn logged_status(&self) -> u16 {
        match (&self.failure, self.status) {
            (Some(error), 0) => error.kind.status(),
            (_, status) => status,
        }
    }

    /// Counts the exchange and writes its line.
    pub fn settle(&mut self, method: &http::Method, path: &str) {
        self.settle_entry();
        let now = Instant::now();
        limits::settle(self, now);
        let status = self.logged_status();
        self.count(method, status, now);
        if self.snapshot.log.access && log_enabled!(target: ACCESS, log::Level::Info) {
            let line = self.record(method, path, status).line(
                self.snapshot.log.format,
                &rfc3339_millis(SystemTime::now()),
                now,
            );
            logger::access(line);
        }
    }

    fn count(&self, method: &http::Method, status: u16, now: Instant) {
        let took = now.saturating_duration_since(self.timeline.began).as_secs_f64();
        match (&self.route, self.operation) {
            (Some(route), Some(operation)) if status == 200 => route.series.count(operation, took),
            _ => {
                let (route, operation) = (self.route_name(), self.operation_name());
                let labels = [method_label(method), route, operation, status_label(status)];
                METRICS.http.requests.with_label_values(&labels).inc();
                METRICS.http.duration.with_label_values(&[route, operation]).observe(took);
            }
        }
        if matches!(self.end().0, Who::Client) && self.phase != When::Request {
            METRICS.http.client_gone.with_label_values(&[self.phase.name()]).inc();
        }
        if let Some(place) = &self.place
            && let Some(series) = &place.series
        {
            self.count_tokens(place, series);
        }
    }

    fn count_tokens(&self, place: &Place, series: &DeploymentSeries) {
        match &self.tally.usage {
            Some(usage) => series.count(&usage.less(&self.tally.settled)),
            None if self.failure.is_none() && self.status == 200 => {
                METRICS.upstream.unknown_usage.with_label_values(&[place.cluster.name()]).inc();
            }
            None => {}
        }
    }

    fn record<'a>(&'a self, method: &'a http::Method, path: &'a str, status: u16) -> Record<'a> {
        let place = self.place.as_ref();
        Record {
            id: &self.id,
            client: self.client,
            method: method.as_str(),
            path,
            route: self.route_name(),
            operation: self.operation_name(),
            principal: self.principal.as_ref().map_or("", |principal| &*principal.name),
            alias: self.alias.as_ref().map_or("", |alias| alias.name.as_str()),
            model: &self.model,
            upstream_model: place.and_then(|place| place.model.as_deref()).unwrap_or_default(),
            cluster: place.map_or("", |place| place.cluster.name()),
            endpoint: place.map_or("", |place| place.endpoint.name.as_str()),
            key: place.map_or("", Place::key_name),
            upstream_id: &self.upstream_id,
            attempts: self.attempts,
            story: &self.story,
            lost: &self.lost,
            status,
            stream: self.tally.stream,
            bytes_in: self.tally.bytes_in,
            bytes_out: self.tally.bytes_out,
            tokens: self.tally.tokens,
            usage: self.tally.usage,
            cost: self.bill.cost(),
            timeline: &self.timeline,
            end: self.end(),
            error: self.failure.as_ref().map_or(self.note.as_str(), |error| {
                if error.private.is_empty() { &error.public } else { &error.private }
            }),
        }
    }
}
