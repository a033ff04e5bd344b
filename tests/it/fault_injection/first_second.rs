//! The first seconds of an outage, before the first failure is known: the fallback decides about
//! every good token, and a flood alone never makes it decide.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::task::JoinHandle;
use tower_kube_auth::{
    JwksVerifier, Verifier, VerifierExt,
    testing::{Endpoint, Fault},
};

use crate::support::{
    Answer, Behavior, FakeVerifier, Fixture, Service, bearer, idle, join_all, token, until,
};

const SECOND: Duration = Duration::from_secs(1);

struct Outage {
    fixture: Fixture,
    jwks: JwksVerifier,
    service: Service,
}

impl Outage {
    /// A service whose fallback is warm, because it has served one caller.
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        let jwks = fixture.jwks().build().unwrap();
        let verifier = fixture.review().or_when_unavailable(jwks.clone());
        let service = fixture.service(verifier.clock(fixture.clock.clock()));
        assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
        until("the keys are loaded", async || jwks.metrics().keys > 0).await;
        Self { fixture, jwks, service }
    }

    fn fail(&self, fault: Fault) {
        self.fixture.cluster.set_fault(Endpoint::TokenReview, fault);
    }

    fn send(&self, count: usize) -> Vec<JoinHandle<Answer>> {
        (0..count).map(|_| self.service.spawn_get(&self.fixture.token())).collect()
    }
}

fn undecided(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status != StatusCode::OK).count()
}

#[tokio::test]
async fn three_hundred_at_once_against_a_hang_wait_a_second_and_none_is_undecided() {
    let outage = Outage::start().await;
    outage.fail(Fault::Hang);
    let sent = outage.send(300);
    outage.fixture.cluster.wait_for_calls(Endpoint::TokenReview, 2).await;
    idle().await;
    assert!(sent.iter().all(|request| !request.is_finished()), "no failure is known");
    outage.fixture.clock.advance(SECOND);
    assert_eq!(undecided(&join_all(sent).await), 0);
    let later = join_all(outage.send(300)).await;
    assert_eq!(undecided(&later), 0, "who comes now does not wait");
}

#[tokio::test]
async fn fifty_a_second_during_quick_503s_are_all_served() {
    let outage = Outage::start().await;
    outage.fail(Fault::Status { code: 503, retry_after: None });
    let mut sent = Vec::new();
    for _ in 0..200 {
        sent.extend(outage.send(1));
        idle().await;
        outage.fixture.clock.advance(SECOND / 50);
    }
    assert_eq!(undecided(&join_all(sent).await), 0);
}

/// The verifier's own limit is 10 s, and it is asked through a screen whose fetch may take 5 s.
#[tokio::test]
async fn an_authenticators_time_limit_below_the_verifiers_keeps_the_fallback() {
    for limit in [5, 10] {
        let fixture = Fixture::start().await;
        let jwks = fixture.jwks().build().unwrap();
        jwks.refresh().await.unwrap();
        let screened = fixture.review().screened_by(jwks.clone()).clock(fixture.clock.clock());
        let verifier = screened.or_when_unavailable(jwks).clock(fixture.clock.clock());
        let auth = fixture.authenticator(verifier).verification_timeout(limit * SECOND);
        let service = Service::new(&auth.build().unwrap());
        fixture.cluster.set_fault(Endpoint::TokenReview, Fault::Hang);
        for _ in 0..3 {
            let asking = service.spawn_get(&fixture.token());
            idle().await;
            fixture.clock.advance(SECOND);
            assert_eq!(asking.await.unwrap().status, StatusCode::OK, "limit {limit} s");
        }
    }
}

#[tokio::test]
async fn the_first_use_warms_the_fallback() {
    let outage = Outage::start().await;
    assert_eq!(outage.jwks.metrics().fetches, 1);
    outage.fixture.cluster.go_down().await.unwrap();
    outage.fixture.clock.advance(SECOND);
    let sent = outage.send(10);
    until("the outage is suspected or known", async || {
        outage.fixture.clock.advance(SECOND);
        idle().await;
        sent.iter().all(JoinHandle::is_finished)
    })
    .await;
    assert_eq!(undecided(&join_all(sent).await), 0);
}

/// Accepts every token offline, the revoked one too.
fn blind_fallback() -> impl Verifier {
    let fallback = FakeVerifier::accepting();
    struct Computes(FakeVerifier);
    impl Verifier for Computes {
        async fn verify(
            &self,
            token: tower_kube_auth::BearerToken<'_>,
            audiences: &tower_kube_auth::Audiences,
        ) -> Result<tower_kube_auth::Verdict, tower_kube_auth::VerifyError> {
            self.0.verify(token, audiences).await
        }

        fn verify_now(
            &self,
            _: tower_kube_auth::BearerToken<'_>,
            _: &tower_kube_auth::Audiences,
        ) -> Option<tower_kube_auth::Verdict> {
            Some(crate::support::accept())
        }
    }
    Computes(fallback)
}

#[tokio::test]
async fn a_flood_that_fills_limit_and_queue_never_opens_the_fallback() {
    let verifier = FakeVerifier::new(Behavior::Hang);
    let both = verifier.clone().or_when_unavailable(blind_fallback()).clock(verifier.clock.clock());
    let auth = tower_kube_auth::Authenticator::builder(both)
        .audience("api")
        .max_in_flight(4)
        .clock(verifier.clock.clock());
    let service = Service::new(&auth.build().unwrap());
    let mut flood = Vec::new();
    for round in 0..30 {
        for number in 0..100 {
            flood.push(service.spawn_get(&token(&format!("junk-{round}-{number}"))));
        }
        idle().await;
        // The verifier works: it decides about those that it is asked about.
        verifier.resume(Behavior::Reject);
        idle().await;
        verifier.set(Behavior::Hang);
        idle().await;
        let revoked = service.spawn_get(&token(&format!("revoked-{round}")));
        verifier.advance(0.3);
        idle().await;
        verifier.resume(Behavior::Reject);
        idle().await;
        verifier.set(Behavior::Hang);
        flood.push(revoked);
    }
    verifier.resume(Behavior::Reject);
    verifier.set(Behavior::Reject);
    verifier.advance(1.0);
    let answers = join_all(flood).await;
    let of = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(of(StatusCode::OK), 0, "saturation opened the fallback");
    assert!(of(StatusCode::SERVICE_UNAVAILABLE) > 0 && of(StatusCode::UNAUTHORIZED) > 0);
    assert_eq!(service.reached(), 0);
}

#[tokio::test]
async fn recurring_probes_make_no_caller_wait() {
    let verifier = FakeVerifier::new(Behavior::Hang);
    let clock = verifier.clock.clock();
    let both = verifier.clone().or_when_unavailable(blind_fallback()).clock(clock.clone());
    let auth = tower_kube_auth::Authenticator::builder(both).audience("api").clock(clock);
    let service = Service::new(&auth.build().unwrap());
    let first = service.spawn_get(&token("first"));
    verifier.wait_for_calls(1).await;
    verifier.advance(1.0);
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
    for second in 0..120 {
        verifier.advance(1.0);
        idle().await;
        // Served without a step of the clock.
        let answer = service.get(&token(&format!("{second}"))).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    // One a second until the first one, left alone for 30 s, makes the outage known. Then a probe
    // takes 30 s, and the pause after it is 1 s.
    assert_eq!(verifier.calls(), 1 + 31 + 3);

    verifier.resume(Behavior::Reject);
    idle().await;
    service.blocked(bearer(&token("revoked"))).await.assert_invalid_token("the outage is over");
}
