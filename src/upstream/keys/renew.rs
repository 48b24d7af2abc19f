//! Keeps the secrets of keys fresh: files are looked at each second, a Vault is asked as often as is configured. A secret that
//! cannot be read stays what it was.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};

use super::{Origin, Pool, ProviderKey};
use crate::meter::metrics::METRICS;
use crate::provider::credential::Outside;
use crate::secret::Secret;

/// How often a file is looked at, and the clock.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a first failure of a Vault; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);
/// How often it is said that a key should be replaced.
const REMIND: Duration = Duration::from_hours(24);
/// The largest file that is read, bytes.
const MOST: u64 = 64 << 10;

/// A secret as it is now, and since when.
struct Found {
    secret: Secret,
    since: SystemTime,
}

/// Looks once for the secrets that are still to be fetched, and says which there are not.
pub async fn first_look(pool: &Pool, key: &ProviderKey, outside: &Outside) {
    if !key.is_known() {
        // Why not is told.
        let _ = look(pool, key, outside).await;
    }
}

/// Keeps the secret of a key of `pool` fresh, for ever, or at once over where it never changes; to be run once, beside the exchanges.
pub async fn keep(pool: Arc<Pool>, key: Arc<ProviderKey>, outside: Outside) {
    if matches!(key.origin, Origin::Fixed) && key.rotate_every.is_none() {
        return;
    }
    // It was looked at a moment ago.
    let first = if key.is_readable() { period(&key.origin).await } else { PAUSE };
    let (mut pause, mut due, mut reminded) = (PAUSE, Instant::now() + first, None);
    loop {
        let now = Instant::now();
        if now >= due {
            let found = look(&pool, &key, &outside).await;
            pause = if found { PAUSE } else { PAUSE_LIMIT.min(pause * 2) };
            due = now + if found { period(&key.origin).await } else { pause };
        }
        remind(&pool, &key, &mut reminded);
        tokio::time::sleep(LOOK.min(due.saturating_duration_since(now)).max(Duration::from_millis(10))).await;
    }
}

/// How long after a good look there is another.
async fn period(origin: &Origin) -> Duration {
    match origin {
        Origin::Fixed => REMIND,
        Origin::File(_) => LOOK,
        Origin::Vault(vault, _) => vault.pause(SystemTime::now()).await,
    }
}

/// Looks at where a secret is, and takes it over. Says whether that was possible; where it was not, the last one stays.
async fn look(pool: &Pool, key: &ProviderKey, outside: &Outside) -> bool {
    let found = match &key.origin {
        Origin::Fixed => return true,
        Origin::File(path) => file(path).await,
        Origin::Vault(vault, place) => {
            let read = vault.read(outside, place).await.map_err(|why| why.to_string());
            read.map(|kept| Found {
                secret: kept.secret,
                since: kept.created.unwrap_or_else(SystemTime::now),
            })
        }
    };
    let taken = found.and_then(|found| {
        let renewed = pool.renew(key, &found.secret, found.since, Instant::now());
        renewed.map_err(str::to_owned)
    });
    let readable = taken.is_ok();
    let was_readable = key.readable.swap(readable, Relaxed);
    let (cluster, name) = (&pool.cluster, &key.name);
    match taken {
        Ok(_) if !was_readable => info!("cluster {cluster}: its key {name} can be read again"),
        Ok(_) => {}
        Err(why) => {
            METRICS.keys.failures.with_label_values(&[cluster.as_str(), name.as_str()]).inc();
            // A file that stays as it is is told once.
            match (key.is_known(), was_readable || matches!(key.origin, Origin::Vault(..))) {
                (_, false) => {}
                (true, true) => warn!("cluster {cluster}: its key {name} stays what it was: {why}"),
                (false, true) => {
                    error!("cluster {cluster}: there is no secret for its key {name} yet: {why}")
                }
            }
        }
    }
    readable
}

async fn file(path: &Path) -> Result<Found, String> {
    let told = |why: std::io::Error| format!("{}: {why}", path.display());
    let about = tokio::fs::metadata(path).await.map_err(told)?;
    if about.len() > MOST {
        return Err(format!("{}: larger than 64 KiB", path.display()));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(told)?;
    Ok(Found { secret: Secret::new(text), since: about.modified().unwrap_or_else(|_| SystemTime::now()) })
}

/// Says once a day that a key is older than it should be.
fn remind(pool: &Pool, key: &ProviderKey, reminded: &mut Option<Instant>) {
    let now = SystemTime::now();
    if !key.is_overdue(now) {
        *reminded = None;
        return;
    }
    if reminded.is_some_and(|last| last.elapsed() < REMIND) {
        return;
    }
    *reminded = Some(Instant::now());
    let days = |time: Option<Duration>| time.unwrap_or_default().as_secs() / 86_400;
    let (age, every) = (days(key.age(now)), days(key.rotate_every));
    warn!(
        "cluster {}: its key {} is {age} days old and should be replaced every {every}",
        pool.cluster, key.name
    );
}
