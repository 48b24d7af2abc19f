use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::time::Instant;

use super::super::script::start;
use super::*;

type Outcome = Result<Expiring<u32>, Error>;

fn refused() -> Error {
    Error::Refused { whom: "the test", status: 503, says: "busy".into() }
}

fn lasting(value: u32, from: u64, life: u64) -> Outcome {
    Ok(Expiring { value, expires: Some(start() + Duration::from_secs(from + life)) })
}

/// Runs `keep` on a paused clock with these outcomes in turn, each of which takes `takes`. Gives the seconds at which
/// attempts began, and what `get` said at each whole second of `looks`.
async fn run(outcomes: Vec<Outcome>, takes: u64, looks: &[u64]) -> (Vec<u64>, Vec<Result<u32, Arc<Error>>>) {
    let began = Instant::now();
    let now = || start() + began.elapsed();
    let outcomes = RefCell::new(VecDeque::from(outcomes));
    let attempts = RefCell::new(Vec::new());
    let running = Cell::new(0);
    let refreshed = Rc::new(Refreshed::default());
    let obtain = || async {
        attempts.borrow_mut().push(began.elapsed().as_secs());
        assert_eq!(running.replace(1), 0, "two refreshes at a time");
        tokio::time::sleep(Duration::from_secs(takes)).await;
        running.set(0);
        let next = outcomes.borrow_mut().pop_front();
        match next {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    };
    let look = async {
        let mut seen = Vec::new();
        for second in looks {
            tokio::time::sleep_until(began + Duration::from_secs(*second)).await;
            seen.push(refreshed.get(now).await.map(|value| *value));
        }
        seen
    };
    let seen = tokio::select! {
        seen = look => seen,
        () = refreshed.keep("test", obtain, now) => unreachable!(),
    };
    (attempts.into_inner(), seen)
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_replaced_five_minutes_ahead_and_served_meanwhile() {
    let outcomes = vec![lasting(1, 0, 3600), lasting(2, 3300, 3600), lasting(3, 6600, 3600)];
    // The second attempt takes until 3302; till then the first credential is served.
    let (attempts, seen) = run(outcomes, 2, &[0, 3000, 3301, 3303, 6500, 6700]).await;
    assert_eq!(attempts, [0, 3300, 6600]);
    assert_eq!(seen, [Ok(1), Ok(1), Ok(1), Ok(2), Ok(2), Ok(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_short_life_is_halved_and_never_asked_for_in_a_tight_loop() {
    let outcomes = vec![
        lasting(1, 0, 100),
        lasting(2, 0, 100),
        lasting(3, 0, 76),
        lasting(4, 0, 77),
        lasting(5, 0, 500),
    ];
    let (attempts, _) = run(outcomes, 0, &[85]).await;
    assert_eq!(attempts, [0, 50, 75, 76, 77]);
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_the_old_credential_is_served_until_it_ends() {
    let mut outcomes = vec![lasting(1, 0, 600)];
    outcomes.extend((0..11).map(|_| Err(refused())));
    outcomes.push(lasting(2, 700, 3600));
    let (attempts, seen) = run(outcomes, 0, &[299, 301, 599, 601, 760, 800]).await;
    assert_eq!(attempts, [0, 300, 301, 303, 307, 315, 331, 363, 423, 483, 543, 603, 663]);
    let no = || Err(Arc::new(refused()));
    assert_eq!(seen, [Ok(1), Ok(1), Ok(1), no(), Ok(2), Ok(2)]);
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_first_waits_for_the_first_attempt_and_hears_why_it_failed() {
    let (attempts, seen) = run(vec![Err(refused()), lasting(1, 0, 3600)], 4, &[0, 5, 10]).await;
    assert_eq!(attempts, [0, 5]);
    assert_eq!(seen, [Err(Arc::new(refused())), Err(Arc::new(refused())), Ok(1)]);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_already_is_no_credential() {
    let (attempts, seen) = run(vec![lasting(1, 0, 0), lasting(2, 0, 3600)], 0, &[0, 2]).await;
    assert_eq!(attempts, [0, 1]);
    assert_eq!(seen, [Err(Arc::new(Error::Ended)), Ok(2)]);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_end_is_looked_up_again_for_its_file_may_have_changed() {
    let lasting = |value| Ok(Expiring { value, expires: None });
    let (attempts, seen) = run(vec![lasting(1), lasting(2), Err(refused())], 0, &[1, 301, 602]).await;
    assert_eq!(attempts, [0, 300, 600, 601]);
    assert_eq!(seen, [Ok(1), Ok(2), Ok(2)]);
}

#[tokio::test(start_paused = true)]
async fn trouble_is_told_while_it_lasts() {
    let refreshed = Refreshed::default();
    assert!(refreshed.trouble().is_none());
    refreshed.renew(lasting(1, 0, 100), start()).unwrap();
    refreshed.renew(Err(refused()), start()).unwrap_err();
    assert_eq!(refreshed.trouble().as_deref(), Some(&refused()));
    assert_eq!(*refreshed.get(start).await.unwrap(), 1);
    refreshed.renew(lasting(2, 0, 100), start()).unwrap();
    assert!(refreshed.trouble().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_noticed_within_half_a_minute() {
    let began = Instant::now();
    let jump = Cell::new(Duration::ZERO);
    let attempts = RefCell::new(Vec::new());
    let refreshed = Refreshed::default();
    let obtain = || async {
        attempts.borrow_mut().push(began.elapsed().as_secs());
        lasting(1, 0, 3600 + jump.get().as_secs() * 2)
    };
    let suspended = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        jump.set(Duration::from_secs(7200));
        tokio::time::sleep(Duration::from_secs(60)).await;
    };
    tokio::select! {
        () = suspended => {}
        () = refreshed.keep("test", obtain, || start() + began.elapsed() + jump.get()) => unreachable!(),
    }
    assert_eq!(attempts.into_inner(), [0, 120]);
}

#[test]
fn a_keeper_can_run_as_a_task() {
    fn sendable(_: impl Send) {}
    let refreshed = Arc::new(Refreshed::default());
    sendable(async move { refreshed.keep("test", || async { lasting(1, 0, 1) }, SystemTime::now).await });
}
