//! Verification by signature and watch, and what a deletion that the watch sees does to caches.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::http::{Request, StatusCode};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams};
use tower_kube_auth::{
    BearerToken, DynVerifier, JwksVerifier, LiveObjects, LocalReviewVerifier, Verifier,
    VerifierExt,
    audience::Audiences,
    authorizer::{Authorizer, Decision, RequestHead, SubjectAccessReviewAuthorizer},
    error::VerifyErrorKind,
    readiness::NeedState,
    testing::{Algorithm, Endpoint, Fault, Release, SigningKey},
    verdict::{RejectReason, Verdict},
};

use crate::support::{Behavior, FakeVerifier, Fixture, Service, bearer, until};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// The default of `LocalReviewVerifier::max_staleness`.
const MAX_STALENESS: Duration = Duration::from_secs(120);
const DELETED: Verdict = Verdict::Reject(RejectReason::Deleted);
const UNBOUND: &str = "";
/// What a token can be bound to.
const KINDS: [&str; 4] = [UNBOUND, "Pod", "Secret", "Node"];

/// A cluster whose ServiceAccounts, Pods, Secrets and Nodes are watched.
struct Watched {
    fixture: Fixture,
    live_objects: LiveObjects,
    jwks: JwksVerifier,
    local: LocalReviewVerifier,
}

impl Deref for Watched {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl Watched {
    async fn start() -> Self {
        Self::start_with(Release::V1_36).await
    }

    async fn start_with(release: Release) -> Self {
        let fixture = Fixture::start_with(|builder| builder.release(release)).await;
        let live_objects = LiveObjects::builder(fixture.cluster.admin_client().unwrap())
            .watch_secrets()
            .watch_nodes()
            .clock(fixture.clock.clock())
            .build()
            .unwrap();
        live_objects.synced().await;
        let jwks = fixture.jwks().dangerous_accept_legacy_tokens().build().unwrap();
        jwks.refresh().await.unwrap();
        let local = LocalReviewVerifier::new(jwks.clone(), live_objects.clone());
        Self { fixture, live_objects, jwks, local }
    }

    /// Returns a token of `shop/checkout` that is bound to an object of this kind, which is made.
    fn bound_to(&self, kind: &str) -> String {
        let token = self.cluster.token("shop", "checkout").audience("orders");
        let token = match kind {
            "Pod" => {
                self.cluster.create_pod_on_node("shop", "web-0", "checkout", "worker-1");
                token.bound_to_pod("web-0")
            }
            "Secret" => {
                self.cluster.create_secret("shop", "anchor");
                token.bound_to_secret("anchor")
            }
            "Node" => {
                self.cluster.create_pod_on_node("shop", "other-0", "checkout", "worker-2");
                token.bound_to_node("worker-2")
            }
            _ => token,
        };
        token.issue().unwrap()
    }

    /// Deletes what [`bound_to`](Self::bound_to) has made, or the ServiceAccount.
    async fn delete(&self, kind: &str) {
        assert!(match kind {
            "Pod" => self.cluster.delete_pod("shop", "web-0"),
            "Secret" => self.cluster.delete_secret("shop", "anchor"),
            "Node" => {
                let nodes: Api<Node> = Api::all(self.cluster.admin_client().unwrap());
                nodes.delete("worker-2", &DeleteParams::default()).await.is_ok()
            }
            _ => self.cluster.delete_service_account("shop", "checkout"),
        });
    }

    /// Marks the Pod of [`bound_to`](Self::bound_to) for deletion in 30 s. Without a kubelet it
    /// stays.
    async fn mark_pod(&self) {
        let pods: Api<Pod> = Api::namespaced(self.cluster.admin_client().unwrap(), "shop");
        let events = self.events();
        pods.delete("web-0", &DeleteParams::default().grace_period(30)).await.unwrap();
        until("the watch has seen the mark", async || self.events() > events).await;
    }

    fn now(&self, token: &str) -> Option<Verdict> {
        self.local.verify_now(BearerToken::parse(token).unwrap(), &audiences())
    }

    async fn is_seen(&self, token: &str) {
        let is_accepted = |verdict| matches!(verdict, Some(Verdict::Accept(_)));
        until("the watch has seen the objects", async || is_accepted(self.now(token))).await;
    }

    async fn is_seen_deleted(&self, token: &str) {
        until("the watch has seen the deletion", async || self.now(token) == Some(DELETED)).await;
    }

    fn events(&self) -> u64 {
        self.live_objects.state().iter().map(|watch| watch.events).sum()
    }

    /// Moves the clock on until the silent watches are replaced and current again.
    async fn recovers(&self) {
        let lists = || self.live_objects.state().iter().map(|watch| watch.lists).min();
        let before = lists();
        until("all watches have listed again", async || {
            self.clock.advance(SECOND / 4);
            lists() > before
        })
        .await;
    }
}

fn audiences() -> Audiences {
    Audiences::new(["orders"]).unwrap()
}

async fn verify(verifier: &impl Verifier, token: &str) -> Result<Verdict, VerifyErrorKind> {
    let verdict = verifier.verify(BearerToken::parse(token).unwrap(), &audiences()).await;
    verdict.map_err(|error| error.kind())
}

#[tokio::test]
async fn the_identity_is_that_of_token_review_without_a_review() {
    for release in [Release::V1_20, Release::V1_36] {
        let watched = Watched::start_with(release).await;
        let is_supported = |kind: &&str| *kind != "Node" || release == Release::V1_36;
        for (reviews, kind) in (0..).zip(KINDS.into_iter().filter(is_supported)) {
            let token = watched.bound_to(kind);
            watched.is_seen(&token).await;
            let local = verify(&watched.local, &token).await;
            assert_eq!(watched.now(&token), local.clone().ok());
            assert_eq!(watched.reviews(), reviews);
            assert_eq!(local, verify(&watched.review(), &token).await, "{release:?}: {kind}");
        }
    }
}

#[tokio::test]
async fn each_deletion_is_a_401_without_a_review() {
    for kind in KINDS {
        let watched = Watched::start().await;
        let verifier = watched.local.clone().or_when_inconclusive(watched.review());
        let service = watched.service(verifier);
        let token = watched.bound_to(kind);
        watched.is_seen(&token).await;
        watched.delete(kind).await;
        watched.is_seen_deleted(&token).await;
        service.blocked(bearer(&token)).await.assert_invalid_token(kind);
        assert_eq!(verify(&watched.local, &token).await, Ok(DELETED));
        assert_eq!((watched.reviews(), service.reached()), (0, 0), "{kind}");
    }
}

#[tokio::test]
async fn what_the_watch_has_not_seen_is_undecided_and_a_review_decides_it() {
    let watched = Watched::start().await;
    let alone = watched.service(watched.local.clone());
    let combined = watched.service(watched.local.clone().or_when_inconclusive(watched.review()));
    watched.is_seen(&watched.token()).await;
    watched.cluster.stall_watches();
    let new_pod = watched.bound_to("Pod");
    let legacy = watched.cluster.legacy_token("shop", "checkout").unwrap();
    for token in [new_pod, watched.bound_to("Secret"), watched.bound_to("Node")] {
        alone.blocked(bearer(&token)).await.assert_unavailable();
        assert_eq!(combined.get(&token).await.status, StatusCode::OK);
    }
    assert_eq!((watched.reviews(), combined.reached()), (3, 3));
    // A Secret's data is not watched, so its legacy token stays undecided.
    watched.recovers().await;
    assert_eq!(verify(&watched.local, &legacy).await, Err(VerifyErrorKind::Inconclusive));
}

#[tokio::test]
async fn an_object_made_again_under_its_name_is_undecided_until_it_is_seen() {
    let watched = Watched::start().await;
    let old = watched.bound_to("Pod");
    watched.is_seen(&old).await;
    watched.cluster.stall_watches();
    watched.delete("Pod").await;
    let new = watched.bound_to("Pod");
    assert_eq!(verify(&watched.local, &new).await, Err(VerifyErrorKind::Inconclusive));
    // The same with a review behind the same watch: a stale name contradicts nothing.
    let review = watched.authenticator(watched.review()).invalidated_by(&watched.live_objects);
    let service = Service::new(&review.build().unwrap());
    assert_eq!(service.get(&new).await.status, StatusCode::OK);
    watched.recovers().await;
    watched.is_seen(&new).await;
    assert_eq!(verify(&watched.local, &old).await, Ok(DELETED));
    service.blocked(bearer(&old)).await.assert_invalid_token("its Pod is another one");
}

#[tokio::test]
async fn a_stale_watch_decides_nothing_but_what_needs_no_watch() {
    let watched = Watched::start().await;
    let token = watched.bound_to("Pod");
    watched.is_seen(&token).await;
    let stranger = SigningKey::generate(Algorithm::ES256).unwrap();
    let header = serde_json::json!({ "alg": "ES256", "kid": watched.cluster.signing_key().kid() });
    let forged = stranger.sign(&header, &watched.claims());
    let alone = watched.service(watched.local.clone());
    let with_fallback = watched
        .local
        .clone()
        .or_when_inconclusive(watched.review())
        .or_when_unavailable(watched.review())
        .clock(watched.clock.clock());
    let with_fallback = watched.service(with_fallback);

    watched.cluster.stall_watches();
    watched.cluster.set_fault(Endpoint::List, Fault::Status { code: 500, retry_after: None });
    watched.clock.advance(MAX_STALENESS);
    assert!(matches!(verify(&watched.local, &token).await, Ok(Verdict::Accept(_))));
    watched.clock.advance(SECOND);
    assert_eq!(verify(&watched.local, &token).await, Err(VerifyErrorKind::Unavailable));
    assert_eq!(watched.now(&token), None);
    alone.blocked(bearer(&token)).await.assert_unavailable();
    alone.blocked(bearer(&forged)).await.assert_invalid_token("forged");
    let watch = watched.local.check_needs().await.pop().unwrap();
    assert_eq!(watch.state, NeedState::Unknown);
    assert_eq!(watched.reviews(), 0);
    assert_eq!(with_fallback.get(&token).await.status, StatusCode::OK);
    assert_eq!(watched.reviews(), 1);
    let patient = watched.local.clone().max_staleness(HOUR);
    assert!(matches!(verify(&patient, &token).await, Ok(Verdict::Accept(_))));

    watched.cluster.clear_faults();
    watched.recovers().await;
    assert_eq!(alone.get(&token).await.status, StatusCode::OK);
    let watch = watched.local.check_needs().await.pop().unwrap();
    assert_eq!(watch.state, NeedState::Met);
}

#[tokio::test]
async fn a_cached_accept_ends_with_max_staleness() {
    let watched = Watched::start().await;
    let token = watched.bound_to("Pod");
    watched.is_seen(&token).await;
    let alone = watched.service(watched.local.clone());
    watched.cluster.stall_watches();
    watched.cluster.set_fault(Endpoint::List, Fault::Status { code: 500, retry_after: None });
    watched.clock.advance(MAX_STALENESS - SECOND);
    assert_eq!(alone.get(&token).await.status, StatusCode::OK);
    watched.clock.advance(SECOND / 2);
    assert_eq!(alone.get(&token).await.status, StatusCode::OK);
    watched.clock.advance(SECOND);
    alone.blocked(bearer(&token)).await.assert_unavailable();
}

#[tokio::test]
async fn a_deletion_timestamp_counts_as_in_token_review_to_the_second() {
    let watched = Watched::start().await;
    let token = watched.bound_to("Pod");
    watched.is_seen(&token).await;
    watched.mark_pod().await;
    let (local, review) = (watched.local.clone().max_staleness(HOUR), watched.review());
    let mut accepted = 0;
    for second in 0..95 {
        let is_accepted = |verdict| matches!(verdict, Ok(Verdict::Accept(_)));
        let by_review = is_accepted(verify(&review, &token).await);
        assert_eq!(is_accepted(verify(&local, &token).await), by_review, "after {second} s");
        accepted += u32::from(by_review);
        watched.clock.advance(SECOND);
    }
    assert!((90..=91).contains(&accepted), "30 s of grace and 60 s: {accepted} s");
    assert_eq!(verify(&local, &token).await, Ok(DELETED));
}

#[tokio::test]
async fn a_deletion_drops_what_is_cached_with_every_verifier() {
    for kind in KINDS {
        let watched = Watched::start().await;
        let verifiers = [
            DynVerifier::new(watched.review()),
            DynVerifier::new(watched.jwks.clone()),
            DynVerifier::new(watched.local.clone()),
        ];
        let services = verifiers.map(|verifier| {
            let builder = watched.authenticator(verifier).cache_ttl(HOUR);
            Service::new(&builder.invalidated_by(&watched.live_objects).build().unwrap())
        });
        watched.cluster.create_service_account("shop", "bystander");
        let bystander = watched.cluster.token("shop", "bystander").audience("orders");
        let (token, bystander) = (watched.bound_to(kind), bystander.issue().unwrap());
        watched.is_seen(&token).await;
        watched.is_seen(&bystander).await;
        for service in &services {
            for _ in 0..2 {
                assert_eq!(service.get(&token).await.status, StatusCode::OK);
                assert_eq!(service.get(&bystander).await.status, StatusCode::OK);
            }
        }
        assert_eq!(watched.reviews(), 2, "from the cache");
        watched.delete(kind).await;
        watched.is_seen_deleted(&token).await;
        for (number, service) in services.iter().enumerate() {
            // An identity does not name the Secret, so JWKS does not see this deletion.
            if kind == "Secret" && number == 1 {
                continue;
            }
            until("the subscriber has dropped the entry", async || {
                service.get(&token).await.status == StatusCode::UNAUTHORIZED
            })
            .await;
            service.blocked(bearer(&token)).await.assert_invalid_token(kind);
            assert_eq!(service.get(&bystander).await.status, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn an_object_that_no_list_has_ever_contained_is_not_cached_for_long() {
    let watched = Watched::start().await;
    watched.is_seen(&watched.token()).await;
    watched.cluster.stall_watches();
    let token = watched.bound_to("Pod");
    let review = watched.authenticator(watched.review()).cache_ttl(HOUR);
    let service = Service::new(&review.invalidated_by(&watched.live_objects).build().unwrap());
    for _ in 0..2 {
        assert_eq!(service.get(&token).await.status, StatusCode::OK);
    }
    assert_eq!(watched.reviews(), 1, "from the cache");
    // The Pod comes and goes while the watch is broken: no list shows it, and no event.
    watched.delete("Pod").await;
    watched.recovers().await;
    watched.clock.advance(SECOND * 11);
    service.blocked(bearer(&token)).await.assert_invalid_token("its Pod is gone");
    assert_eq!(watched.reviews(), 2);

    // What is not watched at all is cached as without a watch.
    let nodes = LiveObjects::builder(watched.cluster.admin_client().unwrap()).namespaces(["ops"]);
    let nodes = nodes.clock(watched.clock.clock()).build().unwrap();
    let review = watched.authenticator(watched.review()).cache_ttl(HOUR).invalidated_by(&nodes);
    let service = Service::new(&review.build().unwrap());
    nodes.synced().await;
    let token = watched.token();
    assert_eq!(service.get(&token).await.status, StatusCode::OK);
    watched.clock.advance(SECOND * 11);
    assert_eq!(service.get(&token).await.status, StatusCode::OK);
    assert_eq!(watched.reviews(), 3);
}

#[test]
fn a_watch_that_was_built_outside_of_a_runtime_starts_with_the_first_verification() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = runtime.block_on(Fixture::start());
    let client = runtime.block_on(async { fixture.cluster.admin_client().unwrap() });
    let live_objects = LiveObjects::builder(client).clock(fixture.clock.clock()).build().unwrap();
    let verifier = runtime.block_on(async { fixture.review() });
    let builder = fixture.authenticator(verifier).invalidated_by(&live_objects);
    let service = Service::new(&builder.build().unwrap());
    assert_eq!(live_objects.state()[0].lists, 0);
    runtime.block_on(async {
        assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
        let is_listed = async || live_objects.state().iter().all(|watch| watch.lists == 1);
        until("the watch has started", is_listed).await;
    });
}

#[tokio::test]
async fn the_deletion_of_a_secret_concerns_its_namespace_only() {
    let watched = Watched::start().await;
    let review = watched.authenticator(watched.review()).cache_ttl(HOUR);
    let authenticator = review.invalidated_by(&watched.live_objects).build().unwrap();
    let service = Service::new(&authenticator);
    watched.cluster.create_service_account("ops", "robot");
    let bystander = watched.cluster.token("ops", "robot").audience("orders").issue().unwrap();
    let (unbound, of_pod) = (watched.token(), watched.bound_to("Pod"));
    for token in [&bystander, &unbound, &of_pod] {
        watched.is_seen(token).await;
        assert_eq!(service.get(token).await.status, StatusCode::OK);
    }
    let of_secret = watched.bound_to("Secret");
    watched.is_seen(&of_secret).await;
    watched.delete("Secret").await;
    watched.is_seen_deleted(&of_secret).await;
    until("the subscriber has dropped the entry", async || {
        service.get(&unbound).await.status == StatusCode::OK && watched.reviews() == 4
    })
    .await;
    for token in [&bystander, &of_pod] {
        assert_eq!(service.get(token).await.status, StatusCode::OK);
    }
    assert_eq!(watched.reviews(), 4, "from the cache");
}

#[tokio::test]
async fn a_cached_accept_ends_60_s_after_the_timestamp_of_a_later_mark() {
    let watched = Watched::start().await;
    let token = watched.bound_to("Pod");
    watched.is_seen(&token).await;
    // Accepts for an hour by itself.
    let builder = watched.authenticator(watched.jwks.clone()).cache_ttl(HOUR);
    let service = Service::new(&builder.invalidated_by(&watched.live_objects).build().unwrap());
    assert_eq!(service.get(&token).await.status, StatusCode::OK);
    watched.mark_pod().await;
    for _ in 0..2 {
        watched.clock.advance(SECOND * 44);
        assert_eq!(service.get(&token).await.status, StatusCode::OK);
    }
    watched.clock.advance(SECOND * 3);
    service.blocked(bearer(&token)).await.assert_invalid_token("61 s after the timestamp");
    assert_eq!(service.reached(), 3);
}

#[tokio::test]
async fn a_verification_that_began_before_the_deletion_is_rejected_after_it() {
    let watched = Watched::start().await;
    let token = watched.token();
    watched.is_seen(&token).await;
    let Ok(accepted) = verify(&watched.local, &token).await else { panic!("it is accepted") };
    let verifier = FakeVerifier::new(Behavior::Hang);
    let builder = watched.authenticator(verifier.clone()).invalidated_by(&watched.live_objects);
    let authenticator = builder.build().unwrap();
    let service = Service::new(&authenticator);
    let before = service.spawn_get(&token);
    verifier.wait_for_calls(1).await;
    watched.delete(UNBOUND).await;
    watched.is_seen_deleted(&token).await;
    let follower = service.spawn_get(&token);
    until("the second request follows", async || authenticator.metrics().coalesced == 1).await;
    let verdict = accepted.clone();
    verifier.resume(Behavior::Script(Arc::new(move |_| {
        let verdict = verdict.clone();
        Box::pin(async move { Ok(verdict) })
    })));
    for answer in [before, follower] {
        answer.await.unwrap().assert_invalid_token("the watch contradicts the verifier");
    }
    assert_eq!(service.reached(), 0);
}

#[tokio::test]
async fn a_deletion_drops_what_a_subject_access_review_allowed() {
    let watched = Watched::start().await;
    let token = watched.token();
    watched.is_seen(&token).await;
    let Ok(Verdict::Accept(accepted)) = verify(&watched.local, &token).await else {
        panic!("it is accepted")
    };
    let rule = serde_json::json!({ "nonResourceURLs": ["/"], "verbs": ["get"] });
    watched.cluster.grant(accepted.identity().username(), &rule);
    let authorizer = SubjectAccessReviewAuthorizer::builder(watched.client())
        .clock(watched.clock.clock())
        .invalidated_by(&watched.live_objects)
        .build()
        .unwrap();
    let (parts, ()) = Request::get("/").body(()).unwrap().into_parts();
    let authorize = async || {
        authorizer.authorize(accepted.identity(), RequestHead::from(&parts)).await.unwrap()
    };
    for _ in 0..2 {
        assert_eq!(authorize().await, Decision::Allow);
    }
    assert_eq!(watched.cluster.calls(Endpoint::SubjectAccessReview), 1);
    watched.delete(UNBOUND).await;
    until("the decision is dropped", async || authorize().await != Decision::Allow).await;
}
