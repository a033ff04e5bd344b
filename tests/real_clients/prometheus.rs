//! Prometheus scrapes an operator's `/metrics` with a ServiceAccount token from a file. What it sees
//! is read through its own HTTP API.

use std::{fs, net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use serde_json::{Value, json};
use tower::ServiceBuilder;
use tower_kube_auth::{
    Authenticator, TokenReviewVerifier, authorizer::SubjectAccessReviewAuthorizer,
    server::AuthorizeLayer, testing::Cluster,
};

use crate::{
    operator_metrics,
    process::{Process, eventually, folder, free_address, serve, start},
};

const ACCOUNT: &str = "system:serviceaccount:monitoring:prometheus";

struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts Prometheus, which scrapes `target` every second with `token`.
    fn start(target: SocketAddr, token: &str) -> Self {
        let (address, folder) = (free_address(), folder());
        let of = |name: &str| folder.join(name).display().to_string();
        fs::write(of("token"), token).unwrap();
        // YAML is a superset of JSON.
        let configuration = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s" },
            "scrape_configs": [{
                "job_name": "operator",
                "authorization": { "credentials_file": of("token") },
                "static_configs": [{ "targets": [target.to_string()] }],
            }],
        });
        fs::write(of("prometheus.yml"), configuration.to_string()).unwrap();
        let arguments = [
            format!("--config.file={}", of("prometheus.yml")),
            format!("--storage.tsdb.path={}", of("data")),
            format!("--web.listen-address={address}"),
        ];
        let process = start("prometheus", &arguments.each_ref().map(String::as_str), &folder);
        Self { address, _process: process }
    }

    async fn api(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let text = reqwest::get(url).await.ok()?.text().await.ok()?;
        Some(serde_json::from_str::<Value>(&text).ok()?["data"].take())
    }

    /// Waits until the target's health is `health` and its last error contains `error`.
    async fn wait_for(&self, health: &str, error: &str) {
        let what = format!("the target is {health} ({error})");
        let seen = async || {
            let targets = self.api("targets").await?;
            let target = &targets["activeTargets"][0];
            let last_error = target["lastError"].as_str()?;
            (target["health"] == health && last_error.contains(error)).then_some(())
        };
        eventually(&what, seen).await;
    }
}

async fn start_cluster() -> Cluster {
    let cluster = Cluster::start().await.unwrap();
    cluster.create_service_account("monitoring", "prometheus");
    cluster
}

fn grant(cluster: &Cluster) {
    cluster.grant(ACCOUNT, &json!({ "nonResourceURLs": ["/metrics"], "verbs": ["get"] }));
}

pub async fn scrapes() {
    let cluster = start_cluster().await;
    let operator = operator_metrics::app(cluster.kube_client().unwrap()).unwrap();
    let token = cluster.token("monitoring", "prometheus").issue().unwrap();
    let prometheus = Prometheus::start(serve(operator).await, &token);
    prometheus.wait_for("down", "403 Forbidden").await;
    grant(&cluster);
    prometheus.wait_for("up", "").await;
    let sample = async || {
        let data = prometheus.api("query?query=operator_reconciliations_total").await?;
        data["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    assert_eq!(eventually("there is a sample", sample).await, "42");
}

/// The layers of `metrics_auth`, with TTLs that a test can wait for.
pub async fn recovers() {
    const TTL: Duration = Duration::from_secs(2);
    let cluster = start_cluster().await;
    grant(&cluster);
    let client = || cluster.kube_client().unwrap();
    let verifier = TokenReviewVerifier::new(client()).timeout(Duration::from_millis(300));
    let authenticator = Authenticator::builder(verifier).api_server_audience().cache_ttl(TTL);
    let authorizer = SubjectAccessReviewAuthorizer::builder(client()).allowed_ttl(TTL);
    let layers = ServiceBuilder::new()
        .layer(authenticator.build().unwrap().layer())
        .layer(AuthorizeLayer::new(authorizer.build().unwrap()));
    let operator = Router::new().route("/metrics", get(operator_metrics::metrics)).layer(layers);
    let token = cluster.token("monitoring", "prometheus").issue().unwrap();
    let prometheus = Prometheus::start(serve(operator).await, &token);
    prometheus.wait_for("up", "").await;
    cluster.go_down().await.unwrap();
    prometheus.wait_for("down", "503 Service Unavailable").await;
    cluster.come_up().await.unwrap();
    prometheus.wait_for("up", "").await;
}
