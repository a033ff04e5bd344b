//! A verifier of one's own around one of this crate's: it lets only ServiceAccounts of listed namespaces through.

use std::{collections::BTreeSet, error::Error};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    routing::get,
};
use tower::ServiceExt;
use tower_kube_auth::{
    Authenticator, BearerToken, ServiceAccountIdentity, TokenReviewVerifier, Verifier,
    audience::Audiences,
    error::VerifyError,
    testing::Cluster,
    verdict::{RejectReason, Verdict},
};

struct OnlyNamespaces<V> {
    namespaces: BTreeSet<String>,
    inner: V,
}

impl<V: Verifier> Verifier for OnlyNamespaces<V> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        // `?` clock on trouble of the backend as what it is: undecided, answered with 503, and not cached.
        let verdict = self.inner.verify(token, audiences).await?;
        Ok(match verdict {
            Verdict::Accept(acceptance)
                if !self.namespaces.contains(acceptance.identity().namespace()) =>
            {
                Verdict::Reject(RejectReason::Denied)
            }
            verdict => verdict,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "checkout");
    cluster.create_service_account("guests", "visitor");

    let inner = TokenReviewVerifier::new(cluster.kube_client()?);
    let verifier = OnlyNamespaces { namespaces: BTreeSet::from(["shop".to_owned()]), inner };
    let auth = Authenticator::builder(verifier).audience("orders").build()?;
    let app = Router::new()
        .route("/", get(async |caller: ServiceAccountIdentity| format!("hello, {caller}")))
        .layer(auth.layer());

    for (namespace, name, expected) in
        [("shop", "checkout", StatusCode::OK), ("guests", "visitor", StatusCode::UNAUTHORIZED)]
    {
        let token = cluster.token(namespace, name).audience("orders").issue()?;
        let request = Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())?;
        let status = app.clone().oneshot(request).await?.status();
        println!("{namespace}/{name}: {status}");
        assert_eq!(status, expected);
    }
    Ok(())
}
