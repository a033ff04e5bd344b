//! Offline verification by the issuer's keys: no call per token, and rotated keys are fetched.
//!
//! `cargo run --example jwks` runs on the embedded cluster.

use std::error::Error;

use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier,
    testing::{Cluster, Endpoint},
    verdict::Verdict,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "checkout");
    let issue = || cluster.token("shop", "checkout").audience("orders").issue();

    // The API server gives keys and issuer; in a Pod, pass `ApiServer::try_default()`. Outside of a
    // cluster, use `JwksVerifier::discover`, `from_jwks`, `from_jwks_file` or `from_pem`.
    let verifier = JwksVerifier::in_cluster(cluster.kube_client()?)
        .unknown_key_cooldown(std::time::Duration::ZERO)
        .build()?;
    // Optional: fails the start if the keys cannot be fetched.
    verifier.refresh().await?;
    let auth = Authenticator::builder(verifier).audience("orders").build()?;

    for _ in 0..3 {
        show(&auth, &issue()?).await?;
    }
    println!(
        "three tokens, key fetches: {}, TokenReviews: {}",
        fetches(&cluster),
        cluster.calls(Endpoint::TokenReview)
    );
    assert_eq!((fetches(&cluster), cluster.calls(Endpoint::TokenReview)), (1, 0));

    let old = issue()?;
    cluster.rotate()?;
    let new = issue()?;
    println!("the key was rotated; a token of the new key and one of the old:");
    show(&auth, &new).await?;
    show(&auth, &old).await?;
    println!("key fetches: {}", fetches(&cluster));
    assert_eq!(fetches(&cluster), 2);
    Ok(())
}

async fn show(auth: &Authenticator, token: &str) -> Result<(), Box<dyn Error>> {
    match auth.authenticate(BearerToken::parse(token)?).await? {
        Verdict::Accept(acceptance) => println!("accepted: {}", acceptance.identity()),
        Verdict::Reject(reason) => return Err(format!("rejected: {reason}").into()),
    }
    Ok(())
}

fn fetches(cluster: &Cluster) -> u64 {
    cluster.calls(Endpoint::Jwks)
}
