//! A verifier with outcomes that the test sets.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use super::verifier::Verifier;
use crate::{
    audience::Audiences,
    error::{VerifyError, VerifyErrorKind},
    identity::UserInfo,
    token::BearerToken,
    verdict::{Acceptance, RejectReason, Verdict},
};

#[derive(Clone)]
pub(super) struct FakeVerifier(Arc<Behavior>);

struct Behavior {
    outcome: Mutex<Result<Verdict, VerifyError>>,
    now: Mutex<Option<Verdict>>,
    calls: AtomicUsize,
    warm_ups: AtomicUsize,
    gate: Mutex<Option<Arc<Semaphore>>>,
}

impl FakeVerifier {
    pub(super) fn new(outcome: Result<Verdict, VerifyError>) -> Self {
        let behavior = Behavior {
            outcome: Mutex::new(outcome),
            now: Mutex::default(),
            calls: AtomicUsize::new(0),
            warm_ups: AtomicUsize::new(0),
            gate: Mutex::default(),
        };
        Self(Arc::new(behavior))
    }

    pub(super) fn accepting(name: &str) -> Self {
        Self::new(Ok(accept(name)))
    }

    pub(super) fn rejecting(reason: RejectReason) -> Self {
        Self::new(Ok(Verdict::Reject(reason)))
    }

    pub(super) fn failing(kind: VerifyErrorKind) -> Self {
        Self::new(Err(error(kind)))
    }

    /// Sets the verdict of `verify_now`.
    pub(super) fn with_verify_now(self, verdict: Option<Verdict>) -> Self {
        *self.0.now.lock().unwrap() = verdict;
        self
    }

    pub(super) fn set(&self, outcome: Result<Verdict, VerifyError>) {
        *self.0.outcome.lock().unwrap() = outcome;
    }

    /// Makes each verification from now on wait for a permit of the returned semaphore.
    pub(super) fn hold(&self) -> Arc<Semaphore> {
        self.0.gate.lock().unwrap().insert(Arc::new(Semaphore::new(0))).clone()
    }

    pub(super) fn warm_ups(&self) -> usize {
        self.0.warm_ups.load(Ordering::SeqCst)
    }

    pub(super) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }
}

impl Verifier for FakeVerifier {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        self.0.outcome.lock().unwrap().clone()
    }

    fn warm_up(&self) {
        self.0.warm_ups.fetch_add(1, Ordering::SeqCst);
    }

    fn verify_now(&self, _: BearerToken<'_>, _: &Audiences) -> Option<Verdict> {
        self.0.now.lock().unwrap().clone()
    }
}

pub(super) fn error(kind: VerifyErrorKind) -> VerifyError {
    VerifyError::new(kind, kind.as_str())
}

pub(super) fn audiences() -> Audiences {
    Audiences::new(["api"]).unwrap()
}

pub(super) fn token() -> BearerToken<'static> {
    BearerToken::parse("e30.e30.AA").unwrap()
}

pub(super) fn accept(name: &str) -> Verdict {
    let user = UserInfo::service_account("ns", name, "uid-1");
    Verdict::Accept(Acceptance::builder(user, ["api"]).build(&audiences()).unwrap())
}
