//! Streams: how long each event was under way, and how long the first one took.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fault::{Fault, Faults};
use crate::histogram::Histogram;
use crate::link::Link;
use crate::phase::{Now, Phase, seconds};
use crate::wire::{EVENT, Event, Kind, Request, ending};
use crate::{Outcome, SseArgs};

/// How long streams may take to end when all is over, besides the time that they have.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many events a short stream has.
const SHORT: u32 = 5;

/// What all streams of a run saw.
struct Tally {
    /// Streams whose first event came.
    open: u32,
    /// Streams that came whole.
    whole: u64,
    /// Events in the time that is measured.
    events: u64,
    delay: Histogram,
    /// From the request to the first event, where the connection was new.
    opening: Histogram,
    /// The same for short streams, whose connections are kept.
    first: Histogram,
    faults: Faults,
}

type Shared = Rc<RefCell<Tally>>;

/// Holds streams open and looks at every byte of them.
pub(crate) async fn run(args: SseArgs) -> io::Result<Outcome> {
    let tally = Rc::new(RefCell::new(Tally {
        open: 0,
        whole: 0,
        events: 0,
        delay: Histogram::new(),
        opening: Histogram::new(),
        first: Histogram::new(),
        faults: Faults::default(),
    }));
    let now = Now::new();
    let mut clients = JoinSet::new();
    for number in 0..args.streams {
        let after = seconds(args.ramp * f64::from(number) / f64::from(args.streams));
        clients.spawn_local(long(args.clone(), number, after, now.clone(), Rc::clone(&tally)));
    }
    sleep(seconds(args.ramp + args.target.warm)).await;
    let missing = args.streams - tally.borrow().open;
    if missing > 0 {
        tally.borrow_mut().faults.add(&Fault::Lost(format!("{missing} streams did not open in time")));
    }
    let took = now.measure(&args.target).await;
    churn(&args, &now, &mut clients, &tally).await;
    if timeout(PATIENCE, async { while clients.join_next().await.is_some() {} }).await.is_err() {
        tally.borrow_mut().faults.add(&Fault::Lost("streams did not end".to_owned()));
    }
    Ok(outcome(&args, took, &tally.borrow()))
}

fn outcome(args: &SseArgs, took: f64, tally: &Tally) -> Outcome {
    let seen = json!({
        "streams": args.streams,
        "whole": tally.whole,
        "events": tally.events,
        "seconds": took,
        "rate": tally.events as f64 / took,
        "delay_us": tally.delay.summary(),
        "opening_us": tally.opening.summary(),
        "first_us": tally.first.summary(),
        "faults": tally.faults.summary(),
    });
    Outcome { seen, clean: tally.faults.none() && tally.events > 0 }
}

/// Runs short streams beside the long ones.
async fn churn(args: &SseArgs, now: &Now, clients: &mut JoinSet<()>, tally: &Shared) {
    if args.churn <= 0.0 {
        return;
    }
    now.set(Phase::Churn);
    for slot in 0..args.churn_slots {
        let number = args.streams + slot;
        clients.spawn_local(short(args.clone(), number, now.clone(), Rc::clone(tally)));
    }
    sleep(seconds(args.churn)).await;
    now.set(Phase::Over);
}

impl SseArgs {
    fn request(&self, events: u32) -> Request {
        let interval = (self.interval_ms * 1e3) as u32;
        let kind = Kind::Stream { events, interval, usage: !self.no_usage };
        Request::new(&self.target.model, self.target.key.as_deref(), kind)
    }

    /// How many events a stream must have to last the whole run.
    fn events(&self) -> u32 {
        let run = self.ramp + self.target.warm + self.target.seconds + self.churn + 0.5;
        (run * 1e3 / self.interval_ms).ceil() as u32
    }
}

/// A stream that lasts the whole run.
async fn long(args: SseArgs, number: u32, after: Duration, now: Now, tally: Shared) {
    sleep(after).await;
    let events = args.events();
    let mut request = args.request(events);
    let stream = Stream { number, expected: Expected::new(number, events, !args.no_usage), now, tally };
    let mut link = match Link::open(args.target.addr).await {
        Ok(link) => link,
        Err(error) => return stream.tally.borrow_mut().faults.add(&Fault::from(error)),
    };
    let tally = Rc::clone(&stream.tally);
    let first = |took| {
        let mut tally = tally.borrow_mut();
        tally.open += 1;
        tally.opening.add(took);
    };
    stream.run(&mut link, &mut request, first).await;
}

/// Short streams one after another, with a pause so that the slots do not march in step.
async fn short(args: SseArgs, mut number: u32, now: Now, tally: Shared) {
    sleep(Duration::from_millis(u64::from(number % 100))).await;
    let mut request = args.request(SHORT);
    let mut link = None;
    while now.is(Phase::Churn) {
        let open = match link.take() {
            Some(link) => Ok(link),
            None => Link::open(args.target.addr).await,
        };
        let mut open = match open {
            Ok(open) => open,
            Err(error) => return tally.borrow_mut().faults.add(&Fault::from(error)),
        };
        let expected = Expected::new(number, SHORT, !args.no_usage);
        let stream = Stream { number, expected, now: now.clone(), tally: Rc::clone(&tally) };
        let first = |took| tally.borrow_mut().first.add(took);
        let whole = stream.run(&mut open, &mut request, first).await;
        if whole && !open.reply.close {
            link = Some(open);
        }
        if tally.borrow().faults.hopeless() {
            return;
        }
        number = number.wrapping_add(args.churn_slots) % 100_000_000;
    }
}

/// A stream as it is read.
struct Stream {
    number: u32,
    expected: Expected,
    now: Now,
    tally: Shared,
}

impl Stream {
    /// Reads the stream to its end and calls `first` with how long the first event took; whether it came whole.
    async fn run(mut self, link: &mut Link, request: &mut Request, first: impl FnOnce(Duration)) -> bool {
        let done = self.read(link, request, first).await;
        let mut tally = self.tally.borrow_mut();
        match &done {
            Ok(()) => tally.whole += 1,
            Err(fault) => tally.faults.add(fault),
        }
        done.is_ok()
    }

    async fn read(
        &mut self,
        link: &mut Link,
        request: &mut Request,
        first: impl FnOnce(Duration),
    ) -> Result<(), Fault> {
        let mut first = Some(first);
        let began = Instant::now();
        link.send(request.numbered(self.number)).await?;
        while !link.reply.is_whole() {
            link.more().await?;
            self.events(&mut link.reply.body)?;
            if self.expected.place > 0
                && let Some(first) = first.take()
            {
                first(began.elapsed());
            }
        }
        self.expected.finished()
    }

    fn events(&mut self, body: &mut Vec<u8>) -> Result<(), Fault> {
        let received = nanos();
        let mut tally = self.tally.borrow_mut();
        let measured = self.now.is(Phase::Measured);
        self.expected.take(body, |sent| {
            if measured {
                tally.events += 1;
                tally.delay.add_nanos(received.saturating_sub(sent));
            }
        })
    }
}

/// Nanoseconds since the UNIX epoch: the clock that the upstream writes into events.
pub(crate) fn nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// What is still to come of a stream.
struct Expected {
    event: Event,
    place: u32,
    events: u32,
    ending: Vec<u8>,
    ended: usize,
}

impl Expected {
    fn new(number: u32, events: u32, usage: bool) -> Self {
        let ending = ending(number, events, usage).concat();
        Self { event: Event::new(number), place: 0, events, ending, ended: 0 }
    }

    /// Takes whole events out of what came, and tells when each was sent.
    fn take(&mut self, body: &mut Vec<u8>, mut sent: impl FnMut(u64)) -> Result<(), Fault> {
        let mut at = 0;
        while self.place < self.events {
            let Some(event) = body.get(at..at + EVENT) else { break };
            sent(self.event.sent(self.place, event).ok_or_else(|| strange(event))?);
            self.place += 1;
            at += EVENT;
        }
        if self.place == self.events {
            let rest = body.get(at..).unwrap_or_default();
            if self.ending.get(self.ended..self.ended + rest.len()) != Some(rest) {
                return Err(strange(rest));
            }
            self.ended += rest.len();
            at = body.len();
        }
        body.drain(..at);
        Ok(())
    }

    fn finished(&self) -> Result<(), Fault> {
        if self.place == self.events && self.ended == self.ending.len() {
            Ok(())
        } else {
            Err(Fault::Lost(format!("a stream ended after {} of {} events", self.place, self.events)))
        }
    }
}

fn strange(bytes: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(bytes.get(..EVENT.min(bytes.len())).unwrap_or_default()).into_owned();
    Fault::Damaged(format!("a stream has other bytes than it must: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(events: u32, usage: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for place in 0..events {
            bytes.extend_from_slice(Event::new(7).filled(place, 1_000 + u64::from(place)));
        }
        bytes.extend(ending(7, events, usage).concat());
        bytes
    }

    fn read(bytes: &[u8], piece: usize, usage: bool) -> Result<Vec<u64>, Fault> {
        let (mut expected, mut body, mut sent) = (Expected::new(7, 3, usage), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            body.extend_from_slice(piece);
            expected.take(&mut body, |at| sent.push(at))?;
        }
        expected.finished().map(|()| sent)
    }

    #[test]
    fn a_stream_is_read_in_pieces_of_any_size() {
        let bytes = stream(3, true);
        for piece in 1..=bytes.len() {
            assert_eq!(read(&bytes, piece, true), Ok(vec![1_000, 1_001, 1_002]), "pieces of {piece}");
        }
    }

    #[test]
    fn a_lost_or_doubled_event_is_noticed() {
        let bytes = stream(3, true);
        let (first, rest) = bytes.split_at(EVENT);
        assert!(matches!(read(rest, 1000, true), Err(Fault::Damaged(_))));
        assert!(matches!(read(&[first, &bytes].concat(), 1000, true), Err(Fault::Damaged(_))));
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let bytes = stream(3, true);
        // Digits of a send time are the only bytes that nothing tells the value of.
        let times = EVENT - 19 - "\"},\"finish_reason\":null}]}\n\n".len();
        for at in (0..bytes.len()).filter(|at| at / EVENT > 2 || !(times..times + 19).contains(&(at % EVENT)))
        {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read(&changed, 64, true).is_err(), "byte {at}");
        }
    }

    #[test]
    fn usage_that_was_not_asked_for_is_damage() {
        assert!(matches!(read(&stream(3, true), 64, false), Err(Fault::Damaged(_))));
        assert!(matches!(read(&stream(3, false), 64, true), Err(Fault::Damaged(_))));
    }

    #[test]
    fn a_stream_that_ends_early_is_lost() {
        let bytes = stream(3, true);
        let (most, _) = bytes.split_at(bytes.len() - 1);
        assert!(matches!(read(most, 64, true), Err(Fault::Lost(_))));
    }
}
