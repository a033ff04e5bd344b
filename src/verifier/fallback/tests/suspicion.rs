//! The first seconds of an outage, in which no failure is known yet.

use super::*;

fn computing() -> FakeVerifier {
    FakeVerifier::accepting("sa").with_verify_now(Some(accept("sa")))
}

/// Returns a verifier that does not answer, and its gate.
fn hanging() -> (Setup, Arc<tokio::sync::Semaphore>) {
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
    assert_eq!(setup.verify().await, Ok(marked()));
    assert_eq!(setup.verifier.calls(), 1, "nobody else asks");
}

#[tokio::test]
async fn the_call_goes_on_and_its_answer_ends_the_suspicion() {
    for outcome in [Ok(accept("sa")), Ok(Verdict::Reject(RejectReason::Unauthenticated))] {
        let (setup, gate) = hanging();
        let first = setup.spawn();
        settle().await;
        setup.clock.advance(SECOND);
        assert_eq!(first.await.unwrap(), Ok(marked()));
        setup.verifier.set(outcome.clone());
        gate.add_permits(2);
        settle().await;
        assert_eq!(setup.verify_now(), None);
        assert_eq!(setup.verify().await, outcome.map_err(|error| error.kind()));
    }
}

#[tokio::test]
async fn the_failure_of_the_call_makes_the_outage_known() {
    let (setup, gate) = hanging();
    let first = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND);
    assert_eq!(first.await.unwrap(), Ok(marked()));
    setup.verifier.set(Err(error(DOWN).with_retry_after(7 * SECOND)));
    gate.add_permits(1);
    settle().await;
    setup.clock.advance(7 * SECOND - Duration::from_millis(1));
    assert_eq!(setup.verify_now(), Some(marked()));
    assert_eq!(setup.verifier.calls(), 1, "the pause holds");
}

#[tokio::test]
async fn a_call_that_never_ends_is_a_failure_after_its_limit() {
    let (setup, _gate) = hanging();
    let first = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND);
    assert_eq!(first.await.unwrap(), Ok(marked()));
    settle().await;
    setup.clock.advance(DETACHED_LIMIT);
    settle().await;
    assert_eq!(setup.verify_now(), Some(marked()), "the pause of a known outage");
    setup.clock.advance(SECOND);
    assert_eq!(setup.verify_now(), Some(marked()));
    settle().await;
    assert_eq!(setup.verifier.calls(), 2, "a probe");
}

/// A slow answer to one token, while others are decided, is no outage: or else a flood that makes
/// the verifier slow would make revoked tokens valid.
#[tokio::test]
async fn while_others_are_decided_nothing_is_suspected() {
    let (setup, gate) = hanging();
    let slow = setup.spawn();
    settle().await;
    setup.verifier.set(Ok(Verdict::Reject(RejectReason::Unauthenticated)));
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
    let decided = slow.await.unwrap();
    assert_eq!(decided, Ok(Verdict::Reject(RejectReason::Unauthenticated)));
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
    let gone = setup.spawn();
    settle().await;
    gone.abort();
    settle().await;
    setup.clock.advance(100 * SECOND);
    assert_eq!(setup.verify_now(), None, "nobody waits for an answer");
}

#[tokio::test]
async fn a_suspected_call_that_is_dropped_without_an_outcome_is_a_failure() {
    let (setup, _gate) = hanging();
    setup.fallback.set(Ok(Verdict::Reject(RejectReason::UnknownKey)));
    let undecided = setup.spawn();
    settle().await;
    setup.clock.advance(5 * SECOND);
    settle().await;
    assert!(!undecided.is_finished(), "the fallback cannot decide");
    undecided.abort();
    settle().await;
    setup.fallback.set(Ok(accept("sa")));
    assert_eq!(setup.verify_now(), Some(marked()), "the outage is known");
}

#[tokio::test]
async fn what_the_fallback_cannot_decide_waits_for_the_verifier() {
    let (setup, gate) = hanging();
    setup.fallback.set(Ok(Verdict::Reject(RejectReason::UnknownKey)));
    let undecided = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND);
    settle().await;
    gate.add_permits(1);
    assert_eq!(undecided.await.unwrap(), Ok(accept("sa")));
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
async fn the_last_handle_ends_the_calls_that_nobody_waits_for() {
    let (setup, gate) = hanging();
    let first = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND);
    assert_eq!(first.await.unwrap(), Ok(marked()));
    drop(setup);
    settle().await;
    assert_eq!(Arc::strong_count(&gate), 1, "the call that waits for a permit is gone");
}

#[tokio::test]
async fn the_fallback_is_warmed_up_by_the_first_call() {
    let setup = set_up(FakeVerifier::accepting("sa"), FakeVerifier::accepting("sa"));
    assert_eq!(setup.fallback.warm_ups(), 0);
    setup.verify().await.unwrap();
    assert!(setup.fallback.warm_ups() > 0);
}
