//! Nodes of one test: each with a book and a connection of its own, as in processes of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::limit::remote::Spec;
use forebay::limit::{
    Book, Bound, Demand, Hold, Limit, Limits, Measure, Now, Outage, Per, Reached, Refused, Remote, Sharing,
    Subject,
};
use forebay::secret::Secret;
use forebay::store;

use crate::server::eventually;

/// Long enough for a machine that does much else.
pub(crate) const PATIENT: Duration = Duration::from_secs(5);

pub(crate) struct Node {
    pub(crate) book: Arc<Book>,
    pub(crate) remote: Arc<Remote>,
}

pub(crate) fn spec(url: Secret, deadline: Duration) -> Spec {
    let store =
        store::Spec { urls: vec![url], deadline, pause: Duration::from_millis(50), ..store::Spec::default() };
    Spec { store, ..Spec::default() }
}

pub(crate) fn limit(measure: Measure, per: Per, most: u64, sharing: Sharing) -> Limit {
    Limit { measure, per, most, reached: Reached::default(), sharing }
}

pub(crate) fn now() -> Now {
    Now::at(Instant::now())
}

impl Node {
    pub(crate) fn start(spec: &Spec) -> Self {
        let remote = Remote::new(spec.clone());
        remote.start().unwrap();
        Self { book: Arc::new(Book::shared(Some(Arc::clone(&remote)))), remote }
    }

    /// That many nodes, once each knows of all.
    pub(crate) fn several(count: u64, spec: &Spec) -> Vec<Self> {
        let nodes: Vec<_> = (0..count).map(|_| Self::start(spec)).collect();
        for node in &nodes {
            eventually("each node knows of all", || node.remote.is_up() && node.remote.nodes() == count);
        }
        nodes
    }

    pub(crate) fn bind(&self, limits: &[Limit]) -> Arc<Bound> {
        self.bind_with(limits, Outage::Open)
    }

    pub(crate) fn bind_with(&self, limits: &[Limit], outage: Outage) -> Arc<Bound> {
        let limits = Limits { all: limits.to_vec(), outage, ..Limits::default() };
        self.book.bind(&Subject::Key("alice".into()), &limits)
    }
}

/// A hold of what is demanded, as of something that was sent.
pub(crate) async fn reserve(bound: &Bound, demand: Demand) -> Result<Hold, Box<Refused>> {
    let mut hold = Hold::default();
    hold.reserve(bound.meters("m"), &demand, now()).await?;
    hold.sent();
    Ok(hold)
}

/// How many of so many requests at once at each node are let through.
pub(crate) async fn burst(bounds: &[Arc<Bound>], each: usize) -> Vec<usize> {
    let tasks: Vec<Vec<_>> = bounds
        .iter()
        .map(|bound| {
            let bound = Arc::clone(bound);
            let ask = move |_| {
                let bound = Arc::clone(&bound);
                tokio::spawn(async move { reserve(&bound, Demand::default()).await.is_ok() })
            };
            (0..each).map(ask).collect()
        })
        .collect();
    let mut admitted = Vec::new();
    for tasks in tasks {
        let mut count = 0;
        for task in tasks {
            count += usize::from(task.await.unwrap());
        }
        admitted.push(count);
    }
    admitted
}
