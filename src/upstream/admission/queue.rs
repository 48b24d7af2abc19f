//! Who waits, in the order in which they are served: the most important first; among equals each tenant in turn, however
//! many requests it has; of one tenant, the longest waiting.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::priority::Priority;

/// Who waits.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// By priority, the least first.
    classes: [VecDeque<Tenant<T>>; Priority::ALL.len()],
    len: usize,
    tickets: u64,
}

#[derive(Debug)]
struct Tenant<T> {
    name: Arc<str>,
    /// Never empty.
    waiting: VecDeque<(u64, T)>,
}

/// Where someone stands in the queue.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    number: u64,
    priority: Priority,
    tenant: Arc<str>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { classes: Default::default(), len: 0, tickets: 0 }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many wait who are at least as important: those who are served first, or in turn with one who comes now.
    pub(super) fn ahead(&self, priority: Priority) -> usize {
        let classes = self.classes.iter().skip(priority as usize);
        classes.flatten().map(|tenant| tenant.waiting.len()).sum()
    }

    /// Puts one at the end of its tenant's line.
    pub(super) fn push(&mut self, priority: Priority, tenant: &Arc<str>, item: T) -> Ticket {
        self.tickets += 1;
        self.len += 1;
        let number = self.tickets;
        let class = &mut self.classes[priority as usize];
        match class.iter_mut().find(|known| known.name == *tenant) {
            Some(known) => known.waiting.push_back((number, item)),
            None => class
                .push_back(Tenant { name: Arc::clone(tenant), waiting: VecDeque::from([(number, item)]) }),
        }
        Ticket { number, priority, tenant: Arc::clone(tenant) }
    }

    /// Takes out whoever is next. Its tenant's next turn is after all others'.
    pub(super) fn pop(&mut self) -> Option<T> {
        let class = self.classes.iter_mut().rev().find(|class| !class.is_empty())?;
        let mut tenant = class.pop_front()?;
        let (_, item) = tenant.waiting.pop_front()?;
        if !tenant.waiting.is_empty() {
            class.push_back(tenant);
        }
        self.len -= 1;
        Some(item)
    }

    /// Takes out the one of that ticket, if it still waits.
    pub(super) fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        let class = &mut self.classes[ticket.priority as usize];
        let at = class.iter().position(|tenant| tenant.name == ticket.tenant)?;
        let tenant = class.get_mut(at)?;
        let place = tenant.waiting.iter().position(|(number, _)| *number == ticket.number)?;
        let (_, item) = tenant.waiting.remove(place)?;
        if tenant.waiting.is_empty() {
            class.remove(at);
        }
        self.len -= 1;
        Some(item)
    }

    /// Takes out one who has less right to wait than one who comes now: of the least important the last of the tenant
    /// with the most, if that is less important, or as important and of a tenant with at least two more.
    pub(super) fn make_room(&mut self, priority: Priority, tenant: &Arc<str>) -> Option<T> {
        let lowest = self.classes.iter().position(|class| !class.is_empty())?;
        let class = self.classes.get_mut(lowest)?;
        let (at, most) =
            class.iter().map(|tenant| tenant.waiting.len()).enumerate().max_by_key(|(_, n)| *n)?;
        let own = class.iter().find(|known| known.name == *tenant).map_or(0, |known| known.waiting.len());
        if lowest > priority as usize || (lowest == priority as usize && most < own + 2) {
            return None;
        }
        let (_, item) = class.get_mut(at)?.waiting.pop_back()?;
        if class.get(at).is_some_and(|tenant| tenant.waiting.is_empty()) {
            class.remove(at);
        }
        self.len -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn drained(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn the_important_go_first_and_tenants_take_turns() {
        let mut queue = Queue::default();
        let (greedy, modest) = (name("greedy"), name("modest"));
        for item in ["g1", "g2", "g3"] {
            queue.push(Priority::Normal, &greedy, item);
        }
        queue.push(Priority::Low, &modest, "later");
        queue.push(Priority::Normal, &modest, "m1");
        queue.push(Priority::High, &greedy, "now");
        assert_eq!((queue.ahead(Priority::High), queue.ahead(Priority::Low)), (1, 6));
        assert_eq!(drained(&mut queue), ["now", "g1", "m1", "g2", "g3", "later"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn whoever_leaves_is_gone_and_nobody_else() {
        let mut queue = Queue::default();
        let tenant = name("t");
        let first = queue.push(Priority::Normal, &tenant, "1");
        queue.push(Priority::Normal, &tenant, "2");
        assert_eq!(queue.remove(&first), Some("1"));
        assert_eq!(queue.remove(&first), None);
        assert_eq!(drained(&mut queue), ["2"]);
    }

    #[test]
    fn room_is_made_by_the_least_important_and_by_whoever_has_most() {
        let mut queue = Queue::default();
        let (greedy, modest) = (name("greedy"), name("modest"));
        for item in ["g1", "g2"] {
            queue.push(Priority::Normal, &greedy, item);
        }
        assert_eq!(queue.make_room(Priority::Low, &modest), None, "it is the least important itself");
        assert_eq!(queue.make_room(Priority::Normal, &greedy), None, "nobody has more");
        assert_eq!(queue.make_room(Priority::Normal, &modest), Some("g2"));
        assert_eq!(queue.make_room(Priority::Normal, &modest), None, "one each is fair");
        assert_eq!(queue.make_room(Priority::High, &modest), Some("g1"));
        assert_eq!((queue.len(), queue.make_room(Priority::High, &modest)), (0, None));
    }

    /// What a queue is told.
    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, usize),
        Pop,
        Remove(usize),
        MakeRoom(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3_usize, 0..4_usize).prop_map(|(priority, tenant)| Step::Push(priority, tenant)),
            2 => Just(Step::Pop),
            1 => (0..40_usize).prop_map(Step::Remove),
            1 => (0..3_usize, 0..4_usize).prop_map(|(priority, tenant)| Step::MakeRoom(priority, tenant)),
        ]
    }

    proptest! {
        /// Nobody is lost, nobody is served twice, nobody less important is served first.
        #[test]
        fn everyone_is_served_once_or_gone(steps in prop::collection::vec(step(), 0..80)) {
            let tenants = ["a", "b", "c", "d"].map(name);
            let mut queue = Queue::default();
            let (mut tickets, mut here) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Push(priority, tenant) => {
                        let item = (priority, tickets.len());
                        tickets.push(queue.push(Priority::ALL[priority], &tenants[tenant], item));
                        here.push(item);
                    }
                    Step::Pop => {
                        let most = here.iter().map(|(priority, _)| *priority).max();
                        let popped = queue.pop();
                        prop_assert_eq!(popped.map(|(priority, _)| priority), most);
                        here.retain(|item| Some(*item) != popped);
                    }
                    Step::Remove(index) => {
                        let Some(ticket) = tickets.get(index) else { continue };
                        let removed = queue.remove(ticket);
                        prop_assert_eq!(removed.is_some(), here.iter().any(|(_, number)| *number == index));
                        here.retain(|item| Some(*item) != removed);
                    }
                    Step::MakeRoom(priority, tenant) => {
                        let out = queue.make_room(Priority::ALL[priority], &tenants[tenant]);
                        if let Some((given_up, _)) = out {
                            prop_assert!(given_up <= priority);
                        }
                        here.retain(|item| Some(*item) != out);
                    }
                }
                prop_assert_eq!(queue.len(), here.len());
                prop_assert_eq!(queue.ahead(Priority::Low), here.len());
            }
        }
    }
}
