//! One line an exchange.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::ledger::Known;
use super::price::Money;
use super::timeline::Timeline;
use crate::dialect::usage::Usage;
use crate::error::{Blame, Error, Kind};
use crate::moment::digits;
use crate::snapshot::LogFormat;

/// Who ended an exchange, after haproxy's manner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody: it ran to its end.
    Nobody,
    /// The client left.
    Client,
    /// The client was too slow.
    ClientTimeout,
    /// The upstream failed.
    Upstream,
    /// The upstream was too slow.
    UpstreamTimeout,
    /// A rule refused it.
    Policy,
    /// Forebay failed.
    Gateway,
}

/// When it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// While the request was read and routed.
    Request,
    /// While it waited for a place.
    Queue,
    /// While a connection was made.
    Connect,
    /// While the response head was awaited.
    Head,
    /// While the first token was awaited.
    FirstToken,
    /// In the middle of the reply.
    Data,
    /// At its end.
    End,
}

impl Who {
    /// Whose fault an error is.
    pub fn of(error: &Error) -> Self {
        match (error.blame, error.kind) {
            (Blame::Client, Kind::ClientTimeout) => Self::ClientTimeout,
            (Blame::Client, _) => Self::Client,
            (Blame::Upstream, Kind::UpstreamTimeout) => Self::UpstreamTimeout,
            (Blame::Upstream, _) => Self::Upstream,
            (Blame::Policy, _) => Self::Policy,
            (Blame::Gateway, _) => Self::Gateway,
        }
    }

    pub(super) fn letter(self) -> char {
        match self {
            Self::Nobody => '-',
            Self::Client => 'C',
            Self::ClientTimeout => 'c',
            Self::Upstream => 'U',
            Self::UpstreamTimeout => 'u',
            Self::Policy => 'P',
            Self::Gateway => 'G',
        }
    }
}

impl When {
    pub(super) fn letter(self) -> char {
        match self {
            Self::Request => 'R',
            Self::Queue => 'Q',
            Self::Connect => 'C',
            Self::Head => 'H',
            Self::FirstToken => 'T',
            Self::Data => 'D',
            Self::End => '-',
        }
    }

    /// The name used in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Head => "head",
            Self::FirstToken => "first_token",
            Self::Data => "data",
            Self::End => "end",
        }
    }
}

/// What an exchange cost, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// All its attempts together; nothing where one of them has no price.
    pub sum: Option<Money>,
    /// How the least certain part of it is known.
    pub known: Known,
}

/// What a line says.
#[derive(Debug)]
pub struct Record<'a> {
    /// The exchange's id.
    pub id: &'a str,
    /// The address of the client, after trusted proxies.
    pub client: Option<IpAddr>,
    /// The request's method.
    pub method: &'a str,
    /// The path without its query, which may hold a key.
    pub path: &'a str,
    /// The route's name.
    pub route: &'a str,
    /// The operation's name.
    pub operation: &'a str,
    /// Who called.
    pub principal: &'a str,
    /// The model alias's configured name.
    pub alias: &'a str,
    /// The model that the client named.
    pub model: &'a str,
    /// What it is called upstream.
    pub upstream_model: &'a str,
    /// The cluster's name.
    pub cluster: &'a str,
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// The name of the provider's key, where the cluster has several.
    pub key: &'a str,
    /// The upstream's own request id.
    pub upstream_id: &'a str,
    /// Attempts made.
    pub attempts: u32,
    /// What had no place in the upstream's dialect, or in the client's.
    pub lost: &'a str,
    /// Why it did not stay with the first place.
    pub story: &'a str,
    /// The status sent; 499 where the client left before one was.
    pub status: u16,
    /// Whether the reply was a stream.
    pub stream: bool,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the reply's body.
    pub bytes_out: u64,
    /// Events with content.
    pub tokens: u64,
    /// Usage as reported.
    pub usage: Option<Usage>,
    /// What it cost, unless that is nothing by its nature.
    pub cost: Option<Cost>,
    /// The moments.
    pub timeline: &'a Timeline,
    /// Who and when.
    pub end: (Who, When),
    /// What went wrong, for the operator.
    pub error: &'a str,
}

impl Record<'_> {
    /// The line, without its line end. `stamp` is the time as RFC 3339.
    pub fn line(&self, format: LogFormat, stamp: &str, now: Instant) -> String {
        let mut line = Line::new(format);
        line.text("ts", stamp);
        line.text("log", "access");
        self.who(&mut line);
        self.what(&mut line);
        self.times(&mut line, now);
        line.finish()
    }

    fn who(&self, line: &mut Line) {
        line.text("id", self.id);
        if let Some(client) = self.client {
            line.display("client", &client);
        }
        for (name, value) in [
            ("method", self.method),
            ("path", self.path),
            ("route", self.route),
            ("operation", self.operation),
            ("principal", self.principal),
            ("alias", self.alias),
            ("model", self.model),
            ("upstream_model", self.upstream_model),
            ("cluster", self.cluster),
            ("endpoint", self.endpoint),
            ("provider_key", self.key),
            ("upstream_id", self.upstream_id),
            ("dropped", self.lost),
            ("passed", self.story),
            ("error", self.error),
        ] {
            if !value.is_empty() {
                line.text(name, value);
            }
        }
    }

    fn what(&self, line: &mut Line) {
        line.number("status", self.status.into());
        let end: String = [self.end.0.letter(), self.end.1.letter()].into_iter().collect();
        line.text("end", &end);
        line.number("attempts", self.attempts.into());
        line.number("stream", self.stream.into());
        line.number("bytes_in", self.bytes_in);
        line.number("bytes_out", self.bytes_out);
        if self.stream {
            line.number("events", self.tokens);
        }
        self.money(line);
        let Some(usage) = self.usage else { return };
        for (name, value) in [
            ("input_tokens", usage.input.total),
            ("cached_tokens", usage.input.cached),
            ("written_tokens", usage.input.written),
            ("output_tokens", usage.output.total),
            ("reasoning_tokens", usage.output.reasoning),
        ] {
            if let Some(value) = value {
                line.number(name, value);
            }
        }
    }

    fn money(&self, line: &mut Line) {
        let Some(cost) = self.cost else { return };
        match cost.sum {
            Some(sum) => line.plain("cost_usd", &sum),
            None => line.plain("cost_usd", &"null"),
        }
        line.text("cost_known", cost.sum.map_or("unpriced", |_| cost.known.name()));
    }

    fn times(&self, line: &mut Line, now: Instant) {
        let began = self.timeline.began;
        for (name, at) in [
            ("t_request", self.timeline.received),
            ("t_connect", self.timeline.connected),
            ("t_sent", self.timeline.sent),
            ("t_head", self.timeline.head),
            ("t_first", self.timeline.first_token),
            ("t_last", self.timeline.last_token),
            ("t_total", Some(now)),
        ] {
            if let Some(at) = at {
                line.millis(name, at.saturating_duration_since(began));
            }
        }
        line.millis("t_own", self.timeline.own);
    }
}

/// A line under construction.
pub(super) struct Line {
    format: LogFormat,
    text: String,
}

impl Line {
    pub(super) fn new(format: LogFormat) -> Self {
        let mut text = String::with_capacity(640);
        if format == LogFormat::Json {
            text.push('{');
        }
        Self { format, text }
    }

    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Json => {
                if self.text.len() > 1 {
                    self.text.push(',');
                }
                self.text.push('"');
                self.text.push_str(name);
                self.text.push_str("\":");
            }
            LogFormat::Text => {
                if !self.text.is_empty() {
                    self.text.push(' ');
                }
                self.text.push_str(name);
                self.text.push('=');
            }
        }
    }

    /// A string. It is quoted and escaped, so that no client can forge a line or a field.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        if self.format == LogFormat::Text && is_plain(value) {
            self.text.push_str(value);
        } else {
            quote(&mut self.text, value);
        }
    }

    fn display(&mut self, name: &str, value: &impl std::fmt::Display) {
        self.name(name);
        let quote = if self.format == LogFormat::Json { "\"" } else { "" };
        let _ = write!(self.text, "{quote}{value}{quote}");
    }

    /// A value that needs no quotes.
    pub(super) fn plain(&mut self, name: &str, value: &impl std::fmt::Display) {
        self.name(name);
        let _ = write!(self.text, "{value}");
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.text.push_str(itoa::Buffer::new().format(value));
    }

    /// Milliseconds with microseconds behind the point.
    fn millis(&mut self, name: &str, value: Duration) {
        self.name(name);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.text.push_str(itoa::Buffer::new().format(micros / 1000));
        self.text.push('.');
        digits(&mut self.text, micros % 1000, 3);
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == LogFormat::Json {
            self.text.push('}');
        }
        self.text
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\'))
}

/// Appends `value` as a JSON string.
pub(super) fn quote(text: &mut String, value: &str) {
    text.push('"');
    if value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') {
        text.push_str(value);
        text.push('"');
        return;
    }
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            // DEL and C1 drive terminals just as C0 does; some readers end lines at U+2028 and U+2029, and the others turn
            // the direction of what follows.
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            _ => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(timeline: &'a Timeline, model: &'a str) -> Record<'a> {
        Record {
            id: "req-1",
            client: Some("10.0.0.1".parse().unwrap()),
            method: "POST",
            path: "/v1/chat/completions",
            route: "main",
            operation: "chat_completions",
            principal: "alice",
            alias: "gpt-*",
            model,
            upstream_model: "",
            cluster: "openai",
            endpoint: "https://api.openai.com",
            key: "",
            upstream_id: "",
            attempts: 1,
            story: "",
            lost: "",
            status: 200,
            stream: true,
            bytes_in: 10,
            bytes_out: 20,
            tokens: 3,
            usage: None,
            cost: None,
            timeline,
            end: (Who::Nobody, When::End),
            error: "",
        }
    }

    #[test]
    fn a_json_line_parses_and_carries_what_a_client_forged_as_text() {
        let timeline = Timeline::begin(Instant::now());
        let forged = "x\",\"status\":500}\n{\"\u{1b}[31m";
        let line = record(&timeline, forged).line(LogFormat::Json, "2026-01-01T00:00:00Z", timeline.began);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["model"], forged);
        assert_eq!(value["status"], 200);
        assert_eq!(value["end"], "--");
        assert_eq!(value["t_total"], 0.0);
        assert!(!line.contains('\n') && !line.contains('\u{1b}'));
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_caller_names_breaks_a_line(
            model in "([\r\n\0\u{85}\u{2028}\u{2029}\u{202e}\u{1b}\u{9b}\u{feff}\\\\\"=,{} a]|\\PC|.){0,40}",
            path in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
        ) {
            let timeline = Timeline::begin(Instant::now());
            // What is no UTF-8 has been made some before it is logged.
            let path = String::from_utf8_lossy(&path);
            let record = Record { id: &model, path: &path, error: &model, ..record(&timeline, &model) };
            let json = record.line(LogFormat::Json, "2026-01-01T00:00:00Z", timeline.began);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            if !model.is_empty() {
                proptest::prop_assert_eq!(value["model"].as_str(), Some(model.as_str()));
            }
            proptest::prop_assert_eq!(&value["status"], 200);
            let text = record.line(LogFormat::Text, "2026-01-01T00:00:00Z", timeline.began);
            for line in [json, text] {
                proptest::prop_assert!(!line.chars().any(breaks_lines), "{:?}", line);
            }
        }
    }

    /// Whether some reader ends a line there, or a terminal obeys it.
    fn breaks_lines(c: char) -> bool {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }

    #[test]
    fn what_it_cost_is_a_number_and_what_nobody_knows_is_none() {
        let timeline = Timeline::begin(Instant::now());
        let line = |sum| {
            let cost = Some(Cost { sum, known: Known::Counted });
            let record = Record { cost, ..record(&timeline, "m") };
            let line = record.line(LogFormat::Json, "2026-01-01T00:00:00Z", timeline.began);
            serde_json::from_str::<serde_json::Value>(&line).unwrap()
        };
        let known = line(Money::dollars("0.0006306"));
        assert_eq!(
            (known["cost_usd"].as_f64(), known["cost_known"].as_str()),
            (Some(0.0006306), Some("counted"))
        );
        let unknown = line(None);
        assert!(unknown["cost_usd"].is_null() && unknown["cost_known"] == "unpriced", "{unknown}");
    }

    #[test]
    fn a_text_line_quotes_only_what_needs_it() {
        let timeline = Timeline::begin(Instant::now());
        let line = record(&timeline, "a b=c").line(LogFormat::Text, "now", timeline.began);
        assert!(line.contains("principal=alice ") && line.contains("model=\"a b=c\""), "{line}");
    }
}
