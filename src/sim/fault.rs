//! Faults on demand: what they are called, how they are asked for, and when a configured one strikes.
//!
//! A list of faults is written `name[=argument][;name[=argument]]...`, in the `x-sim-fault` request header,
//! in `sim.fault` of a JSON request body, or in a [`FaultRule`].

use super::config::FaultRule;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One thing to go wrong. Counts of events are of SSE events already sent when the fault strikes; a reply that
/// is not a stream counts as two events, the halves of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `refuse`: close the connection as soon as it is accepted (by rule), or before any reply (by header).
    Refuse,
    /// `reset_before_head`: TCP reset (HTTP/2: RST_STREAM) instead of a reply.
    ResetBeforeHead,
    /// `reset_after_head`: the head, then a reset.
    ResetAfterHead,
    /// `garbage_head`: bytes that are not HTTP, then close. HTTP/2: as `reset_before_head`.
    GarbageHead,
    /// `slow_head[=MS]`: the head one byte at a time, `MS` (20) milliseconds apart. HTTP/2: the head that late.
    SlowHead(u64),
    /// `info_flood[=N]`: `N` (1000) responses `103 Early Hints` before the reply. HTTP/1 only.
    InfoFlood(u64),
    /// `switching`: an unasked `101 Switching Protocols` before the reply. HTTP/1 only.
    Switching,
    /// `status=NNN`: that error, in the shape of the API asked.
    Status(u16),
    /// `retry_after=SECONDS`: goes with `status`.
    RetryAfter(u64),
    /// `html[=NNN]`: an HTML error page with that status (502).
    Html(u16),
    /// `quota`: 429 because the account's money or quota is used up, with OpenAI's code for it.
    Quota,
    /// `error_body`: an error as the API writes it, with status 200.
    ErrorBody,
    /// `empty_body`: the head of the reply with its status 200, and no body.
    EmptyBody,
    /// `stall[=head|N[,MS]]`: silence before the head (default) or after `N` events, for `MS` milliseconds or,
    /// without `MS`, until the client leaves.
    Stall(Point, Option<u64>),
    /// `cut[=N]`: the connection closed cleanly after `N` (3) events, the body not ended.
    Cut(u64),
    /// `reset[=N]`: the connection reset after `N` (3) events.
    Reset(u64),
    /// `bad_chunk[=N]`: after `N` (3) events a chunk whose size is no number. HTTP/2: as `reset`.
    BadChunk(u64),
    /// `goaway[=N]`: after `N` (0) events, GOAWAY and close. HTTP/1: as `cut`.
    Goaway(u64),
    /// `error_event[=N]`: after `N` (0) events an error event as the API writes it, and a clean end.
    ErrorEvent(u64),
    /// `bad_event[=N]`: the event after `N` (3) events is broken: JSON without its end, a frame whose sum is wrong.
    BadEvent(u64),
    /// `huge_event[=BYTES]`: a first token of that size (1 MiB).
    HugeEvent(usize),
    /// `empty_stream`: status 200 and the stream's headers, but no event.
    EmptyStream,
    /// `no_done`: a clean end without the event that ends a stream of this API.
    NoDone,
    /// `one_byte`: everything written one byte at a time. HTTP/2: one byte a DATA frame, which peers that count
    /// small frames may take for an attack.
    OneByte,
    /// `slow_body[=MS]`: the body one byte at a time, `MS` (1000) milliseconds apart.
    SlowBody(u64),
    /// `vanish`: from the request on, the connection is neither read nor written nor closed, as if its peer had lost
    /// power. HTTP/2: with all its streams.
    Vanish,
    /// `wrong_length=long|short|+N|-N`: a Content-Length off by `N` (10) bytes.
    WrongLength(i64),
    /// `close_delimited`: neither a length nor chunks; the end is the end of the connection. HTTP/1 only.
    CloseDelimited,
    /// `gzip`: a reply compressed although nobody asked.
    Gzip,
}

/// Where a stall takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before the head of the reply.
    Head,
    /// After that many events.
    Event(u64),
}

/// The faults of one exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Faults(Vec<Fault>);

/// How the connection breaks in the midst of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    Cut,
    Reset,
    BadChunk,
    Goaway,
}

impl Faults {
    /// Reads `name[=argument][;...]`. The error says what to write instead.
    pub(crate) fn parse(list: &str) -> Result<Self, String> {
        list.split(';')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(parse_one)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// The first answer of `pick` over the faults, in the order they were written.
    pub(crate) fn find<T>(&self, pick: impl FnMut(&Fault) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(pick)
    }

    /// How the connection breaks once `events` events are out, if it does.
    pub(crate) fn break_at(&self, events: u64) -> Option<Break> {
        self.find(|fault| match *fault {
            Fault::Cut(n) if events >= n => Some(Break::Cut),
            Fault::Reset(n) if events >= n => Some(Break::Reset),
            Fault::BadChunk(n) if events >= n => Some(Break::BadChunk),
            Fault::Goaway(n) if events >= n => Some(Break::Goaway),
            _ => None,
        })
    }

    /// How long to wait after each byte of the body; nothing where it is written in one go.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.find(|fault| match *fault {
            Fault::OneByte => Some(Duration::ZERO),
            Fault::SlowBody(ms) => Some(Duration::from_millis(ms)),
            _ => None,
        })
    }

    /// How long to be silent at `point`: `Some(None)` is for ever.
    pub(crate) fn stall_at(&self, point: Point) -> Option<Option<u64>> {
        self.find(|fault| match *fault {
            Fault::Stall(at, ms) if at == point => Some(ms),
            _ => None,
        })
    }

    /// Whether a body sent in one piece must be cut in two for a fault to strike between.
    pub(crate) fn splits_body(&self) -> bool {
        self.find(|fault| match fault {
            Fault::Cut(_) | Fault::Reset(_) | Fault::BadChunk(_) | Fault::Goaway(_) => Some(()),
            Fault::Stall(Point::Event(_), _) => Some(()),
            _ => None,
        })
        .is_some()
    }
}

/// A configured fault with its memory of how often it was considered.
#[derive(Debug)]
pub(crate) struct Rule {
    faults: Faults,
    when: When,
    path: Option<String>,
    seen: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    Rate(f64),
    First(u64),
}

impl Rule {
    pub(crate) fn new(rule: &FaultRule) -> Result<Self, String> {
        let when = match (rule.rate, rule.first) {
            (None, None) => When::Always,
            (Some(rate), None) if (0.0..=1.0).contains(&rate) => When::Rate(rate),
            (Some(rate), None) => return Err(format!("fault rate {rate}: write a number from 0 to 1")),
            (None, Some(first)) => When::First(first),
            (Some(_), Some(_)) => return Err("a fault takes `rate` or `first`, not both".into()),
        };
        let faults = Faults::parse(&rule.fault)?;
        if faults.is_empty() {
            return Err("a fault rule names no fault: write for example `cut=3`".into());
        }
        Ok(Self { faults, when, path: rule.path.clone(), seen: AtomicU64::new(0) })
    }

    /// The faults of this rule for a request to `path`, if it strikes. `draw` is uniform in 0..1.
    pub(crate) fn strike(&self, path: &str, model_call: bool, draw: f64) -> Option<&Faults> {
        let meant = match &self.path {
            Some(prefix) => path.starts_with(prefix.as_str()),
            None => model_call,
        };
        (meant && !self.faults.has(Fault::Refuse) && self.due(draw)).then_some(&self.faults)
    }

    /// Whether this rule closes a connection that was just accepted.
    pub(crate) fn refuses(&self, draw: f64) -> bool {
        self.faults.has(Fault::Refuse) && self.due(draw)
    }

    fn due(&self, draw: f64) -> bool {
        match self.when {
            When::Always => true,
            When::Rate(rate) => draw < rate,
            When::First(n) => self.seen.fetch_add(1, Ordering::Relaxed) < n,
        }
    }
}

fn parse_one(text: &str) -> Result<Fault, String> {
    let (name, argument) = match text.split_once('=') {
        Some((name, argument)) => (name.trim(), Some(argument.trim())),
        None => (text, None),
    };
    let number = |default: u64| match argument {
        None => Ok(default),
        Some(text) => text.parse::<u64>().map_err(|_| format!("fault `{name}={text}`: write a whole number")),
    };
    let status = |default: Option<u16>| match (argument.map(str::parse::<u16>), default) {
        (None, Some(status)) => Ok(status),
        (Some(Ok(status)), _) if (200..=599).contains(&status) => Ok(status),
        _ => Err(format!("fault `{text}`: write `{name}=NNN` with a status from 200 to 599")),
    };
    Ok(match name.replace('-', "_").as_str() {
        "refuse" => Fault::Refuse,
        "reset_before_head" => Fault::ResetBeforeHead,
        "reset_after_head" => Fault::ResetAfterHead,
        "garbage_head" => Fault::GarbageHead,
        "slow_head" => Fault::SlowHead(number(20)?),
        "info_flood" => Fault::InfoFlood(number(1000)?),
        "switching" => Fault::Switching,
        "status" => Fault::Status(status(None)?),
        "retry_after" => Fault::RetryAfter(number(1)?),
        "html" => Fault::Html(status(Some(502))?),
        "quota" => Fault::Quota,
        "error_body" => Fault::ErrorBody,
        "empty_body" => Fault::EmptyBody,
        "stall" => parse_stall(argument)?,
        "cut" => Fault::Cut(number(3)?),
        "reset" => Fault::Reset(number(3)?),
        "bad_chunk" => Fault::BadChunk(number(3)?),
        "goaway" => Fault::Goaway(number(0)?),
        "error_event" => Fault::ErrorEvent(number(0)?),
        "bad_event" => Fault::BadEvent(number(3)?),
        "huge_event" => {
            Fault::HugeEvent(usize::try_from(number(1 << 20)?).unwrap_or(usize::MAX).min(1 << 28))
        }
        "empty_stream" => Fault::EmptyStream,
        "no_done" => Fault::NoDone,
        "one_byte" => Fault::OneByte,
        "slow_body" => Fault::SlowBody(number(1000)?),
        "vanish" => Fault::Vanish,
        "wrong_length" => parse_length(argument)?,
        "close_delimited" => Fault::CloseDelimited,
        "gzip" => Fault::Gzip,
        _ => return Err(format!("unknown fault `{name}`; known are {NAMES}")),
    })
}

fn parse_stall(argument: Option<&str>) -> Result<Fault, String> {
    let help =
        "fault `stall`: write `stall=head` or `stall=N` (events), with `,MS` after it for a stall that ends";
    let (point, ms) = match argument.unwrap_or("head").split_once(',') {
        Some((point, ms)) => (point, Some(ms.trim().parse::<u64>().map_err(|_| help)?)),
        None => (argument.unwrap_or("head"), None),
    };
    let point = match point.trim() {
        "head" => Point::Head,
        "first" => Point::Event(0),
        events => Point::Event(events.parse().map_err(|_| help)?),
    };
    Ok(Fault::Stall(point, ms))
}

fn parse_length(argument: Option<&str>) -> Result<Fault, String> {
    match argument.unwrap_or("long") {
        "long" => Ok(Fault::WrongLength(10)),
        "short" => Ok(Fault::WrongLength(-10)),
        number => number.parse().map(Fault::WrongLength).map_err(|_| {
            format!("fault `wrong_length={number}`: write `long`, `short`, or a signed number of bytes")
        }),
    }
}

const NAMES: &str = "refuse, reset_before_head, reset_after_head, garbage_head, slow_head, info_flood, switching, \
    status, retry_after, html, quota, error_body, empty_body, stall, cut, reset, bad_chunk, goaway, error_event, bad_event, \
    huge_event, empty_stream, no_done, one_byte, slow_body, vanish, wrong_length, close_delimited, gzip";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_fault_parses_bare_or_says_what_it_needs() {
        for name in NAMES.split(", ") {
            match Faults::parse(name) {
                Ok(faults) => assert!(!faults.is_empty(), "{name}"),
                Err(help) => assert!(help.contains("status=NNN"), "{name}: {help}"),
            }
        }
    }

    #[test]
    fn lists_and_arguments() {
        let list = Faults::parse("status=429; retry-after=2 ;one_byte;").unwrap();
        assert_eq!(list, Faults(vec![Fault::Status(429), Fault::RetryAfter(2), Fault::OneByte]));
        let stalls = Faults::parse("stall;stall=0;stall=2,50").unwrap();
        assert_eq!(stalls.stall_at(Point::Head), Some(None));
        assert_eq!(stalls.stall_at(Point::Event(0)), Some(None));
        assert_eq!(stalls.stall_at(Point::Event(2)), Some(Some(50)));
        assert_eq!(stalls.stall_at(Point::Event(1)), None);
        assert_eq!(Faults::parse("wrong_length=-3").unwrap(), Faults(vec![Fault::WrongLength(-3)]));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(Faults::parse("cutt").unwrap_err().contains("known are"));
        assert!(Faults::parse("cut=x").unwrap_err().contains("whole number"));
        assert!(Faults::parse("status=999").unwrap_err().contains("200 to 599"));
    }

    #[test]
    fn rules_strike_when_they_say() {
        let rule = |fault: &str, rate, first, path: Option<&str>| {
            Rule::new(&FaultRule { fault: fault.into(), rate, first, path: path.map(Into::into) })
        };
        let first = rule("cut", None, Some(2), None).unwrap();
        let struck: Vec<_> = (0..4).map(|_| first.strike("/v1/x", true, 0.0).is_some()).collect();
        assert_eq!(struck, [true, true, false, false]);
        let half = rule("cut", Some(0.5), None, None).unwrap();
        assert!(half.strike("/", true, 0.4).is_some() && half.strike("/", true, 0.6).is_none());
        let health = rule("status=503", None, None, Some("/health")).unwrap();
        assert!(health.strike("/health", false, 0.0).is_some());
        assert!(health.strike("/v1/chat/completions", true, 0.0).is_none());
        assert!(rule("cut", Some(1.5), None, None).is_err());
        assert!(rule("cut", Some(0.5), Some(1), None).is_err());
        assert!(rule("refuse", None, Some(1), None).unwrap().refuses(0.0));
    }
}
