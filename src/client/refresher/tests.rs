use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::Notify;

use super::{Fetch, Fetched, Refresher, task::INVALIDATION_COOLDOWN};
use crate::{
    backoff::Backoff,
    client::{Token, TokenError, TokenErrorKind},
    clock::{Clock, manual::ManualClock},
    lock::lock,
};

const LIMIT: Duration = Duration::from_secs(10);
const LIFE: Duration = Duration::from_secs(1000);
const NEXT: Duration = Duration::from_secs(800);

/// Returns a new token for each call, or fails on demand.
#[derive(Clone, Default)]
struct Fake(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    calls: AtomicU32,
    failing: AtomicBool,
    /// The expiry of the next tokens, instead of the default.
    expiries: Mutex<VecDeque<SystemTime>>,
    /// While set, a fetch waits for `opened`.
    gate: AtomicBool,
    opened: Notify,
    clock: Option<Clock>,
}

impl Fetch for Fake {
    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        growth: 2.0,
        longest: Duration::from_secs(30),
        jitter: 0.75..1.0,
    };

    fn what(&self) -> String {
        "the fake".to_owned()
    }

    fn time_limit(&self) -> Duration {
        LIMIT
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

/// Lets every task run until it waits.
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
async fn the_token_is_fetched_once_however_many_calls() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    assert_eq!(fake.calls(), 0, "no fetch before the first call");
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
async fn cancelling_a_caller_does_not_cancel_the_attempt() {
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
async fn the_next_token_is_fetched_in_the_background_when_due() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    assert_eq!(secret(&refresher).await, "token-1");
    advance(&clock, NEXT - Duration::from_secs(1)).await;
    assert_eq!(fake.calls(), 1);
    fake.shut(true);
    advance(&clock, Duration::from_secs(1)).await;
    assert_eq!(fake.calls(), 2);
    assert_eq!(secret(&refresher).await, "token-1", "callers do not wait for a refresh");
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
    assert!(fake.calls() <= 15, "attempts are not backed off: {}", fake.calls());
    advance(&clock, Duration::from_secs(1)).await;
    let error = refresher.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable, "the reason why there is no other token");
    fake.fail(false);
    advance(&clock, Duration::from_secs(30)).await;
    assert!(secret(&refresher).await.starts_with("token-"));
}

#[tokio::test]
async fn after_a_failure_callers_get_its_error_and_cause_no_attempts() {
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
    assert_eq!(Arc::strong_count(&fake.0), 1, "nothing holds the fetcher");
    advance(&clock, NEXT * 10).await;
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn an_invalidated_token_is_replaced_before_the_next_request() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    let first = refresher.token().await.unwrap();
    refresher.invalidate(&first);
    assert_eq!(secret(&refresher).await, "token-2");
    advance(&clock, INVALIDATION_COOLDOWN).await;
    refresher.invalidate(&first);
    assert_eq!(secret(&refresher).await, "token-2", "the rejected token is no longer current");
    assert_eq!(fake.calls(), 2);
}

#[tokio::test]
async fn a_server_that_rejects_every_token_does_not_cause_a_fetch_per_request() {
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
async fn an_invalidated_token_is_better_than_none() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    let first = refresher.token().await.unwrap();
    fake.fail(true);
    refresher.invalidate(&first);
    assert_eq!(secret(&refresher).await, "token-1", "there is no other token");
    assert_eq!(fake.calls(), 2);
    fake.fail(false);
    advance(&clock, Duration::from_secs(1)).await;
    assert_eq!(secret(&refresher).await, "token-3");
}

#[tokio::test]
async fn a_wall_clock_that_jumps_past_the_expiry_causes_a_new_token() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    secret(&refresher).await;
    clock.jump_forward(LIFE);
    assert_eq!((secret(&refresher).await.as_str(), fake.calls()), ("token-2", 2));
}

#[tokio::test]
async fn an_expired_token_from_the_fetcher_is_not_handed_out() {
    let clock = ManualClock::new();
    let (fake, refresher) = Fake::new(&clock);
    lock(&fake.0.expiries).push_back(clock.clock().wall());
    let error = refresher.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Expired);
    assert!(error.to_string().contains("the fake"), "{error}");
}

#[test]
fn a_source_survives_the_runtime_of_its_first_use() {
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
