//! A verifier and a screen that do what the test says.

use std::time::Duration;

use super::{
    rate_limit::{MAX_TOKENS, WINDOW},
    *,
};
use crate::{
    clock::manual::ManualClock,
    error::VerifyErrorKind,
    verdict::RejectReason,
    verifier::{
        VerifierExt,
        fake_verifier::{FakeVerifier, accept, audiences, error, token},
    },
};

const OUT_OF_ORDER: [VerifyErrorKind; 8] = [
    VerifyErrorKind::Unavailable,
    VerifyErrorKind::Timeout,
    VerifyErrorKind::RateLimited,
    VerifyErrorKind::Unauthenticated,
    VerifyErrorKind::Forbidden,
    VerifyErrorKind::InvalidResponse,
    VerifyErrorKind::Saturated,
    VerifyErrorKind::Aborted,
];

async fn verify(verifier: &impl Verifier) -> Result<Verdict, VerifyErrorKind> {
    verifier.verify(token(), &audiences()).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn what_the_screen_rejects_never_reaches_the_verifier() {
    let (verifier, screen) =
        (FakeVerifier::accepting("verifier"), FakeVerifier::rejecting(RejectReason::Signature));
    let screened = verifier.clone().screened_by(screen);
    assert_eq!(verify(&screened).await, Ok(Verdict::Reject(RejectReason::Signature)));
    assert_eq!(verifier.calls(), 0);
}

#[tokio::test]
async fn what_the_screen_accepts_the_verifier_decides() {
    let screen = FakeVerifier::accepting("screen");
    for (verifier, expected) in [
        (FakeVerifier::accepting("verifier"), Ok(accept("verifier"))),
        (
            FakeVerifier::rejecting(RejectReason::Unauthenticated),
            Ok(Verdict::Reject(RejectReason::Unauthenticated)),
        ),
        (FakeVerifier::failing(VerifyErrorKind::Unavailable), Err(VerifyErrorKind::Unavailable)),
    ] {
        assert_eq!(verify(&verifier.screened_by(screen.clone())).await, expected);
    }
}

#[tokio::test]
async fn what_the_screen_cannot_decide_the_verifier_decides() {
    for kind in OUT_OF_ORDER.into_iter().chain([VerifyErrorKind::Inconclusive]) {
        for verdict in [accept("verifier"), Verdict::Reject(RejectReason::Unauthenticated)] {
            let verifier = FakeVerifier::new(Ok(verdict.clone()));
            assert_eq!(
                verify(&verifier.screened_by(FakeVerifier::failing(kind))).await,
                Ok(verdict)
            );
        }
    }
}

#[tokio::test]
async fn undecided_tokens_pass_up_to_the_limit_then_the_screens_error_is_returned() {
    let clock = ManualClock::new();
    let (verifier, screen) =
        (FakeVerifier::accepting("verifier"), FakeVerifier::accepting("screen"));
    let screened = verifier.clone().screened_by(screen.clone()).clock(clock.clock());
    let left = Duration::from_secs(7);
    let inconclusive = || Err(error(VerifyErrorKind::Inconclusive).with_retry_after(left));
    for round in 1..=3 {
        for number in 0..10 * MAX_TOKENS {
            screen.set(inconclusive());
            // Clones count together.
            match screened.clone().verify(token(), &audiences()).await {
                Ok(verdict) => {
                    assert_eq!((verdict, number < MAX_TOKENS), (accept("verifier"), true))
                }
                Err(error) => {
                    assert_eq!(
                        (error.kind(), error.retry_after()),
                        (VerifyErrorKind::Inconclusive, Some(left))
                    );
                    assert!(number >= MAX_TOKENS, "{number}");
                }
            }
        }
        assert_eq!(verifier.calls(), round * MAX_TOKENS + 2 * (round - 1));
        screen.set(Ok(accept("screen")));
        assert_eq!(
            verify(&screened).await,
            Ok(accept("verifier")),
            "what it accepts is let through all the same"
        );
        screen.set(Err(error(VerifyErrorKind::Unavailable)));
        assert_eq!(
            verify(&screened).await,
            Ok(accept("verifier")),
            "and everything if it is out of order"
        );
        clock.advance(WINDOW);
    }
}

#[tokio::test]
async fn a_screen_that_is_out_of_order_lets_everything_through() {
    for kind in OUT_OF_ORDER {
        let verifier = FakeVerifier::accepting("verifier");
        let screened = verifier
            .clone()
            .screened_by(FakeVerifier::failing(kind))
            .clock(ManualClock::new().clock());
        for _ in 0..2 * MAX_TOKENS {
            assert_eq!(verify(&screened).await, Ok(accept("verifier")), "{kind:?}");
        }
        assert_eq!(verifier.calls(), 2 * MAX_TOKENS);
    }
}

#[tokio::test]
async fn no_window_of_ten_seconds_lets_more_through() {
    let clock = ManualClock::new();
    let limit = RateLimit::default();
    let half = WINDOW / 2;
    let taken = |number: usize| {
        (0..number).filter(|_| limit.try_acquire(clock.clock().monotonic())).count()
    };
    assert_eq!(taken(MAX_TOKENS / 4), MAX_TOKENS / 4);
    clock.advance(half);
    assert_eq!(taken(MAX_TOKENS), MAX_TOKENS - MAX_TOKENS / 4);
    clock.advance(half - Duration::from_millis(1));
    assert_eq!(taken(1), 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(taken(MAX_TOKENS), MAX_TOKENS / 4, "those of ten seconds ago are over");
    clock.advance(half);
    assert_eq!(taken(MAX_TOKENS), MAX_TOKENS - MAX_TOKENS / 4);
}

#[tokio::test]
async fn verify_now_returns_rejections_of_the_screen_only() {
    let rejection = Some(Verdict::Reject(RejectReason::Signature));
    for (now, expected) in
        [(rejection.clone(), rejection), (Some(accept("screen")), None), (None, None)]
    {
        let verifier =
            FakeVerifier::accepting("verifier").with_verify_now(Some(accept("verifier")));
        let screen = FakeVerifier::accepting("screen").with_verify_now(now);
        assert_eq!(
            verifier.clone().screened_by(screen).verify_now(token(), &audiences()),
            expected
        );
        assert_eq!(verifier.calls(), 0);
    }
}
