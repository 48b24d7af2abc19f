//! The open loop: requests are due at a steady rate, whether or not replies come, and a latency counts from when its
//! request was due. Each connection has a thread of its own, because a runtime's timers are of a millisecond and a
//! sleeping thread wakes within microseconds.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fault::{Fault, Faults};
use crate::histogram::Histogram;
use crate::http1::Incoming;
use crate::phase::seconds;
use crate::wire::{Kind, Reply, Request};
use crate::{JsonArgs, Outcome};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// When a connection's requests are due.
#[derive(Clone, Copy)]
struct Timetable {
    first: Instant,
    period: Duration,
    measured: Instant,
    over: Instant,
}

struct Tally {
    exchanges: u64,
    latency: Histogram,
    late: Histogram,
    faults: Faults,
}

impl Tally {
    fn new() -> Self {
        Self { exchanges: 0, latency: Histogram::new(), late: Histogram::new(), faults: Faults::default() }
    }
}

/// Sends whole exchanges at `rate` a second.
pub(crate) fn run(args: &JsonArgs, rate: f64) -> io::Result<Outcome> {
    wake_in_time();
    let start = Instant::now() + Duration::from_millis(100);
    let measured = start + seconds(args.target.warm);
    let over = measured + seconds(args.target.seconds);
    let period = seconds(f64::from(args.connections) / rate);
    let threads = (0..args.connections).map(|first| {
        let offset = period.mul_f64(f64::from(first) / f64::from(args.connections));
        let times = Timetable { first: start + offset, period, measured, over };
        let args = args.clone();
        thread::spawn(move || client(&args, first, times))
    });
    let threads: Vec<_> = threads.collect();
    sleep_until(measured);
    crate::say("begin");
    sleep_until(over);
    crate::say("end");
    let mut all = Tally::new();
    for thread in threads {
        let tally = thread.join().map_err(|_| io::Error::other("a client failed"))?;
        all.exchanges += tally.exchanges;
        all.latency.merge(&tally.latency);
        all.late.merge(&tally.late);
        all.faults.merge(tally.faults);
    }
    let seen = json!({
        "exchanges": all.exchanges,
        "seconds": args.target.seconds,
        "rate": all.exchanges as f64 / args.target.seconds,
        "latency_us": all.latency.summary(),
        "late_us": all.late.summary(),
        "faults": all.faults.summary(),
    });
    Ok(Outcome { seen, clean: all.faults.none() && all.exchanges > 0 })
}

/// Asks the kernel not to gather this thread's timers, nor those of the threads it begins. Without it, sends are up
/// to 50 µs late, which the report shows.
fn wake_in_time() {
    let _ = fs::write("/proc/self/timerslack_ns", "1");
}

fn sleep_until(due: Instant) {
    thread::sleep(due.saturating_duration_since(Instant::now()));
}

fn client(args: &JsonArgs, first: u32, times: Timetable) -> Tally {
    let mut tally = Tally::new();
    let mut request = Request::new(&args.target.model, args.target.key.as_deref(), Kind::Whole);
    let mut expected = Reply::new();
    let mut link = None;
    let (mut number, mut due) = (first, times.first);
    while due < times.over && !tally.faults.hopeless() {
        sleep_until(due);
        let late = due.elapsed();
        let done = exchange(args, &mut link, request.numbered(number), expected.numbered(number));
        match done {
            Ok(close) => {
                if due >= times.measured {
                    tally.exchanges += 1;
                    tally.latency.add(due.elapsed());
                    tally.late.add(late);
                }
                if close {
                    link = None;
                }
            }
            Err(fault) => {
                tally.faults.add(&fault);
                link = None;
            }
        }
        number = number.wrapping_add(args.connections) % 100_000_000;
        due += times.period;
    }
    tally
}

/// One exchange; whether the connection ends after it.
fn exchange(
    args: &JsonArgs,
    link: &mut Option<TcpStream>,
    request: &[u8],
    expected: &[u8],
) -> Result<bool, Fault> {
    let stream = match link {
        Some(stream) => stream,
        None => link.insert(open(args)?),
    };
    stream.write_all(request)?;
    let mut reply = Incoming::new();
    let mut buffer = [0; 4096];
    while !reply.is_whole() {
        match stream.read(&mut buffer)? {
            0 => return Err(Fault::Lost("the connection ended within a reply".to_owned())),
            size => reply.take(buffer.get(..size).unwrap_or_default())?,
        }
    }
    if reply.body == expected {
        Ok(reply.close)
    } else {
        Err(Fault::Damaged("a reply has another body".to_owned()))
    }
}

fn open(args: &JsonArgs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(args.target.addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
