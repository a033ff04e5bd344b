//! A custom verifier around one of the crate's own: it rejects revoked credentials.
//!
//! A revoked credential does not authenticate its bearer, so the response is 401. What an
//! authenticated caller may do is the authorize layer's decision, whose denial is 403.

use std::{collections::HashSet, error::Error};

use axum::{Router, body::Body, http::Request, routing::get};
use tower::ServiceExt;
use tower_kube_auth::{
    Audiences, Authenticator, BearerToken, ServiceAccountIdentity, TokenReviewVerifier, Verdict,
    Verifier, VerifyError, authorizer::AllowList, inspect::UnverifiedToken, server::AuthorizeLayer,
    testing::Cluster, verdict::RejectReason,
};

struct RejectRevoked<V> {
    /// Credential ids as the API server's audit log has them.
    revoked: HashSet<String>,
    inner: V,
}

impl<V: Verifier> Verifier for RejectRevoked<V> {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        // `?` passes an infrastructure failure on: it is answered with 503 and is not cached.
        let verdict = self.inner.verify(token, audiences).await?;
        if let Verdict::Accept(acceptance) = &verdict {
            // A token without an id cannot be looked up, so it counts as revoked.
            let id = acceptance.identity().credential_id();
            if id.is_none_or(|id| self.revoked.contains(id)) {
                return Ok(Verdict::Reject(RejectReason::Denied));
            }
        }
        Ok(verdict)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "checkout");
    cluster.create_service_account("guests", "visitor");
    let issue = |namespace, name| cluster.token(namespace, name).audience("orders").issue();

    let leaked = issue("shop", "checkout")?;
    let verifier = RejectRevoked {
        revoked: HashSet::from([credential_id(&leaked)?]),
        inner: TokenReviewVerifier::new(cluster.kube_client()?),
    };
    let auth = Authenticator::builder(verifier).audience("orders").build()?;
    let app = Router::new()
        .route("/", get(async |caller: ServiceAccountIdentity| format!("hello, {caller}")))
        .layer(AuthorizeLayer::new(AllowList::new(["shop/*"])?))
        .layer(auth.layer());

    for (what, token, expected) in [
        ("shop/checkout", issue("shop", "checkout")?, 200),
        ("shop/checkout, revoked", leaked, 401),
        ("guests/visitor", issue("guests", "visitor")?, 403),
    ] {
        let request = Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())?;
        let status = app.clone().oneshot(request).await?.status();
        println!("{what}: {status}");
        assert_eq!(status, expected);
    }
    Ok(())
}

/// In a cluster, the API server's audit log names the credential id.
fn credential_id(token: &str) -> Result<String, Box<dyn Error>> {
    let unverified = UnverifiedToken::decode(token)?;
    let jti = unverified.claims().get("jti").and_then(|jti| jti.as_str());
    Ok(format!("JTI={}", jti.ok_or("the token has no id")?))
}
