//! Health, metrics, the configuration in force, and what drains, on a listener of their own.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health` | everything below, as JSON; 503 when not ready |
//! | `GET /health/live` | 200 as long as the process answers |
//! | `GET /health/ready` | 200 while new work is welcome |
//! | `GET /health/startup` | 200 once it was ready for the first time |
//! | `GET /metrics` | Prometheus's text format |
//! | `GET /snapshot` | routes, aliases, clusters and endpoints with their live state, without secrets |
//! | `GET /endpoints` | every endpoint, whether it serves or drains, and how many exchanges run there |
//! | `POST /endpoints/drain` | sends nothing new to an endpoint; what runs there has until `deadline_s`, if that is given |
//! | `POST /endpoints/resume` | sends new exchanges to it again |
//! | `GET /keys` | every principal with virtual keys: whose, since when unused, until when good; hashes, never keys |
//! | `POST /keys/create` | makes a principal with a fresh key, which is shown this once |
//! | `POST /keys/change` | sets what is said of a principal; `null` takes it back |
//! | `POST /keys/disable`, `/keys/enable` | takes none of its keys, takes them again |
//! | `POST /keys/rotate` | gives it a fresh key; the one before stays good for `keep_s` seconds, a day if that is left out. `expires` says a new end, `null` none |
//! | `POST /keys/delete` | forgets it |
//!
//! A POST has a body of JSON: `{"endpoint": "http://10.0.0.5:8000", "cluster": "gpu", "deadline_s": 30}`, of which only
//! the first is needed, in any form of [`Wanted`](crate::upstream::wanted::Wanted). It is answered as `GET /endpoints` is,
//! with those alone that were meant.
//!
//! Those below `/keys` have `{"name": "app"}`, and beside it, to create or change one, what `keys` has in the
//! configuration: `{"name": "app", "team": "search", "tools": false}`.
//!
//! Where a token is configured, all but the three short paths about health need it as `authorization: Bearer TOKEN`.
//! Without one, nothing can be changed, and no keys be listed, from another machine. No web page can change anything: a request with an
//! `Origin`, or without `content-type: application/json`, is refused.

mod audit;
mod drain;
mod gate;
mod keys;
mod state;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use serde_json::{Value, json};

use crate::exchange::Shared;
use crate::lifecycle::{Lifecycle, Phase};
use crate::meter::metrics::METRICS;
use crate::snapshot::{self, Snapshot};
use gate::Gate;

/// The admin listener's application.
pub struct Admin {
    shared: Arc<Shared>,
    lifecycle: Arc<Lifecycle>,
    gate: Gate,
    keys: keys::Store,
    began: Instant,
}

/// What is answered.
struct Answer {
    status: StatusCode,
    media: &'static str,
    text: Vec<u8>,
    /// What was asked, in short, for the audit log.
    about: String,
}

const JSON: &str = "application/json";

impl Answer {
    fn json(status: StatusCode, value: &Value) -> Self {
        let mut text = value.to_string().into_bytes();
        text.push(b'\n');
        Self { status, media: JSON, text, about: String::new() }
    }

    /// The same, of a request with that body.
    fn about(self, body: &[u8]) -> Self {
        Self { about: audit::told(body), ..self }
    }

    fn error(status: StatusCode, message: impl Into<String>) -> Self {
        Self::json(status, &json!({ "error": message.into() }))
    }

    /// Whether something is so.
    fn said(is: bool, what: &str) -> Self {
        let status = if is { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Self::json(status, &json!({ what: is }))
    }
}

impl Admin {
    /// An admin listener over the exchanges' state and the process's life.
    pub fn new(shared: Arc<Shared>, lifecycle: Arc<Lifecycle>, settings: &snapshot::Admin) -> Self {
        Self {
            shared,
            lifecycle,
            gate: Gate::new(settings),
            keys: keys::Store::default(),
            began: Instant::now(),
        }
    }

    async fn answer(&self, session: &mut ServerSession) -> Answer {
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        if let Err(refused) = self.gate.lets_in(head) {
            return refused;
        }
        if let (&Method::POST, Some(order)) = (&method, keys::Order::at(&path)) {
            return match gate::body(session).await {
                Ok(body) => {
                    let access = &self.shared.snapshot.load().access;
                    self.keys.obey(order, &body, access, SystemTime::now()).about(&body)
                }
                Err(refused) => refused,
            };
        }
        match (&method, drain::Order::at(&path)) {
            (&Method::POST, Some(order)) => match gate::body(session).await {
                Ok(body) => {
                    let answer = drain::obey(order, &body, &self.shared.snapshot.load(), Instant::now());
                    answer.about(&body)
                }
                Err(refused) => refused,
            },
            (_, Some(_)) => Answer::error(StatusCode::METHOD_NOT_ALLOWED, "use POST"),
            (&Method::GET | &Method::HEAD, None) => self.look(&path),
            (_, None) => Answer::error(StatusCode::METHOD_NOT_ALLOWED, "use GET"),
        }
    }

    fn look(&self, path: &str) -> Answer {
        let snapshot = self.shared.snapshot.load();
        match path {
            "/health" => self.health(&snapshot),
            "/health/live" => Answer::said(true, "live"),
            "/health/ready" => Answer::said(self.lifecycle.phase() == Phase::Serving, "ready"),
            "/health/startup" => Answer::said(self.lifecycle.phase() != Phase::Starting, "started"),
            "/metrics" => {
                state::observe(&snapshot);
                let media = "text/plain; version=0.0.4; charset=utf-8";
                Answer { status: StatusCode::OK, media, text: METRICS.render(), about: String::new() }
            }
            "/snapshot" => Answer::json(StatusCode::OK, &state::dump(&snapshot)),
            "/endpoints" => Answer::json(StatusCode::OK, &drain::all(&snapshot, Instant::now())),
            "/keys" => Answer::json(StatusCode::OK, &keys::all(&snapshot.access)),
            path if keys::Order::at(path).is_some() => {
                Answer::error(StatusCode::METHOD_NOT_ALLOWED, "use POST")
            }
            _ => Answer::error(
                StatusCode::NOT_FOUND,
                "there are /health, /health/live, /health/ready, /health/startup, /metrics, /snapshot, /endpoints, \
                 /endpoints/drain, /endpoints/resume, /keys, /keys/create, /keys/change, /keys/disable, /keys/enable, \
                 /keys/rotate and /keys/delete",
            ),
        }
    }

    fn health(&self, snapshot: &Snapshot) -> Answer {
        let now = Instant::now();
        let providers: Vec<Value> =
            snapshot.clusters.iter().map(|cluster| state::provider(cluster, now)).collect();
        let any = snapshot.clusters.iter().any(|cluster| cluster.available(now));
        let status = match (self.lifecycle.phase(), any) {
            (Phase::Starting, _) => "starting",
            (Phase::Stopping, _) => "stopping",
            (Phase::Serving, true) => "healthy",
            (Phase::Serving, false) => "unhealthy",
        };
        let all = snapshot.clusters.iter().all(|cluster| cluster.available(now));
        let status = if status == "healthy" && !all { "degraded" } else { status };
        let code = if self.lifecycle.phase() == Phase::Serving {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Answer::json(
            code,
            &json!({
                "status": status,
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_seconds": self.began.elapsed().as_secs(),
                "in_flight": self.shared.live(),
                "providers": providers,
                "dependencies": { "disk": state::disk() },
            }),
        )
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let Answer { status, media, text, about } = self.answer(session).await;
        audit::note(session, &self.gate, status, &about);
        if !session.is_body_done() {
            // What is left of a body is not waited for.
            session.set_keepalive(None);
        }
        let mut built = Response::builder()
            .status(status)
            .header("content-type", media)
            .header("content-length", text.len())
            .header("cache-control", "no-store");
        if status == StatusCode::UNAUTHORIZED {
            built = built.header("www-authenticate", "Bearer");
        }
        built.body(text).unwrap_or_default()
    }
}
