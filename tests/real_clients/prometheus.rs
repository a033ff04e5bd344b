//! Prometheus scrapes an operator's `/metrics` with a ServiceAccount token from a file. What it sees
//! is read through its own HTTP API.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::PathBuf, time::Duration};

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

/// Prometheus, which scrapes one target every second.
pub struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts Prometheus, which authenticates its scrapes of `target` with `token`.
    fn start(target: SocketAddr, token: &str) -> Self {
        let folder = folder();
        let file = folder.join("token");
        fs::write(&file, token).unwrap();
        Self::run(target, json!({ "authorization": { "credentials_file": file } }), "", folder)
    }

    /// Starts Prometheus with the recording rules and alerts of `rules`.
    pub fn with_rules(target: SocketAddr, rules: &str) -> Self {
        Self::run(target, json!({}), rules, folder())
    }

    fn run(target: SocketAddr, mut scrape: Value, rules: &str, folder: PathBuf) -> Self {
        let address = free_address();
        let of = |name: &str| folder.join(name).display().to_string();
        scrape["job_name"] = "service".into();
        scrape["static_configs"] = json!([{ "targets": [target.to_string()] }]);
        // YAML is a superset of JSON.
        let configuration = json!({
            "global": {
                "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s",
            },
            "rule_files": [of("rules.yml")],
            "scrape_configs": [scrape],
        });
        fs::write(of("rules.yml"), rules).unwrap();
        fs::write(of("prometheus.yml"), configuration.to_string()).unwrap();
        let arguments = [
            format!("--config.file={}", of("prometheus.yml")),
            format!("--storage.tsdb.path={}", of("data")),
            format!("--web.listen-address={address}"),
        ];
        let process = start("prometheus", &arguments.each_ref().map(String::as_str), &folder);
        Self { address, _process: process }
    }

    async fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let url = reqwest::Url::parse_with_params(&url, parameters).unwrap();
        let text = reqwest::get(url).await.ok()?.text().await.ok()?;
        let mut answer = serde_json::from_str::<Value>(&text).ok()?;
        assert_ne!(answer["status"], "error", "{path} {parameters:?}: {answer}");
        Some(answer["data"].take())
    }

    /// Returns the values of the series that `query` selects now.
    pub async fn query(&self, query: &str) -> Option<Vec<f64>> {
        let data = self.api("query", &[("query", query)]).await?;
        let value = |series: &Value| series["value"][1].as_str()?.parse().ok();
        data["result"].as_array()?.iter().map(value).collect()
    }

    /// Returns the names of the alerts that fire.
    pub async fn firing(&self) -> Option<BTreeSet<String>> {
        let data = self.api("alerts", &[]).await?;
        let firing = data["alerts"].as_array()?.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect()
    }

    /// Waits until the target's health is `health` and its last error contains `error`.
    pub async fn wait_for(&self, health: &str, error: &str) {
        let what = format!("the target is {health} ({error})");
        let seen = async || {
            let targets = self.api("targets", &[]).await?;
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
    let samples = async || {
        prometheus
            .query("operator_reconciliations_total")
            .await
            .filter(|samples| !samples.is_empty())
    };
    assert_eq!(eventually("there is a sample", samples).await, [42.0]);
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
