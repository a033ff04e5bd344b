//! Every query of the dashboard of examples/observability returns data from a service that uses
//! everything.

use std::{fs, process::Command};

use tower_kube_auth::{
    Authenticator, JwksVerifier, LiveObjects, LocalReviewVerifier, TokenReviewVerifier,
    VerifierExt,
    client::{ProjectedToken, TokenSource},
};

use crate::{
    alerts::{Service, start_cluster},
    process::{eventually, folder},
};

pub async fn answers() {
    let cluster = start_cluster().await;
    let client = cluster.kube_client().unwrap();
    let keys = JwksVerifier::in_cluster(client.clone()).build().unwrap();
    let live_objects = LiveObjects::builder(cluster.admin_client().unwrap()).build().unwrap();
    let review = TokenReviewVerifier::new(client.clone());
    let verifier = LocalReviewVerifier::new(keys, live_objects.clone())
        .or_when_inconclusive(review.clone())
        .or_when_unavailable(review);
    let service = Service::start(&cluster, Authenticator::builder(verifier), client).await;
    live_objects.synced().await;
    let folder = folder();
    let source = ProjectedToken::new(folder.join("token"));
    cluster.write_projected_volume(&folder, &service.token()).unwrap();
    service.auth.check().await;

    // Secrets are not watched, so that a token that is bound to one is inconclusive.
    cluster.create_secret("shop", "anchor");
    let of_secret =
        || cluster.token("shop", "checkout").audience("orders").bound_to_secret("anchor");
    let known = service.token();
    for query in queries() {
        let numbers = async || {
            source.token().await.unwrap();
            cluster.create_pod("shop", &format!("job-{}", fastrand::u64(..)), "checkout");
            assert_eq!(service.request(&known).await.status(), 200);
            assert_eq!(service.request(&of_secret().issue().unwrap()).await.status(), 200);
            assert_eq!(service.request("forged").await.status(), 401);
            let values = service.prometheus.query(&query).await?;
            values.iter().any(|value| value.is_finite()).then_some(())
        };
        eventually(&query, numbers).await;
    }
    fs::remove_dir_all(folder).unwrap();
}

fn queries() -> Vec<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new("python3")
        .arg(".ci/dashboard-queries")
        .args(["examples/observability/dashboard.json", "10s"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let queries: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert!(queries.len() > 20, "{queries:?}");
    queries
}
