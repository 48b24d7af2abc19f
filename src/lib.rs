//! Forebay: the L7 edge in front of a fleet of LLM APIs and GPU nodes.
//!
//! A *forebay* is the pool right in front of a power station's turbines: it evens the flow and gates the intakes.
//!
//! # The life of an exchange
//!
//! ```text
//! server ─ guard ─ admit ─ receive ─ find alias ─ reserve ─ plan ─┬─ attempt ─┐
//!          strict  route   bounds    model →      limits    order │  write    │ it failed before
//!          HTTP    caller  policies  deployments  budgets         │  connect  │ its first content:
//!                                                                 │  send     │ the next place,
//!                                                                 │  open     │ or a wait
//!                                                                 └───────────┘
//!                                                                       │
//!          log line ─ metrics ─ settle ─ ledger ─ each attempt closed ─ deliver
//!                                                                       as it is, or translated
//! ```
//!
//! It stands as a list of steps in [`exchange`], and as tries in [`exchange::engine`]. An attempt writes the request in
//! the upstream's dialect: the client's own bytes with a few spliced in where both speak the same, through
//! [`dialect::ir`] elsewhere. Nothing of a reply is committed to the client before its first content, unless a heartbeat
//! has to keep a waiting stream alive, and that is a comment; until then another attempt may take over, or be made beside
//! one that is slow.
//!
//! # Floors
//!
//! A module imports only from lower floors; `tests/floors.rs` proves it.
//!
//! ```text
//! main (and its quick start, and what operators ask)
//! server   admin                       the process
//! exchange | config                    strangers to each other: they meet in the snapshot
//! snapshot
//! provider  access  limit  upstream  route  filter
//! store                                what all nodes share: Redis
//! dialect  meter
//! json  frame
//! error  secret  clocks  lifecycle  moment  pattern  priority
//!
//! sim stands apart: nothing but main uses it
//! ```
//!
//! # Where this departs from a plain Pingora proxy
//!
//! Pingora gives the server, the listeners, TLS, the client's HTTP/1 and HTTP/2 sessions, the connectors with their
//! pools, and the pipeline that raw routes use. Five things it does not give are built beside it:
//!
//! - **The attempt engine** is a loop of our own. Pingora's pipeline picks the upstream before the body is known,
//!   forwards no body over 64 KiB that was read already, and cannot send another body to another place.
//! - **The way in** ([`exchange::serve`]): an LLM exchange is served outside the proxy pipeline altogether, not inside
//!   its `request_filter` as first designed, because the pipeline's futures cost every open stream some 16 KiB. Only raw
//!   routes go through it.
//! - **HTTP/1.1** of an LLM exchange is our own on both sides ([`exchange::http1`], [`upstream::http1`]), with a pool of its
//!   own ([`upstream::pool`]): Pingora's sessions parse a screened head again, hold 64 KiB for a body, write a head apart
//!   from what follows, and its pool keeps a task and a timer for every idle connection. It took an exchange from 1.25 to
//!   under 0.9 of a bare Pingora proxy's CPU, and a stream from 47 to under 30 KiB. Pingora keeps the listeners, TLS both
//!   ways and HTTP/2 both ways.
//! - **The guard** ([`exchange::guard`]) stands between a client's connection and Pingora's HTTP/1 session, because
//!   Pingora repairs or drops what a strict front must refuse, before any of its filters can see it.
//! - **The drain** ([`server`]) ends the process as soon as nothing runs; Pingora sleeps for a fixed time.
//!
//! # Decisions that differ from the first design
//!
//! - YAML is read with `saphyr-parser` rather than `serde_yaml`, which is archived and knows no positions: every
//!   diagnostic names its line, and duplicate keys are errors.
//! - An endpoint holds Pingora's prepared peers, so [`upstream`] names Pingora types too, beside `server`, `admin` and
//!   [`exchange`].
//! - The credential is a property of a cluster, not of a provider: a provider is a row of facts, a cluster is what
//!   someone runs or pays for.
//! - Claude on Bedrock's InvokeModel and on Vertex AI, and Azure's dated API, are forms of their dialects
//!   ([`dialect::form`]), not dialects of their own: the client's bytes pass but for a member or two, so that nothing that
//!   Anthropic adds tomorrow is lost there, and frames are taken off where the connection is read.
//! - A reply of another kind than was asked for (a stream for a whole reply, a whole reply for a stream) is made into it
//!   through the intermediate representation, also where both sides speak the same dialect. Engines that notice a gone
//!   client only on streams are asked for streams on purpose ([`upstream::cluster::ClusterSpec::fold`]).
//! - A stream with which another endpoint may have to go on ([`upstream::cluster::ClusterSpec::continues`]) is asked in chat
//!   and read through the intermediate representation too: only there is it known what the client was told.
//! - A queue's wait is foretold by how long places are held on average, not by a model of the engine: that holds for any.
//!   A cluster's limit is sought by the time to first token of its streams, whose quiet value is never learnt in a crowd.
//! - What goes elsewhere because of load is decided in two ways ([`upstream::spill`]): a long queue sends away only what
//!   finds no place, so that GPUs stay in use; every other sign sets the cluster aside as a whole.
//! - Ids that one upstream alone knows carry a signed mark only where a model has several owners
//!   ([`dialect::owned`]): a lone upstream's replies pass untouched.
//! - What an attempt used is known in one place, where it is closed ([`exchange`]'s bill): the ledger, the limits, the
//!   budgets and the metrics of cost all take it from there, so that they cannot differ.
//! - Limits that nodes share are told to the store as absolute numbers ([`limit::Remote`]), never as differences: an answer
//!   that was lost, a try again or an outage counts once.
//! - Tokens of identity providers are verified with aws-lc-rs itself: what a JWT crate would add is a page of code, and the
//!   choice of algorithms is what such crates have been wrong about.
//! - The shield against guessing ([`access::shield`]) counts exactly: an estimator's collisions would shut out callers who
//!   did nothing. Pingora's estimators are the shield against floods, where they cost an innocent one a second.
//! - The table of losses is found by running the translators on a probe for each field ([`dialect::loss`]), not kept
//!   beside them.

pub mod access;
pub mod admin;
pub mod clocks;
pub mod config;
pub mod dialect;
pub mod error;
pub mod exchange;
pub mod filter;
pub mod frame;
pub mod json;
pub mod lifecycle;
pub mod limit;
pub mod meter;
pub mod moment;
pub mod network;
pub mod pattern;
pub mod priority;
pub mod provider;
pub mod route;
pub mod secret;
pub mod server;
pub mod sim;
pub mod snapshot;
pub mod store;
pub mod upstream;
