//! Tells the audit log who changed what, and who was not let in.

use std::net::IpAddr;

use http::{Method, StatusCode};
use pingora_core::protocols::http::ServerSession;
use serde_json::Value;

use super::gate::Gate;
use crate::meter::audit::{self, Act};

/// The members of a POST's body that say what it is about. No others are noted: they could be secrets.
const TOLD: [&str; 12] = [
    "endpoint",
    "cluster",
    "deadline_s",
    "name",
    "id",
    "principal",
    "key_id",
    "team",
    "organisation",
    "enabled",
    "expires",
    "reason",
];

/// What a body is about, in short.
pub(super) fn told(body: &[u8]) -> String {
    if audit::on().is_none() {
        return String::new();
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return String::new() };
    let told = members.iter().filter(|(name, _)| TOLD.contains(&name.as_str()));
    let plain = told.filter(|(_, value)| !value.is_array() && !value.is_object());
    let said: Vec<String> = plain.map(|(name, value)| format!("{name}={value}")).collect();
    said.join(" ")
}

/// Tells the audit log of a request that changes something, or that was not let in.
pub(super) fn note(session: &ServerSession, gate: &Gate, status: StatusCode, about: &str) {
    let Some(audit) = audit::on() else { return };
    let head = session.req_header();
    let changes = !matches!(head.method, Method::GET | Method::HEAD);
    if !changes && status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN {
        return;
    }
    audit.act(Act {
        address: address(session),
        by: if status == StatusCode::UNAUTHORIZED { "" } else { gate.name() },
        method: head.method.as_str(),
        path: head.uri.path(),
        what: about,
        status: status.as_u16(),
    });
}

fn address(session: &ServerSession) -> Option<IpAddr> {
    session.client_addr()?.as_inet().map(|address| address.ip().to_canonical())
}
