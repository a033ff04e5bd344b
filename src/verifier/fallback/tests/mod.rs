//! A verifier and a fallback that do what the test says.

mod background_calls;
mod permits;
mod probes;
mod suspicion;

use std::time::Duration;

use super::{circuit_breaker::DETACHED_LIMIT, *};
use crate::{
    clock::manual::ManualClock,
    error::VerifyErrorKind,
    verifier::{
        VerifierExt,
        fake_verifier::{FakeVerifier, accept, audiences, error, token},
    },
};

const SECOND: Duration = Duration::from_secs(1);
const DOWN: VerifyErrorKind = VerifyErrorKind::Unavailable;
const OUTAGES: [VerifyErrorKind; 3] =
    [VerifyErrorKind::Unavailable, VerifyErrorKind::Timeout, VerifyErrorKind::RateLimited];
const OTHER_FAILURES: [VerifyErrorKind; 6] = [
    VerifyErrorKind::Inconclusive,
    VerifyErrorKind::Forbidden,
    VerifyErrorKind::Unauthenticated,
    VerifyErrorKind::InvalidResponse,
    VerifyErrorKind::Saturated,
    VerifyErrorKind::Aborted,
];
const FACTS: [RejectReason; 9] = [
    RejectReason::Malformed,
    RejectReason::Signature,
    RejectReason::Audience,
    RejectReason::Expired,
    RejectReason::NotYetValid,
    RejectReason::NotAServiceAccount,
    RejectReason::Unauthenticated,
    RejectReason::Deleted,
    RejectReason::Denied,
];
const OPINIONS: [RejectReason; 4] = [
    RejectReason::UnknownKey,
    RejectReason::Issuer,
    RejectReason::Algorithm,
    RejectReason::LifetimeTooLong,
];

struct Setup {
    clock: ManualClock,
    verifier: FakeVerifier,
    fallback: FakeVerifier,
    both: Fallback<FakeVerifier, FakeVerifier>,
}

type Brief = Result<Verdict, VerifyErrorKind>;

fn set_up(verifier: FakeVerifier, fallback: FakeVerifier) -> Setup {
    let clock = ManualClock::new();
    let both = verifier.clone().or_when_unavailable(fallback.clone()).clock(clock.clock());
    Setup { clock, verifier, fallback, both }
}

/// The verifier is down, and the pause has begun.
async fn in_an_outage() -> Setup {
    let setup = set_up(FakeVerifier::failing(DOWN), FakeVerifier::accepting("sa"));
    assert_eq!(setup.verify().await, Ok(marked()));
    assert_eq!(setup.asked(), (1, 1));
    setup
}

impl Setup {
    async fn verify(&self) -> Brief {
        self.both.verify(token(), &audiences()).await.map_err(|error| error.kind())
    }

    fn verify_now(&self) -> Option<Verdict> {
        self.both.verify_now(token(), &audiences())
    }

    fn spawn(&self) -> tokio::task::JoinHandle<Brief> {
        let both = self.both.clone();
        tokio::spawn(async move {
            both.verify(token(), &audiences()).await.map_err(|error| error.kind())
        })
    }

    fn asked(&self) -> (usize, usize) {
        (self.verifier.calls(), self.fallback.calls())
    }
}

fn marked() -> Verdict {
    let Verdict::Accept(acceptance) = accept("sa") else { unreachable!() };
    Verdict::Accept(acceptance.by_fallback())
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn while_the_verifier_works_the_fallback_is_not_called() {
    for verdict in [
        accept("sa"),
        Verdict::Reject(RejectReason::Unauthenticated),
        Verdict::Reject(RejectReason::UnknownKey),
    ] {
        let setup =
            set_up(FakeVerifier::new(Ok(verdict.clone())), FakeVerifier::accepting("other"));
        assert_eq!(setup.verify().await, Ok(verdict));
        assert_eq!(setup.asked(), (1, 0));
    }
}

#[tokio::test]
async fn in_an_outage_the_fallback_decides_and_its_acceptances_are_marked() {
    for kind in OUTAGES {
        let setup = set_up(FakeVerifier::failing(kind), FakeVerifier::accepting("sa"));
        assert_eq!(setup.verify().await, Ok(marked()), "{kind:?}");
    }
}

#[tokio::test]
async fn other_failures_stay_errors_and_the_fallback_is_not_called() {
    for kind in OTHER_FAILURES {
        let setup = set_up(
            FakeVerifier::failing(kind),
            FakeVerifier::accepting("sa").with_verify_now(Some(accept("sa"))),
        );
        for _ in 0..3 {
            assert_eq!(setup.verify_now(), None);
            assert_eq!(setup.verify().await, Err(kind));
        }
        assert_eq!(setup.asked(), (3, 0));
    }
}

#[tokio::test]
async fn a_fallback_rejects_for_facts_and_not_for_unknown_keys_issuers_or_algorithms() {
    for reason in FACTS {
        let setup = set_up(FakeVerifier::failing(DOWN), FakeVerifier::rejecting(reason));
        assert_eq!(setup.verify().await, Ok(Verdict::Reject(reason)), "when it fails");
        assert_eq!(setup.asked(), (1, 1));
        let setup = in_an_outage().await;
        setup.fallback.set(Ok(Verdict::Reject(reason)));
        assert_eq!(setup.verify().await, Ok(Verdict::Reject(reason)), "in the pause");
        assert_eq!(setup.asked(), (1, 2));
    }
    for reason in OPINIONS {
        let setup = set_up(FakeVerifier::failing(DOWN), FakeVerifier::rejecting(reason));
        assert_eq!(setup.verify().await, Err(DOWN));
        assert_eq!(setup.asked(), (1, 1));
        let setup = in_an_outage().await;
        setup.fallback.set(Ok(Verdict::Reject(reason)));
        assert_eq!(setup.verify().await, Err(DOWN));
        assert_eq!(
            setup.asked(),
            (2, 2),
            "what the fallback does not know the verifier is asked, in the pause too"
        );
    }
}

/// The verifier may be unavailable about the tokens of a stranger only.
#[tokio::test]
async fn failures_about_tokens_that_the_fallback_does_not_accept_begin_no_outage() {
    for reason in FACTS.into_iter().chain(OPINIONS) {
        let setup = set_up(FakeVerifier::failing(DOWN), FakeVerifier::rejecting(reason));
        let _ = setup.verify().await;
        assert!(matches!(setup.both.phase(), Phase::Closed { .. }), "{reason:?}");
    }
}

/// A slow failure about one token, while others are decided, is no outage.
#[tokio::test]
async fn a_failure_of_a_call_that_others_overtook_begins_no_outage() {
    let setup = set_up(FakeVerifier::failing(DOWN), FakeVerifier::accepting("sa"));
    let gate = setup.verifier.hold();
    let slow = setup.spawn();
    settle().await;
    setup.clock.advance(SECOND / 2);
    setup.verifier.set(Ok(accept("sa")));
    setup.verifier.hold().add_permits(1);
    assert_eq!(setup.verify().await, Ok(accept("sa")));
    setup.verifier.set(Err(error(DOWN)));
    gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), Ok(marked()), "its own call failed");
    assert!(matches!(setup.both.phase(), Phase::Closed { .. }));
}

#[tokio::test]
async fn if_the_fallback_fails_too_the_verifiers_error_is_returned() {
    let fallback = FakeVerifier::failing(VerifyErrorKind::Forbidden);
    let setup = set_up(FakeVerifier::new(Err(error(DOWN).with_retry_after(7 * SECOND))), fallback);
    for _ in 0..2 {
        let error = setup.both.verify(token(), &audiences()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (DOWN, Some(7 * SECOND)));
    }
}

/// The token of a stranger may be one about which the verifier takes long: that would make the
/// outage longer.
/// A service that nobody called since an outage must not accept a revoked token because of it.
#[tokio::test]
async fn a_call_from_before_a_state_change_changes_no_state() {
    let setup = set_up(FakeVerifier::failing(DOWN), FakeVerifier::accepting("sa"));
    let gate = setup.verifier.hold();
    let (early, late, failing) = (setup.spawn(), setup.spawn(), setup.spawn());
    settle().await;
    gate.add_permits(1);
    assert_eq!(early.await.unwrap(), Ok(marked()), "the outage begins");
    setup.verifier.set(Ok(accept("sa")));
    gate.add_permits(1);
    assert_eq!(late.await.unwrap(), Ok(accept("sa")));
    assert_eq!(setup.verify().await, Ok(marked()), "it goes on");
    setup.clock.advance(SECOND);
    assert_eq!(setup.verify().await, Ok(marked()), "its probe begins in the background");
    settle().await;
    // The gate is fair: first the call from before the outage, then the probe.
    setup.verifier.set(Err(error(DOWN)));
    gate.add_permits(1);
    assert_eq!(failing.await.unwrap(), Ok(marked()));
    setup.verifier.set(Ok(accept("sa")));
    gate.add_permits(2);
    settle().await;
    assert_eq!(setup.verify().await, Ok(accept("sa")));
}

#[tokio::test]
async fn while_open_an_answer_to_an_undecided_token_closes_the_breaker() {
    let setup = in_an_outage().await;
    setup.fallback.set(Ok(Verdict::Reject(RejectReason::UnknownKey)));
    setup.verifier.set(Ok(accept("sa")));
    assert_eq!(setup.verify().await, Ok(accept("sa")));
    setup.fallback.set(Ok(accept("sa")));
    assert_eq!(setup.verify().await, Ok(accept("sa")));
}

#[tokio::test]
async fn failures_in_the_pause_do_not_lengthen_it() {
    let setup = in_an_outage().await;
    setup.fallback.set(Ok(Verdict::Reject(RejectReason::UnknownKey)));
    setup.clock.advance(SECOND / 2);
    assert_eq!(setup.verify().await, Err(DOWN));
    setup.clock.advance(SECOND / 2);
    assert_eq!(setup.both.phase(), Phase::ProbeDue);
}

#[tokio::test]
async fn verify_now_is_the_fallbacks_while_open_and_else_the_verifiers_rejections() {
    let rejection = || Verdict::Reject(RejectReason::Signature);
    for (verifier, expected) in
        [(None, None), (Some(accept("sa")), None), (Some(rejection()), Some(rejection()))]
    {
        let verifier = FakeVerifier::failing(DOWN).with_verify_now(verifier);
        let setup =
            set_up(verifier, FakeVerifier::accepting("sa").with_verify_now(Some(accept("sa"))));
        assert_eq!(setup.verify_now(), expected, "before the outage");
        setup.verify().await.unwrap();
        assert_eq!(setup.verify_now(), Some(marked()), "in the pause");
        let gate = setup.verifier.hold();
        setup.clock.advance(SECOND);
        for _ in 0..3 {
            assert_eq!(setup.verify_now(), Some(marked()), "after the pause");
            settle().await;
            assert_eq!(setup.verifier.calls(), 2, "it probes once, in the background");
        }
        setup.verifier.set(Ok(accept("sa")));
        gate.add_permits(1);
        settle().await;
        assert_eq!(setup.verify_now(), expected, "after the outage");
    }
}

#[tokio::test]
async fn what_is_computed_in_the_pause_is_what_verification_says() {
    let verdicts =
        FACTS.iter().chain(&OPINIONS).map(|reason| Verdict::Reject(*reason)).chain([accept("sa")]);
    for verdict in verdicts {
        let setup = set_up(FakeVerifier::failing(DOWN), FakeVerifier::accepting("sa"));
        setup.verify().await.unwrap();
        setup.fallback.set(Ok(verdict.clone()));
        let _ = setup.fallback.clone().with_verify_now(Some(verdict.clone()));
        match setup.verify_now() {
            Some(computed) => assert_eq!(setup.verify().await, Ok(computed)),
            None => assert_eq!(setup.verify().await, Err(DOWN), "{verdict:?}"),
        }
    }
}
