//! kube's default client, whose own retries (`Config::default_retry`) must not run for the calls of
//! this crate, and the other ways to an `ApiServer`.
//!
//! `cargo test --test it default_client -- --nocapture` prints the table of faults.

use std::{ops::RangeInclusive, time::Duration};

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use tower_kube_auth::{
    ApiServer, Audiences, BearerToken, JwksVerifier, TokenReviewVerifier, Verdict, Verifier,
    VerifyError,
    client::{TokenRequestSource, TokenSource},
    error::VerifyErrorKind,
    testing::{Algorithm, Cluster, Endpoint, Fault, ManualClock},
};

use crate::support::drive;

struct Fixture {
    cluster: Cluster,
    clock: ManualClock,
    token: String,
    hanging_calls: u64,
}

impl Fixture {
    async fn new() -> Self {
        crate::support::token_leaks::watch();
        let clock = ManualClock::new();
        let builder = Cluster::builder().clock(clock.clock()).signing_algorithm(Algorithm::ES256);
        let cluster = builder.start().await.unwrap();
        cluster.create_service_account("shop", "checkout");
        let token = cluster.token("shop", "checkout").audience("orders").issue().unwrap();
        Self { cluster, clock, token, hanging_calls: 0 }
    }

    /// Sets the fault of the next `calls` reviews.
    fn set_fault(&mut self, fault: &Fault, calls: u64) {
        self.cluster.set_fault_times(Endpoint::TokenReview, fault.clone(), calls);
        self.hanging_calls = if *fault == Fault::Hang { calls } else { 0 };
    }

    /// Verifies a token, and returns the outcome, the seconds by the clock and the calls.
    async fn review(&self, api: impl Into<ApiServer>) -> (Result<Verdict, VerifyError>, f64, u64) {
        let verifier = TokenReviewVerifier::new(api).clock(self.clock.clock());
        let audiences = Audiences::new(["orders"]).unwrap();
        let token = BearerToken::parse(&self.token).unwrap();
        let mut seen = 0;
        let is_held = || {
            let before = std::mem::replace(&mut seen, self.cluster.calls(Endpoint::TokenReview));
            seen > before && seen <= self.hanging_calls
        };
        let work = verifier.verify(token, &audiences);
        let limit = Duration::from_secs(10);
        let (outcome, took) = drive(&self.clock, limit, is_held, work, async || ()).await;
        (outcome, took.as_secs_f64(), self.cluster.calls(Endpoint::TokenReview))
    }
}

fn status(code: u16, retry_after: Option<u64>) -> Fault {
    Fault::Status { code, retry_after }
}

#[tokio::test]
async fn the_default_client_leaves_retries_to_this_crate() {
    type Case = (Fault, VerifyErrorKind, Option<u64>, RangeInclusive<f64>, u64);
    let cases: [Case; 5] = [
        (status(503, None), VerifyErrorKind::Unavailable, None, 4.06..=4.88, 5),
        (status(429, Some(30)), VerifyErrorKind::RateLimited, Some(30), 0.0..=0.0, 1),
        // Pauses of 1, 1, 1.1 to 1.4 and 1.7 to 2 s: the back-off where that is longer.
        (status(429, Some(1)), VerifyErrorKind::RateLimited, Some(1), 4.81..=5.38, 5),
        (Fault::Hang, VerifyErrorKind::Timeout, None, 10.0..=10.0, 3),
        (Fault::CutConnection, VerifyErrorKind::Unavailable, None, 4.06..=4.88, 5),
    ];
    let mut table = "| fault | answer | seconds | calls |\n|---|---|---|---|".to_owned();
    for (fault, kind, retry_after, seconds, calls) in cases {
        let mut fixture = Fixture::new().await;
        fixture.set_fault(&fault, u64::MAX);
        let (outcome, took, called) = fixture.review(fixture.cluster.kube_client().unwrap()).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert_eq!(error.retry_after(), retry_after.map(Duration::from_secs), "{fault:?}");
        assert!(seconds.contains(&took), "{fault:?}: {took} s");
        assert_eq!(called, calls, "{fault:?}");
        table.push_str(&format!(
            "\n| {fault:?} | {}, retry after {:?} | {took:.1} | {called} |",
            kind.as_str(),
            error.retry_after()
        ));
    }
    eprintln!("{table}");
}

#[tokio::test]
async fn a_short_retry_after_is_obeyed_with_the_default_client() {
    let mut fixture = Fixture::new().await;
    fixture.set_fault(&status(429, Some(1)), 1);
    let (outcome, took, calls) = fixture.review(fixture.cluster.kube_client().unwrap()).await;
    assert!(matches!(outcome, Ok(Verdict::Accept(_))), "{outcome:?}");
    assert_eq!((took, calls), (1.0, 2));
}

#[tokio::test]
async fn a_hanging_connection_costs_one_attempt() {
    let mut fixture = Fixture::new().await;
    fixture.set_fault(&Fault::Hang, 1);
    let (outcome, took, calls) = fixture.review(fixture.cluster.kube_client().unwrap()).await;
    assert!(matches!(outcome, Ok(Verdict::Accept(_))), "{outcome:?}");
    assert!((3.5..=3.6).contains(&took), "{took} s");
    assert_eq!(calls, 2);
}

/// If this fails, kube no longer retries by default, and `ApiServer` need not prevent it.
#[tokio::test]
async fn kube_still_retries_what_goes_past_this_crate() {
    let fixture = Fixture::new().await;
    fixture.cluster.set_fault_times(Endpoint::Jwks, status(503, None), 1);
    let client = fixture.cluster.kube_client().unwrap();
    let request = Request::get("/openid/v1/jwks").body(Vec::new()).unwrap();
    client.request_text(request).await.unwrap();
    assert_eq!(fixture.cluster.calls(Endpoint::Jwks), 2);
}

/// As with a client of another major of kube, which differs in its body type only.
#[tokio::test]
async fn all_calls_go_through_a_service_that_is_given() {
    let fixture = Fixture::new().await;
    let client = fixture.cluster.admin_client().unwrap();
    let api = ApiServer::from_service(tower::service_fn(move |request: Request<Bytes>| {
        let client = client.clone();
        async move { client.send(request.map(Into::into)).await }
    }));
    let (outcome, ..) = fixture.review(api.clone()).await;
    assert!(matches!(outcome, Ok(Verdict::Accept(_))), "{outcome:?}");
    let keys = JwksVerifier::in_cluster(api.clone()).build().unwrap();
    keys.refresh().await.unwrap();
    let source = TokenRequestSource::builder(api).namespace("shop").service_account("checkout");
    source.audience("orders").build().unwrap().token().await.unwrap();
}

/// A service with a body and an error of its own.
#[tokio::test]
async fn a_service_needs_nothing_of_kube() {
    let fixture = Fixture::new().await;
    let user = serde_json::json!({
        "username": "system:serviceaccount:shop:checkout",
        "uid": "u",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
    });
    let status =
        serde_json::json!({ "authenticated": true, "audiences": ["orders"], "user": user });
    let answer = serde_json::json!({ "status": status }).to_string();
    let api = ApiServer::from_service(tower::service_fn(move |request: Request<Bytes>| {
        assert_eq!(request.uri(), "/apis/authentication.k8s.io/v1/tokenreviews");
        let body = Full::<Bytes>::from(answer.clone());
        async move { Ok::<_, std::io::Error>(Response::new(body)) }
    }));
    let (outcome, ..) = fixture.review(api).await;
    assert!(matches!(outcome, Ok(Verdict::Accept(_))), "{outcome:?}");
}

#[tokio::test]
async fn url_ca_file_and_token_file_are_enough() {
    let fixture = Fixture::new().await;
    let folder = std::env::temp_dir().join(format!("tower-kube-auth-{:08x}", fastrand::u32(..)));
    let own = fixture.cluster.token("kube-auth", "verifier").issue().unwrap();
    fixture.cluster.write_projected_volume(&folder, &own).unwrap();
    let url = format!("https://{}", fixture.cluster.address());
    let api = ApiServer::from_parts(&url, folder.join("ca.crt"), folder.join("token")).unwrap();
    let (outcome, ..) = fixture.review(api).await;
    assert!(matches!(outcome, Ok(Verdict::Accept(_))), "{outcome:?}");

    let plain = url.replace("https", "http");
    for (url, file, hint) in
        [(&*plain, "token", "https://"), ("", "token", "URL"), (&*url, "missing", "missing")]
    {
        let error = ApiServer::from_parts(url, folder.join("ca.crt"), folder.join(file));
        let error = error.unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
        assert!(!format!("{error} {error:?}").contains(&own[..20]));
    }
    std::fs::remove_dir_all(folder).unwrap();
}
