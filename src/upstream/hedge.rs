//! When a second attempt is made beside one that is slow.

mod times;

use std::time::Duration;

pub use times::Times;

/// When a cluster's attempts are hedged, and how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedging {
    /// After what time.
    pub after: After,
    /// What each attempt puts aside for a second one, in thousandths of one.
    pub budget: u32,
}

/// How long an attempt is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// Always as long.
    Fixed(Duration),
    /// As long as this share of the deployment's attempts took of late, but not less than that.
    Share(f64, Duration),
}

/// How long a deployment's attempts took of late: streams to their first content, others to their whole reply.
#[derive(Debug, Default)]
pub struct Waits {
    streams: Times,
    replies: Times,
}

impl Waits {
    /// Those of streams, or those of whole replies.
    pub fn of(&self, stream: bool) -> &Times {
        if stream { &self.streams } else { &self.replies }
    }
}

impl Hedging {
    /// How long an attempt is waited for before a second one is made; nothing while too few times are known.
    pub fn delay(&self, waits: &Waits, stream: bool) -> Option<Duration> {
        match self.after {
            After::Fixed(delay) => Some(delay),
            After::Share(share, least) => Some(waits.of(stream).within(share)?.max(least)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_fixed_or_learned_for_streams_and_replies_apart() {
        let (waits, least) = (Waits::default(), Duration::from_millis(50));
        let delay = |after, stream| Hedging { after, budget: 50 }.delay(&waits, stream);
        assert_eq!(delay(After::Fixed(least), true), Some(least));
        for _ in 0..100 {
            waits.of(true).note(Duration::from_millis(10));
            waits.of(false).note(Duration::from_secs(1));
        }
        assert_eq!(delay(After::Share(0.95, least), true), Some(least));
        let learned = delay(After::Share(0.95, least), false).unwrap();
        assert!(learned >= Duration::from_secs(1) && learned < Duration::from_millis(1100), "{learned:?}");
    }
}
