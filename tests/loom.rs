//! Every interleaving of threads at a breaker's gate and at the places of a cluster, up to a bound: their own sources, with
//! loom's atomics.

use loom::sync::{Arc, atomic};
use loom::thread;

#[path = "../src/upstream/breaker/gate.rs"]
#[expect(dead_code, unreachable_pub, reason = "the library uses and shows what this does not")]
mod gate;

#[path = "../src/upstream/admission/slots.rs"]
#[expect(dead_code, reason = "the library uses what this does not")]
mod slots;

use gate::{Gate, Pass, State};
use slots::Slots;

const TRIES: u16 = 1;
/// When the gate of the tests opens again.
const DUE: u64 = 10;

/// A gate that was opened, and may be tried from [`DUE`] on.
fn opened() -> Arc<Gate> {
    let gate = Gate::default();
    assert!(gate.open(Some(0), |_| (1, DUE)).is_some());
    Arc::new(gate)
}

/// What each of two threads says.
#[expect(clippy::unwrap_used, reason = "a thread that panics is a test that fails")]
fn both<T: Send + 'static>(
    gate: &Arc<Gate>,
    one: impl FnOnce(&Gate) -> T + Send + 'static,
    other: impl FnOnce(&Gate) -> T + 'static,
) -> (T, T) {
    let shared = Arc::clone(gate);
    let thread = thread::spawn(move || one(&shared));
    let said = other(gate);
    (thread.join().unwrap(), said)
}

fn try_of(pass: Option<Pass>) -> Option<u16> {
    match pass {
        Some(Pass::Try { period, .. }) => Some(period),
        _ => None,
    }
}

#[test]
fn one_of_two_gets_the_only_place_and_begins_the_period() {
    loom::model(|| {
        let gate = opened();
        let enter = |gate: &Gate| gate.enter(DUE, TRIES);
        let (one, other) = both(&gate, enter, enter);
        assert!(try_of(one).is_some() != try_of(other).is_some(), "{one:?} {other:?}");
        assert!([one, other].contains(&Some(Pass::Try { period: 2, first: true })));
        assert_eq!(gate.look().state, State::HalfOpen { trying: 1, passed: 0 });
    });
}

#[test]
fn places_that_are_taken_and_given_back_at_once_all_come_back() {
    loom::model(|| {
        let gate = opened();
        let visit = |gate: &Gate| match gate.enter(DUE, 2) {
            Some(Pass::Try { period, .. }) => gate.leave(period),
            _ => panic!("there are two places"),
        };
        both(&gate, visit, visit);
        assert_eq!(gate.look().state, State::HalfOpen { trying: 0, passed: 0 });
    });
}

#[test]
fn a_failure_and_a_success_at_once_leave_it_closed_or_open_and_no_place_taken_in_the_next_period() {
    loom::model(|| {
        let gate = opened();
        let period = try_of(gate.enter(DUE, 2)).unwrap();
        assert_eq!(try_of(gate.enter(DUE, 2)), Some(period));
        let (closed, reopened) = both(
            &gate,
            move |gate| gate.passed(period, 1, DUE),
            move |gate| gate.open(Some(period), |phase| (phase.trips + 1, 2 * DUE)).is_some(),
        );
        assert!(closed != reopened, "whoever is first decides, and the other is old news");
        gate.leave(period);
        let phase = gate.look();
        assert_eq!(phase.trips, if reopened { 2 } else { 1 });
        let expected = if closed { State::Closed { since: DUE } } else { State::Open { until: 2 * DUE } };
        assert_eq!(phase.state, expected);
        gate.open(None, |_| (1, 2 * DUE));
        assert!(try_of(gate.enter(2 * DUE, TRIES)).is_some());
        gate.leave(period);
        assert_eq!(gate.look().state, State::HalfOpen { trying: 1, passed: 0 });
    });
}

#[test]
fn two_failures_at_once_open_it_once() {
    loom::model(|| {
        let gate = Arc::new(Gate::default());
        let open = |gate: &Gate| gate.open(Some(0), |phase| (phase.trips + 1, DUE)).is_some();
        let (one, other) = both(&gate, open, open);
        assert!(one != other);
        assert_eq!((gate.look().trips, gate.look().period), (1, 1));
    });
}

#[test]
fn a_place_given_back_while_the_next_is_taken_is_not_given_away_twice() {
    loom::model(|| {
        let gate = opened();
        let period = try_of(gate.enter(DUE, TRIES)).unwrap();
        let (entered, _) = both(
            &gate,
            |gate| try_of(gate.enter(DUE, TRIES)),
            move |gate| {
                gate.leave(period);
                None
            },
        );
        let trying = u16::from(entered.is_some());
        assert_eq!(gate.look().state, State::HalfOpen { trying, passed: 0 });
    });
}

/// What whoever serves those who wait does, for as long as there is a place and one who waits.
fn serve(slots: &Slots, queue: &loom::sync::Mutex<u32>) -> u32 {
    let mut served = 0;
    #[expect(clippy::unwrap_used, reason = "a thread that panics is a test that fails")]
    let mut queue = queue.lock().unwrap();
    while slots.take_for_waiter() {
        *queue -= 1;
        served += 1;
    }
    served
}

#[test]
fn a_place_given_back_while_someone_begins_to_wait_is_given_to_them() {
    loom::model(|| {
        let slots = Arc::new(Slots::new(1));
        let queue = Arc::new(loom::sync::Mutex::new(0));
        assert!(slots.take());
        let (theirs, line) = (Arc::clone(&slots), Arc::clone(&queue));
        let leaving = thread::spawn(move || if theirs.give_back() { serve(&theirs, &line) } else { 0 });
        let mut served = 0;
        if !slots.take() {
            *queue.lock().unwrap() += 1;
            slots.begin_to_wait();
            served = serve(&slots, &queue);
            served += leaving.join().unwrap();
            assert_eq!(served, 1, "nobody waits beside a free place");
        } else {
            leaving.join().unwrap();
        }
        assert_eq!((slots.counts(), *queue.lock().unwrap()), ((1, 0), 0), "{served}");
    });
}

#[test]
fn places_are_never_more_than_the_limit() {
    loom::model(|| {
        let slots = Arc::new(Slots::new(1));
        let theirs = Arc::clone(&slots);
        let other = thread::spawn(move || theirs.take());
        let taken = u32::from(slots.take()) + u32::from(other.join().unwrap());
        assert_eq!((taken, slots.counts()), (1, (1, 0)));
    });
}
