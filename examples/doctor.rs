//! Prints what a service needs from its cluster, whether it is there, and the remedy.
//!
//! `cargo run --example doctor` runs in a Pod or with a kubeconfig, and `--token FILE` also checks
//! a projected token. `--embedded` runs on an embedded cluster, `--embedded rights`,
//! `--embedded keys` or `--embedded server` on one that lacks these.
//!
//! Exit codes: 0 all needs are met, 1 some need is not met or there is no configuration of an API
//! server, 2 wrong use.

use std::{error::Error, process::ExitCode};

use tower_kube_auth::{
    ApiServer, Authenticator, JwksVerifier, TokenReviewVerifier, VerifierExt,
    authenticator::SelfCheck,
    authorizer::SubjectAccessReviewAuthorizer,
    client::ProjectedToken,
    testing::{Cluster, Endpoint, Fault},
};

const USAGE: &str = "usage: doctor [--token FILE] | doctor --embedded [rights|keys|server]";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => in_cluster(None).await,
        ["--token", file] => in_cluster(Some(file)).await,
        ["--embedded"] => embedded("").await,
        ["--embedded", missing @ ("rights" | "keys" | "server")] => embedded(missing).await,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

async fn in_cluster(token: Option<&str>) -> Result<bool, Box<dyn Error>> {
    diagnose(ApiServer::try_default().await?, token).await
}

/// Runs on an embedded cluster in which something is `missing`.
async fn embedded(missing: &str) -> Result<bool, Box<dyn Error>> {
    let cluster = Cluster::start().await?;
    match missing {
        "rights" => cluster.revoke(Cluster::VERIFIER),
        "keys" => cluster.revoke_issuer_discovery(),
        "server" => {
            cluster.set_fault(Endpoint::All, Fault::Status { code: 503, retry_after: Some(60) });
        }
        _ => {}
    }
    diagnose(cluster.kube_client()?.into(), None).await
}

async fn diagnose(api: ApiServer, token: Option<&str>) -> Result<bool, Box<dyn Error>> {
    let keys = JwksVerifier::in_cluster(api.clone()).build()?;
    let verifier = TokenReviewVerifier::new(api.clone()).or_when_unavailable(keys);
    let auth = Authenticator::builder(verifier).audience("doctor").build()?;
    let mut check = SelfCheck::new(&auth).authorizer(SubjectAccessReviewAuthorizer::new(api));
    if let Some(file) = token {
        check = check.token_source(ProjectedToken::new(file));
    }
    let readiness = check.run().await;
    print!("{readiness}");
    Ok(readiness.all_met())
}
