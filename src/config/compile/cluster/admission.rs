//! How many requests a cluster takes, and when they go elsewhere.

use std::time::Duration;

use crate::config::compile::Check;
use crate::config::diagnostic::Path;
use crate::config::schema::{self, AdmissionLimit};
use crate::upstream::admission::{self, Adaptive, Limit};
use crate::upstream::spill;

/// Both, as far as they are written.
pub(super) fn both(
    cluster: &schema::Cluster,
    path: &Path,
    check: &mut Check<'_>,
) -> (Option<admission::Policy>, Option<spill::Policy>) {
    let admission = cluster.admission.as_ref().map(|written| admit(written, &path.key("admission"), check));
    let spill = cluster.spill.as_ref().map(|written| away(written, cluster, &path.key("spill"), check));
    (admission, spill)
}

fn admit(written: &schema::Admission, path: &Path, check: &mut Check<'_>) -> admission::Policy {
    check.positive(&path.key("timeout"), written.timeout);
    let limit = match &written.limit {
        AdmissionLimit::Fixed(limit) => Limit::Fixed(*limit),
        AdmissionLimit::Adaptive(bounds) => {
            if bounds.max < bounds.min {
                let message = format!("less than `min`, {}", bounds.min);
                check.error(
                    &path.key("limit").key("max"),
                    message,
                    "write a larger number, or one fixed limit",
                );
            }
            Limit::Adaptive(Adaptive { min: bounds.min, max: bounds.max, tolerance: bounds.tolerance })
        }
    };
    admission::Policy { limit, queue: written.queue, wait: written.timeout.0 }
}

fn away(
    written: &schema::Spill,
    cluster: &schema::Cluster,
    path: &Path,
    check: &mut Check<'_>,
) -> spill::Policy {
    check.positive(&path.key("back"), written.back);
    for (key, period) in [("wait", written.wait), ("first_token", written.first_token)] {
        if let Some(period) = period {
            check.positive(&path.key(key), period);
        }
    }
    if written.over.0 < Duration::from_millis(100) {
        check.error(&path.key("over"), "too short", "write at least `100ms`");
    }
    if written.wait.is_some() && cluster.admission.is_none() {
        let help = "add `admission` with a `limit`, or remove it";
        check.error(&path.key("wait"), "nothing ever waits at this cluster", help);
    }
    let signs = [written.wait.is_some(), written.first_token.is_some(), written.error_rate.is_some()];
    if !signs.contains(&true) && written.failures.is_none() && written.sick.is_none() {
        let help = "add `wait`, `first_token`, `error_rate`, `failures` or `sick`, or remove it";
        check.warning(path, "without effect: there is no sign that sends requests away", help);
    }
    spill::Policy {
        wait: written.wait.map(|wait| wait.0),
        first_token: written.first_token.map(|time| time.0),
        error_rate: written.error_rate,
        failures: written.failures,
        sick: written.sick,
        over: written.over.0,
        back: written.back.0,
    }
}
