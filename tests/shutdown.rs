//! A runtime that is shut down in the middle of whatever this crate does: nothing panics, whoever waits elsewhere is told,
//! and the next call on another runtime works. A binary of its own, because the panic hook is the whole process's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it did not expect is to fail"
)]

use std::{
    future::poll_fn,
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
    testing::{Algorithm, Cluster, Endpoint, Fault, ManualClock},
    verdict::Verdict,
};

static PANICS: AtomicUsize = AtomicUsize::new(0);
/// The refresh of keys, and of a token that lives for an hour, with their jitter.
const LONGEST_PERIOD: Duration = Duration::from_secs(331);
const LONGEST_REFRESH: Duration = Duration::from_secs(2881);

/// A cluster and a `kube` client on a runtime that stays.
struct Scene {
    stays: Runtime,
    cluster: Cluster,
    client: kube::Client,
    clock: ManualClock,
}

impl Scene {
    fn new() -> Self {
        static COUNT: Once = Once::new();
        COUNT.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                PANICS.fetch_add(1, Ordering::SeqCst);
                before(info);
            }));
        });
        let (stays, clock) = (runtime(), ManualClock::new());
        let builder = Cluster::builder().signing_algorithm(Algorithm::ES256).clock(clock.clock());
        let cluster = stays.block_on(builder.start()).unwrap();
        cluster.create_service_account("shop", "checkout");
        cluster.grant_token_request(Cluster::VERIFIER, "shop", &["checkout"]);
        let client = stays.block_on(async { cluster.kube_client() }).unwrap();
        Self { stays, cluster, client, clock }
    }

    fn token(&self) -> String {
        self.cluster.token("shop", "checkout").audience("orders").issue().unwrap()
    }

    /// Its back-off is the system's, so that a connection that has died with its runtime is got over without our help.
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

    /// Returns when nothing is left to be waited for but a refresh.
    fn settle(&self) {
        while self.clock.next_wake().is_none_or(|wake| wake < Duration::from_secs(60)) {
            std::thread::yield_now();
        }
    }

    /// Shuts `gone` down once the API server has its call, which it never answers.
    fn shut_down_in_a_call(&self, gone: Runtime, endpoint: Endpoint, calls: u64) {
        self.stays.block_on(self.cluster.wait_for_calls(endpoint, calls));
        drop(gone);
        self.cluster.clear_faults();
    }

    /// Has `work` done on a new runtime.
    fn elsewhere<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.on(&runtime(), work)
    }

    /// Has `work` done while time passes: for the pauses after what was broken off.
    fn on<T: Send + 'static>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let working = runtime.spawn(work);
        runtime.block_on(async {
            while !working.is_finished() {
                self.clock.advance(Duration::from_millis(1));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            working.await.unwrap()
        })
    }
}

impl Drop for Scene {
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
fn a_lookup_ends_with_its_runtime_and_its_followers_elsewhere_are_told() {
    let scene = Scene::new();
    let (authenticator, token, gone) = (scene.review(), scene.token(), runtime());
    scene.cluster.set_fault(Endpoint::TokenReview, Fault::Hang);
    gone.spawn(accepts(authenticator.clone(), token.clone()));
    scene.stays.block_on(scene.cluster.wait_for_calls(Endpoint::TokenReview, 1));

    let (sender, joined) = std::sync::mpsc::channel();
    let followers: Vec<_> = (0..10)
        .map(|_| {
            let (authenticator, token, sender) =
                (authenticator.clone(), token.clone(), sender.clone());
            scene.stays.spawn(async move {
                let mut lookup =
                    pin!(authenticator.authenticate(BearerToken::parse(&token).unwrap()));
                poll_fn(|cx| {
                    assert!(lookup.as_mut().poll(cx).is_pending(), "it follows");
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
    scene.shut_down_in_a_call(gone, Endpoint::TokenReview, 1);
    for follower in followers {
        let error = scene.stays.block_on(follower).unwrap().unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::Aborted, "{error}");
    }
    assert_eq!(scene.cluster.calls(Endpoint::TokenReview), 1);
    assert!(scene.elsewhere(accepts(authenticator, token)));
}

#[test]
fn a_first_load_of_keys_ends_with_its_runtime() {
    let scene = Scene::new();
    let (verifier, token, gone) = (scene.jwks(), scene.token(), runtime());
    scene.cluster.set_fault(Endpoint::Jwks, Fault::Hang);
    let authenticator = Authenticator::builder(verifier).audience("orders").build().unwrap();
    gone.spawn(accepts(authenticator.clone(), token.clone()));
    scene.shut_down_in_a_call(gone, Endpoint::Jwks, 1);
    assert!(scene.elsewhere(async move {
        // The load that was broken off may leave a pause behind.
        while !accepts(authenticator.clone(), token.clone()).await {
            tokio::task::yield_now().await;
        }
        true
    }));
}

#[test]
fn a_refresh_of_keys_in_the_background_ends_with_its_runtime_and_goes_on_in_another() {
    let scene = Scene::new();
    let (verifier, gone) = (scene.jwks(), runtime());
    gone.block_on(verifier.refresh()).unwrap();
    scene.settle();
    scene.cluster.set_fault(Endpoint::Jwks, Fault::Hang);
    scene.clock.advance(LONGEST_PERIOD);
    scene.shut_down_in_a_call(gone, Endpoint::Jwks, 2);
    let authenticator =
        Authenticator::builder(verifier.clone()).audience("orders").build().unwrap();
    let calls = scene.cluster.calls(Endpoint::Jwks);
    assert!(scene.elsewhere(accepts(authenticator, scene.token())), "the keys stay");
    assert_eq!(scene.cluster.calls(Endpoint::Jwks), calls);
    let refreshed = verifier.clone();
    scene.elsewhere(async move { refreshed.refresh().await }).unwrap();
}

#[test]
fn a_token_request_ends_with_its_runtime() {
    let scene = Scene::new();
    let (source, gone) = (scene.requests(), runtime());
    scene.cluster.set_fault(Endpoint::TokenRequest, Fault::Hang);
    let asking = source.clone();
    gone.spawn(async move { asking.token().await });
    scene.shut_down_in_a_call(gone, Endpoint::TokenRequest, 1);
    let asking = source.clone();
    scene.elsewhere(async move { asking.token().await }).unwrap();

    // And in the background, when a token is at hand.
    let (source, gone) = (scene.requests(), runtime());
    let asking = source.clone();
    let first = scene.on(&gone, async move { asking.token().await }).unwrap();
    scene.settle();
    let calls = scene.cluster.calls(Endpoint::TokenRequest);
    scene.cluster.set_fault(Endpoint::TokenRequest, Fault::Hang);
    scene.clock.advance(LONGEST_REFRESH);
    scene.shut_down_in_a_call(gone, Endpoint::TokenRequest, calls + 1);
    let asking = source.clone();
    let kept = scene.elsewhere(async move { asking.token().await }).unwrap();
    assert_eq!(kept, first, "it is good for some time yet");
}

/// At whatever moment: in a handshake, in a call, between both.
#[test]
fn runtimes_that_come_and_go_under_load_break_nothing() {
    let scene = Scene::new();
    let (review, source, verifier) = (scene.review(), scene.requests(), scene.jwks());
    let offline =
        Authenticator::builder(verifier.clone()).audience("orders").cache_ttl(Duration::ZERO);
    let offline = offline.build().unwrap();
    for round in 0..20 {
        let gone = runtime();
        for _ in 0..10 {
            gone.spawn(accepts(review.clone(), scene.token()));
            gone.spawn(accepts(offline.clone(), scene.token()));
            let (source, verifier) = (source.clone(), verifier.clone());
            gone.spawn(async move { source.token().await });
            gone.spawn(async move { verifier.refresh().await });
        }
        scene.stays.block_on(scene.cluster.wait_for_calls(Endpoint::All, round));
        gone.shutdown_background();
    }
    let (token, again) = (scene.token(), scene.token());
    assert!(scene.elsewhere(async move {
        while !(accepts(review.clone(), token.clone()).await
            && accepts(offline.clone(), again.clone()).await)
        {
            tokio::task::yield_now().await;
        }
        while source.token().await.is_err() {
            tokio::task::yield_now().await;
        }
        true
    }));
}

#[test]
fn the_last_handle_takes_its_task_along() {
    let scene = Scene::new();
    let folder =
        std::env::temp_dir().join(format!("tower-kube-auth-shutdown-{}", std::process::id()));
    scene.cluster.write_projected_volume(&folder, &scene.token()).unwrap();
    let tasks = runtime();
    let (verifier, requests) = (scene.jwks(), scene.requests());
    let projected = ProjectedToken::new(folder.join("token")).clock(scene.clock.clock());
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
    assert!(tasks.block_on(others.1.token()).is_ok(), "there are handles yet");
    drop(others);
    // What is left are connections of the client's.
    while tasks.metrics().num_alive_tasks() > alive - 3 {
        std::thread::yield_now();
    }
}
