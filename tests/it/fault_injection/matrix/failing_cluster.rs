//! A cluster that fails in one way at one endpoint, and callers of it on an injected clock.

use std::time::Duration;

use axum::http::{StatusCode, header};
use tower_kube_auth::{
    client::{Token, TokenError, TokenRequestSource, TokenSource},
    testing::Endpoint,
};

use super::outcome::Actual;
use crate::{
    fault_injection::failure::Failure,
    support::{Answer, Fixture, Service, drive, join_all},
};

/// The documented time limit of a TokenReview or TokenRequest with its retries.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(10);
/// The number of concurrent callers.
pub(super) const CALLERS: usize = 10;

/// A cluster that fails in one way at one endpoint.
pub(super) struct FailingCluster {
    fixture: Fixture,
    endpoint: Endpoint,
    pub(super) failure: Failure,
}

impl std::ops::Deref for FailingCluster {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl FailingCluster {
    pub(super) async fn start(failure: Failure, endpoint: Endpoint) -> Self {
        Self { fixture: Fixture::start().await, endpoint, failure }
    }

    pub(super) fn tokens(&self) -> Vec<String> {
        (0..CALLERS).map(|_| self.token()).collect()
    }

    pub(super) async fn fail(&self) {
        self.failure.begin(&self.cluster, self.endpoint).await;
    }

    /// Drives `work`, as [`drive`] does.
    pub(super) async fn wait<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
        meanwhile: impl AsyncFnMut(),
    ) -> (T, Duration) {
        let mut seen = self.cluster.calls(self.endpoint);
        let held = || {
            let before = std::mem::replace(&mut seen, self.cluster.calls(self.endpoint));
            self.failure == Failure::Hang && seen > before
        };
        drive(&self.clock, limit, held, work, meanwhile).await
    }

    /// Sends all `tokens` concurrently and asserts that the handler receives exactly those served.
    pub(super) async fn ask(
        &self,
        service: &Service,
        tokens: &[String],
        limit: Duration,
        cached: Option<&str>,
    ) -> Actual {
        let (calls, reached) = (self.cluster.calls(self.endpoint), service.reached());
        let asking = join_all(tokens.iter().map(|token| service.spawn_get(token)).collect());
        let mut cached_served = 0;
        let meanwhile = async || {
            if let Some(token) = cached {
                assert_eq!(
                    service.get(token).await.status,
                    StatusCode::OK,
                    "{:?}: a cached caller",
                    self.failure
                );
                cached_served += 1;
            }
        };
        let (answers, took) = self.wait(limit, asking, meanwhile).await;
        let served = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(
            service.reached() - reached,
            served + cached_served,
            "{:?}: requests that the handler received",
            self.failure
        );
        let outcomes = answers.iter().map(|answer| self.outcome(answer)).collect();
        Actual { outcomes, took, calls: self.cluster.calls(self.endpoint) - calls }
    }

    /// Asserts that an answer is 200 or 503, and never a 401.
    fn outcome(&self, answer: &Answer) -> String {
        if answer.status == StatusCode::OK {
            return "200".to_owned();
        }
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{:?}", self.failure);
        assert_eq!(answer.challenge(), None, "{:?}", self.failure);
        format!("503 for {} s", answer.header(header::RETRY_AFTER).unwrap())
    }

    /// Ends the failure and asserts that the service recovers after the documented pause.
    pub(super) async fn recovers(
        &self,
        service: &Service,
        token: &str,
        pause: Duration,
        limit: Duration,
    ) {
        self.failure.end(&self.cluster).await;
        self.clock.advance(pause);
        // A connection that has died meanwhile may need a retry.
        let (answer, _) =
            drive(&self.clock, limit, || false, service.get(token), async || ()).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}: no recovery", self.failure);
    }

    /// Sends all `tokens` concurrently, each with calls of its own, whose time limits the clock may
    /// reach in any order. Returns whether all were served.
    pub(super) async fn drive_all(&self, service: &Service, tokens: &[String]) -> bool {
        let calls = self.cluster.calls(self.endpoint);
        let asking = join_all(tokens.iter().map(|token| service.spawn_get(token)).collect());
        if self.failure == Failure::Slow {
            // A delay begins when the API server receives its call. If the clock reached the end of
            // the first delay before, the last call would reach its time limit.
            self.cluster.wait_for_calls(self.endpoint, calls + tokens.len() as u64).await;
        }
        let is_hang = self.failure == Failure::Hang;
        let (answers, _) = drive(&self.clock, CALL_LIMIT, || is_hang, asking, async || ()).await;
        answers.iter().all(|answer| answer.status == StatusCode::OK)
    }

    /// Returns a token that is `wanted`, once the pause after the failure is over.
    pub(super) async fn get_token(
        &self,
        source: &TokenRequestSource,
        wanted: impl Fn(&Token) -> bool,
    ) -> Token {
        let asking = async {
            loop {
                match source.token().await {
                    Ok(token) if wanted(&token) => return token,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        drive(&self.clock, CALL_LIMIT, || false, asking, async || ()).await.0
    }

    pub(super) async fn request(&self, source: &TokenRequestSource) -> Actual {
        let calls = self.cluster.calls(self.endpoint);
        let asking = (0..CALLERS).map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        });
        let asking = join_all(asking.collect());
        let (answers, took) = self.wait(CALL_LIMIT, asking, async || ()).await;
        let outcome = |answer: Result<Token, TokenError>| match answer {
            Ok(_) => "a token".to_owned(),
            Err(error) => error.kind().as_str().to_owned(),
        };
        Actual {
            outcomes: answers.into_iter().map(outcome).collect(),
            took,
            calls: self.cluster.calls(self.endpoint) - calls,
        }
    }
}
