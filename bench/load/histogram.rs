//! A histogram of durations with 128 buckets for each power of two: quantiles are right to within 0.8 %.

use std::time::Duration;

use serde_json::{Value, json};

const BITS: u32 = 7;
const STEP: usize = 1 << BITS;

/// Durations, counted in buckets.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; (65 - BITS as usize) * STEP], total: 0, sum: 0, max: 0 }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        self.add_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn add_nanos(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// The duration that a share of `quantile` does not exceed, in nanoseconds; 0 where there are none.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((self.total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(index).min(self.max);
            }
        }
        self.max
    }

    /// What the report shows of it, in microseconds.
    pub(crate) fn summary(&self) -> Value {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let mean = if self.total == 0 { 0.0 } else { self.sum as f64 / self.total as f64 / 1e3 };
        json!({
            "count": self.total,
            "mean": mean,
            "p50": micros(self.quantile(0.5)),
            "p90": micros(self.quantile(0.9)),
            "p99": micros(self.quantile(0.99)),
            "p999": micros(self.quantile(0.999)),
            "max": micros(self.max),
        })
    }
}

/// The bucket of a value: exact below `STEP`, then the leading bits.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    (shift as usize) * STEP + (value >> shift) as usize
}

/// The value in the middle of a bucket.
fn middle(index: usize) -> u64 {
    let shift = (index / STEP).saturating_sub(1) as u32;
    let low = ((index - shift as usize * STEP) as u64) << shift;
    low + ((1u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_its_bucket() {
        for value in (0..300).chain([1_000, 12_345, 999_999, 5_000_000_000, u64::MAX / 3]) {
            let near = middle(bucket(value));
            assert!(near.abs_diff(value) as f64 <= value as f64 * 0.008, "{value} came back as {near}");
        }
    }

    #[test]
    fn the_largest_value_has_a_bucket() {
        let mut histogram = Histogram::new();
        histogram.add_nanos(u64::MAX);
        assert_eq!(histogram.counts.iter().sum::<u64>(), 1);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::new();
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        for (quantile, expected) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let found = histogram.quantile(quantile) as f64;
            assert!((found / expected - 1.0).abs() < 0.008, "{quantile}: {found}");
        }
    }

    #[test]
    fn merging_counts_both() {
        let (mut one, mut two) = (Histogram::new(), Histogram::new());
        one.add_nanos(10);
        two.add_nanos(30);
        one.merge(&two);
        assert_eq!((one.total, one.quantile(0.5), one.quantile(1.0)), (2, 10, 30));
    }
}
