//! Errors and rates: whatever an upstream says went wrong, every client can be told.

use std::time::{Duration, SystemTime};

use crate::dialect::ir::event::reported;
use crate::dialect::{Dialect, error, quota};
use crate::{choices, is_json, shown};

const DIALECTS: [Dialect; 5] =
    [Dialect::OpenaiChat, Dialect::OpenaiResponses, Dialect::Anthropic, Dialect::Gemini, Dialect::Converse];

pub(crate) fn run(data: &[u8]) {
    let ([what], data) = choices(data);
    if what % 4 == 0 { rates(data) } else { bodies(data) }
}

fn bodies(body: &[u8]) {
    if let Some(read) = error::read(body, None) {
        assert!(read.message.len() <= 4096, "a message is cut");
        for status in [400, 401, 402, 404, 429, 500, 503, 529] {
            read.meaning(status);
        }
    }
    let reported = reported(body);
    for dialect in DIALECTS {
        let told = error::render(dialect, &reported, "req_1");
        assert!(is_json(&told), "{dialect:?}: {}", shown(&told));
        assert!((400..600).contains(&error::status(dialect, reported.kind)));
    }
}

fn rates(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let quotas = quota::read(text.lines().filter_map(|line| line.split_once(':')), now);
    for dialect in DIALECTS {
        quota::tell(&quotas, dialect, now, |name, value| {
            assert!(quota::is_quota(name));
            assert!(http::HeaderValue::from_str(value).is_ok(), "{name}: {value}");
        });
    }
}
