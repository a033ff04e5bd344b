//! JWKS verification end to end: keys from the API server, and from an issuer over HTTPS.

use std::time::Duration;

use axum::http::StatusCode;
use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier, ServiceAccountIdentity, TokenReviewVerifier,
    Verifier,
    audience::Audiences,
    error::VerifyErrorKind,
    testing::{Algorithm, Cluster, Endpoint, Fault},
    verdict::{RejectReason, Verdict},
};

use crate::support::{Service, bearer, token_leaks};

async fn cluster() -> Cluster {
    token_leaks::watch();
    let cluster = Cluster::start().await.unwrap();
    cluster.create_service_account("shop", "checkout");
    cluster
}

fn token(cluster: &Cluster) -> String {
    cluster.token("shop", "checkout").audience("orders").issue().unwrap()
}

fn service(verifier: JwksVerifier) -> Service {
    Service::new(&Authenticator::builder(verifier).audience("orders").build().unwrap())
}

async fn verify(verifier: &impl Verifier, token: &str) -> Verdict {
    let audiences = Audiences::new(["orders"]).unwrap();
    verifier.verify(BearerToken::parse(token).unwrap(), &audiences).await.unwrap()
}

async fn accepted(verifier: &impl Verifier, token: &str) -> ServiceAccountIdentity {
    match verify(verifier, token).await {
        Verdict::Accept(acceptance) => acceptance.identity().clone(),
        Verdict::Reject(reason) => panic!("{reason}"),
    }
}

#[tokio::test]
async fn both_verifiers_return_the_same_identity() {
    for release in
        [tower_kube_auth::testing::Release::V1_20, tower_kube_auth::testing::Release::V1_36]
    {
        let cluster = Cluster::builder().release(release).start().await.unwrap();
        cluster.create_service_account("shop", "checkout");
        cluster.create_pod_on_node("shop", "checkout-1", "checkout", "worker-1");
        let review = TokenReviewVerifier::new(cluster.kube_client().unwrap());
        let offline = JwksVerifier::in_cluster(cluster.kube_client().unwrap()).build().unwrap();
        let plain = token(&cluster);
        let bound = cluster
            .token("shop", "checkout")
            .audience("orders")
            .audience("x")
            .bound_to_pod("checkout-1");
        for token in [plain, bound.issue().unwrap()] {
            assert_eq!(
                accepted(&review, &token).await,
                accepted(&offline, &token).await,
                "{release:?}"
            );
        }
    }
}

#[tokio::test]
async fn keys_and_issuer_come_from_the_api_server_and_no_review_is_made() {
    let cluster = cluster().await;
    let verifier = JwksVerifier::in_cluster(cluster.kube_client().unwrap()).build().unwrap();
    let service = service(verifier);
    for _ in 0..5 {
        assert_eq!(service.get(&token(&cluster)).await.status, StatusCode::OK);
    }
    assert_eq!((cluster.calls(Endpoint::Jwks), cluster.calls(Endpoint::Discovery)), (1, 1));
    assert_eq!(cluster.calls(Endpoint::TokenReview), 0);
}

#[tokio::test]
async fn the_advertised_jwks_uri_of_a_cluster_is_never_followed() {
    token_leaks::watch();
    let elsewhere = Cluster::start().await.unwrap();
    let uri = format!("{}/openid/v1/jwks", elsewhere.url());
    let cluster = Cluster::builder().jwks_uri(uri).start().await.unwrap();
    cluster.create_service_account("shop", "checkout");
    let verifier = JwksVerifier::in_cluster(cluster.kube_client().unwrap()).build().unwrap();
    accepted(&verifier, &token(&cluster)).await;
    assert_eq!((cluster.calls(Endpoint::Jwks), elsewhere.calls(Endpoint::All)), (1, 0));
}

#[tokio::test]
async fn without_the_right_to_discovery_503_and_a_log_line_with_the_role() {
    let cluster = cluster().await;
    cluster.revoke_issuer_discovery();
    cluster.create_service_account("shop", "orders");
    let own = cluster.token("shop", "orders").issue().unwrap();
    let verifier = JwksVerifier::in_cluster(cluster.client_for(own).unwrap()).build().unwrap();
    assert_eq!(verifier.refresh().await.unwrap_err().kind(), VerifyErrorKind::Forbidden);
    let service = service(verifier);
    assert_eq!(
        service.blocked(bearer(&token(&cluster))).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(token_leaks::logged("system:service-account-issuer-discovery"));
}

/// It would match a token with `"iss": ""`.
#[tokio::test]
async fn a_discovery_document_with_an_empty_issuer_loads_nothing() {
    let cluster = cluster().await;
    let document = serde_json::json!({ "issuer": "", "jwks_uri": format!("{}/openid/v1/jwks", cluster.url()) });
    cluster.set_fault(Endpoint::Discovery, Fault::Body(document.to_string()));
    let verifier = JwksVerifier::in_cluster(cluster.kube_client().unwrap()).build().unwrap();
    let error = verifier.refresh().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("empty issuer")),
        (VerifyErrorKind::InvalidResponse, true)
    );
    let mut claims = cluster.token("shop", "checkout").audience("orders").claims().unwrap();
    claims["iss"] = "".into();
    let service = service(verifier);
    let rejected = service.blocked(bearer(&cluster.mint(&claims))).await;
    assert_eq!(rejected.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(rejected.header("retry-after").is_some());
}

#[tokio::test]
async fn a_key_hidden_from_discovery_is_rejected_by_jwks_only() {
    let cluster = cluster().await;
    cluster.hide_from_discovery(&cluster.signing_key());
    let offline = JwksVerifier::in_cluster(cluster.kube_client().unwrap())
        .unknown_key_cooldown(Duration::ZERO)
        .build()
        .unwrap();
    assert_eq!(verify(&offline, &token(&cluster)).await, Verdict::Reject(RejectReason::UnknownKey));
    accepted(&TokenReviewVerifier::new(cluster.kube_client().unwrap()), &token(&cluster)).await;
}

#[tokio::test]
async fn es384_is_accepted_only_if_allowed() {
    let cluster = Cluster::builder().signing_algorithm(Algorithm::ES384).start().await.unwrap();
    cluster.create_service_account("shop", "checkout");
    let by_default = JwksVerifier::in_cluster(cluster.kube_client().unwrap()).build().unwrap();
    // No key can be used, so nothing is known about the token.
    let error = by_default.refresh().await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::InvalidResponse);
    assert!(error.to_string().contains("see algorithms()"), "{error}");
    let answer = service(by_default).blocked(bearer(&token(&cluster))).await;
    answer.assert_unavailable();
    let allowed = [tower_kube_auth::verifier::jwks::Algorithm::ES384];
    let verifier = JwksVerifier::in_cluster(cluster.kube_client().unwrap())
        .algorithms(allowed)
        .build()
        .unwrap();
    accepted(&verifier, &token(&cluster)).await;
}

/// Starts a cluster that serves discovery anonymously at its issuer's URL, as public issuers do.
async fn public_issuer() -> Cluster {
    token_leaks::watch();
    let cluster = Cluster::builder().issuer_at_own_url().start().await.unwrap();
    cluster.allow_anonymous_discovery();
    cluster.create_service_account("shop", "checkout");
    cluster
}

#[tokio::test]
async fn an_issuer_is_discovered_over_https_with_a_private_ca() {
    let cluster = public_issuer().await;
    let verifier = JwksVerifier::discover(cluster.issuer())
        .root_certificate(cluster.ca_pem())
        .build()
        .unwrap();
    assert_eq!(accepted(&verifier, &token(&cluster)).await.issuer(), Some(cluster.issuer()));
    assert_eq!((cluster.calls(Endpoint::Discovery), cluster.calls(Endpoint::Jwks)), (1, 1));
}

#[tokio::test]
async fn an_issuer_with_an_unknown_ca_receives_no_request() {
    let cluster = public_issuer().await;
    let verifier = JwksVerifier::discover(cluster.issuer()).build().unwrap();
    assert_eq!(verifier.refresh().await.unwrap_err().kind(), VerifyErrorKind::Unavailable);
    assert_eq!(cluster.calls(Endpoint::Discovery), 0);
}

#[tokio::test]
async fn a_discovery_document_must_name_the_issuer_and_an_https_key_url() {
    let cluster = public_issuer().await;
    let good_keys = format!("{}/openid/v1/jwks", cluster.url());
    for (issuer, keys, complaint) in [
        ("https://other.example", &*good_keys, "is for the issuer https://other.example"),
        (&*format!("{}/", cluster.issuer()), &*good_keys, "is for the issuer"),
        (cluster.issuer(), "http://127.0.0.1:1/jwks", "not an https URL"),
        (cluster.issuer(), "keys", "not a URL"),
    ] {
        let document = serde_json::json!({ "issuer": issuer, "jwks_uri": keys }).to_string();
        cluster.set_fault(Endpoint::Discovery, Fault::Body(document));
        let verifier = JwksVerifier::discover(cluster.issuer())
            .root_certificate(cluster.ca_pem())
            .build()
            .unwrap();
        let error = verifier.refresh().await.unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::InvalidResponse);
        assert!(error.to_string().contains(complaint), "{error}");
    }
    assert_eq!(cluster.calls(Endpoint::Jwks), 0);
}

#[tokio::test]
async fn a_broken_or_oversized_answer_or_a_redirect_is_an_error() {
    let cluster = public_issuer().await;
    for fault in [
        Fault::BrokenJson,
        Fault::EmptyBody,
        Fault::HugeBody,
        Fault::CutConnection,
        Fault::Status { code: 302, retry_after: None },
        Fault::Status { code: 500, retry_after: None },
    ] {
        cluster.set_fault(Endpoint::Jwks, fault.clone());
        let verifier = JwksVerifier::discover(cluster.issuer())
            .root_certificate(cluster.ca_pem())
            .build()
            .unwrap();
        assert!(verifier.refresh().await.is_err(), "{fault:?}");
        cluster.clear_faults();
        verifier.refresh().await.unwrap();
        accepted(&verifier, &token(&cluster)).await;
    }
}
