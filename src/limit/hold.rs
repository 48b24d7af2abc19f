//! What an exchange has taken of the limits that it counts on.

use std::sync::Arc;
use std::time::Instant;

use super::meter::{Taken, Took, Wanted};
use super::remote::Answer;
use super::{Measure, Meter, Now, Refused, Standing};

/// What an exchange may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Tokens, of its prompt and of its reply.
    pub tokens: u64,
    /// Picodollars.
    pub money: u64,
}

/// What an exchange has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens; nothing where they are not known, and what was reserved counts.
    pub tokens: Option<u64>,
    /// Picodollars; nothing where they are not known.
    pub money: Option<u64>,
}

/// What was taken beforehand. Dropping it gives all of it back, unless something was sent.
#[derive(Debug, Default)]
pub struct Hold {
    taken: Vec<Taken>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing was sent: nothing can have been used.
    #[default]
    Reserved,
    /// Something was sent, and may cost what was reserved.
    Sent,
}

/// What is still to be asked of the shared store, before anything is taken for good.
#[derive(Debug)]
pub(super) struct Open {
    wanted: Vec<Wanted>,
    /// How much the hold held before.
    before: usize,
}

impl Hold {
    /// Takes what is demanded of each meter, or nothing of any. It waits for nothing, unless a shared limit is exact or the
    /// slice of one is used up: then for at most the store's deadline. Dropped while it waits, it takes nothing.
    ///
    /// # Errors
    /// The first that has no room.
    pub async fn reserve<'m>(
        &mut self,
        meters: impl Iterator<Item = &'m Arc<Meter>>,
        demand: &Demand,
        now: Now,
    ) -> Result<(), Box<Refused>> {
        match self.take(meters, demand, now)? {
            None => Ok(()),
            Some(open) => Box::pin(self.ask(open, now)).await,
        }
    }

    /// Takes what is here, and says what is to be asked besides.
    pub(super) fn take<'m>(
        &mut self,
        meters: impl Iterator<Item = &'m Arc<Meter>>,
        demand: &Demand,
        now: Now,
    ) -> Result<Option<Open>, Box<Refused>> {
        let before = self.taken.len();
        let mut wanted = Vec::new();
        for meter in meters {
            let amount = match meter.limit.measure {
                Measure::Requests | Measure::Concurrency => 1,
                Measure::Tokens => demand.tokens,
                Measure::Money => demand.money,
            };
            match meter.take(amount, now) {
                Ok(Took::Taken(taken)) => self.taken.push(taken),
                Ok(Took::Ask(more)) => wanted.push(more),
                Err(refused) => return Err(self.back_to(before, refused, now)),
            }
        }
        Ok((!wanted.is_empty()).then_some(Open { wanted, before }))
    }

    async fn ask(&mut self, open: Open, now: Now) -> Result<(), Box<Refused>> {
        let Open { wanted, before } = open;
        // All limits are in one store.
        let (remotes, parts): (Vec<_>, Vec<_>) = wanted.iter().filter_map(Wanted::part).unzip();
        let answer = match remotes.first() {
            Some(remote) => remote.ask(parts).await,
            None => Answer::Away,
        };
        match answer {
            Answer::Taken => self.taken.extend(wanted.into_iter().map(|wanted| wanted.given(now))),
            Answer::Short(number, short) => {
                if let Some(wanted) = wanted.get(number).or_else(|| wanted.first()) {
                    let refused = wanted.meter.refused(wanted.amount, short);
                    return Err(self.back_to(before, refused, now));
                }
            }
            Answer::Away => {
                for wanted in wanted {
                    match wanted.without(now) {
                        Ok(taken) => self.taken.push(taken),
                        Err(refused) => return Err(self.back_to(before, refused, now)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives back what was taken since.
    fn back_to(&mut self, before: usize, refused: Refused, now: Now) -> Box<Refused> {
        self.taken.drain(before..).for_each(|taken| taken.settle(0, now));
        Box::new(refused)
    }

    /// Whether it is of no meter.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Something is sent now: from here on what was taken counts until it is known better.
    pub fn sent(&mut self) {
        self.state = State::Sent;
    }

    /// Gives all of it back, unless something was sent.
    pub fn abandon(&mut self) {
        if self.state == State::Reserved {
            *self = Self::default();
        }
    }

    /// So much was really used. Without effect where nothing was sent, or where it is settled already.
    pub fn settle(&mut self, used: &Used, now: Now) {
        if self.state == State::Reserved {
            return;
        }
        for taken in std::mem::take(&mut self.taken) {
            let amount = match taken.meter.limit.measure {
                Measure::Requests | Measure::Concurrency => taken.amount,
                Measure::Tokens => used.tokens.unwrap_or(taken.amount),
                Measure::Money => used.money.unwrap_or(taken.amount),
            };
            taken.settle(amount, now);
        }
    }

    /// The standing of the rate of that measure that is nearest to its end.
    pub fn standing(&self, measure: Measure, now: Now) -> Option<Standing> {
        let of = self.taken.iter().filter(|taken| taken.meter.limit.measure == measure);
        of.filter_map(|taken| taken.meter.standing(now)).min_by_key(|standing| standing.remaining)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let now = Now::at(Instant::now());
        let state = self.state;
        for taken in self.taken.drain(..) {
            let used = if state == State::Sent { taken.amount } else { 0 };
            taken.settle(used, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Book, Bound, Limit, Limits, Per, Reached, Sharing, Short, Subject};
    use super::*;

    fn limit(measure: Measure, per: Per, most: u64) -> Limit {
        Limit { measure, per, most, reached: Reached::default(), sharing: Sharing::Local }
    }

    fn bound(limits: Vec<Limit>) -> (Arc<Book>, Arc<Bound>) {
        let book = Arc::new(Book::default());
        let limits = Limits { all: limits, ..Limits::default() };
        let bound = book.bind(&Subject::Key("alice".into()), &limits);
        (book, bound)
    }

    fn now() -> Now {
        Now::at(Instant::now())
    }

    /// Of limits that are not shared there is nothing to wait for.
    fn take(hold: &mut Hold, bound: &Bound, now: Now) -> Result<(), Box<Refused>> {
        hold.take(bound.meters("m"), &DEMAND, now).map(|open| assert!(open.is_none()))
    }

    const DEMAND: Demand = Demand { tokens: 100, money: 1000 };

    fn remaining(bound: &Bound, now: Now) -> Vec<u64> {
        bound.meters("m").filter_map(|meter| meter.standing(now)).map(|standing| standing.remaining).collect()
    }

    #[test]
    fn all_is_taken_or_nothing() {
        let (_book, bound) = bound(vec![
            limit(Measure::Requests, Per::Day, 10),
            limit(Measure::Tokens, Per::Day, 150),
            limit(Measure::Money, Per::Day, 5000),
        ]);
        let now = now();
        let mut first = Hold::default();
        take(&mut first, &bound, now).unwrap();
        assert_eq!(remaining(&bound, now), [9, 50, 4000]);
        let mut second = Hold::default();
        let refused = take(&mut second, &bound, now).unwrap_err();
        assert_eq!((refused.meter.limit.measure, refused.asked), (Measure::Tokens, 100));
        assert!(matches!(refused.short, Short::Wait(_)) && second.is_empty());
        assert_eq!(remaining(&bound, now), [9, 50, 4000], "what came before the refusal was given back");
    }

    #[test]
    fn a_hold_is_abandoned_settled_or_counted_as_it_was() {
        let (_book, bound) =
            bound(vec![limit(Measure::Tokens, Per::Day, 1000), limit(Measure::Money, Per::Ever, 5000)]);
        let held = || {
            let mut hold = Hold::default();
            take(&mut hold, &bound, now()).unwrap();
            hold
        };
        drop(held());
        assert_eq!(remaining(&bound, now()), [1000, 5000], "nothing was sent");
        let mut hold = held();
        hold.sent();
        hold.settle(&Used { tokens: Some(30), money: Some(1500) }, now());
        drop(hold);
        assert_eq!(remaining(&bound, now()), [970, 3500]);
        let mut hold = held();
        hold.sent();
        drop(hold);
        assert_eq!(remaining(&bound, now()), [870, 2500], "what it used is not known");
        let mut hold = held();
        hold.sent();
        hold.settle(&Used { tokens: Some(10), money: None }, now());
        assert_eq!(remaining(&bound, now()), [860, 1500]);
    }

    #[test]
    fn only_so_many_are_under_way() {
        let (_book, bound) = bound(vec![limit(Measure::Concurrency, Per::Second, 2)]);
        let now = now();
        let take = || {
            let mut hold = Hold::default();
            take(&mut hold, &bound, now).map(|()| hold)
        };
        let (first, mut second) = (take().unwrap(), take().unwrap());
        assert!(take().is_err());
        drop(first);
        second.sent();
        second.settle(&Used::default(), now);
        let (_first, _second) = (take().unwrap(), take().unwrap());
        assert!(take().is_err());
    }
}
