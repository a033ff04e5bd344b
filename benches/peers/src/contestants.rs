//! The contestants, each in front of the same handler and configured as documented, to check
//! issuer, audience and expiry.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use http_body_util::BodyExt;
use jwt_authorizer::{IntoLayer, JwtAuthorizer, JwtClaims, RegisteredClaims};
use limes::{Authentication, axum::authentication_middleware, jwks::JWKSWebAuthenticator};
use serde_json::{Value, json};
use token_review::k8s_openapi::api::authentication::v1::{TokenReviewSpec, TokenReviewStatus};
use tower::Service;
use tower_kube_auth::{
    Authenticator, BearerToken, JwksVerifier, ServiceAccountIdentity, verdict::Verdict,
};
use tower_oauth2_resource_server::{
    claims::DefaultClaims, server::OAuth2ResourceServer, tenant::TenantConfiguration,
    validation::ClaimsValidationSpec,
};

use crate::tokens::{AUDIENCE, Issuer};

pub const OURS: &str = "tower-kube-auth";

/// The check of the bare routers.
pub const NOTHING: &str = "-";

type Answers = Pin<Box<dyn Future<Output = (u16, Duration)> + Send>>;

pub struct Contestant {
    pub name: &'static str,
    pub verifies: &'static str,
    /// The position of the bare router with the same axum version.
    pub bare: usize,
    pub address: std::net::SocketAddr,
    call: Box<dyn FnMut(&str, usize) -> Answers + Send>,
}

impl Contestant {
    pub async fn send(&mut self, token: &str) -> u16 {
        (self.call)(token, 1).await.0
    }

    /// Sends requests and returns the time from the first call to the last answer.
    pub async fn turn(&mut self, token: &str, requests: usize) -> Duration {
        let (status, elapsed) = (self.call)(token, requests).await;
        assert_eq!(status, 200);
        elapsed
    }
}

/// Generic over the axum version, because each has its own body type.
macro_rules! contestant {
    ($axum:ident, $name:expr, $verifies:expr, $bare:expr, $router:expr) => {{
        let router: $axum::Router = $router;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = router.clone();
        tokio::spawn(async { $axum::serve(listener, served).await });
        let call = move |token: &str, requests: usize| -> Answers {
            let (mut router, token) = (router.clone(), format!("Bearer {token}"));
            Box::pin(async move {
                let request = || {
                    let request =
                        $axum::http::Request::get("/").header("authorization", token.as_str());
                    request.body($axum::body::Body::empty()).expect("a request")
                };
                let requests: Vec<_> = (0..requests).map(|_| request()).collect();
                let mut status = 0;
                let start = Instant::now();
                for request in requests {
                    status =
                        router.call(request).await.expect("a router never fails").status().as_u16();
                }
                (status, start.elapsed())
            })
        };
        Contestant { name: $name, verifies: $verifies, bare: $bare, address, call: Box::new(call) }
    }};
}

pub async fn all(issuer: &Issuer) -> Vec<Contestant> {
    let hello = || Router::new().route("/", get(async || "hello"));
    let old_hello = || axum07::Router::new().route("/", axum07::routing::get(|| async { "hello" }));
    let verifier = || {
        JwksVerifier::from_jwks(issuer.jwks()).issuer(&issuer.url).build().expect("good options")
    };
    let ours = Authenticator::builder(verifier()).audience(AUDIENCE).build().expect("good options");
    let builder = Authenticator::builder(verifier()).audience(AUDIENCE).cache_ttl(Duration::ZERO);
    let uncached = builder.reject_ttl(Duration::ZERO).build().expect("good options");
    let by_hand = ByHand {
        cache: moka::future::Cache::builder().max_capacity(10_000).build(),
        verifier: uncached.clone(),
    };
    let caller = || Router::new().route("/", get(async |_: ServiceAccountIdentity| "hello"));

    let limes = JWKSWebAuthenticator::new(&issuer.url, Some(Duration::from_secs(600)))
        .await
        .expect("discovery");
    let limes = limes.set_accepted_audiences(vec![AUDIENCE.into()]);
    let limes_router = Router::new()
        .route("/", get(async |_: Extension<Authentication>| "hello"))
        .layer(from_fn_with_state(limes, authentication_middleware::<JWKSWebAuthenticator>));

    let validation = jwt_authorizer::Validation::new().iss(&[&issuer.url]).aud(&[AUDIENCE]);
    let jwt: JwtAuthorizer = JwtAuthorizer::from_jwks_text(&issuer.jwks());
    let jwt = jwt.validation(validation).build().await.expect("good options");
    let jwt_handler = |JwtClaims(_): JwtClaims<RegisteredClaims>| async { "hello" };
    let jwt_router =
        axum07::Router::new().route("/", axum07::routing::get(jwt_handler)).layer(jwt.into_layer());

    let audiences = vec![AUDIENCE.to_owned()];
    let tenant = TenantConfiguration::static_builder(issuer.jwks()).audiences(&audiences);
    let tenant =
        tenant.claims_validation(ClaimsValidationSpec::recommended(&issuer.url, &audiences));
    let oauth2 = <OAuth2ResourceServer<DefaultClaims>>::builder()
        .add_tenant(tenant.build().expect("a tenant"));
    let oauth2 = oauth2.build().await.expect("good options");
    let oauth2_router = Router::new()
        .route("/", get(async |_: Extension<DefaultClaims>| "hello"))
        .layer(oauth2.into_layer());

    let review = token_review::Client::new(api_server(issuer.good.clone()));
    let review_router = Router::new()
        .route("/", get(async |_: Extension<Arc<TokenReviewStatus>>| "hello"))
        .layer(from_fn_with_state(review, token_review_middleware));
    let by_hand_router = Router::new()
        .route("/", get(async |_: Extension<Arc<str>>| "hello"))
        .layer(from_fn_with_state(by_hand, ByHand::authenticate));
    vec![
        contestant!(axum, "bare axum 0.8", NOTHING, 0, hello()),
        contestant!(axum07, "bare axum 0.7", NOTHING, 1, old_hello()),
        contestant!(axum, OURS, "JWKS, cached", 0, caller().layer(ours.layer())),
        contestant!(axum, "moka by hand", "JWKS, cached", 0, by_hand_router),
        contestant!(axum, "token-review 0.3", "TokenReview, cached", 0, review_router),
        contestant!(
            axum,
            "tower-kube-auth, cache off",
            "JWKS",
            0,
            caller().layer(uncached.layer())
        ),
        contestant!(axum07, "jwt-authorizer 0.15", "JWKS", 1, jwt_router),
        contestant!(axum, "tower-oauth2-resource-server 0.12", "JWKS", 0, oauth2_router),
        contestant!(axum, "limes 0.6", "JWKS", 0, limes_router),
    ]
}

fn bearer(request: &Request) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// A hand-written cache: `from_fn`, and a moka future cache keyed by the token.
#[derive(Clone)]
struct ByHand {
    cache: moka::future::Cache<String, Arc<str>>,
    verifier: Authenticator,
}

impl ByHand {
    async fn authenticate(
        State(this): State<Self>,
        mut request: Request,
        next: Next,
    ) -> Result<Response, StatusCode> {
        let token = bearer(&request).ok_or(StatusCode::UNAUTHORIZED)?;
        let identity = match this.cache.get(token).await {
            Some(identity) => identity,
            None => {
                let parsed = BearerToken::parse(token).map_err(|_| StatusCode::BAD_REQUEST)?;
                let Ok(Verdict::Accept(accepted)) = this.verifier.authenticate(parsed).await else {
                    return Err(StatusCode::UNAUTHORIZED);
                };
                let identity: Arc<str> = accepted.identity().username().into();
                this.cache.insert(token.to_owned(), identity.clone()).await;
                identity
            }
        };
        request.extensions_mut().insert(identity);
        Ok(next.run(request).await)
    }
}

/// A layer for token-review, which has none.
async fn token_review_middleware(
    State(mut client): State<token_review::Client>,
    mut request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let token = bearer(&request).ok_or(StatusCode::UNAUTHORIZED)?.to_owned();
    let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.into()]), token: Some(token) };
    match client.call(spec).await {
        Ok(Some(status)) if status.authenticated == Some(true) => {
            request.extensions_mut().insert(Arc::new(status));
            Ok(next.run(request).await)
        }
        _ => Err(StatusCode::UNAUTHORIZED),
    }
}

/// An in-memory API server that authenticates one token.
fn api_server(good: String) -> token_review::kube::Client {
    let service = tower::service_fn(
        move |request: axum::http::Request<token_review::kube::client::Body>| {
            let good = good.clone();
            async move {
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let review: Value = serde_json::from_slice(&body).expect("a TokenReview");
                let status = match review["spec"]["token"] == good {
                    true => json!({
                        "authenticated": true,
                        "audiences": [AUDIENCE],
                        "user": {"username": "system:serviceaccount:shop:checkout", "groups": ["system:serviceaccounts"]},
                    }),
                    false => json!({"authenticated": false}),
                };
                let answer = json!({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": status,
                });
                let response = axum::http::Response::builder()
                    .status(201)
                    .body(Body::from(answer.to_string()));
                Ok::<_, Infallible>(response.expect("a response"))
            }
        },
    );
    token_review::kube::Client::new(service, "default")
}
