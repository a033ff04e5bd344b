//! The first seconds of an outage, in which no failure is known yet.

use super::*;

fn computing() -> FakeVerifier {
    FakeVerifier::accepting("sa").with_verify_now(Some(accept("sa")))
}

/// Returns a verifier that does not answer, and its gate.
pub(super) fn hanging() -> (Setup, Arc<tokio::sync::Semaphore>) {
    let setup = set_up(FakeVerifier::accepting("sa"), computing());
    let gate = setup.verifier.hold();
    (setup, gate)
}

#[tokio::test]
async fn a_verifier_that_decides_about_nobody_for_a_second_is_suspected() {
    let (setup, _gate) = hanging();
    let first = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND - Duration::from_millis(1));
    assert_eq!(setup.verify_now(), None);
    settle().await;
    assert!(!first.is_finished());
    setup.clock.advance(Duration::from_millis(1));
    assert_eq!(setup.verify_now(), Some(marked()), "who comes now does not wait");
    assert_eq!(first.await.unwrap(), Ok(marked()));
    for second in 2..5 {
        for _ in 0..10 {
            assert_eq!(setup.verify_now(), Some(marked()));
            assert_eq!(setup.verify().await, Ok(marked()));
            settle().await;
        }
        assert_eq!(setup.verifier.calls(), second, "one call a second, in the background");
        setup.clock.advance(SECOND);
    }
}

/// The verifier sees what the fallback does not. Or else a slow verifier would make a revoked token
/// good again each time that its rejection has gone from the cache.
#[tokio::test]
async fn the_fallback_does_not_accept_what_the_verifier_rejected() {
    let rejection = || Verdict::Reject(RejectReason::Unauthenticated);
    for is_slow in [true, false] {
        let (setup, gate) = hanging();
        setup.verifier.set(Ok(rejection()));
        let first = setup.spawn();
        settle().await;
        if is_slow {
            setup.clock.advance(SECOND);
            assert_eq!(first.await.unwrap(), Ok(marked()));
            gate.add_permits(1);
        } else {
            gate.add_permits(1);
            assert_eq!(first.await.unwrap(), Ok(rejection()));
        }
        settle().await;
        let second = setup.spawn();
        settle().await;
        setup.clock.advance(9 * SECOND);
        assert_eq!(setup.verify_now(), None, "no suspicion either");
        settle().await;
        assert!(!second.is_finished(), "the verifier decides");
        gate.add_permits(1);
        assert_eq!(second.await.unwrap(), Ok(rejection()));
        setup.verifier.set(Err(error(DOWN)));
        gate.add_permits(1);
        assert_eq!(setup.verify().await, Err(DOWN), "also in a known outage");
        setup.clock.advance(SECOND);
        setup.verifier.set(Ok(accept("sa")));
        gate.add_permits(1);
        assert_eq!(setup.verify().await, Ok(accept("sa")), "until the verifier accepts it");
        setup.verifier.set(Err(error(DOWN)));
        gate.add_permits(1);
        assert_eq!(setup.verify().await, Ok(marked()));
    }
}

#[tokio::test]
async fn a_rejection_at_once_or_without_io_counts_too() {
    let rejection = || Verdict::Reject(RejectReason::Deleted);
    for needs_io in [true, false] {
        let setup = set_up(FakeVerifier::new(Ok(rejection())), computing());
        if needs_io {
            assert_eq!(setup.verify().await, Ok(rejection()));
        } else {
            let _ = setup.verifier.clone().with_verify_now(Some(rejection()));
            assert_eq!(setup.verify_now(), Some(rejection()));
        }
        setup.verifier.set(Err(error(DOWN)));
        assert_eq!(setup.verify().await, Err(DOWN), "the fallback would accept it");
    }
}

/// A rejection may arrive while another caller with the token waits.
#[tokio::test]
async fn a_rejection_counts_for_those_who_wait_with_the_same_token() {
    let (setup, gate) = hanging();
    let (first, second) = (setup.spawn(), setup.spawn());
    settle().await;
    setup.verifier.set(Ok(Verdict::Reject(RejectReason::Unauthenticated)));
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), Ok(Verdict::Reject(RejectReason::Unauthenticated)));
    setup.clock.advance(5 * SECOND);
    settle().await;
    assert!(!second.is_finished());
    gate.add_permits(1);
    assert_eq!(second.await.unwrap(), Ok(Verdict::Reject(RejectReason::Unauthenticated)));
}

/// Some authenticator of the API server may take long about the token of a stranger.
#[tokio::test]
async fn calls_about_tokens_that_the_fallback_does_not_accept_are_no_suspicion() {
    for reason in [RejectReason::UnknownKey, RejectReason::Signature] {
        let setup = set_up(FakeVerifier::accepting("sa"), FakeVerifier::rejecting(reason));
        let gate = setup.verifier.hold();
        let stranger = setup.spawn();
        settle().await;
        setup.clock.advance(5 * SECOND);
        settle().await;
        let _ = setup.fallback.clone().with_verify_now(Some(accept("sa")));
        setup.fallback.set(Ok(accept("sa")));
        assert_eq!(setup.verify_now(), None);
        settle().await;
        assert_eq!(setup.verifier.calls(), 2, "one about a token of the issuer, without a permit");
        let known = setup.spawn();
        settle().await;
        // Its call, the stranger's, and the one in the background.
        gate.add_permits(3);
        assert_eq!(known.await.unwrap(), Ok(accept("sa")));
        assert_eq!(stranger.await.unwrap(), Ok(accept("sa")));
    }
}

/// Calls overlap at all times in a busy service. Each is prompt, so nothing is suspected.
#[tokio::test]
async fn prompt_calls_that_overlap_are_no_suspicion() {
    let (setup, gate) = hanging();
    let mut last = setup.spawn();
    settle().await;
    // An error about one token is no decision.
    setup.verifier.set(Err(error(VerifyErrorKind::Inconclusive)));
    for _ in 0..20 {
        setup.clock.advance(SECOND * 6 / 10);
        let next = setup.spawn();
        settle().await;
        assert_eq!(setup.verify_now(), None);
        gate.add_permits(1);
        assert_eq!(last.await.unwrap(), Err(VerifyErrorKind::Inconclusive));
        last = next;
    }
}

#[test]
fn a_call_on_a_runtime_that_nobody_drives_is_no_suspicion_after_its_limit() {
    let stuck = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (setup, _gate) = hanging();
    stuck.block_on(async {
        let _waiting = setup.spawn();
        settle().await;
    });
    setup.clock.advance(SECOND);
    assert_eq!(setup.both.phase(), Phase::Suspected);
    setup.clock.advance(DETACHED_LIMIT + Duration::from_millis(1));
    assert_eq!(setup.both.phase(), Phase::Closed { until_suspicion: SECOND });
}

/// A slow answer to one token, while others are decided, is no outage: or else a flood that makes
/// the verifier slow would make revoked tokens valid.
#[tokio::test]
async fn while_others_are_decided_nothing_is_suspected() {
    let (setup, gate) = hanging();
    let slow = setup.spawn();
    settle().await;
    for _ in 0..20 {
        setup.clock.advance(SECOND * 9 / 10);
        settle().await;
        assert_eq!(setup.verify_now(), None);
        // The gate is fair: another call takes the place of the one that is decided.
        let next = setup.spawn();
        settle().await;
        gate.add_permits(1);
        settle().await;
        drop(next);
    }
    assert_eq!(slow.await.unwrap(), Ok(accept("sa")));
    assert_eq!(setup.fallback.calls(), 0);
}

#[tokio::test]
async fn no_call_under_way_is_no_suspicion() {
    let (setup, gate) = hanging();
    let first = setup.spawn();
    settle().await;
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), Ok(accept("sa")));
    setup.clock.advance(100 * SECOND);
    assert_eq!(setup.verify_now(), None);
}

/// For example by the authenticator, at its time limit.
#[tokio::test]
async fn what_the_fallback_cannot_decide_waits_for_the_verifier() {
    let unknown = FakeVerifier::rejecting(RejectReason::UnknownKey);
    let setup = set_up(FakeVerifier::accepting("sa"), unknown);
    let gate = setup.verifier.hold();
    let undecided = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND);
    settle().await;
    gate.add_permits(1);
    assert_eq!(undecided.await.unwrap(), Ok(accept("sa")));
}

#[tokio::test]
async fn a_fallback_that_needs_time_is_asked_when_an_outage_is_suspected() {
    let setup = set_up(FakeVerifier::accepting("sa"), FakeVerifier::accepting("sa"));
    let (_verifiers_gate, gate) = (setup.verifier.hold(), setup.fallback.hold());
    let waiting = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND - Duration::from_millis(1));
    settle().await;
    assert_eq!(setup.asked(), (1, 0));
    setup.clock.advance(Duration::from_millis(1));
    settle().await;
    assert_eq!(setup.asked(), (1, 1));
    gate.add_permits(2);
    settle().await;
    assert!(waiting.is_finished());
    assert_eq!(waiting.await.unwrap(), Ok(marked()));
}

/// Each caller may go away. What the calls cost the verifier must not grow with them.
/// A call that others overtook is no sign. When they have gone, only a younger call can tell.
#[tokio::test]
async fn the_last_one_who_waits_finds_out_by_a_younger_call() {
    let (setup, _gate) = hanging();
    let slow = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND / 2);
    setup.verifier.hold().add_permits(1);
    assert_eq!(setup.verify().await, Ok(accept("sa")));
    let _gate = setup.verifier.hold();
    for _ in 0..3 {
        settle().await;
        setup.clock.advance(SECOND);
    }
    settle().await;
    assert!(slow.is_finished());
    assert_eq!(slow.await.unwrap(), Ok(marked()));
}

#[tokio::test]
async fn the_time_until_suspicion_is_an_option() {
    let clock = ManualClock::new();
    let verifier = FakeVerifier::accepting("sa");
    let _gate = verifier.hold();
    let both = verifier.or_when_unavailable(computing()).clock(clock.clock());
    let both = both.suspect_outage_after(SECOND / 10);
    let waiting = both.clone();
    let waiting = tokio::spawn(async move { waiting.verify(token(), &audiences()).await });
    settle().await;
    clock.advance(SECOND / 10);
    assert_eq!(waiting.await.unwrap().unwrap(), marked());
}

#[tokio::test]
async fn the_fallback_is_warmed_up_by_the_first_call() {
    let setup = set_up(FakeVerifier::accepting("sa"), FakeVerifier::accepting("sa"));
    assert_eq!(setup.fallback.warm_ups(), 0);
    setup.verify().await.unwrap();
    assert!(setup.fallback.warm_ups() > 0);
}
