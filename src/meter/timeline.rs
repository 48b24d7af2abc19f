//! When each phase of an exchange ended.

use std::time::{Duration, Instant};

/// The moments of an exchange. A phase that was not reached is `None`. After a retry the upstream's moments are
/// those of the last attempt.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// The request's head was read.
    pub began: Instant,
    /// Its body was read.
    pub received: Option<Instant>,
    /// The present attempt began.
    pub tried: Instant,
    /// A connection to the upstream was there.
    pub connected: Option<Instant>,
    /// The whole request was sent upstream.
    pub sent: Option<Instant>,
    /// The upstream's response head was there.
    pub head: Option<Instant>,
    /// The first content token, or the first byte of a reply that is no stream, was there.
    pub first_token: Option<Instant>,
    /// The last one.
    pub last_token: Option<Instant>,
    /// Time spent by Forebay itself while it waited for nobody, as far as it was measured.
    pub own: Duration,
}

impl Timeline {
    /// An exchange that begins now.
    pub fn begin(now: Instant) -> Self {
        Self {
            began: now,
            received: None,
            tried: now,
            connected: None,
            sent: None,
            head: None,
            first_token: None,
            last_token: None,
            own: Duration::ZERO,
        }
    }

    /// Notes a content token.
    pub fn token(&mut self, now: Instant) {
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
    }

    /// Forgets what belongs to an attempt that failed; the next begins at `now`.
    pub fn restart(&mut self, now: Instant) {
        self.tried = now;
        (self.connected, self.sent, self.head, self.first_token, self.last_token) =
            (None, None, None, None, None);
    }

    /// From the request sent upstream to the first token.
    pub fn time_to_first_token(&self) -> Option<Duration> {
        Some(self.first_token?.saturating_duration_since(self.sent?))
    }

    /// From the request sent upstream to its response head.
    pub fn time_to_head(&self) -> Option<Duration> {
        Some(self.head?.saturating_duration_since(self.sent?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_is_kept_and_the_last_moves() {
        let zero = Instant::now();
        let mut timeline = Timeline::begin(zero);
        timeline.sent = Some(zero + Duration::from_millis(5));
        timeline.token(zero + Duration::from_millis(15));
        timeline.token(zero + Duration::from_millis(25));
        assert_eq!(timeline.time_to_first_token(), Some(Duration::from_millis(10)));
        assert_eq!(timeline.last_token, Some(zero + Duration::from_millis(25)));
        timeline.restart(zero);
        assert_eq!(timeline.time_to_first_token(), None);
        assert_eq!(timeline.began, zero);
    }
}
