//! The engine model: a batch of slots, a line before it, time for prompts and tokens, and a prefix cache.

use super::config::EngineConfig;
use super::stats::{Counter, Held, Stats, locked};
use super::text::{BLOCK, Prompt};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The machine that runs the model.
#[derive(Debug)]
pub(crate) struct Engine {
    config: EngineConfig,
    slots: Option<Arc<Semaphore>>,
    prefix: Mutex<PrefixCache>,
    stats: Arc<Stats>,
}

/// The queue is as long as it may be.
#[derive(Debug)]
pub(crate) struct Full;

impl Engine {
    pub(crate) fn new(config: EngineConfig, stats: Arc<Stats>) -> Self {
        let slots = config.slots.map(|n| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS))));
        let prefix = Mutex::new(PrefixCache::new(config.prefix_blocks));
        Self { config, slots, prefix, stats }
    }

    /// Waits for a slot, first come first served. Dropping the future leaves the line.
    pub(crate) async fn admit(self: &Arc<Self>) -> Result<Slot, Full> {
        let permit = match &self.slots {
            None => None,
            Some(slots) => match Arc::clone(slots).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => self.wait_in_line(slots).await?,
            },
        };
        let active = self.stats.hold(Counter::Active);
        Ok(Slot { engine: Arc::clone(self), kv: 0, due: None, _active: active, _permit: permit })
    }

    async fn wait_in_line(&self, slots: &Arc<Semaphore>) -> Result<Option<OwnedSemaphorePermit>, Full> {
        let line = self.stats.hold(Counter::Queued);
        if self.config.queue.is_some_and(|bound| line.before >= bound as u64) {
            return Err(Full);
        }
        let permit = Arc::clone(slots).acquire_owned().await.ok();
        drop(line);
        Ok(permit)
    }

    /// What `/metrics` calls the usage of the KV cache, 0 to 1.
    pub(crate) fn kv_usage(&self) -> f64 {
        let used = self.stats.get(Counter::KvTokens) as f64;
        (used / self.config.kv_tokens.max(1) as f64).min(1.0)
    }

    fn running(&self) -> u64 {
        self.stats.get(Counter::Active).max(1)
    }
}

/// A place in the batch. Dropping it frees the place and what it kept in the KV cache.
#[derive(Debug)]
pub(crate) struct Slot {
    engine: Arc<Engine>,
    kv: u64,
    due: Option<Instant>,
    // Declared in this order so that the gauge falls before the next in line may raise it.
    _active: Held,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// How many of the prompt's tokens the prefix cache holds.
    pub(crate) fn lookup(&self, prompt: &Prompt) -> u64 {
        let engine = &self.engine;
        if engine.config.prefix_blocks == 0 {
            return 0;
        }
        engine.stats.add(Counter::PrefixQueries, prompt.tokens);
        let blocks = locked(&engine.prefix).known(&prompt.blocks);
        // The last token is always read again: its output is the first new token.
        blocks.min(prompt.tokens.saturating_sub(1) / BLOCK) * BLOCK
    }

    /// Reads the prompt, of which `cached` tokens cost no time, and remembers its blocks.
    pub(crate) async fn prefill(&mut self, prompt: &Prompt, cached: u64) {
        self.keep(prompt.tokens);
        if let Some(tps) = self.engine.config.prefill_tps {
            let seconds = prompt.tokens.saturating_sub(cached) as f64 / tps;
            tokio::time::sleep(seconds_of(seconds)).await;
        }
        if self.engine.config.prefix_blocks > 0 {
            locked(&self.engine.prefix).learn(&prompt.blocks);
        }
    }

    /// Waits until `n` more tokens are made. The first token of all is there when the prompt is read.
    pub(crate) async fn decode(&mut self, n: u64) {
        self.keep(n);
        let Some(tps) = self.engine.config.decode_tps else { return };
        let one = interval(tps, self.engine.config.slowdown, self.engine.running());
        let due = match self.due {
            None => Instant::now() + one.mul_f64(n.saturating_sub(1) as f64),
            Some(due) => due + one.mul_f64(n as f64),
        };
        self.due = Some(due);
        tokio::time::sleep_until(due).await;
    }

    /// How many tokens to decode at a stroke when nobody watches each: about 20 ms of them.
    pub(crate) fn stroke(&self) -> u64 {
        self.engine.config.decode_tps.map_or(u64::MAX, |tps| (tps * 0.02).ceil().max(1.0) as u64)
    }

    fn keep(&mut self, tokens: u64) {
        self.kv += tokens;
        self.engine.stats.add(Counter::KvTokens, tokens);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.engine.stats.sub(Counter::KvTokens, self.kv);
    }
}

/// Time for one token when `running` requests share the engine.
fn interval(tps: f64, slowdown: f64, running: u64) -> Duration {
    seconds_of((1.0 + slowdown * (running.saturating_sub(1)) as f64) / tps)
}

/// A duration of at most a day, whatever the arithmetic gave.
fn seconds_of(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(86_400.0)).unwrap_or_default()
}

/// Blocks of prompts seen before; the one unused for longest goes first.
#[derive(Debug)]
struct PrefixCache {
    room: usize,
    clock: u64,
    used: HashMap<u64, u64>,
    by_age: BTreeMap<u64, u64>,
}

impl PrefixCache {
    fn new(room: usize) -> Self {
        Self { room, clock: 0, used: HashMap::new(), by_age: BTreeMap::new() }
    }

    /// How many blocks from the start are known; they count as used now.
    fn known(&mut self, blocks: &[u64]) -> u64 {
        let n = blocks.iter().take_while(|block| self.used.contains_key(block)).count();
        self.touch_all(blocks.iter().take(n));
        n as u64
    }

    fn learn(&mut self, blocks: &[u64]) {
        self.touch_all(blocks.iter().take(self.room));
        while self.used.len() > self.room {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.used.remove(&oldest);
        }
    }

    /// Backwards, so that a prompt's tail ages before its head, without which the tail is of no use.
    fn touch_all<'a>(&mut self, blocks: impl DoubleEndedIterator<Item = &'a u64>) {
        for block in blocks.rev() {
            self.clock += 1;
            if let Some(age) = self.used.insert(*block, self.clock) {
                self.by_age.remove(&age);
            }
            self.by_age.insert(self.clock, *block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(config: EngineConfig) -> (Arc<Engine>, Arc<Stats>) {
        let stats = Arc::new(Stats::default());
        (Arc::new(Engine::new(config, Arc::clone(&stats))), stats)
    }

    #[test]
    fn a_full_batch_slows_each_stream() {
        assert_eq!(interval(50.0, 0.0, 8), Duration::from_millis(20));
        assert_eq!(interval(50.0, 0.5, 1), Duration::from_millis(20));
        assert_eq!(interval(50.0, 0.5, 3), Duration::from_millis(40));
        assert_eq!(seconds_of(f64::INFINITY), Duration::from_secs(86_400));
    }

    #[tokio::test]
    async fn slots_then_line_then_full() {
        let (engine, stats) = engine(EngineConfig { slots: Some(1), queue: Some(1), ..Default::default() });
        let first = engine.admit().await.unwrap();
        let waiting = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move { engine.admit().await }
        });
        let seen = stats.wait_until(|s| s.queued == 1, Duration::from_secs(5)).await.unwrap();
        assert_eq!((seen.active, seen.queued), (1, 1));
        assert!(engine.admit().await.is_err());
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        assert_eq!((stats.snapshot().active, stats.snapshot().queued), (1, 0));
        drop(second);
        assert_eq!(stats.snapshot().active, 0);
    }

    #[tokio::test]
    async fn leaving_the_line_frees_the_place() {
        let (engine, stats) = engine(EngineConfig { slots: Some(1), queue: Some(1), ..Default::default() });
        let _first = engine.admit().await.unwrap();
        let waiting = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move { engine.admit().await.is_ok() }
        });
        stats.wait_until(|s| s.queued == 1, Duration::from_secs(5)).await.unwrap();
        waiting.abort();
        stats.wait_until(|s| s.queued == 0, Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn the_prefix_cache_knows_what_was_prefilled() {
        let (engine, stats) = engine(EngineConfig { prefix_blocks: 8, ..Default::default() });
        let prompt = |words: usize| {
            let mut prompt = Prompt::new(0, "m");
            prompt.text(&"word ".repeat(words));
            prompt
        };
        let mut slot = engine.admit().await.unwrap();
        assert_eq!(slot.lookup(&prompt(40)), 0);
        slot.prefill(&prompt(40), 0).await;
        assert_eq!(stats.snapshot().kv_tokens, 40);
        assert_eq!(slot.lookup(&prompt(100)), 32);
        assert_eq!(slot.lookup(&prompt(32)), 16, "the last token is never cached");
        drop(slot);
        assert_eq!(stats.snapshot().kv_tokens, 0);
    }

    #[test]
    fn the_oldest_block_goes_first() {
        let mut cache = PrefixCache::new(2);
        cache.learn(&[1]);
        cache.learn(&[2]);
        assert_eq!(cache.known(&[1]), 1);
        cache.learn(&[3]);
        assert_eq!((cache.known(&[2]), cache.known(&[1]), cache.known(&[3])), (0, 1, 1));
    }
}
