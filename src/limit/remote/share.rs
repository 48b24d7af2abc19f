//! What a node has of a limit that all nodes share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Remote;
use crate::limit::budget::{end_of, period_of};
use crate::limit::{Limit, Measure, Now, Outage, Pace, Per, Rate, Sharing, Short, Standing};
use crate::meter::metrics::METRICS;

/// For how long it is believed that a limit is short because it was so: that spares the store whoever goes on asking.
const BELIEVED: Duration = Duration::from_millis(250);
/// When a place may be free; nobody knows when one of those under way is over.
const PLACE: Duration = Duration::from_secs(1);

/// Names of a count.
#[derive(Debug)]
pub(super) struct Identity {
    /// Keys of one group may be used by one script.
    pub(super) group: u64,
    pub(super) key: String,
    pub(super) field: String,
    pub(super) serial: u64,
}

/// A count of this node. Amounts are in the limit's measure.
#[derive(Debug)]
pub(in crate::limit) struct Share {
    pub(super) identity: Identity,
    pub(super) measure: Measure,
    per: Per,
    sharing: Sharing,
    most: AtomicU64,
    may_exceed: AtomicBool,
    /// What was taken in the store and is not used yet; less than nothing where more was used than taken.
    stock: AtomicI64,
    /// What was taken in all, whether or not the store knows it yet. Of a budget: in its period.
    granted: AtomicI64,
    /// What of that the store was heard to know.
    known: AtomicI64,
    /// How much is taken ahead of use; the courier sees to it.
    slice: AtomicI64,
    /// When something was put into stock, nanoseconds.
    stocked: AtomicU64,
    /// The courier knows that there is something to do.
    is_touched: AtomicBool,
    seen: Seen,
    /// The period of a budget.
    period: AtomicU32,
    /// Budgets of periods that are over, of which the store does not know all.
    late: Mutex<Vec<(u32, i64)>>,
    /// This node's own share of a rate while the store is away.
    alone: Rate,
    remote: Arc<Remote>,
}

/// How the limit stood when the store was heard last.
#[derive(Debug, Default)]
struct Seen {
    /// When all of a rate is there again, nanoseconds.
    full: AtomicU64,
    /// How much of any other limit is taken, by all nodes.
    taken: AtomicU64,
    /// When that was, nanoseconds; 0 where it never was.
    at: AtomicU64,
}

/// Where something was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limit) enum Source {
    /// Of what the store gave, or will be told.
    Store,
    /// Of this node's own share of a rate.
    Alone,
}

/// Where something was taken, and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::limit) struct Origin {
    pub(in crate::limit) source: Source,
    /// Of a budget.
    pub(in crate::limit) period: u32,
    /// From when on it comes back, of a rate; nanoseconds.
    pub(in crate::limit) from: u64,
}

impl Origin {
    /// Of a limit that is not shared.
    pub(in crate::limit) const HERE: Self = Self { source: Source::Store, period: 0, from: 0 };
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limit) enum Lack {
    /// The store has to be asked.
    Ask,
    /// It is known without.
    Short(Short),
}

/// What the courier tells the store of a count, and wants.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) key: String,
    pub(super) own: i64,
    pub(super) known: i64,
    pub(super) want: i64,
    /// Of a budget.
    pub(super) period: u32,
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

impl Share {
    pub(super) fn new(identity: Identity, limit: &Limit, remote: Arc<Remote>) -> Self {
        Self {
            identity,
            measure: limit.measure,
            per: limit.per,
            sharing: limit.sharing,
            most: AtomicU64::new(limit.most),
            may_exceed: AtomicBool::new(!limit.reached.refuse),
            stock: AtomicI64::new(0),
            granted: AtomicI64::new(0),
            known: AtomicI64::new(0),
            slice: AtomicI64::new(0),
            stocked: AtomicU64::new(0),
            is_touched: AtomicBool::new(false),
            seen: Seen::default(),
            period: AtomicU32::new(0),
            late: Mutex::default(),
            alone: Rate::default(),
            remote,
        }
    }

    /// The limit was changed.
    pub(in crate::limit) fn set(&self, limit: &Limit) {
        self.most.store(limit.most, Relaxed);
        self.may_exceed.store(!limit.reached.refuse, Relaxed);
    }

    pub(in crate::limit) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    fn pace(&self) -> Pace {
        Pace::new(self.most.load(Relaxed), self.per.period())
    }

    fn is_rate(&self) -> bool {
        matches!(self.measure, Measure::Requests | Measure::Tokens)
    }

    /// Takes so much of what is here, if it is enough. Gives where it was taken, and of a budget the period.
    ///
    /// # Errors
    /// Where the store has to be asked, or it is known that there is not enough.
    pub(in crate::limit) fn take(
        self: &Arc<Self>,
        amount: u64,
        now: Now,
        outage: Outage,
    ) -> Result<Origin, Lack> {
        let period = self.roll(now);
        let of = |source| Origin { source, period, from: self.comes_back(amount, now) };
        if amount == 0 {
            return Ok(of(Source::Store));
        }
        // A free place is one that the store gave, also where limits are exact.
        let from_stock = self.sharing == Sharing::Leased || self.measure == Measure::Concurrency;
        let may_exceed = self.may_exceed.load(Relaxed) && self.measure == Measure::Money;
        if (from_stock && self.draw(signed(amount), 0).is_some()) || (may_exceed && self.owe(amount)) {
            return Ok(of(Source::Store));
        }
        if amount > self.most.load(Relaxed) {
            return Err(Lack::Short(Short::Never));
        }
        if !self.remote.is_up() {
            return self.without(amount, now, outage).map_err(Lack::Short);
        }
        let known = (self.sharing == Sharing::Leased).then(|| self.believed_short(amount, now)).flatten();
        Err(known.map_or(Lack::Ask, Lack::Short))
    }

    /// Takes of the stock, and leaves at least so much in it.
    fn draw(self: &Arc<Self>, amount: i64, least: i64) -> Option<()> {
        let less = |stock: i64| stock.checked_sub(amount).filter(|left| *left >= least);
        let before = self.stock.fetch_update(Relaxed, Relaxed, less).ok()?;
        if before - amount <= self.slice.load(Relaxed) / 2 {
            self.nudge();
        }
        Some(())
    }

    fn owe(self: &Arc<Self>, amount: u64) -> bool {
        self.stock.fetch_sub(signed(amount), Relaxed);
        self.nudge();
        true
    }

    /// Takes so much although the store is away, as far as this node's own share goes.
    ///
    /// # Errors
    /// Where it does not go so far, or nothing is let through in that case.
    pub(in crate::limit) fn without(
        self: &Arc<Self>,
        amount: u64,
        now: Now,
        outage: Outage,
    ) -> Result<Origin, Short> {
        if outage == Outage::Closed {
            return Err(Short::Away);
        }
        let (most, nodes) = (self.most.load(Relaxed), self.remote.nodes());
        let period = self.roll(now);
        let pause = Short::Wait(PLACE);
        let (source, from) = match self.measure {
            Measure::Requests | Measure::Tokens => {
                let pace = self.alone_pace();
                // What is more than the whole share is let through with all of it, and paid for afterwards.
                let first = amount.min(pace.most());
                let from = self.alone.take(&pace, first, now.nanos)?;
                self.alone.settle(&pace, (first, from), amount, now.nanos);
                self.nudge();
                (Source::Alone, from)
            }
            Measure::Money => {
                let left = most.saturating_sub(self.seen.taken.load(Relaxed)) / nodes;
                self.draw(signed(amount), -signed(left)).ok_or(pause)?;
                (Source::Store, 0)
            }
            Measure::Concurrency => {
                let least = self.granted.load(Relaxed) - signed(most.div_ceil(nodes));
                self.draw(1, least.min(0)).ok_or(pause)?;
                (Source::Store, 0)
            }
        };
        METRICS.store.alone.with_label_values(&[self.measure.name()]).inc_by(1);
        Ok(Origin { source, period, from })
    }

    /// From when on so much comes back that is taken now, nanoseconds: what all nodes have taken comes back first, less what is
    /// in stock here.
    pub(in crate::limit) fn comes_back(&self, amount: u64, now: Now) -> u64 {
        if !self.is_rate() {
            return 0;
        }
        let stock = u64::try_from(self.stock.load(Relaxed)).unwrap_or(0);
        let own = self.pace().span(amount.saturating_add(stock));
        self.seen.full.load(Relaxed).saturating_sub(own).max(now.nanos)
    }

    fn alone_pace(&self) -> Pace {
        Pace::new(self.most.load(Relaxed) / self.remote.nodes(), self.per.period())
    }

    /// What was taken turns out to be something else.
    pub(in crate::limit) fn settle(
        self: &Arc<Self>,
        (taken, from): (u64, u64),
        (source, period): (Source, u32),
        used: u64,
        now: Now,
    ) {
        let back = match self.measure {
            Measure::Concurrency => 1,
            Measure::Money if self.roll(now) != period => return,
            Measure::Money => signed(taken).saturating_sub(signed(used)),
            Measure::Requests | Measure::Tokens => {
                if source == Source::Alone && !self.remote.is_up() {
                    return self.alone.settle(&self.alone_pace(), (taken, from), used, now.nanos);
                }
                let pace = self.pace();
                // What is begun is whole: one that was not used at all goes back as one.
                let unused = pace.unused((taken, from), used, now.nanos);
                let less = pace.amount(unused.saturating_add(pace.span(1).saturating_sub(1)));
                signed(less.min(taken.saturating_sub(used))) - signed(used.saturating_sub(taken))
            }
        };
        if back != 0 {
            self.put_back(back);
        }
    }

    /// Puts so much back into stock, or takes it although it is not there.
    pub(super) fn put_back(self: &Arc<Self>, back: i64) {
        let stock = self.stock.fetch_add(back, Relaxed).saturating_add(back);
        if stock < 0 || stock > self.high() {
            self.nudge();
        }
    }

    /// How much may be in stock before some is given back.
    fn high(&self) -> i64 {
        self.slice.load(Relaxed).saturating_mul(2)
    }

    /// Tells the courier that there is something to do, once.
    fn nudge(self: &Arc<Self>) {
        if !self.is_touched.load(Relaxed) && !self.is_touched.swap(true, Relaxed) {
            self.remote.touch(self);
        }
    }

    /// The period of a budget. A new one begins with nothing.
    fn roll(&self, now: Now) -> u32 {
        if self.measure != Measure::Money {
            return 0;
        }
        let period = period_of(self.per, now.wall());
        if period <= self.period.load(Relaxed) {
            return self.period.load(Relaxed);
        }
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.period.load(Relaxed);
        if period > before {
            let owed = -self.stock.swap(0, Relaxed).min(0);
            let granted = self.granted.swap(0, Relaxed).saturating_add(owed);
            if granted != self.known.swap(0, Relaxed) {
                late.push((before, granted));
            }
            self.seen.taken.store(0, Relaxed);
            self.period.store(period, Relaxed);
        }
        self.period.load(Relaxed)
    }

    /// What the store said of late tells that so much is not there.
    fn believed_short(&self, amount: u64, now: Now) -> Option<Short> {
        let at = self.seen.at.load(Relaxed);
        let age = Duration::from_nanos(now.nanos.saturating_sub(at));
        (at != 0 && age < BELIEVED).then(|| self.short(amount, now)).flatten()
    }

    /// When so much will be there, by what the store said last; nothing where it is.
    pub(super) fn short(&self, amount: u64, now: Now) -> Option<Short> {
        let most = self.most.load(Relaxed);
        if self.is_rate() {
            let pace = self.pace();
            let full = self.seen.full.load(Relaxed).max(now.nanos).saturating_add(pace.span(amount));
            let last = now.nanos.saturating_add(pace.span(most));
            return (full > last).then(|| Short::Wait(Duration::from_nanos(full - last)));
        }
        if self.seen.taken.load(Relaxed).saturating_add(amount) <= most {
            return None;
        }
        if self.measure == Measure::Concurrency {
            return Some(Short::Wait(PLACE));
        }
        let end = end_of(self.per, now.wall()).and_then(|end| end.duration_since(now.wall()).ok());
        Some(end.map_or(Short::Never, Short::Wait))
    }

    /// How the limit stands, by what the store said last, and what is here.
    pub(in crate::limit) fn standing(&self, now: Now) -> Option<Standing> {
        let limit = self.most.load(Relaxed);
        let stock = self.stock.load(Relaxed);
        let (remaining, reset) = match self.measure {
            Measure::Concurrency => return None,
            Measure::Money => {
                let end = end_of(self.per, now.wall()).and_then(|end| end.duration_since(now.wall()).ok());
                (limit.saturating_sub(self.seen.taken.load(Relaxed)), end.unwrap_or(Duration::MAX))
            }
            Measure::Requests | Measure::Tokens => {
                let debt = self.seen.full.load(Relaxed).saturating_sub(now.nanos);
                let pace = self.pace();
                (pace.amount(pace.span(limit).saturating_sub(debt)), Duration::from_nanos(debt))
            }
        };
        Some(Standing { limit, remaining: remaining.saturating_add_signed(stock).min(limit), reset })
    }

    /// How much of the limit is spoken for, by what the store said last.
    pub(in crate::limit) fn spoken_for(&self) -> u64 {
        self.seen.taken.load(Relaxed).saturating_add_signed(-self.stock.load(Relaxed))
    }

    /// Whether it says nothing that the store does not know.
    pub(in crate::limit) fn is_idle(&self, now: Now) -> bool {
        self.stock.load(Relaxed) == 0
            && !self.is_touched.load(Relaxed)
            && self.alone.is_full(now.nanos)
            && (self.measure != Measure::Concurrency || self.granted.load(Relaxed) == 0)
    }

    // === the courier's side ===

    /// What there is to tell, and to take ahead of use. From here on what is owed is part of what was taken, and what is too
    /// much is given back: that stays true whether or not the message arrives.
    pub(super) fn report(&self, is_asked: bool, now: Now) -> Report {
        self.is_touched.store(false, Relaxed);
        let period = self.roll(now);
        if self.is_rate() {
            self.stock.fetch_sub(signed(self.alone.take_out(&self.alone_pace(), now.nanos)), Relaxed);
        }
        let slice = self.slice.load(Relaxed);
        if is_asked || (slice > 0 && self.stock.load(Relaxed) <= slice / 2) {
            self.grow();
        }
        // Nobody is refused while there is something in stock here: what is asked is decided over all of it.
        let high = if is_asked { 0 } else { self.high() };
        let change = |stock: i64| match stock {
            owed if owed < 0 => Some(0),
            much if much > high => Some(high / 2),
            _ => None,
        };
        if let Ok(before) = self.stock.fetch_update(Relaxed, Relaxed, change) {
            self.granted.fetch_sub(self.worth(before - change(before).unwrap_or(before), now), Relaxed);
        }
        let slice = self.slice.load(Relaxed);
        let stock = self.stock.load(Relaxed);
        let want = if stock <= slice / 2 { slice - stock } else { 0 };
        let known = if self.is_rate() { self.known.load(Relaxed) } else { 0 };
        Report { key: self.key(period), own: self.granted.load(Relaxed), known, want, period }
    }

    /// What leaves the stock is worth so much to others: not what has come back by itself since.
    fn worth(&self, out: i64, now: Now) -> i64 {
        if out <= 0 || !self.is_rate() {
            return out;
        }
        let natural = self.pace().amount(now.nanos.saturating_sub(self.stocked.load(Relaxed)));
        out.saturating_sub(signed(natural)).max(0)
    }

    fn key(&self, period: u32) -> String {
        match self.measure {
            Measure::Money => format!("{}:{period}", self.identity.key),
            _ => self.identity.key.clone(),
        }
    }

    /// A slice that is used up doubles, up to its bound.
    fn grow(&self) {
        if self.sharing == Sharing::Leased {
            let bound = self.remote.slice(self.most.load(Relaxed));
            let slice = self.slice.load(Relaxed);
            self.slice.store(slice.saturating_mul(2).clamp(1.min(bound), bound), Relaxed);
        }
    }

    /// A slice that is not used shrinks, and is given back in the end.
    pub(super) fn shrink(self: &Arc<Self>, to_nothing: bool) {
        let slice = self.slice.load(Relaxed);
        self.slice.store(if to_nothing { 0 } else { slice / 2 }, Relaxed);
        if self.stock.load(Relaxed) > self.high() {
            self.nudge();
        }
    }

    /// The store has heard the report: so much is taken in all now, so much of it ahead of use, and the limit stands at that
    /// level. What it gave to asks is part of what is taken in all.
    pub(super) fn heard(&self, report: &Report, (own, ahead, level): (i64, i64, u64), now: Now) {
        if report.period != self.period.load(Relaxed) {
            return;
        }
        self.granted.fetch_add(own - report.own, Relaxed);
        self.known.store(own, Relaxed);
        if ahead > 0 {
            self.stocked.store(now.nanos, Relaxed);
            self.stock.fetch_add(ahead, Relaxed);
            METRICS.store.slices.with_label_values(&[self.measure.name()]).inc();
        }
        if self.is_rate() {
            self.seen.full.store(now.nanos.saturating_add(level.saturating_mul(1000)), Relaxed);
        } else {
            self.seen.taken.store(level, Relaxed);
        }
        self.seen.at.store(now.nanos.max(1), Relaxed);
    }

    /// It is not known whether the store has heard what was told.
    pub(super) fn doubt(&self) {
        self.is_touched.store(true, Relaxed);
    }

    /// What is to be told of budgets of periods that are over.
    pub(super) fn late(&self) -> Vec<Report> {
        let late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        let report = |(period, own)| Report { key: self.key(period), own, known: 0, want: 0, period };
        late.into_iter().map(report).collect()
    }

    /// That could not be told yet.
    pub(super) fn still_late(self: &Arc<Self>, report: &Report) {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).push((report.period, report.own));
    }

    /// Whether the store has to hear of it: now because something is to be told, or now and then because places are held.
    pub(super) fn is_due(&self) -> bool {
        let is_late = || !self.late.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        self.is_touched.load(Relaxed) || self.stock.load(Relaxed) < 0 || is_late()
    }

    /// Whether the store has to hear of it now and then, or what it gave is lost.
    pub(super) fn is_leased(&self) -> bool {
        self.measure == Measure::Concurrency && self.granted.load(Relaxed) > 0
    }

    pub(super) fn stock(&self) -> i64 {
        self.stock.load(Relaxed)
    }

    /// The arguments of the script that say what limit it is: its kind, how much, in what time, and how long its key is kept.
    pub(super) fn terms(&self) -> (&'static str, u64, u64, u64) {
        const DAY: u64 = 86_400_000;
        let most = self.most.load(Relaxed);
        let per = u64::try_from(self.per.period().as_millis()).unwrap_or(u64::MAX);
        match self.measure {
            Measure::Requests | Measure::Tokens => ("rate", most, per.saturating_mul(1000), per * 2 + 60_000),
            Measure::Money => {
                let most = if self.may_exceed.load(Relaxed) { u64::MAX } else { most };
                let keep = match self.per {
                    Per::Second | Per::Minute | Per::Day => 3 * DAY,
                    Per::Month => 35 * DAY,
                    Per::Ever => 400 * DAY,
                };
                ("money", most, 1, keep)
            }
            Measure::Concurrency => {
                let lease = u64::try_from(self.remote.spec.lease.as_millis()).unwrap_or(u64::MAX / 2);
                ("place", most, 1, lease * 2)
            }
        }
    }
}
