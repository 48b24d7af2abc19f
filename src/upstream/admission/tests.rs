use super::*;

const POLICY: Policy = Policy { limit: Limit::Fixed(2), queue: 3, wait: Duration::from_secs(60) };

fn gate(policy: Policy) -> Arc<Gate> {
    Arc::new(Gate::new("test", policy))
}

fn tenant(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn in_line(gate: &Arc<Gate>, name: &str, priority: Priority) -> Result<Waiting, Refusal> {
    let now = Instant::now();
    gate.queue(&tenant(name), priority, (now, now + Duration::from_secs(60)))
}

fn full(gate: &Arc<Gate>) -> Vec<Permit> {
    std::iter::from_fn(|| gate.enter()).collect()
}

/// Whether its turn has come.
fn is_called(waiting: &mut Waiting) -> bool {
    waiting.turn.try_recv().is_ok()
}

#[test]
fn no_more_are_let_in_than_there_are_places_and_each_is_given_back() {
    let gate = gate(POLICY);
    let held = full(&gate);
    assert_eq!((held.len(), gate.counts()), (2, Counts { used: 2, limit: 2, waiting: 0 }));
    drop(held);
    assert_eq!(gate.counts().used, 0);
    assert_eq!(full(&gate).len(), 2);
}

#[test]
fn a_place_goes_to_whoever_waits_and_nobody_overtakes() {
    let gate = gate(POLICY);
    let mut held = full(&gate);
    let mut low = in_line(&gate, "a", Priority::Low).unwrap();
    let mut high = in_line(&gate, "a", Priority::High).unwrap();
    assert!(gate.enter().is_none());
    held.pop();
    assert!(gate.enter().is_none(), "it is kept for those who wait");
    let taken = high.turn.try_recv().unwrap();
    assert!(!is_called(&mut low));
    drop(taken);
    assert!(is_called(&mut low));
}

#[test]
fn a_place_on_its_way_to_one_who_leaves_goes_to_the_next() {
    let gate = gate(POLICY);
    let mut held = full(&gate);
    let first = in_line(&gate, "a", Priority::Normal).unwrap();
    let mut second = in_line(&gate, "b", Priority::Normal).unwrap();
    held.pop();
    drop(first);
    assert!(is_called(&mut second));
    drop((held, second));
    assert_eq!(gate.counts(), Counts { used: 0, limit: 2, waiting: 0 });
}

#[test]
fn whoever_leaves_the_queue_is_gone_at_once() {
    let gate = gate(POLICY);
    let held = full(&gate);
    let waiting: Vec<_> = (0..3).map(|_| in_line(&gate, "a", Priority::Normal).unwrap()).collect();
    assert!(matches!(in_line(&gate, "a", Priority::Normal), Err(Refusal::Full(_))));
    drop(waiting);
    assert_eq!(gate.counts().waiting, 0);
    assert!(in_line(&gate, "a", Priority::Normal).is_ok());
    drop(held);
    assert_eq!(gate.counts(), Counts { used: 0, limit: 2, waiting: 0 });
}

#[tokio::test]
async fn the_more_important_take_the_places_of_the_less_in_a_full_queue() {
    let gate = gate(POLICY);
    let _held = full(&gate);
    let low: Vec<_> = (0..3).map(|_| in_line(&gate, "a", Priority::Low).unwrap()).collect();
    let high = in_line(&gate, "a", Priority::High);
    assert!(high.is_ok());
    assert_eq!(gate.counts().waiting, 3);
    let mut low = low.into_iter().rev();
    assert!(matches!(low.next().unwrap().turn().await, Err(Refusal::Shed(_))), "the last to come is out");
    assert!(!is_called(&mut low.next().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_it_may() {
    let gate = gate(Policy { wait: Duration::from_secs(5), ..POLICY });
    let _held = full(&gate);
    let began = tokio::time::Instant::now();
    let waiting = in_line(&gate, "a", Priority::Normal).unwrap();
    assert!(matches!(waiting.turn().await, Err(Refusal::Late(_))));
    assert!(began.elapsed() >= Duration::from_secs(4) && began.elapsed() <= Duration::from_secs(6));
    assert_eq!(gate.counts().waiting, 0);
}

#[test]
fn only_a_place_that_was_used_says_how_long_places_are_held() {
    let gate = gate(POLICY);
    gate.held(Duration::from_secs(10));
    (0..100).for_each(|_| drop(gate.enter()));
    let held = full(&gate);
    assert!(gate.expected_wait() >= Duration::from_secs(5));
    held.iter().for_each(Permit::begins);
    drop(held);
    let _held = full(&gate);
    assert!(gate.expected_wait() < Duration::from_secs(5));
}

#[test]
fn who_could_not_be_served_in_time_is_told_at_once_after_what_time_it_could() {
    let gate = gate(Policy { queue: 1000, ..POLICY });
    gate.held(Duration::from_secs(10));
    let held = full(&gate);
    let queued: Vec<_> = (0..12).map(|_| in_line(&gate, "a", Priority::Normal).unwrap()).collect();
    // Two places of ten seconds: one comes back every five.
    assert_eq!(gate.expected_wait(), Duration::from_secs(65));
    let refused = in_line(&gate, "a", Priority::Low).unwrap_err();
    assert!(refused.after() >= Duration::from_secs(60) && refused.name() == "full", "{refused:?}");
    assert!(in_line(&gate, "a", Priority::High).is_ok(), "nobody stands before it");
    drop((queued, held));
    assert_eq!(gate.expected_wait(), Duration::ZERO);
}

#[test]
fn a_limit_that_rises_serves_those_who_wait() {
    let bounds = Adaptive { min: 1, max: 8, tolerance: 2.0 };
    let gate = gate(Policy { limit: Limit::Adaptive(bounds), ..POLICY });
    let _held = full(&gate);
    let mut waiting = in_line(&gate, "a", Priority::Normal).unwrap();
    let now = Instant::now();
    for sample in 0..20 {
        gate.first_token(Duration::from_millis(100), now + Duration::from_millis(50 * sample));
    }
    assert!(gate.counts().limit > 1 && is_called(&mut waiting));
}

#[test]
fn threads_that_come_and_go_leave_nothing_behind() {
    let gate = gate(Policy { queue: 64, ..POLICY });
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let gate = Arc::clone(&gate);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for _ in 0..2000 {
                    match gate.enter() {
                        Some(permit) => {
                            assert!(gate.counts().used <= 2);
                            drop(permit);
                        }
                        None => {
                            let priority = Priority::ALL[rng.usize(..3)];
                            let Ok(waiting) = in_line(&gate, ["a", "b"][rng.usize(..2)], priority) else {
                                continue;
                            };
                            if rng.bool() {
                                drop(waiting);
                                continue;
                            }
                            let mut waiting = waiting;
                            while matches!(waiting.turn.try_recv(), Err(oneshot::error::TryRecvError::Empty))
                            {
                                std::thread::yield_now();
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!(gate.counts(), Counts { used: 0, limit: 2, waiting: 0 });
}
