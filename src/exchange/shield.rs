//! The outer shield: how much any one address may send before anything else is looked at.
//!
//! It counts with Pingora's estimators, whose memory is fixed however many addresses there are. They may take a few
//! addresses for one, and so refuse a little early, never late.

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::inflight::{Guard, Inflight};
use pingora_limits::rate::Rate;

use crate::error::{Error, Kind};
use crate::meter::metrics::METRICS;
use crate::network;
use crate::snapshot;

/// What addresses send.
pub(super) struct Shield {
    sent: Rate,
    under_way: Inflight,
}

impl std::fmt::Debug for Shield {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shield")
    }
}

impl Default for Shield {
    fn default() -> Self {
        Self { sent: Rate::new(Duration::from_secs(1)), under_way: Inflight::new() }
    }
}

/// A request under way that counts for its address until this is dropped.
pub(super) struct Counted(#[expect(dead_code, reason = "it counts while it lives")] Guard);

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

impl Shield {
    /// Lets a request of that address in, unless it sends too many.
    ///
    /// # Errors
    /// 429.
    pub(super) fn admit(&self, bounds: snapshot::Shield, client: IpAddr) -> Result<Option<Counted>, Error> {
        let address = network::of(client);
        if let Some(most) = bounds.requests
            && self.sent.observe(&address, 1) > isize::try_from(most).unwrap_or(isize::MAX)
        {
            return Err(too_many("requests", "second", "your address sends too many requests a second"));
        }
        let Some(most) = bounds.concurrency else { return Ok(None) };
        let (guard, under_way) = self.under_way.incr(address, 1);
        if under_way > isize::try_from(most).unwrap_or(isize::MAX) {
            return Err(too_many("concurrency", "ever", "your address has too many requests under way"));
        }
        Ok(Some(Counted(guard)))
    }
}

fn too_many(measure: &str, per: &str, why: &'static str) -> Error {
    METRICS.limits.refused.with_label_values(&["address", measure, per]).inc();
    Error::policy(Kind::RateLimited, why).after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(requests: Option<u32>, concurrency: Option<u32>) -> snapshot::Shield {
        snapshot::Shield { requests, concurrency }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_sends_so_many_a_second_and_others_as_many() {
        let shield = Shield::default();
        let sent = |from: &str| shield.admit(bounds(Some(5), None), ip(from)).is_ok();
        let passed = (0..100).filter(|_| sent("10.0.0.1")).count();
        // A second may end in between.
        assert!((5..=10).contains(&passed), "{passed}");
        assert!(sent("10.0.0.2"));
    }

    #[test]
    fn an_address_has_so_many_under_way() {
        let shield = Shield::default();
        let enter = |from: &str| shield.admit(bounds(None, Some(2)), ip(from));
        let (first, _second) = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        let refused = enter("2001:db8::3").unwrap_err();
        assert_eq!((refused.kind, refused.retry_after), (Kind::RateLimited, Some(1)));
        assert!(enter("2001:db8:0:1::1").is_ok(), "another network");
        drop(first);
        assert!(enter("2001:db8::3").is_ok());
    }
}
