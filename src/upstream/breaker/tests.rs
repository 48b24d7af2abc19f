//! The breaker against a model of it that is slow and obvious.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::*;

/// A breaker, told as plainly as can be.
struct Model {
    policy: Policy,
    state: Plain,
    trips: u32,
    /// Counts the states there were.
    era: usize,
    in_a_row: u32,
    /// Every outcome since the breaker closed: in which part of the window, and whether it was good.
    outcomes: Vec<(u64, bool)>,
    /// The part of the window in which every fourth exchange before began, or one failed or closed the breaker.
    part: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Plain {
    Closed { since: Option<u64> },
    Open { until: u64 },
    HalfOpen { trying: Vec<usize>, passed: u16 },
}

/// An exchange in the model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Exchange {
    id: usize,
    era: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Through,
    Try,
    Beside,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Good,
    Bad,
    Neutral,
    /// The first content comes; the exchange goes on.
    Begins,
}

impl Model {
    fn change(&mut self, state: Plain) {
        self.state = state;
        self.era += 1;
        self.in_a_row = 0;
    }

    fn part(&self, now: u64) -> u64 {
        now / (in_millis(self.policy.window) / PARTS)
    }

    fn enter(&mut self, id: usize, now: u64) -> Exchange {
        if id % 4 == 1 && self.policy.failure_rate > 0.0 {
            self.part = self.part(now);
        }
        if matches!(self.state, Plain::Open { until } if now >= until) {
            self.change(Plain::HalfOpen { trying: Vec::new(), passed: 0 });
        }
        let kind = match &mut self.state {
            Plain::Closed { .. } => Kind::Through,
            Plain::HalfOpen { trying, .. } if trying.len() < usize::from(self.policy.tries) => {
                trying.push(id);
                Kind::Try
            }
            _ => Kind::Beside,
        };
        Exchange { id, era: self.era, kind }
    }

    fn end(&mut self, exchange: Exchange, end: End, now: u64) {
        let is_news = exchange.era == self.era;
        if end == End::Good && exchange.kind == Kind::Through {
            self.outcomes.push((self.part, true));
        }
        match (exchange.kind, end) {
            (Kind::Through, End::Good) if is_news => self.in_a_row = 0,
            (Kind::Through, End::Bad) if is_news => self.failed(now),
            (Kind::Try, End::Bad) if is_news => self.open(now),
            (Kind::Try, End::Good | End::Begins) if is_news => self.passed(exchange.id, now),
            _ => {}
        }
        if let Plain::HalfOpen { trying, .. } = &mut self.state {
            trying.retain(|id| *id != exchange.id);
        }
    }

    fn passed(&mut self, id: usize, now: u64) {
        let Plain::HalfOpen { trying, passed } = &mut self.state else { return };
        if trying.contains(&id) {
            *passed += 1;
            if *passed >= self.policy.successes {
                self.change(Plain::Closed { since: Some(now) });
                self.outcomes.clear();
                self.part = self.part(now);
            }
        }
    }

    fn failed(&mut self, now: u64) {
        self.part = self.part(now);
        self.outcomes.push((self.part, false));
        self.in_a_row += 1;
        let recent: Vec<_> = self.outcomes.iter().filter(|(part, _)| part + PARTS > self.part).collect();
        let bad = recent.iter().filter(|(_, good)| !good).count();
        let row = self.policy.failures > 0 && self.in_a_row >= self.policy.failures;
        let rate = self.policy.failure_rate > 0.0
            && recent.len() >= self.policy.min_outcomes as usize
            && bad as f64 >= self.policy.failure_rate * recent.len() as f64;
        if row || rate {
            self.open(now);
        }
    }

    fn open(&mut self, now: u64) {
        let well = match self.state {
            Plain::Closed { since } => now - since.unwrap_or(0),
            _ => 0,
        };
        self.trips = if well >= in_millis(self.policy.longest) { 1 } else { self.trips + 1 };
        let mut time = in_millis(self.policy.open);
        for _ in 1..self.trips {
            time = (time * 2).min(in_millis(self.policy.longest));
        }
        self.change(Plain::Open { until: now + time });
    }
}

/// The breaker beside its model.
struct Pair {
    breaker: Breaker,
    model: Model,
    flights: Vec<(Exchange, Pass)>,
    now: u64,
    count: usize,
}

impl Pair {
    fn new(policy: Policy) -> Self {
        let model = Model {
            policy,
            state: Plain::Closed { since: None },
            trips: 0,
            era: 0,
            in_a_row: 0,
            outcomes: Vec::new(),
            part: 0,
        };
        Self { breaker: Breaker::default(), model, flights: Vec::new(), now: 1, count: 0 }
    }

    fn begin(&mut self) {
        let policy = self.model.policy;
        let pass = self.breaker.pass(self.now, &policy).unwrap_or(Pass::Beside);
        self.breaker.enter();
        self.breaker.advance(|| self.now, &policy);
        self.count += 1;
        self.flights.push((self.model.enter(self.count, self.now), pass));
    }

    fn end(&mut self, which: usize, end: End) {
        if self.flights.is_empty() {
            return;
        }
        let which = which % self.flights.len();
        let (exchange, mut pass) = self.flights[which];
        let policy = self.model.policy;
        match end {
            End::Begins if !matches!(pass, Pass::Try { .. }) => return,
            End::Good | End::Begins => {
                self.breaker.succeeded(&mut pass, &policy, || self.now);
            }
            End::Bad => {
                if self.breaker.failed(pass, &policy, self.now).is_some() {
                    self.breaker.open(pass, &policy, self.now, 0.0);
                }
            }
            End::Neutral => {}
        }
        self.model.end(exchange, end, self.now);
        self.flights[which].1 = pass;
        if end != End::Begins {
            self.breaker.leave(pass, end == End::Good);
            self.flights.swap_remove(which);
        }
    }

    fn compare(&self) {
        let phase = self.breaker.look();
        let state = match &self.model.state {
            Plain::Closed { since } => State::Closed { since: since.unwrap_or(0) },
            Plain::Open { until } => State::Open { until: *until },
            Plain::HalfOpen { trying, passed } => {
                State::HalfOpen { trying: u16::try_from(trying.len()).unwrap(), passed: *passed }
            }
        };
        assert_eq!(phase.state, state);
        assert_eq!(u32::from(phase.trips), self.model.trips);
        assert_eq!(self.breaker.failures(), self.model.in_a_row);
        assert_eq!(self.breaker.in_flight() as usize, self.flights.len());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Later(u64),
    End(usize, End),
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![5 => Just(End::Good), 6 => Just(End::Bad), 1 => Just(End::Neutral), 1 => Just(End::Begins)];
    prop_oneof![
        6 => Just(Step::Begin),
        1 => (0..40_u64).prop_map(Step::Later),
        1 => (0..4000_u64).prop_map(Step::Later),
        6 => (any::<usize>(), end).prop_map(|(which, end)| Step::End(which, end)),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    (0..5_u32, 0..4_u32, 1..8_u32, 1..4_u16, 1..4_u16).prop_map(
        |(failures, rate, least, tries, successes)| Policy {
            failures,
            failure_rate: f64::from(rate) / 4.0,
            min_outcomes: least,
            window: Duration::from_millis(500),
            open: Duration::from_millis(100),
            longest: Duration::from_millis(1500),
            tries,
            successes,
            ..Policy::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn it_does_what_its_model_does(policy in policy(), steps in proptest::collection::vec(step(), 1..250)) {
        let mut pair = Pair::new(policy);
        for step in steps {
            match step {
                Step::Begin => pair.begin(),
                Step::Later(millis) => pair.now += millis,
                Step::End(which, end) => pair.end(which, end),
            }
            pair.compare();
        }
        while !pair.flights.is_empty() {
            pair.end(0, End::Neutral);
        }
        pair.compare();
        if let State::HalfOpen { trying, .. } = pair.breaker.look().state {
            assert_eq!(trying, 0, "a place has leaked");
        }
    }
}

const POLICY: Policy = Policy {
    failures: 5,
    failure_rate: 0.5,
    min_outcomes: 20,
    window: Duration::from_secs(10),
    open: Duration::from_secs(60),
    longest: Duration::from_secs(600),
    tries: 1,
    successes: 3,
    slow_start: Duration::from_secs(30),
    max_share: 0.5,
    key: Duration::from_secs(60),
};

#[test]
fn the_defaults_are_those_that_are_documented() {
    assert_eq!(Policy::default(), POLICY);
}

#[test]
fn a_relapse_takes_twice_as_long_up_to_a_bound_and_a_fleet_does_not_come_back_in_step() {
    let minutes = |trips| POLICY.open_for(trips, 0.0).as_secs() / 60;
    assert_eq!([1, 2, 3, 4, 5, 63].map(minutes), [1, 2, 4, 8, 10, 10]);
    let (soon, late) = (POLICY.open_for(1, 0.0), POLICY.open_for(1, 1.0));
    assert_eq!((soon.as_secs(), late.as_secs()), (60, 66));
}

#[test]
fn half_of_twenty_failures_open_it_and_half_of_nineteen_do_not() {
    for (count, expected) in [(19, None), (20, Some(Reason::Rate))] {
        let breaker = Breaker::default();
        let mut last = None;
        for number in 0..count {
            let pass = breaker.pass(5000, &POLICY).unwrap();
            breaker.enter();
            breaker.advance(|| 5000, &POLICY);
            let good = number % 2 == count % 2;
            if good {
                breaker.succeeded(&mut pass.clone(), &POLICY, || 5000);
            } else {
                last = breaker.failed(pass, &POLICY, 5000);
            }
            breaker.leave(pass, good);
        }
        assert_eq!(last, expected, "{count}");
    }
}

#[test]
fn many_successes_long_ago_do_not_hide_failures_and_those_of_late_do() {
    for (pause, expected) in [(0, None), (20_000, Some(Reason::Rate))] {
        let breaker = Breaker::default();
        let policy = Policy { failures: 0, ..POLICY };
        let mut now = 1000;
        let mut last = None;
        for number in 0..1020 {
            if number == 1000 {
                now += pause;
            }
            let pass = breaker.pass(now, &policy).unwrap();
            breaker.enter();
            breaker.advance(|| now, &policy);
            let good = number < 1000;
            if !good {
                last = breaker.failed(pass, &policy, now);
            }
            breaker.leave(pass, good);
        }
        assert_eq!(last, expected, "{pause}");
    }
}

#[test]
fn a_credential_is_tried_by_one_and_its_place_is_given_back() {
    use std::sync::Arc;

    use super::key::Key;

    let key = Arc::new(Key::default());
    assert!(key.is_accepted() && key.enter(1).is_none());
    let time = in_millis(key.refused(&POLICY, 1, 0.0).unwrap());
    assert!(key.refused(&POLICY, 1, 0.0).is_none(), "once is enough");
    assert!(!key.admits(time) && key.enter(time).is_none());
    let trial = key.enter(1 + time).unwrap();
    assert!(!key.admits(1 + time) && key.enter(1 + time).is_none());
    drop(trial);
    let trial = key.enter(1 + time).unwrap();
    assert!(key.refused(&POLICY, 1 + time, 0.0).is_some() && !trial.passed(1 + time));
    drop(trial);
    let trial = key.enter(1 + 2 * time).unwrap();
    assert!(trial.passed(1 + 2 * time) && key.is_accepted());
}
