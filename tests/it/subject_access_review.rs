//! Authorization by SubjectAccessReview: what is asked, what is cached, and what failures lead to.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_kube_auth::{
    ApiServer, ServiceAccountIdentity,
    authorizer::{
        Authorizer, Decision, DenyReason, NonResourceAttributes, RequestHead, ResourceAttributes,
        SubjectAccessReviewAuthorizer, SubjectAccessReviewBuildError, SubjectAccessReviewBuilder,
    },
    server::AuthorizeLayer,
    testing::{Cluster, Endpoint, Fault, IdentityBuilder, ManualClock},
};

use crate::support::{Answer, Fixture, Service, bearer, drive, idle, join_all};

const CALLER: &str = "system:serviceaccount:shop:checkout";
const ALLOWED: Decision = Decision::Allow;
const DENIED: Decision = Decision::Deny(DenyReason::AccessReview);
/// Upper bounds of the default TTLs with their jitter.
const ALLOWED_TTL: Duration = Duration::from_secs(66);
const DENIED_TTL: Duration = Duration::from_secs(11);
const LIMIT: Duration = Duration::from_secs(10);

/// A cluster, and an authorizer that asks it.
struct Setup {
    fixture: Fixture,
    authorizer: SubjectAccessReviewAuthorizer,
}

impl std::ops::Deref for Setup {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl Setup {
    async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    async fn start_with(
        configure: impl FnOnce(SubjectAccessReviewBuilder) -> SubjectAccessReviewBuilder,
    ) -> Self {
        let fixture = Fixture::start().await;
        let builder =
            SubjectAccessReviewAuthorizer::builder(fixture.client()).clock(fixture.clock.clock());
        let authorizer = configure(builder).build().unwrap();
        Self { fixture, authorizer }
    }

    fn grant_path(&self, path: &str) {
        self.cluster.grant(CALLER, &json!({"nonResourceURLs": [path], "verbs": ["get"]}));
    }

    fn calls(&self) -> u64 {
        self.cluster.calls(Endpoint::SubjectAccessReview)
    }

    async fn decide(
        &self,
        caller: &ServiceAccountIdentity,
        path: &str,
    ) -> Result<Decision, String> {
        decide(&self.authorizer, caller, path).await
    }

    /// Returns a service whose requests pass both layers.
    fn service(&self) -> Service {
        let auth = self.authenticator(self.review()).build().unwrap();
        let layer = AuthorizeLayer::new(self.authorizer.clone());
        Service::behind(move |router| router.layer(layer).layer(auth.layer()))
    }
}

/// Decides as the layer does: without waiting if that is possible.
async fn decide(
    authorizer: &SubjectAccessReviewAuthorizer,
    caller: &ServiceAccountIdentity,
    path: &str,
) -> Result<Decision, String> {
    let request = Request::get(path).body(()).unwrap();
    let head = RequestHead::from(&request);
    if let Some(decision) = authorizer.authorize_now(caller, head) {
        return Ok(decision);
    }
    authorizer.authorize(caller, head).await.map_err(|error| error.kind().as_str().to_owned())
}

fn caller() -> ServiceAccountIdentity {
    IdentityBuilder::new("shop", "checkout").build()
}

#[tokio::test]
async fn the_clusters_rbac_decides_about_path_and_method() {
    let setup = Setup::start().await;
    setup.grant_path("/metrics");
    let caller = caller();
    assert_eq!(setup.decide(&caller, "/metrics?format=text").await, Ok(ALLOWED));
    assert_eq!(setup.decide(&caller, "/metrics/cadvisor").await, Ok(DENIED));
    let basket = IdentityBuilder::new("shop", "basket").build();
    assert_eq!(setup.decide(&basket, "/metrics").await, Ok(DENIED));

    let post = Request::post("/metrics").body(()).unwrap();
    let decision = setup.authorizer.authorize(&caller, RequestHead::from(&post)).await;
    assert_eq!(decision.unwrap(), DENIED, "another method");
}

#[tokio::test]
async fn a_path_that_a_router_may_normalize_is_denied_and_not_asked_about() {
    let setup = Setup::start().await;
    setup.grant_path("/open/*");
    let (service, token) = (setup.service(), setup.token());
    let caller = caller();
    for path in [
        "/open/../admin",
        "/open/..",
        "/open/./a",
        "/open//a",
        "//open/a",
        "/open/%2e%2E/admin",
        "/open/%2E",
        "/open%2fa",
        "/open/a%2Fb",
        "/open/a%5Cb",
        "/open/..\\admin",
    ] {
        let denied = Ok(Decision::Deny(DenyReason::NoAttributes));
        assert_eq!(setup.decide(&caller, path).await, denied, "{path}");
        let request = Request::get(path).body(()).unwrap();
        let decision = setup.authorizer.authorize(&caller, RequestHead::from(&request)).await;
        assert_eq!(decision.map_err(|error| error.to_string()), denied, "{path}");
        let mut request = bearer(&token);
        *request.uri_mut() = path.parse().unwrap();
        let answer = service.blocked(request).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(answer.challenge().unwrap().contains("error=\"insufficient_scope\""), "{path}");
    }
    assert_eq!(setup.calls(), 0);
    for path in ["/open/a..b", "/open/.well-known", "/open/a%20b", "/open/a/"] {
        assert_eq!(setup.decide(&caller, path).await, Ok(ALLOWED), "{path}");
    }
}

#[tokio::test]
async fn fixed_attributes_and_those_of_a_closure_are_asked_about() {
    let namespaced = || ResourceAttributes::new("create", "orders").group("shop.example.org");
    let setup =
        Setup::start_with(|builder| builder.attributes(namespaced().namespace("shop"))).await;
    let rule = json!({"apiGroups": ["shop.example.org"], "resources": ["orders"],
        "verbs": ["create"]});
    setup.cluster.grant_in_namespace(CALLER, "shop", &rule);
    let caller = caller();
    assert_eq!(setup.decide(&caller, "/anything").await, Ok(ALLOWED));
    assert_eq!(setup.decide(&caller, "/else").await, Ok(ALLOWED));
    assert_eq!(setup.calls(), 1, "the path is not asked about");

    let by_path = SubjectAccessReviewAuthorizer::builder(setup.client())
        .attributes_fn(move |caller, head| {
            assert_eq!(caller.name(), "checkout");
            let namespace = head.uri().path().strip_prefix("/namespaces/")?;
            Some(namespaced().namespace(namespace).into())
        })
        .build()
        .unwrap();
    assert_eq!(decide(&by_path, &caller, "/namespaces/shop").await, Ok(ALLOWED));
    assert_eq!(decide(&by_path, &caller, "/namespaces/ops").await, Ok(DENIED));
    let calls = setup.calls();
    let unknown = decide(&by_path, &caller, "/healthz").await;
    assert_eq!(unknown, Ok(Decision::Deny(DenyReason::NoAttributes)));
    assert_eq!(setup.calls(), calls, "nothing to ask about");
}

#[tokio::test]
async fn every_attribute_and_the_whole_caller_are_sent() {
    let sent = Recorder::default();
    let authorizer = SubjectAccessReviewAuthorizer::builder(sent.api_server())
        .attributes(
            ResourceAttributes::new("get", "pods")
                .group("g")
                .version("v1")
                .subresource("log")
                .namespace("shop")
                .name("x"),
        )
        .build()
        .unwrap();
    let caller = IdentityBuilder::new("shop", "checkout").uid("u1").pod("p", "p-uid").build();
    assert_eq!(decide(&authorizer, &caller, "/").await, Ok(DENIED));
    let expected = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": CALLER,
            "uid": "u1",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:shop",
                "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["p"],
                "authentication.kubernetes.io/pod-uid": ["p-uid"],
            },
            "resourceAttributes": {"verb": "get", "resource": "pods", "group": "g",
                "version": "v1", "subresource": "log", "namespace": "shop", "name": "x"},
        },
    });
    assert_eq!(sent.take(), [expected]);
}

/// An API server that denies, and records what it receives.
#[derive(Clone, Default)]
struct Recorder(std::sync::Arc<std::sync::Mutex<Vec<Value>>>);

impl Recorder {
    fn api_server(&self) -> tower_kube_auth::ApiServer {
        let recorder = self.clone();
        tower_kube_auth::ApiServer::from_service(service_fn(
            move |request: Request<axum::body::Bytes>| {
                let sent = serde_json::from_slice(request.body()).unwrap();
                recorder.0.lock().unwrap().push(sent);
                let answer = json!({"status": {"allowed": false}}).to_string();
                std::future::ready(Ok::<_, std::convert::Infallible>(axum::http::Response::new(
                    Body::from(answer),
                )))
            },
        ))
    }

    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn denied_overrides_allowed_and_neither_is_a_denial() {
    for (status, expected) in [
        (json!({"allowed": true}), ALLOWED),
        (json!({"allowed": true, "denied": false}), ALLOWED),
        (json!({"allowed": true, "denied": true}), DENIED),
        (json!({"allowed": false, "denied": true, "reason": "no"}), DENIED),
        (json!({"allowed": false}), DENIED),
        (json!({"allowed": false, "evaluationError": "webhook is down"}), DENIED),
        (json!({"allowed": false, "denied": null, "reason": null}), DENIED),
    ] {
        let setup = Setup::start().await;
        let body = json!({"status": status}).to_string();
        setup.cluster.set_fault(Endpoint::SubjectAccessReview, Fault::Body(body));
        assert_eq!(setup.decide(&caller(), "/metrics").await, Ok(expected), "{status}");
    }
}

#[tokio::test]
async fn what_is_no_review_is_no_decision_and_is_asked_again() {
    for body in [
        "",
        "[]",
        "{}",
        "null",
        r#"{"status": []}"#,
        r#"{"status": {}}"#,
        r#"{"status": {"allowed": null}}"#,
        r#"{"status": {"allowed": "true"}}"#,
    ] {
        let setup = Setup::start().await;
        setup.grant_path("/metrics");
        setup.cluster.set_fault(Endpoint::SubjectAccessReview, Fault::Body(body.into()));
        for calls in [1, 2] {
            let decision = setup.decide(&caller(), "/metrics").await;
            assert_eq!(decision, Err("invalid_response".into()), "{body}");
            assert_eq!(setup.calls(), calls, "{body}: no failure is cached");
        }
        setup.cluster.clear_faults();
        assert_eq!(setup.decide(&caller(), "/metrics").await, Ok(ALLOWED), "{body}");
    }
}

#[tokio::test]
async fn a_missing_right_of_the_service_is_a_failure_that_names_the_role() {
    let setup = Setup::start().await;
    setup.cluster.revoke(Cluster::VERIFIER);
    let request = Request::get("/metrics").body(()).unwrap();
    let error =
        setup.authorizer.authorize(&caller(), RequestHead::from(&request)).await.unwrap_err();
    assert_eq!(error.kind().as_str(), "forbidden");
    let message = error.to_string();
    assert!(message.starts_with("SubjectAccessReview: "), "{message}");
    assert!(message.contains("ClusterRole `system:auth-delegator`"), "{message}");
}

#[tokio::test]
async fn both_decisions_are_cached_for_their_ttl() {
    let setup = Setup::start().await;
    setup.grant_path("/metrics");
    let caller = caller();
    for _ in 0..3 {
        assert_eq!(setup.decide(&caller, "/metrics").await, Ok(ALLOWED));
        assert_eq!(setup.decide(&caller, "/other").await, Ok(DENIED));
    }
    assert_eq!(setup.calls(), 2);
    setup.clock.advance(DENIED_TTL);
    assert_eq!(setup.decide(&caller, "/other").await, Ok(DENIED));
    assert_eq!(setup.decide(&caller, "/metrics").await, Ok(ALLOWED));
    assert_eq!(setup.calls(), 3, "the denial has ended");
    setup.cluster.revoke(CALLER);
    setup.clock.advance(ALLOWED_TTL - DENIED_TTL);
    assert_eq!(setup.decide(&caller, "/metrics").await, Ok(DENIED));
    let metrics = setup.authorizer.metrics();
    assert_eq!((metrics.allowed, metrics.denied, metrics.undecided), (1, 3, 0));
    assert_eq!(metrics.denied_from_cache, 2);
}

#[tokio::test]
async fn a_decision_is_the_callers_own() {
    let setup = Setup::start().await;
    setup.grant_path("/metrics");
    assert_eq!(setup.decide(&caller(), "/metrics").await, Ok(ALLOWED));
    for other in [
        IdentityBuilder::new("shop", "basket").build(),
        IdentityBuilder::new("ops", "checkout").build(),
    ] {
        assert_eq!(setup.decide(&other, "/metrics").await, Ok(DENIED), "{other}");
    }
    let calls = setup.calls();
    let another_uid = IdentityBuilder::new("shop", "checkout").uid("another").build();
    let in_pod = |uid| IdentityBuilder::new("shop", "checkout").pod("p", uid).build();
    for other in [another_uid, in_pod("u"), in_pod("v")] {
        setup.decide(&other, "/metrics").await.unwrap();
    }
    assert_eq!(setup.calls(), calls + 3, "another review is sent");
}

#[tokio::test]
async fn a_thousand_first_requests_for_one_decision_make_one_call() {
    let setup = Setup::start().await;
    setup.grant_path("/metrics");
    let asking = (0..1000).map(|_| {
        let authorizer = setup.authorizer.clone();
        tokio::spawn(async move { decide(&authorizer, &caller(), "/metrics").await })
    });
    let decisions = join_all(asking.collect()).await;
    assert!(decisions.iter().all(|decision| *decision == Ok(ALLOWED)));
    assert_eq!(setup.calls(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_no_review() {
    let setup = Setup::start().await;
    setup.grant_path("/metrics");
    setup.cluster.set_fault_times(
        Endpoint::SubjectAccessReview,
        Fault::Delay(Duration::from_secs(1)),
        1,
    );
    let authorizer = setup.authorizer.clone();
    let first = tokio::spawn(async move { decide(&authorizer, &caller(), "/metrics").await });
    setup.cluster.wait_for_calls(Endpoint::SubjectAccessReview, 1).await;
    let authorizer = setup.authorizer.clone();
    let second = async move { decide(&authorizer, &caller(), "/metrics").await };
    first.abort();
    let (decision, _) = drive(&setup.clock, LIMIT, || false, second, async || ()).await;
    assert_eq!((decision, setup.calls()), (Ok(ALLOWED), 1));
}

#[tokio::test]
async fn a_decision_in_use_is_made_anew_before_it_ends() {
    let setup = Setup::start().await;
    setup.grant_path("/metrics");
    assert_eq!(setup.decide(&caller(), "/metrics").await, Ok(ALLOWED));
    setup.clock.advance(Duration::from_secs(53));
    setup.cluster.revoke(CALLER);
    assert_eq!(setup.decide(&caller(), "/metrics").await, Ok(ALLOWED), "nobody waits");
    setup.cluster.wait_for_calls(Endpoint::SubjectAccessReview, 2).await;
    crate::support::until("the review is in the cache", async || {
        setup.decide(&caller(), "/metrics").await == Ok(DENIED)
    })
    .await;
    assert_eq!((setup.calls(), setup.authorizer.metrics().refreshed_ahead), (2, 1));
}

#[tokio::test]
async fn an_invalidation_drops_decisions_of_its_subject() {
    let setup = Setup::start().await;
    setup.grant_path("/metrics");
    let caller = IdentityBuilder::new("shop", "checkout").uid("u1").pod("p", "p-uid").build();
    assert_eq!(setup.decide(&caller, "/metrics").await, Ok(ALLOWED));
    setup.cluster.revoke(CALLER);
    setup.authorizer.invalidate_pod("another");
    setup.authorizer.invalidate_service_account("p-uid");
    assert_eq!(setup.decide(&caller, "/metrics").await, Ok(ALLOWED));
    for invalidate in [
        (|authorizer| authorizer.invalidate_pod("p-uid")) as fn(&SubjectAccessReviewAuthorizer),
        |authorizer| authorizer.invalidate_service_account("u1"),
        SubjectAccessReviewAuthorizer::invalidate_all,
    ] {
        setup.grant_path("/metrics");
        setup.authorizer.invalidate_all();
        assert_eq!(setup.decide(&caller, "/metrics").await, Ok(ALLOWED));
        setup.cluster.revoke(CALLER);
        invalidate(&setup.authorizer);
        assert_eq!(setup.decide(&caller, "/metrics").await, Ok(DENIED));
    }
}

#[tokio::test]
async fn a_flood_of_paths_leaves_bounded_memory_and_other_callers_decisions() {
    let setup = Setup::start_with(|builder| builder.cache_capacity(100).max_in_flight(4)).await;
    setup.cluster.grant(CALLER, &json!({"nonResourceURLs": ["/open/*"], "verbs": ["get"]}));
    let basket = IdentityBuilder::new("shop", "basket").build();
    let rule = json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]});
    setup.cluster.grant("system:serviceaccount:shop:basket", &rule);
    assert_eq!(setup.decide(&basket, "/metrics").await, Ok(ALLOWED));
    for round in 0..10 {
        let flood = (0..100).map(|number| {
            let authorizer = setup.authorizer.clone();
            let path = format!("/{}/{round}/{number}", if number % 2 == 0 { "open" } else { "no" });
            tokio::spawn(async move { decide(&authorizer, &caller(), &path).await })
        });
        join_all(flood.collect()).await;
        let calls = setup.calls();
        for _ in 0..3 {
            assert_eq!(setup.decide(&basket, "/metrics").await, Ok(ALLOWED));
        }
        assert_eq!(setup.calls(), calls, "round {round}: it is still cached");
        setup.clock.advance(Duration::from_secs(1));
    }
    assert!(setup.cluster.max_in_flight(Endpoint::SubjectAccessReview) <= 4);
    let metrics = setup.authorizer.metrics();
    assert!(metrics.saturated > 0, "{metrics:?}");
    // moka evicts a little later than it admits.
    assert!(metrics.allowed_entries <= 100 + 500 && metrics.denied_entries <= 100, "{metrics:?}");
}

/// A caller without any right asks about more paths than the API server answers.
#[tokio::test]
async fn a_callers_flood_of_paths_leaves_permits_and_queue_to_other_callers() {
    let api = ApiServer::from_service(service_fn(async |request: Request<Bytes>| {
        if String::from_utf8_lossy(request.body()).contains("shop:basket") {
            std::future::pending::<()>().await;
        }
        let allowed = json!({"status": {"allowed": true}}).to_string();
        Ok::<_, std::io::Error>(axum::http::Response::new(Full::new(Bytes::from(allowed))))
    }));
    let clock = ManualClock::new();
    let builder = SubjectAccessReviewAuthorizer::builder(api).clock(clock.clock());
    let authorizer = builder.build().unwrap();
    let ask = |caller: &ServiceAccountIdentity, path: String| {
        let (authorizer, caller) = (authorizer.clone(), caller.clone());
        tokio::spawn(async move { decide(&authorizer, &caller, &path).await })
    };
    let basket = IdentityBuilder::new("shop", "basket").uid("basket").build();
    let flood: Vec<_> = (0..2000).map(|path| ask(&basket, format!("/{path}"))).collect();
    idle().await;
    let metrics = authorizer.metrics();
    assert_eq!((metrics.in_flight, metrics.waiting), (12, 192), "a quarter of 48 and 768");
    for path in 0..100 {
        let asked = ask(&caller(), format!("/orders/{path}"));
        idle().await;
        assert!(asked.is_finished(), "{path}: it waits for nobody");
        assert_eq!(asked.await.unwrap(), Ok(ALLOWED));
    }
    clock.advance(Duration::from_secs(1));
    idle().await;
    let saturated = flood.into_iter().filter(|asked| asked.is_finished()).count();
    assert_eq!(saturated, 2000 - 12);
    assert_eq!(authorizer.metrics().saturated, 2000 - 12);
}

#[tokio::test]
async fn behind_both_layers_denials_follow_authentication_only() {
    let setup = Setup::start().await;
    let service = setup.service();
    let token = setup.token();
    let denied = service.blocked(bearer(&token)).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert!(denied.challenge().unwrap().contains("error=\"insufficient_scope\""));
    assert_eq!(setup.calls(), 1);

    let (signed, _) = token.rsplit_once('.').unwrap();
    let rejected = service.blocked(bearer(&format!("{signed}.c2lnbmF0dXJl"))).await;
    rejected.assert_invalid_token("another signature");
    assert_eq!(setup.calls(), 1, "nobody asks about a caller who is not authenticated");

    setup.grant_path("/");
    setup.authorizer.invalidate_all();
    assert_eq!(service.get(&token).await.status, StatusCode::OK);

    setup.authorizer.invalidate_all();
    setup.cluster.set_fault(
        Endpoint::SubjectAccessReview,
        Fault::Status { code: 429, retry_after: Some(30) },
    );
    let undecided: Answer = service.blocked(bearer(&token)).await;
    undecided.assert_unavailable();
    assert_eq!(undecided.header(header::RETRY_AFTER), Some("30"));
}

#[tokio::test]
async fn each_invalid_option_is_a_build_error() {
    let fixture = Fixture::start().await;
    let builder = || SubjectAccessReviewAuthorizer::builder(fixture.client());
    let hours = Duration::from_secs(7200);
    for (builder, expected) in [
        (builder().cache_capacity(0), "cache_capacity must be at least 1"),
        (builder().max_in_flight(1), "max_in_flight must be at least 2"),
        (builder().max_in_flight(usize::MAX), "max_in_flight is implausibly large"),
        (builder().timeout(Duration::ZERO), "timeout is 0"),
        (builder().allowed_ttl(hours), "allowed_ttl exceeds 3600s"),
        (builder().denied_ttl(hours), "denied_ttl exceeds 3600s"),
        (builder().attributes(ResourceAttributes::new("", "pods")), "the attribute verb is empty"),
        (
            builder().attributes(ResourceAttributes::new("get", "")),
            "the attribute resource is empty",
        ),
        (
            builder().attributes(NonResourceAttributes::new("get", "")),
            "the attribute path is empty",
        ),
    ] {
        let error: SubjectAccessReviewBuildError = builder.build().unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

/// A layer around any Tower service, without axum.
#[tokio::test]
async fn any_tower_service_can_be_behind_it() {
    let setup = Setup::start().await;
    setup.grant_path("/metrics");
    let inner = service_fn(|_: Request<String>| async {
        Ok::<_, std::convert::Infallible>(axum::http::Response::new(String::from("up 1")))
    });
    let service = AuthorizeLayer::new(setup.authorizer.clone()).layer(inner);
    for (path, status) in [("/metrics", StatusCode::OK), ("/", StatusCode::FORBIDDEN)] {
        let mut request = Request::get(path).body(String::new()).unwrap();
        request.extensions_mut().insert(caller());
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), status);
    }
}
