//! Calls that nobody waits for, and callers without a call.

use tokio::task::JoinHandle;

use super::{suspicion::hanging, *};

fn spawn_saturated(setup: &Setup) -> JoinHandle<Option<Verdict>> {
    let both = setup.both.clone();
    tokio::spawn(async move { both.verify_when_saturated(token(), &audiences()).await })
}

#[tokio::test]
async fn a_call_in_the_background_ends_the_suspicion() {
    let (setup, gate) = hanging();
    let first = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND);
    assert_eq!(first.await.unwrap(), Ok(marked()));
    assert_eq!(setup.verify_now(), Some(marked()));
    settle().await;
    // The gate is fair: the first call goes first, and fails alone.
    setup.verifier.set(Err(error(VerifyErrorKind::Inconclusive)));
    gate.add_permits(1);
    settle().await;
    setup.verifier.set(Ok(Verdict::Reject(RejectReason::Unauthenticated)));
    assert_eq!(
        setup.both.phase(),
        Phase::Closed { until_suspicion: SECOND },
        "the second is young"
    );
    gate.add_permits(2);
    settle().await;
    assert_eq!(setup.verify_now(), None);
    assert_eq!(setup.verify().await, Ok(Verdict::Reject(RejectReason::Unauthenticated)));
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

#[tokio::test]
async fn a_call_that_is_dropped_goes_on_and_leads_to_a_suspicion() {
    let (setup, gate) = hanging();
    let dropped = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND / 2);
    dropped.abort();
    settle().await;
    assert_eq!(setup.verify_now(), None);
    setup.clock.advance(SECOND / 2);
    assert_eq!(setup.verify_now(), Some(marked()));
    setup.verifier.set(Err(error(DOWN)));
    gate.add_permits(1);
    settle().await;
    assert_eq!(setup.both.phase(), Phase::Open);
}

#[tokio::test]
async fn the_calls_that_nobody_waits_for_are_bounded() {
    let (setup, gate) = hanging();
    let callers: Vec<_> = (0..100).map(|_| setup.spawn()).collect();
    settle().await;
    callers.iter().for_each(JoinHandle::abort);
    settle().await;
    // One handle is here, and one in the verifier.
    assert_eq!(Arc::strong_count(&gate) - 2, MAX_DETACHED);
}

#[tokio::test]
async fn a_caller_beyond_the_limit_is_told_at_once_that_the_verifier_works() {
    let (setup, gate) = hanging();
    let _slow = setup.spawn();
    settle().await;
    let beyond = spawn_saturated(&setup);
    settle().await;
    assert!(!beyond.is_finished(), "nobody knows yet");
    gate.add_permits(1);
    settle().await;
    assert!(beyond.is_finished());
    assert_eq!(beyond.await.unwrap(), None);
}

#[tokio::test]
async fn a_caller_beyond_the_limit_is_accepted_when_an_outage_is_suspected() {
    let (setup, _gate) = hanging();
    let _slow = setup.spawn();
    settle().await;
    let beyond = spawn_saturated(&setup);
    settle().await;
    assert!(!beyond.is_finished(), "nobody knows yet");
    setup.clock.advance(SECOND);
    settle().await;
    assert!(beyond.is_finished());
    assert_eq!(beyond.await.unwrap(), Some(marked()));
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
