//! Stops whoever guesses keys: an address with too many failures is refused for the rest of its window.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::network;

/// How many addresses are watched at once. Whoever has more takes the place of others: they are slowed down less, and the
/// memory stays bounded.
const MOST: usize = 16_384;

/// How many failures an address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// So many.
    pub failures: u32,
    /// In so long.
    pub window: Duration,
}

/// The failures of one address.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: SystemTime,
    failures: u32,
}

/// The failures of all addresses.
#[derive(Debug, Default)]
pub struct Shield {
    bound: Option<Bound>,
    /// How many addresses have failed, so that nobody asks for the lock where nothing fails.
    count: AtomicUsize,
    windows: Mutex<HashMap<IpAddr, Window>>,
}

impl Shield {
    /// A shield; without a bound it stops nobody.
    pub fn new(bound: Option<Bound>) -> Self {
        Self { bound, ..Self::default() }
    }

    /// How long an address is refused yet; nothing for one that is not.
    pub fn blocked(&self, address: Option<IpAddr>, now: SystemTime) -> Option<Duration> {
        let bound = self.bound?;
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window =
            windows.get(&network::of(address?)).filter(|window| window.failures >= bound.failures)?;
        // A clock that was put back ends no window early and makes none longer.
        let gone = now.duration_since(window.since).unwrap_or_default();
        bound.window.checked_sub(gone).filter(|left| !left.is_zero())
    }

    /// Counts a failure.
    pub fn failed(&self, address: Option<IpAddr>, now: SystemTime) {
        let (Some(bound), Some(address)) = (self.bound, address) else { return };
        let address = network::of(address);
        let is_over =
            |window: &Window| now.duration_since(window.since).is_ok_and(|gone| gone >= bound.window);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MOST && !windows.contains_key(&address) {
            make_room(&mut windows, is_over);
        }
        let window = windows.entry(address).or_insert(Window { since: now, failures: 0 });
        if is_over(window) {
            *window = Window { since: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        self.count.store(windows.len(), Relaxed);
    }
}

/// Looks at a few: a sweep of all for each failure would be work for whoever wants to make some.
fn make_room(windows: &mut HashMap<IpAddr, Window>, is_over: impl Fn(&Window) -> bool) {
    let few = windows.iter().take(16);
    let old: Vec<IpAddr> =
        few.clone().filter(|(_, window)| is_over(window)).map(|(address, _)| *address).collect();
    let least = || few.min_by_key(|(_, window)| window.failures).map(|(address, _)| *address);
    let gone = if old.is_empty() { least().into_iter().collect() } else { old };
    for address in gone {
        windows.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn shield(failures: u32) -> Shield {
        Shield::new(Some(Bound { failures, window: Duration::from_secs(60) }))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn who_fails_too_often_waits_for_the_end_of_the_window() {
        let shield = shield(3);
        for second in [0, 1] {
            shield.failed(ip("10.0.0.1"), at(second));
            assert_eq!(shield.blocked(ip("10.0.0.1"), at(second)), None);
        }
        shield.failed(ip("10.0.0.1"), at(2));
        assert_eq!(shield.blocked(ip("10.0.0.1"), at(2)), Some(Duration::from_secs(58)));
        assert_eq!(shield.blocked(ip("::ffff:10.0.0.1"), at(2)), Some(Duration::from_secs(58)));
        assert_eq!(shield.blocked(ip("10.0.0.2"), at(2)), None, "another address");
        assert_eq!(shield.blocked(ip("10.0.0.1"), at(60)), None);
        shield.failed(ip("10.0.0.1"), at(61));
        assert_eq!(shield.blocked(ip("10.0.0.1"), at(61)), None, "a new window begins");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let shield = shield(2);
        shield.failed(ip("2001:db8:1:2::1"), at(0));
        shield.failed(ip("2001:db8:1:2:ffff::9"), at(0));
        assert!(shield.blocked(ip("2001:db8:1:2::77"), at(1)).is_some());
        assert_eq!(shield.blocked(ip("2001:db8:1:3::1"), at(1)), None);
    }

    #[test]
    fn without_a_bound_or_an_address_nobody_is_stopped() {
        let off = Shield::new(None);
        off.failed(ip("10.0.0.1"), at(0));
        assert_eq!(off.blocked(ip("10.0.0.1"), at(0)), None);
        let shield = shield(1);
        shield.failed(None, at(0));
        assert_eq!(shield.blocked(None, at(0)), None);
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let shield = shield(1);
        for number in 0..100_000_u32 {
            shield.failed(Some(IpAddr::from(number.to_be_bytes())), at(0));
        }
        assert_eq!(shield.count.load(Relaxed), MOST);
        shield.failed(ip("11.0.0.1"), at(0));
        assert!(shield.blocked(ip("11.0.0.1"), at(0)).is_some(), "who has just failed is watched");
    }

    #[test]
    fn a_clock_put_back_blocks_nobody_for_longer_than_a_window() {
        let shield = shield(1);
        shield.failed(ip("10.0.0.1"), at(1000));
        assert_eq!(shield.blocked(ip("10.0.0.1"), at(0)), Some(Duration::from_secs(60)));
    }
}
