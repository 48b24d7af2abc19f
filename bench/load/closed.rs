//! The closed loop: every connection sends its next request when the last reply is whole.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fault::{Fault, Faults};
use crate::histogram::Histogram;
use crate::link::Link;
use crate::phase::{Now, Phase, seconds};
use crate::wire::{Kind, Reply, Request};
use crate::{JsonArgs, Outcome};

/// How long replies may be awaited when all is over.
const PATIENCE: Duration = Duration::from_secs(10);

struct Tally {
    exchanges: u64,
    latency: Histogram,
    faults: Faults,
    reconnects: u64,
}

/// Sends whole exchanges as fast as they are answered.
pub(crate) async fn run(args: JsonArgs) -> io::Result<Outcome> {
    let tally = Tally { exchanges: 0, latency: Histogram::new(), faults: Faults::default(), reconnects: 0 };
    let tally = Rc::new(RefCell::new(tally));
    let now = Now::new();
    let mut clients = JoinSet::new();
    for first in 0..args.connections {
        clients.spawn_local(client(args.clone(), first, now.clone(), Rc::clone(&tally)));
    }
    sleep(seconds(args.target.warm)).await;
    let took = now.measure(&args.target).await;
    if timeout(PATIENCE, async { while clients.join_next().await.is_some() {} }).await.is_err() {
        tally.borrow_mut().faults.add(&Fault::Lost("replies did not come".to_owned()));
    }
    let tally = tally.borrow();
    let seen = json!({
        "exchanges": tally.exchanges,
        "seconds": took,
        "rate": tally.exchanges as f64 / took,
        "latency_us": tally.latency.summary(),
        "reconnects": tally.reconnects,
        "faults": tally.faults.summary(),
    });
    Ok(Outcome { seen, clean: tally.faults.none() && tally.exchanges > 0 })
}

async fn client(args: JsonArgs, first: u32, now: Now, tally: Rc<RefCell<Tally>>) {
    let mut request = Request::new(&args.target.model, args.target.key.as_deref(), Kind::Whole);
    let mut expected = Reply::new();
    let mut number = first;
    let mut link = None;
    while !now.is(Phase::Over) {
        let began = Instant::now();
        let done = exchange(&args, &mut link, &mut request, &mut expected, number).await;
        number = number.wrapping_add(args.connections) % 100_000_000;
        let mut tally = tally.borrow_mut();
        match done {
            Ok(()) if now.is(Phase::Measured) => {
                tally.exchanges += 1;
                tally.latency.add(began.elapsed());
            }
            Ok(()) => {}
            Err(fault) => {
                tally.faults.add(&fault);
                link = None;
                if tally.faults.hopeless() {
                    return;
                }
            }
        }
        if link.as_ref().is_some_and(|link| link.reply.close) {
            tally.reconnects += 1;
            link = None;
        }
    }
}

async fn exchange(
    args: &JsonArgs,
    link: &mut Option<Link>,
    request: &mut Request,
    expected: &mut Reply,
    number: u32,
) -> Result<(), Fault> {
    let link = match link {
        Some(link) => link,
        None => link.insert(Link::open(args.target.addr).await?),
    };
    link.send(request.numbered(number)).await?;
    while !link.reply.is_whole() {
        link.more().await?;
    }
    if link.reply.body == expected.numbered(number) {
        Ok(())
    } else {
        Err(Fault::Damaged("a reply has another body".to_owned()))
    }
}
