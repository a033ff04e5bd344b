//! Every order in which requests for one token, and what may come between them, can take their steps.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use shuttle::{future::block_on, thread};

use super::{Authenticator, Outcome};
use crate::{
    audience::Audiences,
    clock::manual::ManualClock,
    error::{VerifyError, VerifyErrorKind},
    sync_point::{
        exploring::{every_schedule, some_schedules},
        sync_point,
    },
    testing::IdentityBuilder,
    token::BearerToken,
    verdict::{Acceptance, RejectReason, Verdict},
    verifier::Verifier,
};

const TOKEN: &str = "e30.e30.AA";

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Accept,
    Reject,
    Error,
    Panic,
    /// It waits for something that never comes, and ends with its runtime.
    Never,
}

/// Takes its time, and counts who else does.
struct Stepping {
    calls: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    ending: Ending,
}

impl Verifier for Stepping {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Outcome {
        self.calls.fetch_add(1, SeqCst);
        self.most_under_way.fetch_max(self.under_way.fetch_add(1, SeqCst) + 1, SeqCst);
        sync_point();
        self.under_way.fetch_sub(1, SeqCst);
        match self.ending {
            Ending::Accept => Ok(accepted()),
            Ending::Reject => Ok(Verdict::Reject(RejectReason::Signature)),
            Ending::Error => Err(VerifyError::new(VerifyErrorKind::Unavailable, "down")),
            // No hook prints it: it happens in a thousand schedules.
            Ending::Panic => std::panic::resume_unwind(Box::new("panic")),
            Ending::Never => std::future::pending().await,
        }
    }
}

fn accepted() -> Verdict {
    Verdict::Accept(Acceptance::new(IdentityBuilder::new("ns", "sa").build()))
}

fn authenticator(ending: Ending) -> (Authenticator, Arc<Stepping>) {
    let verifier = Arc::new(Stepping {
        calls: AtomicUsize::new(0),
        under_way: AtomicUsize::new(0),
        most_under_way: AtomicUsize::new(0),
        ending,
    });
    let clock = ManualClock::new().clock();
    (
        Authenticator::builder(Arc::clone(&verifier)).audience("api").clock(clock).build().unwrap(),
        verifier,
    )
}

fn ask(authenticator: &Authenticator) -> thread::JoinHandle<Outcome> {
    let authenticator = authenticator.clone();
    thread::spawn(move || block_on(authenticator.authenticate(BearerToken::parse(TOKEN).unwrap())))
}

fn kind(outcome: &Outcome) -> Option<VerifyErrorKind> {
    outcome.as_ref().err().map(VerifyError::kind)
}

/// `requests` at once, and what they have come to; afterwards nobody leads, so that the next one would not wait in vain.
fn together(requests: usize, ending: Ending) -> (Vec<Outcome>, usize) {
    let (authenticator, verifier) = authenticator(ending);
    let asking: Vec<_> = (0..requests).map(|_| ask(&authenticator)).collect();
    let outcomes = asking.into_iter().map(|request| request.join().unwrap()).collect();
    let digest = authenticator.digest(BearerToken::parse(TOKEN).unwrap().into());
    assert!(authenticator.shared.flights.is_free(&digest), "the key is not free");
    assert_eq!(verifier.most_under_way.load(SeqCst), 1, "one token, two verifications at once");
    (outcomes, verifier.calls.load(SeqCst))
}

#[test]
fn requests_at_once_get_one_verdict_of_one_call() {
    for (ending, verdict) in
        [(Ending::Accept, accepted()), (Ending::Reject, Verdict::Reject(RejectReason::Signature))]
    {
        let check = move |requests| {
            let (outcomes, calls) = together(requests, ending);
            assert_eq!(calls, 1);
            assert!(outcomes.into_iter().all(|outcome| outcome.unwrap() == verdict));
        };
        every_schedule({
            let check = check.clone();
            move || check(2)
        });
        some_schedules(move || check(5));
    }
}

#[test]
fn an_error_or_a_panic_reaches_those_who_wait_and_frees_the_key() {
    for (ending, error) in
        [(Ending::Error, VerifyErrorKind::Unavailable), (Ending::Panic, VerifyErrorKind::Aborted)]
    {
        every_schedule(move || {
            let (outcomes, calls) = together(2, ending);
            assert!((1..=2).contains(&calls));
            assert!(outcomes.iter().all(|outcome| kind(outcome) == Some(error)));
        });
    }
}

#[test]
fn a_runtime_that_ends_at_any_moment_frees_the_key_and_those_who_wait() {
    every_schedule(|| {
        let (authenticator, _) = authenticator(Ending::Never);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let within = runtime.handle().clone();
        let _entered = within.enter();
        let (first, second) = (ask(&authenticator), ask(&authenticator));
        sync_point();
        drop(runtime);
        assert_eq!(kind(&first.join().unwrap()), Some(VerifyErrorKind::Aborted));
        assert_eq!(kind(&second.join().unwrap()), Some(VerifyErrorKind::Aborted));
        let digest = authenticator.digest(BearerToken::parse(TOKEN).unwrap().into());
        assert!(authenticator.shared.flights.is_free(&digest), "the key is not free");
    });
}

/// Whatever an invalidation comes between, what began to be verified before it is not served after it.
#[test]
fn nothing_from_before_an_invalidation_is_served_after_it() {
    every_schedule(|| {
        let (authenticator, verifier) = authenticator(Ending::Accept);
        let before = ask(&authenticator);
        sync_point();
        let begun = verifier.calls.load(SeqCst);
        authenticator.invalidate_all();
        ask(&authenticator).join().unwrap().unwrap();
        assert!(verifier.calls.load(SeqCst) > begun, "served from before");
        before.join().unwrap().unwrap();
    });
}
