//! Log lines: JSON or text, written in batches by a thread of their own, so that no exchange waits for the disk.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::access_log::quote;
use crate::moment::rfc3339_millis;
use crate::snapshot::LogFormat;

/// The target that access lines are switched on and off by.
pub const ACCESS: &str = "access";

/// What the libraries below may say unless `RUST_LOG` asks for more. A handshake that fails is the client's doing, and
/// scanners fail many.
const QUIET: &str = "pingora_core=warn,pingora_core::services::listening=off,pingora_proxy=error,pingora_pool=warn,\
                     hickory=error,h2=warn";

/// How long a line may wait for company.
const LINGER: Duration = Duration::from_millis(50);
/// The most that is held when the writer cannot keep up, bytes; what comes then is dropped and counted.
const BOUND: usize = 8 << 20;

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    dropped: u64,
    written: u64,
    queued: u64,
}

#[derive(Debug, Default)]
struct Sink {
    buffer: Mutex<Buffer>,
    filled: Condvar,
    flushed: Condvar,
}

static SINK: LazyLock<Arc<Sink>> = LazyLock::new(Arc::default);

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        // A buffer is whole between any two statements, so a panic elsewhere does not spoil it.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut buffer = self.lock();
        if buffer.bytes.len() + line.len() > BOUND {
            buffer.dropped += 1;
            return;
        }
        let was_empty = buffer.bytes.is_empty();
        buffer.bytes.extend_from_slice(line);
        buffer.queued += line.len() as u64;
        drop(buffer);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn write_batches(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut buffer = self.lock();
            while buffer.bytes.is_empty() {
                buffer = self.filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
            }
            drop(buffer);
            std::thread::sleep(LINGER);
            let dropped = {
                let mut buffer = self.lock();
                std::mem::swap(&mut buffer.bytes, &mut batch);
                std::mem::take(&mut buffer.dropped)
            };
            if dropped > 0 {
                batch.extend_from_slice(format!("{{\"log\":\"forebay\",\"level\":\"ERROR\",\"message\":\"{dropped} log lines were dropped: the log's reader is too slow\"}}\n").as_bytes());
            }
            // There is nobody left to tell when the log itself cannot be written.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            let mut buffer = self.lock();
            buffer.written = buffer.queued - buffer.bytes.len() as u64;
            drop(buffer);
            self.flushed.notify_all();
            batch.clear();
        }
    }
}

/// The end of `env_logger`'s pipe.
struct Pipe;

impl Write for Pipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        SINK.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sets the process's logger up: lines go to standard error. `RUST_LOG` goes before `level`.
///
/// # Errors
/// When the writer's thread cannot be started, or a logger is set already.
pub fn init(format: LogFormat, level: &str) -> io::Result<()> {
    let sink = Arc::clone(&SINK);
    std::thread::Builder::new().name("log".into()).spawn(move || sink.write_batches(io::stderr()))?;
    // Pingora's own lines tell of its inner steps; what they matter for is told in Forebay's words.
    let filters = std::env::var("RUST_LOG").unwrap_or_else(|_| format!("{level},{QUIET}"));
    env_logger::Builder::new()
        .parse_filters(&filters)
        .target(env_logger::Target::Pipe(Box::new(Pipe)))
        .format(move |out, record| {
            // At this level the libraries below print whole heads, credentials and all.
            if record.level() == log::Level::Trace && !record.target().starts_with("forebay") {
                return Ok(());
            }
            writeln!(out, "{}", line(format, record))
        })
        .try_init()
        .map_err(io::Error::other)
}

/// Writes an access line as it is, past the formatter that every other line goes through.
pub fn access(mut line: String) {
    line.push('\n');
    SINK.push(line.as_bytes());
}

/// Waits until every line logged so far is written, at most two seconds.
pub fn flush() {
    let buffer = SINK.lock();
    let target = buffer.queued;
    let pending = |buffer: &mut Buffer| buffer.written < target;
    let _ = SINK.flushed.wait_timeout_while(buffer, Duration::from_secs(2), pending);
}

fn line(format: LogFormat, record: &log::Record<'_>) -> String {
    let message = record.args().to_string();
    let stamp = rfc3339_millis(SystemTime::now());
    let mut text = String::with_capacity(message.len() + 96);
    match format {
        LogFormat::Json => {
            for (name, value) in [
                ("{\"ts\":", stamp.as_str()),
                (",\"log\":", "forebay"),
                (",\"level\":", record.level().as_str()),
                (",\"target\":", record.target()),
                (",\"message\":", &message),
            ] {
                text.push_str(name);
                quote(&mut text, value);
            }
            text.push('}');
        }
        LogFormat::Text => {
            text = format!("{stamp} {:5} {} {}", record.level(), record.target(), message.escape_debug());
            // Such as turn the direction of what follows are printable to Rust.
            text.retain(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_message_stays_one_line(
            message in "([\r\n\0\u{85}\u{2028}\u{2029}\u{202e}\u{1b}\u{9b}\\\\\"{} a]|\\PC|.){0,60}",
        ) {
            for format in [LogFormat::Json, LogFormat::Text] {
                let arguments = format_args!("{message}").to_string();
                let line = line(
                    format,
                    &log::Record::builder().level(log::Level::Info).target("t").args(format_args!("{arguments}")).build(),
                );
                let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
                proptest::prop_assert!(!line.chars().any(breaks), "{:?}", line);
                if format == LogFormat::Json {
                    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                    proptest::prop_assert_eq!(value["message"].as_str(), Some(message.as_str()));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let sink = Sink::default();
        sink.push(&vec![b'x'; BOUND]);
        sink.push(b"one more");
        let buffer = sink.lock();
        assert_eq!((buffer.bytes.len(), buffer.dropped), (BOUND, 1));
    }
}
