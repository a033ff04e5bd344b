use std::{collections::VecDeque, sync::atomic::AtomicU32, time::SystemTime};

use tokio::sync::Notify;

use super::*;
use crate::clock::manual::ManualClock;

const LIFE: Duration = Duration::from_secs(1000);
const NEXT: Duration = Duration::from_secs(800);

/// Gives token after token, or fails as told.
#[derive(Clone, Default)]
struct Fake(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    calls: AtomicU32,
    failing: AtomicBool,
    /// Instead of the time that tokens end at.
    expiries: Mutex<VecDeque<SystemTime>>,
    /// While set, a fetch waits to be let through.
    gate: AtomicBool,
    opened: Notify,
    clock: Option<Clock>,
}

impl Fetch for Fake {
    const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

    fn what(&self) -> String {
        "the fake".to_owned()
    }

    async fn fetch(&self) -> Result<Fetched, TokenError> {
        let call = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.0.gate.load(Ordering::SeqCst) {
            self.0.opened.notified().await;
        }
        if self.0.failing.load(Ordering::SeqCst) {
            return Err(TokenError::new(
                TokenErrorKind::Unavailable,
                format!("attempt {call} failed"),
            ));
        }
        let expiry = lock(&self.0.expiries).pop_front();
        let expiry = expiry.unwrap_or_else(|| self.0.clock.as_ref().unwrap().wall() + LIFE);
        Ok(Fetched {
            token: Token::new(format!("token-{call}")).unwrap().with_expiry(expiry),
            next: NEXT,
        })
    }
}

impl Fake {
    fn new(clock: &ManualClock) -> (Self, Refresher<Self>) {
        let fake = Self(Arc::new(FakeState { clock: Some(clock.clock()), ..FakeState::default() }));
        (fake.clone(), Refresher::new(fake, clock.clock()))
    }

    fn calls(&self) -> u32 {
        self.0.calls.load(Ordering::SeqCst)
    }

    fn fail(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::SeqCst);
    }

    fn shut(&self, shut: bool) {
        self.0.gate.store(shut, Ordering::SeqCst);
        if !shut {
            self.0.opened.notify_waiters();
        }
    }
}

/// Lets every task do what it can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn advance(clock: &ManualClock, duration: Duration) {
    clock.advance(duration);
    settle().await;
}

async fn secret(refresher: &Refresher<Fake>) -> String {
    refresher.token().await.unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn the_token_is_fetched_once_however_often_it_is_asked_for() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    assert_eq!(fake.calls(), 0, "nothing before the first call");
    for _ in 0..10_000 {
        assert_eq!(secret(&refresher).await, "token-1");
    }
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn a_thousand_callers_without_a_token_wait_for_one_attempt() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    fake.shut(true);
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            tokio::spawn({
                let refresher = refresher.clone();
                async move { secret(&refresher).await }
            })
        })
        .collect();
    settle().await;
    fake.shut(false);
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "token-1");
    }
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_attempt_along() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    fake.shut(true);
    let caller = tokio::spawn({
        let refresher = refresher.clone();
        async move { secret(&refresher).await }
    });
    settle().await;
    caller.abort();
    settle().await;
    fake.shut(false);
    assert_eq!((secret(&refresher).await.as_str(), fake.calls()), ("token-1", 1));
}

#[tokio::test]
async fn the_next_token_is_fetched_in_the_background_at_its_time() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    assert_eq!(secret(&refresher).await, "token-1");
    advance(&clock, NEXT - Duration::from_secs(1)).await;
    assert_eq!(fake.calls(), 1);
    fake.shut(true);
    advance(&clock, Duration::from_secs(1)).await;
    assert_eq!(fake.calls(), 2);
    assert_eq!(secret(&refresher).await, "token-1", "nobody waits for a refresh");
    fake.shut(false);
    settle().await;
    assert_eq!(secret(&refresher).await, "token-2");
}

#[tokio::test]
async fn the_old_token_is_kept_while_refreshes_fail_until_it_expires() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    assert_eq!(secret(&refresher).await, "token-1");
    fake.fail(true);
    advance(&clock, NEXT).await;
    for _ in 800..999 {
        assert_eq!(secret(&refresher).await, "token-1");
        advance(&clock, Duration::from_secs(1)).await;
    }
    assert_eq!(secret(&refresher).await, "token-1");
    assert!(fake.calls() <= 15, "back-off, and not an attempt a second: {}", fake.calls());
    advance(&clock, Duration::from_secs(1)).await;
    let error = refresher.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable, "expired, and why there is no other");
    fake.fail(false);
    advance(&clock, Duration::from_secs(30)).await;
    assert!(secret(&refresher).await.starts_with("token-"));
}

#[tokio::test]
async fn after_a_failure_callers_are_told_at_once_and_cause_no_attempts() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    fake.fail(true);
    for _ in 0..1000 {
        assert_eq!(refresher.token().await.unwrap_err().to_string(), "attempt 1 failed");
    }
    assert_eq!(fake.calls(), 1);
    fake.fail(false);
    advance(&clock, Duration::from_secs(1)).await;
    assert_eq!(secret(&refresher).await, "token-2");
}

#[tokio::test]
async fn back_off_grows_and_starts_over_after_a_success() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    fake.fail(true);
    refresher.token().await.unwrap_err();
    for _ in 0..600 {
        advance(&clock, Duration::from_secs(1)).await;
    }
    // 1+2+4+8+16 s and then every 30 s, each up to a quarter earlier.
    assert!((23..=33).contains(&fake.calls()), "{}", fake.calls());
    fake.fail(false);
    advance(&clock, Duration::from_secs(30)).await;
    let calls = fake.calls();
    fake.fail(true);
    advance(&clock, NEXT).await;
    advance(&clock, Duration::from_secs(1)).await;
    assert_eq!(fake.calls(), calls + 2, "the first pause is short again");
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_background_task() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    let other = refresher.clone();
    secret(&refresher).await;
    drop(refresher);
    settle().await;
    assert_eq!(secret(&other).await, "token-1");
    assert!(Arc::strong_count(&fake.0) > 1);
    drop(other);
    settle().await;
    assert_eq!(Arc::strong_count(&fake.0), 1, "nobody holds it any more");
    advance(&clock, NEXT * 10).await;
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn a_forgotten_token_is_replaced_before_the_next_request() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    let first = refresher.token().await.unwrap();
    refresher.invalidate(&first);
    assert_eq!(secret(&refresher).await, "token-2");
    advance(&clock, BETWEEN_FORGETS).await;
    refresher.invalidate(&first);
    assert_eq!(secret(&refresher).await, "token-2", "the one that was refused is no longer kept");
    assert_eq!(fake.calls(), 2);
}

#[tokio::test]
async fn a_server_that_refuses_every_token_does_not_make_us_fetch_one_a_request() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    for _ in 0..100 {
        for _ in 0..100 {
            let token = refresher.token().await.unwrap();
            refresher.invalidate(&token);
        }
        advance(&clock, Duration::from_secs(1)).await;
    }
    assert!((10..=12).contains(&fake.calls()), "{}", fake.calls());
}

#[tokio::test]
async fn a_forgotten_token_is_better_than_none() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    let first = refresher.token().await.unwrap();
    fake.fail(true);
    refresher.invalidate(&first);
    assert_eq!(secret(&refresher).await, "token-1", "one server refused it, and there is no other");
    assert_eq!(fake.calls(), 2);
    fake.fail(false);
    advance(&clock, Duration::from_secs(1)).await;
    assert_eq!(secret(&refresher).await, "token-3");
}

#[tokio::test]
async fn a_wall_clock_that_jumps_past_the_expiry_makes_the_caller_wait_for_a_new_token() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    secret(&refresher).await;
    clock.jump_forward(LIFE);
    assert_eq!((secret(&refresher).await.as_str(), fake.calls()), ("token-2", 2));
}

#[tokio::test]
async fn a_token_that_arrives_expired_is_not_handed_out() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    lock(&fake.0.expiries).push_back(clock.clock().wall());
    let error = refresher.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Expired);
    assert!(error.to_string().contains("the fake"), "{error}");
}

#[test]
fn a_source_survives_the_runtime_that_it_was_first_used_in() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime().block_on(secret(&refresher)), "token-1");
    clock.advance(LIFE);
    assert_eq!(runtime().block_on(secret(&refresher)), "token-2");
    assert_eq!(fake.calls(), 2);
}

#[test]
fn outside_of_a_runtime_there_is_an_error_and_no_panic() {
    let (_, refresher) = Fake::new(&ManualClock::new());
    let mut token = std::pin::pin!(refresher.token());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = token.as_mut().poll(&mut cx) else {
        panic!("it waits")
    };
    assert_eq!(error.kind(), TokenErrorKind::Aborted);
}

#[tokio::test]
async fn debug_shows_no_token() {
    let (_, refresher) = Fake::new(&ManualClock::new());
    secret(&refresher).await;
    let shown = format!("{refresher:?}");
    assert!(shown.contains("the fake") && !shown.contains("token-1"), "{shown}");
}
