//! Verifying offline, by the issuer's keys: no call for a token, and a rotation of the keys is followed by itself.
//!
//! `cargo run --example jwks` shows it on the embedded cluster.

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

    // Within a cluster: keys and issuer from the API server. Elsewhere: `JwksVerifier::discover("https://…")`, or keys at hand,
    // by `from_jwks`, `from_jwks_file` and `from_pem`.
    let verifier = JwksVerifier::in_cluster(cluster.kube_client()?)
        .unknown_key_cooldown(std::time::Duration::ZERO)
        .build()?;
    // Not needed, but a service that cannot have the keys had better not start.
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
