//! Calls of the verifier: with a caller who waits, until an outage is suspected, or in the
//! background.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::{
    Fallback,
    circuit_breaker::{CircuitState, DETACHED_LIMIT, Phase, Watched},
    outcomes::{is_acceptance, is_outage},
    rejected_tokens::TokenHash,
};
use crate::{
    audience::Audiences,
    error::{VerifyError, VerifyErrorKind},
    token::BearerToken,
    verdict::{Outcome, Verdict},
    verifier::verifier::Verifier,
};

/// A call of the verifier under way.
struct PendingCall {
    state: CircuitState,
    outcome: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    hash: TokenHash,
    began: Instant,
    watched: Watched,
}

impl<V: Verifier, F: Verifier> Fallback<V, F> {
    /// Asks the verifier. If the fallback accepts the token, it decides as soon as an outage is
    /// suspected, and the call goes on in the background.
    ///
    /// Only these calls are signs of an outage. The issuer signed the tokens, so strangers cannot
    /// cause one with tokens about which the verifier takes long.
    pub(super) async fn ask(
        &self,
        state: CircuitState,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Outcome {
        let call = Some(self.call(state, token, audiences));
        let mut asking = Asking { fallback: self, call, is_sign: false };
        // Some verifiers need no I/O.
        if let Some(outcome) = asking.within(Duration::ZERO).await {
            return asking.answered(outcome, token, audiences).await;
        }
        if !self.accepts_now(token, audiences) {
            if let Some(outcome) = asking.within(self.suspect_after).await {
                return asking.answered(outcome, token, audiences).await;
            }
            // It may have to fetch keys.
            let fallback = self.fallback.verify(token, audiences);
            let is_accepted = match asking.before(fallback).await {
                Ok(verdict) => verdict.is_ok_and(|verdict| self.is_accepted(verdict, token)),
                Err(outcome) => return asking.answered(outcome, token, audiences).await,
            };
            if !is_accepted {
                return asking.wait(token, audiences).await;
            }
        }
        asking.be_a_sign();
        while let Phase::Closed { until_suspicion } = self.phase() {
            if let Some(outcome) = asking.within(until_suspicion).await {
                return asking.answered(outcome, token, audiences).await;
            }
            // The verifier has decided about others since the call began. If that is over, only a
            // younger call can tell.
            if self.breaker.lacks_a_sign(self.clock.monotonic(), self.suspect_after) {
                self.probe(token, audiences);
            }
        }
        // Again: its verdict may have changed since, and the verifier may have rejected the token.
        match asking.before(self.fall_back(token, audiences)).await {
            Err(outcome) => asking.answered(outcome, token, audiences).await,
            Ok(None) => asking.wait(token, audiences).await,
            Ok(Some(verdict)) => {
                self.breaker.log_suspicion(self.suspect_after, self.clock.monotonic());
                if let Some(call) = asking.call.take() {
                    self.detach(call);
                }
                Ok(verdict)
            }
        }
    }

    /// Asks the verifier in the background if that is due. The fallback must accept the token:
    /// anybody can make up another one, about which the verifier takes long.
    pub(super) fn probe(&self, token: BearerToken<'_>, audiences: &Audiences) {
        if Handle::try_current().is_ok()
            && let Some(state) = self.breaker.claim_probe(self.clock.monotonic())
        {
            let call = self.call(state, token, audiences);
            self.detach(call);
        }
    }

    /// Begins a call that can outlive its caller.
    fn call(
        &self,
        state: CircuitState,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> PendingCall {
        let (hash, began) = (self.rejected.hash(token), self.clock.monotonic());
        let (verifier, token, audiences) =
            (Arc::clone(&self.verifier), token.to_owned(), audiences.clone());
        let outcome = Box::pin(async move { verifier.verify(token.borrow(), &audiences).await });
        PendingCall { state, outcome, hash, began, watched: self.breaker.begin(began) }
    }
}

impl<V, F> Fallback<V, F> {
    /// Lets a call go on that nobody waits for, about a token that the fallback accepts: its
    /// outcome ends the outage for all, and its rejection keeps the fallback from accepting the
    /// token again. Outside of a runtime it ends here, and beyond the limit of such calls.
    fn detach(&self, call: PendingCall) {
        let (Ok(runtime), Ok(permit)) =
            (Handle::try_current(), Arc::clone(&self.detached_permits).try_acquire_owned())
        else {
            return;
        };
        call.watched.be_a_sign();
        let (clock, rejected) = (self.clock.clone(), Arc::clone(&self.rejected));
        self.detached.spawn(&runtime, async move {
            let _permit = permit;
            let PendingCall { state, outcome, hash, began, watched: _watched } = call;
            let outcome = clock.timeout(DETACHED_LIMIT, outcome).await;
            let outcome = outcome.unwrap_or_else(|| Err(hangs()));
            rejected.record(hash, &outcome, true);
            state.record(&outcome, Some(began), clock.monotonic());
        });
    }
}

/// A call that its caller waits for.
struct Asking<'a, V, F> {
    fallback: &'a Fallback<V, F>,
    call: Option<PendingCall>,
    /// Whether the fallback accepts the token.
    is_sign: bool,
}

impl<V: Verifier, F: Verifier> Asking<'_, V, F> {
    fn be_a_sign(&mut self) {
        self.is_sign = true;
        if let Some(call) = &self.call {
            call.watched.be_a_sign();
        }
    }

    /// Waits for the verifier: the fallback cannot decide.
    async fn wait(mut self, token: BearerToken<'_>, audiences: &Audiences) -> Outcome {
        let outcome = match &mut self.call {
            Some(call) => call.outcome.as_mut().await,
            None => return Err(hangs()),
        };
        self.answered(outcome, token, audiences).await
    }

    /// Returns the outcome if it is there in time.
    async fn within(&mut self, limit: Duration) -> Option<Outcome> {
        let call = self.call.as_mut()?;
        self.fallback.clock.timeout(limit, &mut call.outcome).await
    }

    /// Returns what `other` returns, or the outcome if that is there first.
    async fn before<T>(&mut self, other: impl Future<Output = T>) -> Result<T, Outcome> {
        let mut other = pin!(other);
        poll_fn(|cx| {
            if let Some(call) = &mut self.call
                && let Poll::Ready(outcome) = call.outcome.as_mut().poll(cx)
            {
                return Poll::Ready(Err(outcome));
            }
            other.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Records the outcome. In an outage, returns what the fallback decides.
    async fn answered(
        mut self,
        outcome: Outcome,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Outcome {
        let Fallback { clock, rejected, .. } = self.fallback;
        let Some(PendingCall { state, hash, began, watched, .. }) = self.call.take() else {
            return outcome;
        };
        drop(watched);
        // A quick verifier rejects before the fallback is asked.
        let is_accepted = self.is_sign
            || matches!(outcome, Ok(Verdict::Reject(_)))
                && self.fallback.accepts_now(token, audiences);
        rejected.record(hash, &outcome, is_accepted);
        match outcome {
            Err(error) if is_outage(error.kind()) => {
                let failure = Err(error.clone());
                if self.is_sign {
                    state.record(&failure, Some(began), clock.monotonic());
                    return self.fallback.fall_back(token, audiences).await.ok_or(error);
                }
                let verdict = self.fallback.fall_back(token, audiences).await;
                if verdict.as_ref().is_some_and(is_acceptance) {
                    state.record(&failure, Some(began), clock.monotonic());
                }
                verdict.ok_or(error)
            }
            outcome => {
                state.record(&outcome, None, clock.monotonic());
                outcome
            }
        }
    }
}

impl<V, F> Drop for Asking<'_, V, F> {
    /// Lets the call go on, for example at the authenticator's time limit: if that is shorter than
    /// the time until suspicion, no outage would ever be noticed.
    fn drop(&mut self) {
        if let Some(call) = self.call.take()
            && self.is_sign
            && !std::thread::panicking()
        {
            self.fallback.detach(call);
        }
    }
}

fn hangs() -> VerifyError {
    VerifyError::new(VerifyErrorKind::Timeout, "the verifier did not decide in time")
}
