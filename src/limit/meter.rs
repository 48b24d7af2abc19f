//! One limit of one subject, and how it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::budget::period_of;
use super::remote::{Lack, Origin, Part, Remote, Share, Source};
use super::{Budget, Limit, Measure, Now, Outage, Pace, Per, Rate, Short, Standing, Subject};
use crate::meter::metrics::METRICS;

/// What is counted for a limit. It outlives the configuration that sets the limit.
#[derive(Debug)]
pub(super) enum Count {
    Rate(Rate),
    Concurrency(AtomicU64),
    Budget(Budget),
    /// With all nodes that share a store.
    Shared(Arc<Share>),
}

impl Count {
    pub(super) fn new(measure: Measure) -> Self {
        match measure {
            Measure::Requests | Measure::Tokens => Self::Rate(Rate::default()),
            Measure::Concurrency => Self::Concurrency(AtomicU64::new(0)),
            Measure::Money => Self::Budget(Budget::default()),
        }
    }

    /// Whether nothing is used of it, so that it says no more than a new one.
    pub(super) fn is_full(&self, per: Per, now: Now) -> bool {
        match self {
            Self::Rate(rate) => rate.is_full(now.nanos),
            Self::Concurrency(under_way) => under_way.load(Relaxed) == 0,
            Self::Budget(budget) => budget.is_full(per, now.wall()),
            Self::Shared(share) => share.is_idle(now),
        }
    }
}

/// A limit of a subject.
#[derive(Debug)]
pub struct Meter {
    /// Whose it is.
    pub subject: Subject,
    /// The models that it is about, where it is not about all.
    pub models: Option<Arc<str>>,
    /// What it says.
    pub limit: Limit,
    /// What is done while the shared store does not answer.
    outage: Outage,
    pace: Pace,
    count: Arc<Count>,
    /// How many of the shares at which it is told were told, and in which period.
    told: AtomicU32,
}

/// What was taken of a meter.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) meter: Arc<Meter>,
    pub(super) amount: u64,
    /// From when on it comes back, of a rate; nanoseconds.
    from: u64,
    /// Of a budget.
    period: u32,
    /// Of a shared limit.
    source: Source,
}

/// What became of taking from a meter.
#[derive(Debug)]
pub(super) enum Took {
    Taken(Taken),
    /// The shared store has to be asked for so much.
    Ask(Wanted),
}

/// What the shared store has to be asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) meter: Arc<Meter>,
    pub(super) amount: u64,
}

/// What a meter has no room for.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The meter.
    pub meter: Arc<Meter>,
    /// How much was asked of it.
    pub asked: u64,
    /// When there will be room.
    pub short: Short,
}

impl Meter {
    pub(super) fn new(
        subject: Subject,
        models: Option<Arc<str>>,
        (limit, outage): (Limit, Outage),
        count: Arc<Count>,
    ) -> Arc<Self> {
        let pace = Pace::new(limit.most, limit.per.period());
        Arc::new(Self { subject, models, limit, outage, pace, count, told: AtomicU32::new(0) })
    }

    /// Takes so much, or says that the shared store has to be asked.
    ///
    /// # Errors
    /// Where there is not enough.
    pub(super) fn take(self: &Arc<Self>, amount: u64, now: Now) -> Result<Took, Refused> {
        let taken = |of| self.taken(amount, of);
        let took = match &*self.count {
            Count::Rate(rate) => {
                rate.take(&self.pace, amount, now.nanos).map(|from| taken(Origin { from, ..Origin::HERE }))
            }
            Count::Concurrency(under_way) => self.enter(under_way).map(|()| taken(Origin::HERE)),
            Count::Budget(budget) => {
                let terms = (self.limit.per, self.limit.most, !self.limit.reached.refuse);
                budget.take(terms, amount, now.wall()).map(|(period, after)| {
                    self.tell(period, after);
                    taken(Origin { period, ..Origin::HERE })
                })
            }
            Count::Shared(share) => match share.take(amount, now, self.outage) {
                Ok(of) => Ok(taken(of)),
                Err(Lack::Ask) => return Ok(Took::Ask(Wanted { meter: Arc::clone(self), amount })),
                Err(Lack::Short(short)) => Err(short),
            },
        };
        took.map(Took::Taken).map_err(|short| self.refused(amount, short))
    }

    fn taken(self: &Arc<Self>, amount: u64, of: Origin) -> Taken {
        let Origin { source, period, from } = of;
        if let Count::Shared(share) = &*self.count
            && !self.limit.reached.tell_at.is_empty()
        {
            self.tell(period, share.spoken_for());
        }
        Taken { meter: Arc::clone(self), amount, from, period, source }
    }

    pub(super) fn refused(self: &Arc<Self>, asked: u64, short: Short) -> Refused {
        let labels = [self.subject.kind(), self.limit.measure.name(), self.limit.per.name()];
        METRICS.limits.refused.with_label_values(&labels).inc();
        Refused { meter: Arc::clone(self), asked, short }
    }

    fn enter(&self, under_way: &AtomicU64) -> Result<(), Short> {
        let more = |count: u64| (count < self.limit.most).then(|| count + 1);
        match under_way.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(()),
            // Nobody knows when one of those under way is over.
            Err(_) => Err(Short::Wait(std::time::Duration::from_secs(1))),
        }
    }

    /// Tells whoever runs this that a share of a budget is spoken for: once in each period for each share.
    fn tell(&self, period: u32, after: u64) {
        let reached = &self.limit.reached;
        let share = after as f64 / self.limit.most as f64;
        let passed =
            reached.tell_at.iter().filter(|at| share >= **at).count() as u32 + u32::from(share > 1.0);
        if passed == 0 {
            return;
        }
        // The period's low bits and the count: whoever raises it tells.
        let mark = (period << 8) | passed.min(255);
        let raise = |told: u32| (told >> 8 != mark >> 8 || told < mark).then_some(mark);
        if self.told.fetch_update(Relaxed, Relaxed, raise).is_ok() {
            let percent = (share * 100.0) as u64;
            log::warn!("{}: {percent} % of its budget of the {} is used", self.name(), self.limit.per.name());
            METRICS.limits.warned.with_label_values(&[self.subject.kind(), self.limit.per.name()]).inc();
        }
    }

    /// Who it is about, for logs: `key:alice`, or `key:alice/gpt-*` where it is about such models.
    pub fn name(&self) -> String {
        match &self.models {
            Some(models) => format!("{}/{models}", self.subject),
            None => self.subject.to_string(),
        }
    }

    /// How it stands; nothing for what has no measure of time.
    pub fn standing(&self, now: Now) -> Option<Standing> {
        match &*self.count {
            Count::Rate(rate) => Some(rate.standing(&self.pace, now.nanos)),
            Count::Budget(budget) => Some(budget.standing((self.limit.per, self.limit.most), now.wall())),
            Count::Shared(share) => share.standing(now),
            Count::Concurrency(_) => None,
        }
    }
}

impl Wanted {
    /// Who is asked, and for what; nothing where the limit is not shared.
    pub(super) fn part(&self) -> Option<(&Arc<Remote>, Part)> {
        match &*self.meter.count {
            Count::Shared(share) => {
                Some((share.remote(), Part { share: Arc::clone(share), amount: self.amount }))
            }
            Count::Rate(_) | Count::Concurrency(_) | Count::Budget(_) => None,
        }
    }

    /// The store gave it.
    pub(super) fn given(self, now: Now) -> Taken {
        let period = match self.meter.limit.measure {
            Measure::Money => period_of(self.meter.limit.per, now.wall()),
            Measure::Requests | Measure::Tokens | Measure::Concurrency => 0,
        };
        let from = match &*self.meter.count {
            Count::Shared(share) => share.comes_back(self.amount, now),
            Count::Rate(_) | Count::Concurrency(_) | Count::Budget(_) => now.nanos,
        };
        self.meter.taken(self.amount, Origin { source: Source::Store, period, from })
    }

    /// The store did not answer: it is taken without, as far as the limit allows that.
    ///
    /// # Errors
    /// Where it does not.
    pub(super) fn without(self, now: Now) -> Result<Taken, Refused> {
        let Count::Shared(share) = &*self.meter.count else {
            return Err(self.meter.refused(self.amount, Short::Away));
        };
        match share.without(self.amount, now, self.meter.outage) {
            Ok(of) => Ok(self.meter.taken(self.amount, of)),
            Err(short) => Err(self.meter.refused(self.amount, short)),
        }
    }
}

impl Taken {
    /// So much was really used.
    pub(super) fn settle(self, used: u64, now: Now) {
        let meter = &self.meter;
        match &*meter.count {
            Count::Rate(rate) => rate.settle(&meter.pace, (self.amount, self.from), used, now.nanos),
            Count::Budget(budget) => {
                budget.settle(meter.limit.per, (self.amount, self.period), used, now.wall());
            }
            Count::Concurrency(under_way) => {
                under_way.fetch_sub(1, Relaxed);
            }
            Count::Shared(share) => {
                share.settle((self.amount, self.from), (self.source, self.period), used, now);
            }
        }
    }
}
