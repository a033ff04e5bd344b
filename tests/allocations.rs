//! The allocations, clones and boxes of a request. A separate binary, because the counting
//! allocator is global to the process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation fails the test")]

use std::{
    any::type_name,
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::UNIX_EPOCH,
};

use allocation_counter::measure;
use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower::{Layer, Service, service_fn};
use tower_kube_auth::{
    ApiServer, Authenticator, BearerToken, JwksVerifier, ServiceAccountIdentity, Verifier,
    audience::Audiences,
    authorizer::{AllowList, Authorizer, SubjectAccessReviewAuthorizer},
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    identity::UserInfo,
    server::{Authenticate, AuthorizeLayer},
    testing::{Algorithm, IdentityBuilder, SigningKey},
    verdict::{Acceptance, RejectReason, Verdict},
};

const ISSUER: &str = "https://issuer.example";

/// Accepts every token.
struct Accepting;

impl Verifier for Accepting {
    async fn verify(
        &self,
        _: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let user = UserInfo::service_account("ns", "sa", "uid");
        Ok(Verdict::Accept(Acceptance::builder(user, ["api"]).build(audiences).unwrap()))
    }
}

/// An inner service that counts its clones and its calls.
#[derive(Default)]
struct Counting {
    clones: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Clone for Counting {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::SeqCst);
        Self { clones: self.clones.clone(), calls: self.calls.clone() }
    }
}

impl Service<Request<Body>> for Counting {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let known = request.extensions().get::<ServiceAccountIdentity>().is_some();
        ready(Ok(Response::builder()
            .status(if known { 200 } else { 500 })
            .body(Body::empty())
            .unwrap()))
    }
}

fn service(verifier: impl Verifier) -> Authenticate<Counting> {
    Authenticator::builder(verifier)
        .audience("api")
        .build()
        .unwrap()
        .layer()
        .layer(Counting::default())
}

fn request(token: &str) -> Request<Body> {
    let credential = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    Request::get("/").header(header::AUTHORIZATION, credential).body(Body::empty()).unwrap()
}

fn claims() -> Value {
    let now = Clock::system().wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": ISSUER, "sub": "system:serviceaccount:ns:sa", "aud": ["api"], "exp": now + 3600, "iat": now, "nbf": now,
        "jti": "6b2f7c9e-0000-4000-8000-000000000000",
        "kubernetes.io": {
            "namespace": "ns",
            "serviceaccount": {"name": "sa", "uid": "u"},
            "pod": {"name": "p", "uid": "u"},
            "node": {"name": "n", "uid": "u"},
        },
    })
}

/// Returns the allocations of one call that answers at once with `status`.
fn allocations<S>(service: &mut S, request: Request<Body>, status: StatusCode) -> u64
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let mut answered = None;
    let used = measure(|| {
        let future = pin!(service.call(request));
        answered = match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => Some(response),
            _ => None,
        };
    });
    assert_eq!(answered.unwrap().status(), status);
    used.count_total
}

/// Returns the allocations of inserting an `Arc` into the extensions and calling the inner service.
fn floor() -> u64 {
    let (mut inner, mut request, identity) =
        (Counting::default(), request("a.b.c"), Arc::new(1_u64));
    measure(|| {
        request.extensions_mut().insert(identity);
        let Poll::Ready(response) =
            pin!(inner.call(request)).poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("the call is pending")
        };
        drop(response);
    })
    .count_total
}

#[test]
fn a_hit_allocates_nothing_beyond_the_insertion_into_the_extensions() {
    let (mut service, token) = (service(Accepting), "e30.eyJhdWQiOiJhcGkifQ.c2ln");
    allocations(&mut service, request(token), StatusCode::OK);
    let floor = floor();
    assert!(floor > 0, "the counter works");
    for _ in 0..100 {
        let hit = allocations(&mut service, request(token), StatusCode::OK);
        assert!(hit <= floor, "a hit makes {hit} allocations, the floor {floor}");
    }
}

fn authenticated() -> Request<Body> {
    let mut request = request("a.b.c");
    request.extensions_mut().insert(IdentityBuilder::new("shop", "checkout").build());
    request
}

/// Returns the allocations of a request that `authorizer` allows from memory.
fn authorized(authorizer: impl Authorizer) -> u64 {
    let mut service = AuthorizeLayer::new(authorizer).layer(Counting::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime.block_on(service.call(authenticated())).unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    (0..10).map(|_| allocations(&mut service, authenticated(), StatusCode::OK)).min().unwrap()
}

#[test]
fn an_authorize_layer_adds_no_allocation_where_the_decision_is_in_memory() {
    let without = allocations(&mut Counting::default(), authenticated(), StatusCode::OK);
    assert_eq!(authorized(AllowList::new(["shop/checkout", "ops/*"]).unwrap()), without);
    let allows = service_fn(async |_: Request<axum::body::Bytes>| {
        Ok::<_, Infallible>(Response::new(Body::from(r#"{"status":{"allowed":true}}"#)))
    });
    let review = SubjectAccessReviewAuthorizer::new(ApiServer::from_service(allows));
    assert_eq!(authorized(review), without, "a cached SubjectAccessReview");
}

#[test]
fn a_hit_does_not_clone_the_inner_service() {
    let (clones, calls) = (Arc::default(), Arc::default());
    let inner = Counting { clones: Arc::clone(&clones), calls: Arc::clone(&calls) };
    let layer = Authenticator::builder(Accepting).audience("api").build().unwrap().layer();
    let mut service = layer.layer(inner);
    for _ in 0..10 {
        allocations(&mut service, request("e30.eyJhdWQiOiJhcGkifQ.c2ln"), StatusCode::OK);
    }
    assert_eq!((calls.load(Ordering::SeqCst), clones.load(Ordering::SeqCst)), (10, 0));
}

#[test]
fn the_future_of_a_hit_is_unboxed_and_hardly_larger_than_the_inner_one() {
    type Future = <Authenticate<Counting> as Service<Request<Body>>>::Future;
    let name = type_name::<Future>();
    assert!(name.contains("::ResponseFuture<"), "not a box: {name}");
    // An enum of the inner future, a boxed future with the service, and a response.
    assert!(size_of::<Future>() <= size_of::<Ready<Result<Response<Body>, Infallible>>>() + 16);
}

#[test]
fn a_miss_with_a_known_key_makes_a_bounded_number_of_allocations() {
    let key = SigningKey::generate(Algorithm::ES256).unwrap();
    let tokens: Vec<_> = (0..20).map(|_| key.sign(&key.header(), &claims())).collect();
    let verifier = JwksVerifier::from_pem(key.public_key_pem()).issuer(ISSUER).build().unwrap();
    let mut service = service(verifier);
    let counted: Vec<_> = tokens
        .iter()
        .map(|token| allocations(&mut service, request(token), StatusCode::OK))
        .collect();
    // The median, because the first calls set up tables and some calls run moka's maintenance.
    let mut sorted = counted.clone();
    sorted.sort_unstable();
    assert!(sorted[sorted.len() / 2] <= MISS, "{counted:?}");
}

/// For the decoded parts, the audiences, the identity, the cache entry and moka's bookkeeping.
const MISS: u64 = 55;

#[test]
fn a_rejection_makes_a_bounded_number_of_allocations() {
    let key = SigningKey::generate(Algorithm::ES256).unwrap();
    let verifier = JwksVerifier::from_pem(key.public_key_pem()).issuer(ISSUER).build().unwrap();
    let mut service = service(verifier);
    let none = || Request::get("/").body(Body::empty()).unwrap();
    let stranger = SigningKey::generate(Algorithm::ES256).unwrap();
    let forged = stranger.sign(&key.header(), &claims());
    for _ in 0..3 {
        allocations(&mut service, none(), StatusCode::UNAUTHORIZED);
        allocations(&mut service, request(&forged), StatusCode::UNAUTHORIZED);
    }
    let anonymous = allocations(&mut service, none(), StatusCode::UNAUTHORIZED);
    let remembered = allocations(&mut service, request(&forged), StatusCode::UNAUTHORIZED);
    let malformed = allocations(&mut service, request("two words"), StatusCode::BAD_REQUEST);
    assert!(
        anonymous.max(remembered).max(malformed) <= REJECTION,
        "{anonymous} {remembered} {malformed}"
    );
}

/// For the header map, the challenge and the body.
const REJECTION: u64 = 10;

/// Rejects all tokens, or fails for all.
struct Failing(Result<RejectReason, VerifyErrorKind>);

impl Verifier for Failing {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
        self.0.map(Verdict::Reject).map_err(|kind| VerifyError::new(kind, "down"))
    }
}

/// A thousand rejections remain of a hundred thousand tokens: their digests, not the tokens.
#[test]
fn the_memory_left_after_a_flood_is_bounded() {
    for (verifier, status) in [
        (Failing(Ok(RejectReason::Signature)), StatusCode::UNAUTHORIZED),
        (Failing(Err(VerifyErrorKind::Unavailable)), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let mut kept = None;
        let used = measure(|| {
            let mut service = service(verifier);
            for number in 0..100_000 {
                let token = format!(
                    "e30.{}.c2ln",
                    URL_SAFE_NO_PAD.encode(format!(r#"{{"aud":"api","jti":{number}}}"#))
                );
                let future = pin!(service.call(request(&token)));
                let Poll::Ready(Ok(response)) =
                    future.poll(&mut Context::from_waker(Waker::noop()))
                else {
                    panic!("the call is pending")
                };
                assert_eq!(response.status(), status);
            }
            kept = Some(service);
        });
        println!("{status}: {} bytes are left after 100 000 tokens", used.bytes_current);
        assert!(used.bytes_current <= AFTER_A_FLOOD, "{} bytes", used.bytes_current);
    }
}

/// For a thousand rejections, and moka's tables and pending maintenance.
const AFTER_A_FLOOD: i64 = 1_000_000;
