//! Runtimes that shut down during a call: nothing panics, waiters on other runtimes are told, and
//! the next call on another runtime works. A separate binary, because the panic hook is global.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation fails the test")]

mod support;

use std::{
    future::poll_fn,
    ops::Deref,
    panic,
    pin::pin,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier, TokenReviewVerifier,
    client::{ProjectedToken, TokenRequestSource, TokenSource},
    error::VerifyErrorKind,
    testing::{Cluster, Endpoint, Fault},
    verdict::Verdict,
};

use crate::support::{Fixture, until};

static PANICS: AtomicUsize = AtomicUsize::new(0);
/// Upper bounds of the refresh intervals, with their jitter: of the keys, and of a one-hour token.
const LONGEST_PERIOD: Duration = Duration::from_secs(331);
const LONGEST_REFRESH: Duration = Duration::from_secs(2881);

/// A cluster and a client on a runtime that outlives the others.
struct LastingCluster {
    // Dropped before the runtime.
    client: kube::Client,
    fixture: Fixture,
    lasting: Runtime,
}

impl Deref for LastingCluster {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl LastingCluster {
    fn start() -> Self {
        static COUNT: Once = Once::new();
        COUNT.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                PANICS.fetch_add(1, Ordering::SeqCst);
                before(info);
            }));
        });
        let lasting = runtime();
        let fixture = lasting.block_on(Fixture::start());
        fixture.cluster.grant_token_request(Cluster::VERIFIER, "shop", &["checkout"]);
        let client = lasting.block_on(async { fixture.client() });
        Self { client, fixture, lasting }
    }

    /// Returns an authenticator with the system's clock, so that the back-off after a connection
    /// that ended with its runtime passes without the test's help.
    fn review(&self) -> Authenticator {
        let verifier = TokenReviewVerifier::new(self.client.clone());
        Authenticator::builder(verifier).audience("orders").build().unwrap()
    }

    fn requests(&self) -> TokenRequestSource {
        let builder = TokenRequestSource::builder(self.client.clone())
            .namespace("shop")
            .service_account("checkout");
        builder.audience("orders").clock(self.clock.clock()).build().unwrap()
    }

    fn jwks(&self) -> JwksVerifier {
        JwksVerifier::in_cluster(self.client.clone()).clock(self.clock.clock()).build().unwrap()
    }

    /// Returns when the next timer is a refresh.
    fn settle(&self) {
        let settled = || self.clock.next_wake().is_some_and(|wake| wake >= Duration::from_secs(60));
        self.lasting.block_on(until("only a refresh is pending", async || settled()));
    }

    /// Shuts `gone` down once the API server has received its call, which it never answers.
    fn shut_down_in_a_call(&self, gone: Runtime, endpoint: Endpoint, calls: u64) {
        self.lasting.block_on(self.cluster.wait_for_calls(endpoint, calls));
        drop(gone);
        self.cluster.clear_faults();
    }

    /// Runs `work` on a new runtime.
    fn elsewhere<T>(&self, work: impl Future<Output = T>) -> T {
        self.on(&runtime(), work)
    }

    /// Runs `work` on `runtime`, and advances the clock once `work` waits.
    fn after<T: Send + 'static>(
        &self,
        runtime: &Runtime,
        step: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        runtime.block_on(async {
            let work = tokio::spawn(work);
            until("it waits", async || self.clock.next_wake().is_some_and(|wake| wake <= step))
                .await;
            self.clock.advance(step);
            work.await.unwrap()
        })
    }

    /// Runs `work` while the clock advances through the pauses after an aborted call.
    fn on<T>(&self, runtime: &Runtime, work: impl Future<Output = T>) -> T {
        let ticking = async {
            loop {
                self.clock.advance(Duration::from_millis(1));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                output = work => output,
                never = ticking => never,
            }
        })
    }
}

impl Drop for LastingCluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something panicked");
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn accepts(authenticator: Authenticator, token: String) -> bool {
    let verdict = authenticator.authenticate(BearerToken::parse(&token).unwrap()).await;
    matches!(verdict, Ok(Verdict::Accept(_)))
}

#[test]
fn a_lookup_ends_with_its_runtime_and_its_followers_get_an_error() {
    let setup = LastingCluster::start();
    let (authenticator, token, gone) = (setup.review(), setup.token(), runtime());
    setup.cluster.set_fault(Endpoint::TokenReview, Fault::Hang);
    gone.spawn(accepts(authenticator.clone(), token.clone()));
    setup.lasting.block_on(setup.cluster.wait_for_calls(Endpoint::TokenReview, 1));

    let (sender, joined) = std::sync::mpsc::channel();
    let followers: Vec<_> = (0..10)
        .map(|_| {
            let (authenticator, token, sender) =
                (authenticator.clone(), token.clone(), sender.clone());
            setup.lasting.spawn(async move {
                let mut lookup =
                    pin!(authenticator.authenticate(BearerToken::parse(&token).unwrap()));
                poll_fn(|cx| {
                    assert!(lookup.as_mut().poll(cx).is_pending(), "the lookup joins the flight");
                    Poll::Ready(())
                })
                .await;
                sender.send(()).unwrap();
                lookup.await
            })
        })
        .collect();
    for _ in 0..10 {
        joined.recv().unwrap();
    }
    setup.shut_down_in_a_call(gone, Endpoint::TokenReview, 1);
    for follower in followers {
        let error = setup.lasting.block_on(follower).unwrap().unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::Aborted, "{error}");
    }
    assert_eq!(setup.cluster.calls(Endpoint::TokenReview), 1);
    assert!(setup.elsewhere(accepts(authenticator, token)));
}

#[test]
fn a_first_load_of_keys_ends_with_its_runtime() {
    let setup = LastingCluster::start();
    let (verifier, token, gone) = (setup.jwks(), setup.token(), runtime());
    setup.cluster.set_fault(Endpoint::Jwks, Fault::Hang);
    let authenticator = Authenticator::builder(verifier).audience("orders").build().unwrap();
    gone.spawn(accepts(authenticator.clone(), token.clone()));
    setup.shut_down_in_a_call(gone, Endpoint::Jwks, 1);
    setup.elsewhere(async move {
        // The aborted load may leave a pause.
        until("the token is accepted", async || {
            accepts(authenticator.clone(), token.clone()).await
        })
        .await;
    });
}

#[test]
fn a_background_refresh_ends_with_its_runtime_and_resumes_on_another() {
    let setup = LastingCluster::start();
    let (verifier, gone) = (setup.jwks(), runtime());
    gone.block_on(verifier.refresh()).unwrap();
    setup.settle();
    setup.cluster.set_fault(Endpoint::Jwks, Fault::Hang);
    setup.clock.advance(LONGEST_PERIOD);
    setup.shut_down_in_a_call(gone, Endpoint::Jwks, 2);
    let authenticator =
        Authenticator::builder(verifier.clone()).audience("orders").build().unwrap();
    let calls = setup.cluster.calls(Endpoint::Jwks);
    assert!(setup.elsewhere(accepts(authenticator, setup.token())), "the keys stay");
    assert_eq!(setup.cluster.calls(Endpoint::Jwks), calls);
    let refreshed = verifier.clone();
    setup.elsewhere(async move { refreshed.refresh().await }).unwrap();
}

#[test]
fn a_token_request_ends_with_its_runtime() {
    let setup = LastingCluster::start();
    let (source, gone) = (setup.requests(), runtime());
    setup.cluster.set_fault(Endpoint::TokenRequest, Fault::Hang);
    let asking = source.clone();
    gone.spawn(async move { asking.token().await });
    setup.shut_down_in_a_call(gone, Endpoint::TokenRequest, 1);
    let asking = source.clone();
    setup.elsewhere(async move { asking.token().await }).unwrap();

    // The same in the background, when there is a token.
    let (source, gone) = (setup.requests(), runtime());
    let asking = source.clone();
    let first = setup.on(&gone, async move { asking.token().await }).unwrap();
    setup.settle();
    let calls = setup.cluster.calls(Endpoint::TokenRequest);
    setup.cluster.set_fault(Endpoint::TokenRequest, Fault::Hang);
    setup.clock.advance(LONGEST_REFRESH);
    setup.shut_down_in_a_call(gone, Endpoint::TokenRequest, calls + 1);
    let asking = source.clone();
    let kept = setup.elsewhere(async move { asking.token().await }).unwrap();
    assert_eq!(kept, first, "the token is still valid");
}

/// A runtime that nobody drives any more, but that was not shut down either, keeps its tasks.
#[test]
fn a_runtime_that_is_not_driven_is_taken_over_after_a_bounded_wait() {
    let setup = LastingCluster::start();
    let stuck = Builder::new_current_thread().enable_all().build().unwrap();

    // Of the keys: the fetch never ends, and its place is given up.
    let verifier = setup.jwks();
    let asking = verifier.clone();
    stuck.block_on(async {
        let mut refresh = pin!(asking.refresh());
        poll_fn(|cx| Poll::Ready(refresh.as_mut().poll(cx).is_pending())).await
    });
    let asking = verifier.clone();
    let refresh = async move { asking.refresh().await };
    let waited = setup.after(&runtime(), Duration::from_secs(6), refresh);
    assert_eq!(waited.unwrap_err().kind(), VerifyErrorKind::Timeout);
    setup.elsewhere(async move { verifier.refresh().await }).unwrap();

    // Of a token: another task takes the place of the one that does not answer.
    let source = setup.requests();
    let asking = source.clone();
    stuck.block_on(async {
        let mut token = pin!(asking.token());
        poll_fn(|cx| Poll::Ready(token.as_mut().poll(cx).is_pending())).await
    });
    let (driven, asking) = (runtime(), source.clone());
    let ask = async move { asking.token().await };
    let token = setup.after(&driven, Duration::from_secs(16), ask).unwrap();
    drop(stuck);
    // The end of the first task is not reported as a failure, which would delay the next token.
    source.invalidate(&token);
    let next = setup.on(&driven, source.token()).unwrap();
    assert_ne!(next, token);
}

/// The shutdowns hit handshakes, calls and the pauses between them.
#[test]
fn runtimes_that_come_and_go_under_load_break_nothing() {
    let setup = LastingCluster::start();
    let (review, source, verifier) = (setup.review(), setup.requests(), setup.jwks());
    let offline =
        Authenticator::builder(verifier.clone()).audience("orders").cache_ttl(Duration::ZERO);
    let offline = offline.build().unwrap();
    for round in 0..20 {
        let gone = runtime();
        for _ in 0..10 {
            gone.spawn(accepts(review.clone(), setup.token()));
            gone.spawn(accepts(offline.clone(), setup.token()));
            let (source, verifier) = (source.clone(), verifier.clone());
            gone.spawn(async move { source.token().await });
            gone.spawn(async move { verifier.refresh().await });
        }
        setup.lasting.block_on(setup.cluster.wait_for_calls(Endpoint::All, round));
        gone.shutdown_background();
    }
    let (token, again) = (setup.token(), setup.token());
    setup.elsewhere(async move {
        until("both tokens are accepted and a token is issued", async || {
            accepts(review.clone(), token.clone()).await
                && accepts(offline.clone(), again.clone()).await
                && source.token().await.is_ok()
        })
        .await;
    });
}

#[test]
fn dropping_the_last_handle_ends_the_refreshers() {
    let setup = LastingCluster::start();
    let folder =
        std::env::temp_dir().join(format!("tower-kube-auth-shutdown-{}", std::process::id()));
    setup.cluster.write_projected_volume(&folder, &setup.token()).unwrap();
    let tasks = runtime();
    let (verifier, requests) = (setup.jwks(), setup.requests());
    let projected = ProjectedToken::new(folder.join("token")).clock(setup.clock.clock());
    tasks.block_on(async {
        verifier.refresh().await.unwrap();
        requests.token().await.unwrap();
        projected.token().await.unwrap();
    });
    std::fs::remove_dir_all(&folder).unwrap();
    let (others, alive) = (
        (verifier.clone(), requests.clone(), projected.clone()),
        tasks.metrics().num_alive_tasks(),
    );
    assert!(alive >= 3, "{alive}");
    drop((verifier, requests, projected));
    assert!(tasks.block_on(others.1.token()).is_ok(), "clones are left");
    drop(others);
    // The tasks that remain are connections of the client.
    let ended = || tasks.metrics().num_alive_tasks() <= alive - 3;
    tasks.block_on(until("the three refreshers end", async || ended()));
}
