//! Prometheus with the rules of examples/observability scrapes a service with the metrics exporter:
//! each fault raises its alert, and no other.

use std::{collections::BTreeSet, fs, time::Duration};

use axum::{Router, body::Body, http::Request, response::Response, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde_json::json;
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt};
use tower_kube_auth::{
    ApiServer, Authenticator, JwksVerifier, LiveObjects, TokenReviewVerifier, VerifierExt,
    authenticator::AuthenticatorBuilder,
    authorizer::SubjectAccessReviewAuthorizer,
    client::{ProjectedToken, TokenSource},
    server::AuthorizeLayer,
    testing::{Cluster, Endpoint, Fault, ManualClock},
};

use crate::{
    process::{eventually, folder, serve},
    prometheus::Prometheus,
};

const RULES: &str = include_str!("../../examples/observability/rules.yaml");
const CALLER: &str = "system:serviceaccount:shop:checkout";

/// Returns the rules with times that a test can wait for.
fn rules() -> String {
    let replace = |rules: &str, from: &str, to: &str| {
        assert!(rules.contains(from), "the rules have no {from}");
        rules.replace(from, to)
    };
    let rules = replace(RULES, "[5m]", "[10s]");
    let rules = replace(&rules, "[1h]", "[20s]");
    let rules = replace(&rules, "> 900", "> 3");
    let line = |line: &str| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s\n"),
        _ => format!("{line}\n"),
    };
    rules.lines().map(line).collect()
}

/// A service that Prometheus scrapes.
pub struct Service<'a> {
    cluster: &'a Cluster,
    pub auth: Authenticator,
    app: Router,
    pub prometheus: Prometheus,
    _recorder: metrics::LocalRecorderGuard<'static>,
}

impl<'a> Service<'a> {
    /// Starts a service and Prometheus. `api_server` is where it asks for access reviews.
    pub async fn start(
        cluster: &'a Cluster,
        authenticator: AuthenticatorBuilder,
        api_server: impl Into<ApiServer>,
    ) -> Self {
        let buckets: Vec<f64> = (0..15).map(|power| 0.001 * f64::from(1 << power)).collect();
        let durations = Matcher::Suffix("_duration_seconds".into());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(durations, &buckets).unwrap();
        // Each test has a recorder of its own, for its thread. The guard borrows it.
        let recorder = Box::leak(Box::new(builder.build_recorder()));
        let handle = recorder.handle();
        let guard = metrics::set_default_local_recorder(recorder);

        let auth = authenticator.audience("orders").build().unwrap();
        let authorizer = SubjectAccessReviewAuthorizer::new(api_server);
        let layers =
            ServiceBuilder::new().layer(auth.layer()).layer(AuthorizeLayer::new(authorizer));
        let app = Router::new().route("/orders", get(async || "")).layer(layers);
        let metrics = get(move || std::future::ready(handle.render()));
        let metrics = serve(Router::new().route("/metrics", metrics)).await;
        let prometheus = Prometheus::with_rules(metrics, &rules());
        prometheus.wait_for("up", "").await;
        Self { cluster, auth, app, prometheus, _recorder: guard }
    }

    pub fn token(&self) -> String {
        self.cluster.token("shop", "checkout").audience("orders").issue().unwrap()
    }

    pub fn request(&self, token: &str) -> impl Future<Output = Response> + use<> {
        let request = Request::get("/orders").header("Authorization", format!("Bearer {token}"));
        let response = self.app.clone().oneshot(request.body(Body::empty()).unwrap());
        async { response.await.unwrap() }
    }

    /// Accepts requests until Prometheus sees it, and asserts that no alert fires.
    async fn is_healthy(&self) {
        let token = self.token();
        let seen = async || {
            assert_eq!(self.request(&token).await.status(), 200);
            let accepted =
                r#"rate(tower_kube_auth_authentication_attempts_total{result="accepted"}[10s])"#;
            self.prometheus
                .query(accepted)
                .await
                .filter(|rates| rates.iter().any(|rate| *rate > 0.0))
        };
        eventually("requests are accepted", seen).await;
        assert_eq!(self.prometheus.firing().await, Some(BTreeSet::new()));
    }

    /// Repeats `cause` until `alert` has fired for some evaluations, so that another alert of the
    /// same cause would fire too, and asserts that none does.
    async fn raises(&self, alert: &str, cause: impl AsyncFn()) {
        let selector = format!(r#"ALERTS{{alertname="{alert}", alertstate="firing"}}"#);
        let query = format!("count_over_time({selector}[1m]) >= 6");
        let fired = async || {
            cause().await;
            self.prometheus.query(&query).await.filter(|series| !series.is_empty())
        };
        eventually(alert, fired).await;
        assert_eq!(self.prometheus.firing().await, Some(BTreeSet::from([alert.to_owned()])));
    }
}

/// Starts a cluster in which `shop/checkout` may get `/orders`.
pub async fn start_cluster() -> Cluster {
    prepared(Cluster::start().await.unwrap())
}

fn prepared(cluster: Cluster) -> Cluster {
    cluster.create_service_account("shop", "checkout");
    cluster.grant(CALLER, &json!({ "nonResourceURLs": ["/orders"], "verbs": ["get"] }));
    cluster
}

async fn with_token_review(cluster: &Cluster) -> Service<'_> {
    let client = cluster.kube_client().unwrap();
    let verifier = TokenReviewVerifier::new(client.clone()).timeout(Duration::from_secs(1));
    Service::start(cluster, Authenticator::builder(verifier), client).await
}

pub async fn flood() {
    let cluster = start_cluster().await;
    let service = with_token_review(&cluster).await;
    service.is_healthy().await;
    let forged = async || {
        for _ in 0..10 {
            assert_eq!(service.request("forged").await.status(), 401);
        }
    };
    service.raises("TowerKubeAuthFlood", forged).await;
}

pub async fn saturation() {
    let cluster = start_cluster().await;
    let client = cluster.kube_client().unwrap();
    let builder = Authenticator::builder(TokenReviewVerifier::new(client.clone()));
    let builder = builder.max_in_flight(2).max_wait(Duration::from_millis(50));
    let service = Service::start(&cluster, builder, client).await;
    service.is_healthy().await;
    cluster.set_fault(Endpoint::TokenReview, Fault::Delay(Duration::from_millis(200)));
    let many = async || {
        let requests = (0..8).map(|_| service.request(&service.token()));
        requests.collect::<JoinSet<_>>().join_all().await;
    };
    service.raises("TowerKubeAuthSaturated", many).await;
}

pub async fn outage() {
    let cluster = start_cluster().await;
    let service = with_token_review(&cluster).await;
    service.is_healthy().await;
    cluster.go_down().await.unwrap();
    let undecided = async || {
        assert_eq!(service.request(&service.token()).await.status(), 503);
    };
    service.raises("TowerKubeAuthOutage", undecided).await;
}

pub async fn fallback() {
    let cluster = start_cluster().await;
    let client = cluster.kube_client().unwrap();
    let keys = JwksVerifier::from_jwks(cluster.jwks_json()).issuer(cluster.issuer()).build();
    let verifier = TokenReviewVerifier::new(client.clone()).or_when_unavailable(keys.unwrap());
    let service = Service::start(&cluster, Authenticator::builder(verifier), client).await;
    service.is_healthy().await;
    cluster.set_fault(Endpoint::TokenReview, Fault::Status { code: 500, retry_after: None });
    let decided = async || {
        assert_eq!(service.request(&service.token()).await.status(), 200);
    };
    service.raises("TowerKubeAuthFallbackActive", decided).await;
}

/// The service's own ServiceAccount is bound to no role.
pub async fn missing_rights() {
    let cluster = start_cluster().await;
    cluster.create_service_account("shop", "orders");
    let own = cluster.token("shop", "orders").issue().unwrap();
    let client = cluster.client_for(own).unwrap();
    let builder = Authenticator::builder(TokenReviewVerifier::new(client.clone()));
    let service = Service::start(&cluster, builder, client).await;
    let undecided = async || {
        assert_eq!(service.request(&service.token()).await.status(), 503);
    };
    service.raises("TowerKubeAuthMissingRBAC", undecided).await;
}

/// The service may create TokenReviews and lacks the right to SubjectAccessReviews.
pub async fn missing_access_reviews() {
    let cluster = start_cluster().await;
    cluster.create_service_account("shop", "orders");
    let own = cluster.token("shop", "orders").issue().unwrap();
    let builder = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client().unwrap()));
    let service = Service::start(&cluster, builder, cluster.client_for(own).unwrap()).await;
    let undecided = async || {
        assert_eq!(service.request(&service.token()).await.status(), 503);
    };
    service.raises("TowerKubeAuthMissingRBAC", undecided).await;
    let call = r#"ALERTS{alertstate="firing", call="subjectaccessreviews"}"#;
    assert_eq!(service.prometheus.query(call).await, Some(vec![1.0]));
}

pub async fn own_token_rejected() {
    let cluster = start_cluster().await;
    let client = cluster.client_for("expired").unwrap();
    let builder = Authenticator::builder(TokenReviewVerifier::new(client.clone()));
    let service = Service::start(&cluster, builder, client).await;
    let undecided = async || {
        for _ in 0..10 {
            assert_eq!(service.request(&service.token()).await.status(), 503);
        }
    };
    service.raises("TowerKubeAuthCredentialRejected", undecided).await;
}

async fn with_keys(cluster: &Cluster) -> Service<'_> {
    let client = cluster.kube_client().unwrap();
    let keys = JwksVerifier::in_cluster(client.clone()).refresh_interval(Duration::from_secs(1));
    Service::start(cluster, Authenticator::builder(keys.build().unwrap()), client).await
}

/// The issuer does not answer. The loaded keys go on.
pub async fn stale_keys() {
    let cluster = start_cluster().await;
    let service = with_keys(&cluster).await;
    service.is_healthy().await;
    cluster.set_fault(Endpoint::Jwks, Fault::Status { code: 500, retry_after: None });
    let accepted = async || {
        assert_eq!(service.request(&service.token()).await.status(), 200);
    };
    service.raises("TowerKubeAuthKeysStale", accepted).await;
}

/// The connections are cut, and the objects cannot be listed again.
pub async fn broken_watch() {
    let cluster = start_cluster().await;
    let client = cluster.kube_client().unwrap();
    let live_objects = LiveObjects::builder(cluster.admin_client().unwrap()).build().unwrap();
    let builder = Authenticator::builder(TokenReviewVerifier::new(client.clone()));
    let builder = builder.invalidated_by(&live_objects);
    let service = Service::start(&cluster, builder, client).await;
    live_objects.synced().await;
    service.is_healthy().await;
    cluster.set_fault(Endpoint::List, Fault::Status { code: 500, retry_after: None });
    cluster.go_down().await.unwrap();
    cluster.come_up().await.unwrap();
    let accepted = async || {
        assert_eq!(service.request(&service.token()).await.status(), 200);
    };
    service.raises("TowerKubeAuthWatchBroken", accepted).await;
}

/// The cluster signs with a new key, and an old copy of the keys is published.
pub async fn stuck_rotation() {
    let cluster = start_cluster().await;
    let service = with_keys(&cluster).await;
    service.is_healthy().await;
    cluster.publish_jwks(Some(cluster.jwks_json()));
    cluster.rotate().unwrap();
    let rejected = async || {
        assert_eq!(service.request(&service.token()).await.status(), 401);
    };
    service.raises("TowerKubeAuthUnknownKeys", rejected).await;
}

pub async fn clock_skew() {
    let time = ManualClock::new();
    let cluster = prepared(Cluster::builder().clock(time.clock()).start().await.unwrap());
    let service = with_token_review(&cluster).await;
    service.is_healthy().await;
    time.jump_forward(Duration::from_secs(55));
    let checked = async || {
        service.auth.check().await;
    };
    service.raises("TowerKubeAuthClockSkew", checked).await;
}

/// A projected volume whose token is not renewed.
pub async fn expiring_token() {
    let cluster = start_cluster().await;
    let service = with_token_review(&cluster).await;
    service.is_healthy().await;
    let folder = folder();
    let source = ProjectedToken::new(folder.join("token"));
    cluster.write_projected_volume(&folder, &service.token()).unwrap();
    let fresh = source.token().await.unwrap();
    let longest = async || {
        let seconds = "max(instance:tower_kube_auth_token_source_remaining:seconds) > 3000";
        service.prometheus.query(seconds).await.filter(|series| !series.is_empty())
    };
    eventually("the lifetime is recorded", longest).await;

    let mut claims = cluster.token("shop", "checkout").audience("orders").claims().unwrap();
    let expiry = claims["exp"].as_u64().unwrap() - 3400;
    claims["exp"] = expiry.into();
    cluster.write_projected_volume(&folder, &cluster.mint(&claims)).unwrap();
    source.invalidate(&fresh);
    let used = async || {
        source.token().await.unwrap();
    };
    service.raises("TowerKubeAuthTokenExpiring", used).await;
    fs::remove_dir_all(folder).unwrap();
}

pub async fn slowness() {
    let cluster = start_cluster().await;
    let service = with_token_review(&cluster).await;
    service.is_healthy().await;
    cluster.set_fault(Endpoint::TokenReview, Fault::Delay(Duration::from_millis(600)));
    let slow = async || {
        assert_eq!(service.request(&service.token()).await.status(), 200);
    };
    service.raises("TowerKubeAuthSlow", slow).await;
}
