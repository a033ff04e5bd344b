//! Schedule exploration: every interleaving of concurrent requests for one token, invalidations and
//! runtime shutdown.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test prints how many schedules there were, and a panic is how it fails"
)]

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use shuttle::{
    Config, Runner,
    future::block_on,
    scheduler::{DfsScheduler, RandomScheduler, Scheduler},
    thread,
};
use tower_kube_auth::{
    Authenticator, BearerToken, Verifier,
    audience::Audiences,
    error::{VerifyError, VerifyErrorKind},
    identity::UserInfo,
    testing::{ManualClock, set_sync_point_hook},
    verdict::{Acceptance, RejectReason, Verdict},
};

thread_local! { static IS_EXPLORING: Cell<bool> = const { Cell::new(false) } }

fn sync_point() {
    if IS_EXPLORING.get() {
        thread::yield_now();
    }
}

/// Runs `test` once for every order in which its threads can pass their scheduling points. A thread
/// that is never woken fails it as a deadlock.
fn every_schedule(test: impl Fn() + Send + Sync + 'static) {
    let schedules = explore(DfsScheduler::new(None, false), test);
    println!("{}: {schedules} schedules", std::thread::current().name().unwrap_or_default());
    assert!(schedules > 100, "the threads do not meet at any point");
}

/// Runs `test` for some thousand orders, where there are too many.
fn some_schedules(test: impl Fn() + Send + Sync + 'static) {
    explore(RandomScheduler::new(2_000), test);
}

fn explore(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) -> usize {
    set_sync_point_hook(sync_point);
    IS_EXPLORING.set(true);
    let mut config = Config::new();
    config.stack_size = 0x8_0000;
    let schedules = Runner::new(scheduler, config).run(test);
    IS_EXPLORING.set(false);
    schedules
}

type Outcome = Result<Verdict, VerifyError>;

const TOKEN: &str = "e30.e30.AA";

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Accept,
    Reject,
    Error,
    Panic,
    /// Never resolves; ends with its runtime.
    Never,
}

/// Yields once in each call, and counts concurrent calls.
struct YieldingVerifier {
    calls: AtomicUsize,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    ending: Ending,
}

impl Verifier for YieldingVerifier {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Outcome {
        self.calls.fetch_add(1, SeqCst);
        self.max_in_flight.fetch_max(self.in_flight.fetch_add(1, SeqCst) + 1, SeqCst);
        sync_point();
        self.in_flight.fetch_sub(1, SeqCst);
        match self.ending {
            Ending::Accept => Ok(accepted()),
            Ending::Reject => Ok(Verdict::Reject(RejectReason::Signature)),
            Ending::Error => Err(VerifyError::new(VerifyErrorKind::Unavailable, "down")),
            // Skips the panic hook, which would print in each of a thousand schedules.
            Ending::Panic => std::panic::resume_unwind(Box::new("panic")),
            Ending::Never => std::future::pending().await,
        }
    }
}

fn accepted() -> Verdict {
    let user = UserInfo::service_account("ns", "sa", "uid-1");
    let audiences = Audiences::new(["api"]).unwrap();
    Verdict::Accept(Acceptance::builder(user, ["api"]).build(&audiences).unwrap())
}

fn authenticator(ending: Ending) -> (Authenticator, Arc<YieldingVerifier>) {
    let verifier = Arc::new(YieldingVerifier {
        calls: AtomicUsize::new(0),
        in_flight: AtomicUsize::new(0),
        max_in_flight: AtomicUsize::new(0),
        ending,
    });
    let clock = ManualClock::new().clock();
    (
        Authenticator::builder(Arc::clone(&verifier)).audience("api").clock(clock).build().unwrap(),
        verifier,
    )
}

fn spawn_request(authenticator: &Authenticator) -> thread::JoinHandle<Outcome> {
    let authenticator = authenticator.clone();
    thread::spawn(move || block_on(authenticator.authenticate(BearerToken::parse(TOKEN).unwrap())))
}

fn kind(outcome: &Outcome) -> Option<VerifyErrorKind> {
    outcome.as_ref().err().map(VerifyError::kind)
}

/// Runs concurrent `requests` and returns their outcomes and the number of verifier calls. Asserts
/// that no flight is left behind.
fn run_concurrently(requests: usize, ending: Ending) -> (Vec<Outcome>, usize) {
    let (authenticator, verifier) = authenticator(ending);
    let running: Vec<_> = (0..requests).map(|_| spawn_request(&authenticator)).collect();
    let outcomes = running.into_iter().map(|request| request.join().unwrap()).collect();
    let calls = verifier.calls.load(SeqCst);
    authenticator.invalidate_all();
    drop(spawn_request(&authenticator).join().unwrap());
    assert_eq!(verifier.calls.load(SeqCst), calls + 1, "a flight is left behind");
    assert_eq!(verifier.max_in_flight.load(SeqCst), 1, "two concurrent verifications of one token");
    (outcomes, calls)
}

#[test]
fn concurrent_requests_share_the_verdict_of_one_call() {
    for (ending, verdict) in
        [(Ending::Accept, accepted()), (Ending::Reject, Verdict::Reject(RejectReason::Signature))]
    {
        let check = move |requests| {
            let (outcomes, calls) = run_concurrently(requests, ending);
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
fn an_error_or_a_panic_reaches_all_followers_and_frees_the_key() {
    for (ending, error) in
        [(Ending::Error, VerifyErrorKind::Unavailable), (Ending::Panic, VerifyErrorKind::Aborted)]
    {
        every_schedule(move || {
            let (outcomes, calls) = run_concurrently(2, ending);
            assert!((1..=2).contains(&calls));
            assert!(outcomes.iter().all(|outcome| kind(outcome) == Some(error)));
        });
    }
}

#[test]
fn a_runtime_that_ends_frees_the_key_and_fails_the_followers() {
    every_schedule(|| {
        let (authenticator, _) = authenticator(Ending::Never);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let within = runtime.handle().clone();
        let _entered = within.enter();
        let (first, second) = (spawn_request(&authenticator), spawn_request(&authenticator));
        sync_point();
        drop(runtime);
        assert_eq!(kind(&first.join().unwrap()), Some(VerifyErrorKind::Aborted));
        assert_eq!(kind(&second.join().unwrap()), Some(VerifyErrorKind::Aborted));
        // A flight that is left behind would not answer this one: a deadlock.
        let after = spawn_request(&authenticator).join().unwrap();
        assert_eq!(kind(&after), Some(VerifyErrorKind::Aborted));
    });
}

#[test]
fn a_verification_begun_before_an_invalidation_is_not_served_after() {
    every_schedule(|| {
        let (authenticator, verifier) = authenticator(Ending::Accept);
        let before = spawn_request(&authenticator);
        sync_point();
        let begun = verifier.calls.load(SeqCst);
        authenticator.invalidate_all();
        spawn_request(&authenticator).join().unwrap().unwrap();
        assert!(
            verifier.calls.load(SeqCst) > begun,
            "a verdict from before the invalidation was served"
        );
        before.join().unwrap().unwrap();
    });
}
