//! Layers in report-only mode: who gets through, as whom, and what is logged of it.

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
    routing::get,
};
use tower::ServiceExt;
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity,
    authorizer::{AllowList, AuthorizeErrorKind, Decision, authorize_fn},
    server::AuthorizeLayer,
    verdict::{RejectReason, Verdict},
};

use crate::support::{
    Behavior, FakeAuthorizer, FakeVerifier, Log, Service, anonymous, answer, bearer, denied, token,
    with_header,
};

const CALLER: &str = "system:serviceaccount:ns:sa";

fn reporting(authenticator: &Authenticator) -> Service {
    let layer = authenticator.layer().dangerous_report_only();
    Service::behind(move |router| router.layer(layer))
}

/// Rejects every token, after one suspension.
fn rejecting_asynchronously() -> FakeVerifier {
    FakeVerifier::scripted(async |_| {
        tokio::task::yield_now().await;
        Ok(Verdict::Reject(RejectReason::Audience))
    })
}

fn forged(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("x-remote-user", "system:admin".parse().unwrap());
    request
}

#[tokio::test]
async fn what_would_be_rejected_gets_through_without_an_identity() {
    let mut twice = bearer(&token("a"));
    twice.headers_mut().append(header::AUTHORIZATION, "Bearer b".parse().unwrap());
    let rejecting = || FakeVerifier::rejecting(RejectReason::Signature);
    for (verifier, request) in [
        (rejecting(), anonymous()),
        (rejecting(), bearer(&token("a"))),
        (rejecting(), bearer("no-jwt")),
        (rejecting(), with_header("authorization", "Bearer  two-spaces")),
        (rejecting(), twice),
        (rejecting_asynchronously(), bearer(&token("a"))),
        (FakeVerifier::failing(), bearer(&token("a"))),
    ] {
        let auth = verifier.authenticator();
        let answer = reporting(&auth).send(forged(request)).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "nobody []"));
        assert_eq!(auth.metrics().let_through, 1);
    }
}

#[tokio::test]
async fn what_would_be_accepted_has_its_identity_and_is_not_counted() {
    for verifier in [FakeVerifier::accepting(), FakeVerifier::accepting_asynchronously()] {
        let auth = verifier.authenticator();
        let service = reporting(&auth);
        for _ in ["miss", "hit"] {
            assert_eq!(
                service.send(forged(bearer(&token("a")))).await.body,
                format!("{CALLER} []")
            );
        }
        assert_eq!(auth.metrics().let_through, 0);
    }
}

#[tokio::test]
async fn a_rejected_token_loses_the_identity_of_an_outer_layer() {
    let outer = FakeVerifier::accepting().authenticator();
    for inner in [FakeVerifier::rejecting(RejectReason::Issuer), rejecting_asynchronously()] {
        let inner = inner.authenticator().layer().dangerous_report_only();
        let outer = outer.layer().keep_authorization();
        let service = Service::behind(|router| router.layer(inner).layer(outer));
        assert_eq!(service.get(&token("a")).await.body, "nobody []");
    }
}

#[tokio::test]
async fn a_handler_that_takes_the_identity_itself_still_answers_401() {
    let required = async |caller: ServiceAccountIdentity| caller.to_string();
    let optional = async |caller: Option<ServiceAccountIdentity>| format!("{:?}", caller.is_some());
    let auth = FakeVerifier::rejecting(RejectReason::Signature).authenticator();
    let router = Router::new().route("/", get(required)).route("/optional", get(optional));
    let router = router.layer(auth.layer().dangerous_report_only());
    let rejected = answer(router.clone().oneshot(bearer(&token("a"))).await.unwrap()).await;
    assert_eq!(rejected.status, StatusCode::UNAUTHORIZED);
    let mut request = bearer(&token("a"));
    *request.uri_mut() = "/optional".parse().unwrap();
    assert_eq!(answer(router.oneshot(request).await.unwrap()).await.body, "false");
}

/// Sends a request to a handler behind `layer`, behind an authenticate layer.
async fn through(layer: AuthorizeLayer, request: Request<Body>) -> (StatusCode, String) {
    let auth = FakeVerifier::accepting().authenticator().layer().optional();
    let service = Service::behind(|router| router.layer(layer).layer(auth));
    let answer = service.send(request).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn what_would_be_denied_gets_through_with_its_identity_and_is_counted() {
    let unavailable = AuthorizeErrorKind::Unavailable;
    for layer in [
        AuthorizeLayer::new(AllowList::new(["ns/other"]).unwrap()),
        AuthorizeLayer::new(authorize_fn(|_, _| denied())),
        AuthorizeLayer::new(authorize_fn(|_, _| -> Decision { panic!("on purpose") })),
        AuthorizeLayer::new(FakeAuthorizer(Ok(denied()))),
        AuthorizeLayer::new(FakeAuthorizer(Err(unavailable))),
    ] {
        let layer = layer.dangerous_report_only();
        let (status, body) = through(layer.clone(), bearer(&token("a"))).await;
        assert_eq!((status, body), (StatusCode::OK, format!("{CALLER} []")));
        assert_eq!(layer.let_through(), 1);
    }
    for layer in [AllowList::new(["ns/sa"]).unwrap(), AllowList::any_authenticated()] {
        let layer = AuthorizeLayer::new(layer).dangerous_report_only();
        assert_eq!(through(layer.clone(), bearer(&token("a"))).await.0, StatusCode::OK);
        assert_eq!(layer.let_through(), 0);
    }
}

#[tokio::test]
async fn a_request_without_an_identity_gets_through_if_both_layers_report_only() {
    let list = || AllowList::new(["ns/other"]).unwrap();
    let layer = AuthorizeLayer::new(list()).dangerous_report_only();
    assert_eq!(through(layer.clone(), anonymous()).await, (StatusCode::OK, "nobody []".into()));
    let service = Service::behind(|router| router.layer(layer.clone()));
    assert_eq!(service.send(anonymous()).await.status, StatusCode::OK, "no authenticate layer");
    assert_eq!(layer.let_through(), 2);

    // The authorize layer decides for itself.
    let auth = FakeVerifier::failing().authenticator().layer().dangerous_report_only();
    let service = Service::behind(|router| router.layer(AuthorizeLayer::new(list())).layer(auth));
    let answer = service.blocked(bearer(&token("a"))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn each_reason_of_a_rejection_warns_once_in_ten_seconds() {
    let verifier = rejecting_asynchronously();
    let auth = verifier.authenticator();
    let service = reporting(&auth);
    let (log, _watching) = Log::watch();
    for number in 0..200 {
        assert_eq!(service.get(&token(&number.to_string())).await.status, StatusCode::OK);
        assert_eq!(service.send(anonymous()).await.status, StatusCode::OK);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("reason=\"audience\""), "{}", lines[0]);
    assert!(lines[0].contains("status=401") && lines[0].contains("expected=api"), "{}", lines[0]);
    assert!(lines[1].contains("reason=\"missing_token\""), "{}", lines[1]);
    verifier.advance(10.0);
    verifier.set(Behavior::Reject);
    assert_eq!(service.send(anonymous()).await.status, StatusCode::OK);
    assert!(log.lines()[2].contains("suppressed=199"), "{:?}", log.lines());
    assert_eq!(auth.metrics().let_through, 401);
}

#[tokio::test]
async fn each_reason_of_a_denial_warns_once_with_the_caller_and_the_path() {
    let layer = AuthorizeLayer::new(authorize_fn(|_, _| denied())).dangerous_report_only();
    let auth = FakeVerifier::accepting().authenticator().layer();
    let service = Service::behind(|router| router.layer(layer.clone()).layer(auth));
    let (log, _watching) = Log::watch();
    for number in 0..100 {
        let mut request = bearer(&token(&number.to_string()));
        *request.method_mut() = Method::HEAD;
        assert_eq!(service.send(request).await.status, StatusCode::OK);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [CALLER, "method=HEAD", "path=\"/\"", "reason=\"custom\"", "status=403"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    assert_eq!(layer.let_through(), 100);
}
