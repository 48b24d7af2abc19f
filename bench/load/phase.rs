//! What part of a run it is.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use crate::Target;

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing counts yet.
    Warm,
    /// All counts.
    Measured,
    /// Short streams run beside the others.
    Churn,
    /// Nothing new is begun.
    Over,
}

/// The part that all clients of a run are in.
#[derive(Clone)]
pub(crate) struct Now(Rc<Cell<Phase>>);

impl Now {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(Phase::Warm)))
    }

    pub(crate) fn is(&self, phase: Phase) -> bool {
        self.0.get() == phase
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.0.set(phase);
    }

    /// Lets the time pass that is measured, and says when it begins and ends; how long it was, in seconds.
    pub(crate) async fn measure(&self, target: &Target) -> f64 {
        crate::say("begin");
        let began = std::time::Instant::now();
        self.set(Phase::Measured);
        sleep(seconds(target.seconds)).await;
        self.set(Phase::Over);
        crate::say("end");
        began.elapsed().as_secs_f64()
    }
}

/// A duration from the command line. What is no duration is none.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
