//! What many can cause must not fill the disk.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::entry::Entry;

/// How long refusals are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// How many subjects are told apart in a window; the others are one.
const SUBJECTS: usize = 4096;
/// What those others are called.
const OTHERS: &str = "others";

/// The refusals of the present window.
#[derive(Debug)]
pub(super) struct Floods {
    most: u32,
    began: SystemTime,
    counts: HashMap<(&'static str, String), u32>,
}

impl Floods {
    /// Lets so many of each subject have lines of their own in a window.
    pub(super) fn new(most: u32, now: SystemTime) -> Self {
        Self { most, began: now, counts: HashMap::new() }
    }

    /// Whether an event of that subject has a line of its own; it is counted if not.
    pub(super) fn allows(&mut self, event: &'static str, subject: &str) -> bool {
        let mut key = (event, subject.to_owned());
        if self.counts.len() >= SUBJECTS && !self.counts.contains_key(&key) {
            OTHERS.clone_into(&mut key.1);
        }
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= self.most
    }

    /// The sums of a window that is over, or that is to be.
    pub(super) fn sums(&mut self, now: SystemTime, all: bool) -> Vec<Entry> {
        let age = now.duration_since(self.began).unwrap_or(WINDOW);
        if self.counts.is_empty() || (age < WINDOW && !all) {
            if self.counts.is_empty() {
                self.began = now;
            }
            return Vec::new();
        }
        self.began = now;
        let most = self.most;
        let more = |((event, subject), count): ((&'static str, String), u32)| {
            let more = count.checked_sub(most).filter(|more| *more > 0)?;
            Some(
                Entry::new("more", now).text("of", event).text("from", &subject).number("count", more.into()),
            )
        };
        std::mem::take(&mut self.counts).into_iter().filter_map(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_sum() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut floods = Floods::new(3, start);
        let told = (0..1000).filter(|_| floods.allows("auth_failed", "10.0.0.1")).count();
        assert_eq!(told, 3);
        assert!(floods.allows("auth_failed", "10.0.0.2") && floods.allows("refused", "10.0.0.1"));
        assert!(floods.sums(start + Duration::from_secs(59), false).is_empty());
        let sums: Vec<String> = floods.sums(start + WINDOW, false).into_iter().map(Entry::finish).collect();
        assert_eq!(sums.len(), 1);
        assert!(
            sums[0].ends_with(r#""event":"more","of":"auth_failed","from":"10.0.0.1","count":997"#),
            "{sums:?}"
        );
        assert!(floods.allows("auth_failed", "10.0.0.1"), "another window");
    }

    #[test]
    fn many_addresses_are_counted_as_one() {
        let mut floods = Floods::new(1, SystemTime::UNIX_EPOCH);
        let told = (0..100_000).filter(|number| floods.allows("auth_failed", &number.to_string())).count();
        assert_eq!(told, SUBJECTS + 1);
        assert_eq!(floods.counts.len(), SUBJECTS + 1);
        assert_eq!(floods.sums(SystemTime::UNIX_EPOCH, true).len(), 1);
    }
}
