//! Every virtual key in force, by its hash.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::grants::Principal;
use super::key::Hash;

/// A principal with its keys.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// Whose they are.
    pub principal: Arc<Principal>,
    /// Its keys: more than one while an old one is being replaced.
    pub secrets: Vec<Kept>,
    /// Whether any of them is taken.
    pub enabled: bool,
}

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its hash.
    pub hash: Hash,
    /// Until when it is taken; nothing for ever.
    pub expires: Option<SystemTime>,
}

/// Where a principal was defined. Where two have one name, or one key, the earlier place has its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In the configuration.
    Written,
    /// In the file of `access.keys_file`.
    File,
    /// Through the admin listener.
    Store,
}

impl Origin {
    /// Every origin, in the order in which they go.
    pub const ALL: [Self; 3] = [Self::Written, Self::File, Self::Store];

    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Written => "configuration",
            Self::File => "file",
            Self::Store => "store",
        }
    }
}

/// When a key was last good, and from where.
#[derive(Debug, Default)]
pub struct Seen {
    /// Seconds since 1970; 0 for never.
    used: AtomicU64,
    /// What stands for the address; 0 for none.
    from: AtomicU64,
}

impl Seen {
    /// When it was last good, to the second.
    pub fn used(&self) -> Option<SystemTime> {
        let seconds = self.used.load(Relaxed);
        (seconds > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Notes a use. Nothing is written that stands there already: other cores would have to fetch it anew.
    pub(super) fn note(&self, from: u64, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        for (place, value) in [(&self.used, seconds), (&self.from, from)] {
            if place.load(Relaxed) != value {
                place.store(value, Relaxed);
            }
        }
    }

    /// Whether it was last good from there.
    pub(super) fn is_from(&self, from: u64) -> bool {
        from != 0 && self.from.load(Relaxed) == from
    }
}

/// A key in force.
#[derive(Debug)]
pub struct Entry {
    kept: Kept,
    owner: usize,
    /// What became of it.
    pub seen: Arc<Seen>,
}

impl Entry {
    /// What is kept of it.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }
}

/// Why a key that is known is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Its principal is disabled.
    Disabled,
    /// Its time is over.
    Expired,
}

/// A principal with where it was defined.
#[derive(Debug)]
pub struct Owner {
    /// Where it was defined.
    pub origin: Origin,
    /// It, with its keys.
    pub keyed: Keyed,
}

/// Every key in force.
#[derive(Debug, Default)]
pub struct Table {
    owners: Vec<Owner>,
    entries: Vec<Entry>,
    /// Entries by a number that nobody outside can foretell: what the time of a look-up tells is of no use.
    places: HashMap<u64, Vec<usize>>,
    random: RandomState,
}

impl Table {
    /// The table of these principals, in the order of their origins, and the names of those that an earlier one shuts out,
    /// with their origins. What was seen of a key before stays known.
    pub fn new(sources: [&[Keyed]; 3], before: &Self) -> (Self, Vec<(Origin, String)>) {
        let mut table = Self { random: before.random.clone(), ..Self::default() };
        let (mut names, mut hashes, mut shut) = (HashSet::new(), HashSet::new(), Vec::new());
        let all = Origin::ALL.into_iter().zip(sources);
        for (origin, keyed) in all.flat_map(|(origin, some)| some.iter().map(move |keyed| (origin, keyed))) {
            let taken = keyed.secrets.iter().any(|kept| hashes.contains(&kept.hash));
            if taken || !names.insert(Arc::clone(&keyed.principal.name)) {
                shut.push((origin, keyed.principal.name.to_string()));
                continue;
            }
            hashes.extend(keyed.secrets.iter().map(|kept| kept.hash));
            table.add(origin, keyed, before);
        }
        (table, shut)
    }

    fn add(&mut self, origin: Origin, keyed: &Keyed, before: &Self) {
        let owner = self.owners.len();
        for kept in &keyed.secrets {
            let seen = before.find(&kept.hash).map(|entry| Arc::clone(&entry.seen)).unwrap_or_default();
            self.places.entry(self.random.hash_one(kept.hash)).or_default().push(self.entries.len());
            self.entries.push(Entry { kept: kept.clone(), owner, seen });
        }
        self.owners.push(Owner { origin, keyed: keyed.clone() });
    }

    /// The key of that hash. Whether there is one takes as long to say as that there is none.
    pub fn find(&self, hash: &Hash) -> Option<&Entry> {
        let places = self.places.get(&self.random.hash_one(hash));
        let mut found = None;
        let candidates = places.into_iter().flatten().filter_map(|place| self.entries.get(*place));
        for entry in candidates {
            if verify_slices_are_equal(&entry.kept.hash.0, &hash.0).is_ok() {
                found = Some(entry);
            }
        }
        if places.is_none() {
            // As much is compared where there is nothing to compare with.
            let _ = std::hint::black_box(verify_slices_are_equal(&[0; 32], &hash.0));
        }
        found
    }

    /// Whose a key is, or why it is not taken.
    pub fn owner(&self, entry: &Entry, now: SystemTime) -> (Option<&Arc<Principal>>, Option<Spent>) {
        let Some(owner) = self.owners.get(entry.owner) else { return (None, Some(Spent::Disabled)) };
        let spent = match entry.kept.expires {
            _ if !owner.keyed.enabled => Some(Spent::Disabled),
            Some(expires) if expires <= now => Some(Spent::Expired),
            _ => None,
        };
        (Some(&owner.keyed.principal), spent)
    }

    /// Every principal with its keys.
    pub fn owners(&self) -> impl Iterator<Item = (&Owner, Vec<&Entry>)> {
        self.owners
            .iter()
            .enumerate()
            .map(|(index, owner)| (owner, self.entries.iter().filter(|entry| entry.owner == index).collect()))
    }

    /// Whether there is no principal at all.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// What stands for an address, 0 for none. Nobody outside can foretell it.
    pub(super) fn face(&self, address: Option<std::net::IpAddr>) -> u64 {
        address.map_or(0, |address| self.random.hash_one(crate::network::of(address)).max(1))
    }
}
