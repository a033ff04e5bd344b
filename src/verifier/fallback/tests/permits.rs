//! Who asks a verifier that is down, because the fallback cannot decide.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;

fn at_once<T>(outcome: impl Future<Output = T>) -> T {
    match pin!(outcome).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

#[tokio::test]
async fn while_open_four_calls_at_a_time_are_for_tokens_the_fallback_cannot_decide() {
    let setup = in_an_outage().await;
    setup.fallback.set(Ok(Verdict::Reject(RejectReason::UnknownKey)));
    let gate = setup.verifier.hold();
    let mut waiting: Vec<_> = (0..4).map(|_| setup.spawn()).collect();
    settle().await;
    for _ in 0..100 {
        assert_eq!(at_once(setup.verify()), Err(DOWN));
    }
    assert_eq!(setup.verifier.calls(), 5);
    waiting.pop().unwrap().abort();
    settle().await;
    waiting.push(setup.spawn());
    settle().await;
    assert_eq!(at_once(setup.verify()), Err(DOWN));
    assert_eq!(setup.verifier.calls(), 6, "a caller that goes away frees its permit");
    gate.add_permits(1);
    assert_eq!(waiting.remove(0).await.unwrap(), Err(DOWN));
    waiting.push(setup.spawn());
    settle().await;
    assert_eq!(at_once(setup.verify()), Err(DOWN));
    assert_eq!(setup.verifier.calls(), 7, "and so does who has been told");
    setup.fallback.set(Ok(accept("sa")));
    assert_eq!(setup.verify().await, Ok(marked()), "what the fallback decides needs no permit");
    setup.verifier.set(Ok(accept("sa")));
    gate.add_permits(100);
    for asked in waiting {
        assert_eq!(asked.await.unwrap(), Ok(accept("sa")));
    }
    assert_eq!(setup.verify().await, Ok(accept("sa")));
}

#[tokio::test]
async fn without_a_permit_the_answer_is_the_last_error_and_the_remaining_pause() {
    let setup = set_up(
        FakeVerifier::new(Err(error(DOWN).with_retry_after(7 * SECOND))),
        FakeVerifier::accepting("sa"),
    );
    setup.verify().await.unwrap();
    setup.fallback.set(Ok(Verdict::Reject(RejectReason::UnknownKey)));
    let without_permit = || {
        let error = at_once(setup.both.verify(token(), &audiences())).unwrap_err();
        (error.kind(), error.retry_after().unwrap())
    };
    let gate = setup.verifier.hold();
    let _waiting: Vec<_> = (0..4).map(|_| setup.spawn()).collect();
    settle().await;
    assert_eq!(without_permit(), (DOWN, 7 * SECOND));
    setup.clock.advance(4 * SECOND);
    assert_eq!(without_permit(), (DOWN, 3 * SECOND));
    setup.clock.advance(5 * SECOND / 2);
    assert_eq!(without_permit(), (DOWN, SECOND), "at least a second");
    setup.clock.advance(3 * SECOND);
    assert_eq!(without_permit(), (DOWN, SECOND), "also after the pause");
    setup.fallback.set(Ok(accept("sa")));
    setup.verify().await.unwrap();
    settle().await;
    setup.fallback.set(Ok(Verdict::Reject(RejectReason::UnknownKey)));
    assert_eq!(without_permit(), (DOWN, SECOND), "also during a probe");
    setup.verifier.set(Err(error(VerifyErrorKind::Timeout).with_retry_after(9 * SECOND)));
    // The gate is fair: the four go first, and four others take their permits.
    gate.add_permits(4);
    settle().await;
    let _others: Vec<_> = (0..4).map(|_| setup.spawn()).collect();
    settle().await;
    assert_eq!(without_permit(), (DOWN, SECOND), "only a probe renews it");
    gate.add_permits(1);
    settle().await;
    assert_eq!(without_permit(), (VerifyErrorKind::Timeout, 9 * SECOND));
}

#[tokio::test]
async fn a_call_that_outlasts_the_outage_in_the_fallback_needs_no_permit() {
    let setup = in_an_outage().await;
    let gate = setup.fallback.hold();
    setup.fallback.set(Ok(Verdict::Reject(RejectReason::UnknownKey)));
    let asked: Vec<_> = (0..10).map(|_| setup.spawn()).collect();
    settle().await;
    setup.verifier.set(Ok(accept("sa")));
    setup.clock.advance(31 * SECOND);
    assert_eq!(setup.verify().await, Ok(accept("sa")));
    let verifiers_gate = setup.verifier.hold();
    gate.add_permits(10);
    settle().await;
    assert_eq!(setup.verifier.calls(), 12);
    verifiers_gate.add_permits(10);
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Ok(accept("sa")));
    }
}
