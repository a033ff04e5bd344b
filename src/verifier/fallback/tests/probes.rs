//! The pause of an outage, and the probe that ends it.

use super::{circuit_breaker::DETACHED_LIMIT, *};

#[tokio::test]
async fn while_open_only_the_fallback_is_called_and_a_later_success_closes() {
    let setup = in_an_outage().await;
    setup.verifier.set(Ok(accept("sa")));
    for _ in 0..3 {
        assert_eq!(setup.verify().await, Ok(marked()));
    }
    assert_eq!(setup.asked(), (1, 4));
    setup.clock.advance(SECOND);
    assert_eq!(setup.verify().await, Ok(marked()), "a probe begins");
    settle().await;
    for _ in 0..3 {
        assert_eq!(setup.verify().await, Ok(accept("sa")));
    }
    assert_eq!(setup.asked(), (5, 5));
}

#[tokio::test]
async fn the_pause_follows_retry_after_between_1_and_30_seconds() {
    for (asked, seconds) in [(None, 1), (Some(0), 1), (Some(7), 7), (Some(3600), 30)] {
        let failure =
            asked.map_or(error(DOWN), |asked| error(DOWN).with_retry_after(asked * SECOND));
        let setup = set_up(FakeVerifier::new(Err(failure)), FakeVerifier::accepting("sa"));
        setup.verify().await.unwrap();
        setup.clock.advance(seconds * SECOND - Duration::from_millis(1));
        setup.verify().await.unwrap();
        assert_eq!(setup.verifier.calls(), 1, "{asked:?}");
        setup.clock.advance(Duration::from_millis(1));
        setup.verify().await.unwrap();
        settle().await;
        assert_eq!(setup.verifier.calls(), 2, "{asked:?}");
        setup.clock.advance(seconds * SECOND - Duration::from_millis(1));
        setup.verify().await.unwrap();
        settle().await;
        assert_eq!(setup.verifier.calls(), 2, "a probe that fails begins the next pause");
    }
}

#[tokio::test]
async fn one_call_probes_in_the_background_while_the_fallback_decides() {
    let setup = in_an_outage().await;
    let gate = setup.verifier.hold();
    setup.clock.advance(SECOND);
    for _ in 0..10 {
        assert_eq!(setup.verify().await, Ok(marked()), "nobody waits for the probe");
        settle().await;
    }
    assert_eq!(setup.verifier.calls(), 2);
    setup.verifier.set(Ok(accept("sa")));
    gate.add_permits(2);
    settle().await;
    assert_eq!(setup.verify().await, Ok(accept("sa")), "the outage is over for all");
}

#[tokio::test]
async fn only_tokens_that_the_fallback_accepts_probe() {
    let setup = in_an_outage().await;
    setup.clock.advance(SECOND);
    let _gate = setup.verifier.hold();
    for rejection in [RejectReason::UnknownKey, RejectReason::Signature] {
        setup.fallback.set(Ok(Verdict::Reject(rejection)));
        let _ = setup.fallback.clone().with_verify_now(Some(Verdict::Reject(rejection)));
        let _hangs = setup.spawn();
        settle().await;
        let _ = setup.verify_now();
        assert_eq!(setup.both.phase(), Phase::ProbeDue, "{rejection:?}");
    }
}

#[test]
fn a_probe_on_a_runtime_that_nobody_drives_leaves_the_role_after_its_limit() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (stuck, driven) = (runtime(), runtime());
    let setup = driven.block_on(in_an_outage());
    let _ = setup.fallback.clone().with_verify_now(Some(accept("sa")));
    setup.clock.advance(SECOND);
    let verify_now = || setup.verify_now();
    let entered = stuck.enter();
    assert_eq!(verify_now(), Some(marked()), "its probe never runs");
    drop(entered);
    setup.clock.advance(DETACHED_LIMIT - Duration::from_millis(1));
    assert_eq!(setup.both.phase(), Phase::Open);
    setup.clock.advance(Duration::from_millis(1));
    setup.verifier.set(Ok(accept("sa")));
    driven.block_on(async {
        assert_eq!(verify_now(), Some(marked()));
        settle().await;
        assert_eq!(setup.verify().await, Ok(accept("sa")));
    });
}

#[tokio::test]
async fn an_outage_is_forgotten_30_seconds_after_its_pause_if_nobody_probes() {
    let setup = in_an_outage().await;
    setup.clock.advance(31 * SECOND - Duration::from_millis(1));
    assert_eq!(setup.both.phase(), Phase::ProbeDue);
    setup.clock.advance(Duration::from_millis(1));
    setup.verifier.set(Ok(Verdict::Reject(RejectReason::Unauthenticated)));
    assert_eq!(setup.verify_now(), None);
    assert_eq!(setup.verify().await, Ok(Verdict::Reject(RejectReason::Unauthenticated)));
}

struct Panics(std::sync::atomic::AtomicUsize);

impl Verifier for Panics {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
        match self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Err(error(DOWN)),
            1 => panic!("on purpose"),
            _ => Ok(accept("sa")),
        }
    }
}

#[tokio::test]
async fn a_probe_that_panics_leaves_the_role_to_the_next() {
    let clock = ManualClock::new();
    let both =
        Panics(0.into()).or_when_unavailable(FakeVerifier::accepting("sa")).clock(clock.clock());
    let both = Arc::new(both);
    let spawn = || {
        let both = both.clone();
        tokio::spawn(async move { both.verify(token(), &audiences()).await.unwrap() })
    };
    assert_eq!(spawn().await.unwrap(), marked());
    clock.advance(SECOND);
    assert_eq!(spawn().await.unwrap(), marked(), "its probe panics");
    settle().await;
    assert_eq!(spawn().await.unwrap(), marked(), "its probe does not");
    settle().await;
    assert_eq!(spawn().await.unwrap(), accept("sa"));
}

#[tokio::test]
async fn a_rejection_that_may_be_computed_does_not_close_the_breaker() {
    for (outcome, ends) in [
        (Ok(Verdict::Reject(RejectReason::Signature)), false),
        (Ok(Verdict::Reject(RejectReason::UnknownKey)), false),
        (Err(error(VerifyErrorKind::Aborted)), false),
        (Err(error(VerifyErrorKind::Saturated)), false),
        (Err(error(VerifyErrorKind::Inconclusive)), false),
        (Ok(Verdict::Reject(RejectReason::Unauthenticated)), true),
        (Err(error(VerifyErrorKind::Forbidden)), true),
        (Ok(accept("sa")), true),
    ] {
        let setup = in_an_outage().await;
        setup.clock.advance(SECOND);
        setup.verifier.set(outcome.clone());
        assert_eq!(setup.verify().await, Ok(marked()));
        settle().await;
        let ended = setup.both.breaker.state();
        assert_eq!(matches!(ended, CircuitState::Closed(_)), ends, "{outcome:?}");
    }
}
