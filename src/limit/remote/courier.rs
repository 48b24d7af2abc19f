//! The courier: the one task of a node that speaks with the store of limits.
//!
//! It sends one message at a time (in a cluster, one for each subject), with all that has come together since the last.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use redis::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::batch::{Batch, Reply};
use super::share::Share;
use super::{Answer, Ask, Message, Remote};
use crate::limit::{Now, Short};
use crate::store::Script;

static RECKON: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("reckon.lua")));
static NODES: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("nodes.lua")));

/// How often counts are looked through.
const BEAT: Duration = Duration::from_secs(1);
/// After how many beats without use a slice is given back whole.
const IDLE: u32 = 5;
/// How many asks, and how many counts besides, go in one message.
const MOST: usize = 256;
/// What is waited for when a limit was short and is not any more.
const SOON: Duration = Duration::from_millis(1);

/// The courier.
pub(super) struct Courier {
    remote: Arc<Remote>,
    inbox: mpsc::UnboundedReceiver<Message>,
    asks: VecDeque<Ask>,
    touched: VecDeque<Arc<Share>>,
    /// Counts of which something is in stock or still to be told, by their number.
    active: HashMap<u64, Active>,
    /// The number of the next message.
    number: u64,
    beats: u64,
    leaving: Vec<oneshot::Sender<()>>,
}

/// A count that is looked at now and then.
struct Active {
    share: Arc<Share>,
    /// What was in stock at the last beat, and for how many beats it has not changed.
    stock: i64,
    still: u32,
}

/// An ask, and what is known of its parts: `None` where there was no answer, else whether it was taken.
struct Pending {
    ask: Ask,
    parts: Vec<Option<bool>>,
}

impl Courier {
    pub(super) fn new(remote: Arc<Remote>, inbox: mpsc::UnboundedReceiver<Message>) -> Self {
        Self {
            remote,
            inbox,
            asks: VecDeque::new(),
            touched: VecDeque::new(),
            active: HashMap::new(),
            number: 0,
            beats: 0,
            leaving: Vec::new(),
        }
    }

    /// Runs until the process leaves.
    pub(super) async fn run(mut self) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.leaving.is_empty() {
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.sort(message),
                    None => return,
                },
                _ = beat.tick() => self.beat().await,
            }
            self.work().await;
        }
        self.leave().await;
    }

    fn sort(&mut self, message: Message) {
        match message {
            Message::Ask(ask) => self.asks.push_back(ask),
            Message::Touch(share) => self.touched.push_back(share),
            Message::Leave(done) => self.leaving.push(done),
        }
    }

    /// Sends what there is, as long as there is something and somebody to send it to.
    async fn work(&mut self) {
        loop {
            while let Ok(message) = self.inbox.try_recv() {
                self.sort(message);
            }
            if self.asks.is_empty() && self.touched.is_empty() {
                return;
            }
            if !self.remote.is_up() {
                self.asks.drain(..).for_each(|ask| tell(ask, Answer::Away));
                let touched: Vec<_> = self.touched.drain(..).collect();
                touched.iter().for_each(|share| self.watch(share));
                return;
            }
            self.round().await;
        }
    }

    fn watch(&mut self, share: &Arc<Share>) {
        let active = || Active { share: Arc::clone(share), stock: 0, still: 0 };
        self.active.entry(share.identity.serial).or_insert_with(active);
    }

    /// One message, or in a cluster one for each subject, and what becomes of it.
    async fn round(&mut self) {
        let now = Now::at(Instant::now());
        let mut batches: HashMap<u64, Batch> = HashMap::new();
        let mut pending = Vec::new();
        let count = self.asks.len().min(MOST);
        // Who has not waited so long is not asked for.
        for ask in self.asks.drain(..count).filter(|ask| !ask.answer.is_closed()) {
            for (number, part) in ask.parts.iter().enumerate() {
                let batch = batches.entry(part.share.identity.group).or_default();
                let entry = batch.entry(&part.share, || part.share.report(true, now));
                batch.ask(pending.len(), (number, part), entry);
            }
            let parts = vec![None; ask.parts.len()];
            pending.push(Pending { ask, parts });
        }
        let count = self.touched.len().min(MOST);
        for share in self.touched.drain(..count) {
            let batch = batches.entry(share.identity.group).or_default();
            batch.entry(&share, || share.report(false, now));
        }
        for (batch, reply) in self.send(batches).await {
            self.take_in(&batch, reply.as_ref(), &mut pending);
        }
        pending.into_iter().for_each(|pending| pending.end(now));
    }

    /// Sends messages, all at once, and gives what was answered in time.
    async fn send(&mut self, batches: HashMap<u64, Batch>) -> Vec<(Batch, Option<Reply>)> {
        let mut under_way = JoinSet::new();
        for batch in batches.into_values() {
            self.number += 1;
            let (keys, args) = batch.write(self.number, self.remote.spec.lease);
            let client = Arc::clone(self.remote.client());
            under_way.spawn(async move {
                let answer = client.run(&RECKON, &keys, &args).await;
                let reply = answer.ok().and_then(|value| batch.read(&value));
                (batch, reply)
            });
        }
        under_way.join_all().await
    }

    /// What the store said of a message, or that it said nothing.
    fn take_in(&mut self, batch: &Batch, reply: Option<&Reply>, pending: &mut [Pending]) {
        let now = Now::at(Instant::now());
        for (place, entry) in batch.entries.iter().enumerate() {
            self.watch(&entry.share);
            match reply.and_then(|reply| reply.states.get(place)) {
                Some(state) if !entry.is_late => entry.share.heard(&entry.report, *state, now),
                Some(_) => {}
                None if entry.is_late => entry.share.still_late(&entry.report),
                None => entry.share.doubt(),
            }
        }
        let Some(reply) = reply else { return };
        for (asked, short) in batch.asks.iter().zip(&reply.asks) {
            let Some(pending) = pending.get_mut(asked.ask) else { continue };
            for (place, part) in asked.parts.iter().enumerate() {
                if let Some(known) = pending.parts.get_mut(*part) {
                    // Of one message all is taken or nothing; the one that is short is told, the others are as if taken
                    // and given back.
                    *known = if *short == 0 { Some(true) } else { (*short == place + 1).then_some(false) };
                }
            }
        }
    }

    /// Looks through the counts: what is to be told is told, what is not used is given back.
    async fn beat(&mut self) {
        self.beats = self.beats.wrapping_add(1);
        if !self.remote.is_up() {
            return;
        }
        self.count_nodes(self.remote.spec.lease).await;
        let third = self.remote.spec.lease.as_secs() / 3;
        let renew = self.beats.is_multiple_of(third.max(1));
        let now = Now::at(Instant::now());
        let touched = &mut self.touched;
        self.active.retain(|_, active| {
            let stock = active.share.stock();
            active.still = if stock == active.stock { active.still + 1 } else { 0 };
            active.stock = stock;
            if stock > 0 && active.still > 0 {
                active.share.shrink(active.still >= IDLE);
            }
            if active.share.is_due() || (renew && active.share.is_leased()) {
                touched.push_back(Arc::clone(&active.share));
                return true;
            }
            !active.share.is_idle(now)
        });
    }

    /// Says that this node is there for so long, or not any more, and hears how many are.
    async fn count_nodes(&self, lease: Duration) {
        let keys = [format!("{}nodes", self.remote.spec.store.prefix)];
        let args = [self.remote.node.clone(), lease.as_millis().to_string()];
        if let Ok(Value::Int(nodes)) = self.remote.client().run(&NODES, &keys, &args).await {
            self.remote.counted(u64::try_from(nodes).unwrap_or(0));
        }
    }

    /// Gives everything back.
    async fn leave(mut self) {
        for active in self.active.values() {
            active.share.shrink(true);
            self.touched.push_back(Arc::clone(&active.share));
        }
        while self.remote.is_up() && !(self.touched.is_empty() && self.asks.is_empty()) {
            self.round().await;
        }
        self.count_nodes(Duration::ZERO).await;
        self.leaving.into_iter().for_each(|done| {
            let _ = done.send(());
        });
    }
}

impl Pending {
    /// Tells the exchange. What was taken for one that has left, or that does not get all, is put back.
    fn end(self, now: Now) {
        let short = self.parts.iter().position(|known| *known == Some(false));
        let is_taken = self.parts.iter().all(|known| *known == Some(true));
        let answer = match short.and_then(|part| Some((part, self.ask.parts.get(part)?))) {
            _ if is_taken => Answer::Taken,
            Some((number, part)) => {
                Answer::Short(number, part.share.short(part.amount, now).unwrap_or(Short::Wait(SOON)))
            }
            None => Answer::Away,
        };
        let Ask { parts, answer: to } = self.ask;
        if to.send(answer) == Ok(()) && is_taken {
            return;
        }
        for (part, known) in parts.iter().zip(&self.parts) {
            if *known == Some(true) {
                part.share.put_back(i64::try_from(part.amount).unwrap_or(i64::MAX));
            }
        }
    }
}

fn tell(ask: Ask, answer: Answer) {
    // Whoever asked may have left.
    let _ = ask.answer.send(answer);
}
