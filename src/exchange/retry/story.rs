//! Why an exchange went where it went, in words.

use std::fmt;
use std::time::Duration;

use crate::route::alias::Alias;
use crate::snapshot::Cause;
use crate::upstream::admission::Refusal;

/// Why the exchange went on from a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It rests after a refusal for a rate or a quota, for that long.
    Rests(Duration),
    /// Its credential was refused a moment ago.
    NoKey,
    /// All of its endpoints are drained.
    Draining,
    /// None of its endpoints is healthy and was not tried.
    NoEndpoint,
    /// Its cluster's budget for further attempts is used up.
    NoBudget,
    /// It is not one that the request may go to, or that keeps what it refers to.
    Forbidden,
    /// Its cluster's requests go elsewhere for a while.
    Away,
    /// As many exchanges are under way there as may be, and it goes elsewhere.
    Full,
    /// It waited there in vain.
    Refused(Refusal),
    /// It waited that long for a place, and got it.
    Queued(Duration),
    /// The request cannot be written for it.
    Unwritten,
    /// A key of it was refused, or is at its rate, and another is taken.
    Key(String, &'static str),
    /// It failed.
    Failed(Cause),
    /// It was slow, and another attempt was made beside it, at that endpoint.
    Hedged(Hedged, String),
}

/// What became of a second attempt beside a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedged {
    /// It had content first, and was stayed with.
    Won,
    /// The first had content before, or nobody waited any longer.
    Lost,
    /// It failed.
    Failed,
}

impl Hedged {
    /// Its name in the log and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rests(left) => write!(f, "rests for {:.1} s more", left.as_secs_f64()),
            Self::NoKey => f.write_str("no key"),
            Self::Draining => f.write_str("draining"),
            Self::NoEndpoint => f.write_str("no endpoint"),
            Self::NoBudget => f.write_str("no budget for another attempt"),
            Self::Forbidden => f.write_str("not permitted"),
            Self::Away => f.write_str("its requests go elsewhere for a while"),
            Self::Full => f.write_str("no free place"),
            Self::Refused(refusal) => write!(f, "no place: {}", refusal.name()),
            Self::Queued(waited) => write!(f, "queued for {:.3} s", waited.as_secs_f64()),
            Self::Unwritten => f.write_str("cannot be asked this"),
            Self::Key(name, why) => write!(f, "key {name} {why}"),
            Self::Failed(cause) => f.write_str(cause.name()),
            Self::Hedged(hedged, endpoint) => write!(f, "hedged: {} at {endpoint}", hedged.name()),
        }
    }
}

/// Which deployments were passed over or failed, and why, in this order.
#[derive(Debug, Default)]
pub(super) struct Story(Vec<(usize, Passed)>);

impl Story {
    /// A failure is told each time; whatever else holds is told once.
    pub(super) fn tell(&mut self, index: usize, passed: Passed) {
        let same = |(known, why): &(usize, Passed)| {
            *known == index && std::mem::discriminant(why) == std::mem::discriminant(&passed)
        };
        if matches!(passed, Passed::Failed(_) | Passed::Hedged(..) | Passed::Key(..))
            || !self.0.iter().any(same)
        {
            self.0.push((index, passed));
        }
    }

    /// Whether anything is told of a deployment.
    pub(super) fn knows(&self, index: usize) -> bool {
        self.0.iter().any(|(known, _)| *known == index)
    }

    /// One deployment of the alias after the other; empty where the first served.
    pub(super) fn text(&self, alias: &Alias) -> String {
        let name = |index: usize| alias.deployments.get(index).map_or("", |d| d.cluster.name());
        let told: Vec<String> =
            self.0.iter().map(|(index, passed)| format!("{}: {passed}", name(*index))).collect();
        told.join("; ")
    }
}
