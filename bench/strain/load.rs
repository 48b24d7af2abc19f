//! Load in an open and in a closed loop.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::client::{Ask, Clients, Sample};
use crate::edge::Edge;
use crate::histogram::Histogram;

/// What loads an edge.
pub(crate) struct Load {
    clients: Arc<Clients>,
    /// How many were asked.
    pub(crate) asked: u64,
}

impl Load {
    pub(crate) fn new(edge: &Edge) -> Self {
        Self { clients: Arc::new(Clients::new(edge.addr)), asked: 0 }
    }

    /// Asks so often a second, whether or not answers come.
    ///
    /// # Errors
    /// Where a client panics.
    pub(crate) async fn open(
        &mut self,
        rate: f64,
        time: Duration,
        mut pick: impl FnMut() -> Ask,
    ) -> io::Result<Vec<Sample>> {
        let (period, start) = (Duration::from_secs_f64(1.0 / rate), Instant::now());
        let (mut due, mut asking) = (start, JoinSet::new());
        while due < start + time {
            sleep_until(due.into()).await;
            asking.spawn(Arc::clone(&self.clients).ask(pick(), self.asked, due));
            self.asked += 1;
            due += period;
        }
        gathered(asking).await
    }

    /// Asks from so many clients, each again as soon as it has its answer.
    ///
    /// # Errors
    /// Where a client panics.
    pub(crate) async fn closed(
        &mut self,
        clients: usize,
        time: Duration,
        mut pick: impl FnMut() -> Ask,
    ) -> io::Result<Vec<Sample>> {
        let over = Instant::now() + time;
        let (mut samples, mut asking) = (Vec::new(), JoinSet::new());
        let mut next = |asking: &mut JoinSet<Sample>| {
            asking.spawn(Arc::clone(&self.clients).ask(pick(), self.asked, Instant::now()));
            self.asked += 1;
        };
        (0..clients).for_each(|_| next(&mut asking));
        while let Some(sample) = asking.join_next().await {
            samples.push(sample?);
            if Instant::now() < over {
                next(&mut asking);
            }
        }
        Ok(samples)
    }
}

async fn gathered(mut asking: JoinSet<Sample>) -> io::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while let Some(sample) = asking.join_next().await {
        samples.push(sample?);
    }
    Ok(samples)
}

/// The time that 99 of 100 do not exceed.
pub(crate) fn p99<T: IntoIterator<Item = Duration>>(times: T) -> Duration {
    let mut histogram = Histogram::new();
    times.into_iter().for_each(|time| histogram.add(time));
    Duration::from_nanos(histogram.quantile(0.99))
}

/// Milliseconds, as the tables show them.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
