//! Each failure of each call to the API server: what callers get, after how long by the injected
//! clock, for how many calls, and that the service recovers by itself.
//!
//! `cargo test --test it fault_injection::matrix -- --nocapture` prints the matrix.

mod failing_cluster;
mod outcome;

use std::time::Duration;

use axum::http::StatusCode;
use tower_kube_auth::{
    Authenticator, BearerToken, Verdict, VerifierExt,
    authorizer::SubjectAccessReviewAuthorizer,
    client::{TokenRequestSource, TokenSource},
    server::AuthorizeLayer,
    testing::{Cluster, Endpoint},
};

use self::{
    failing_cluster::{CALL_LIMIT, CALLERS, FailingCluster},
    outcome::{Actual, Cell, not_retried, retried, served, undecided},
};
use super::failure::Failure;
use crate::support::{Log, Service, until};

/// The documented time limit of a fetch of the keys with its retries.
const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// The pause after a failed fetch of the keys.
const FETCH_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a fetch for an unknown key.
const COOLDOWN: Duration = Duration::from_secs(10);
/// The upper bound of the default cache TTL with its jitter.
const LONGEST_TTL: Duration = Duration::from_secs(66);
/// The grace period of the service with `serve_stale`.
const GRACE: Duration = Duration::from_secs(300);
/// For how long a verifier may decide about nobody before its fallback decides.
const SUSPICION: Duration = Duration::from_secs(1);
/// The least time between two warnings of one kind.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
/// The rows in the order of [`COLUMNS`], without the last two columns: they equal the first, except
/// that everybody is served stale.
fn matrix() -> [(Failure, [Cell; 4]); 12] {
    let everywhere = |cell: Cell| [cell.clone(), cell.clone(), cell.clone(), cell];
    // A 429 asks for a pause of 2 s: five attempts fit into 10 s, three into 5 s.
    let (five, three) = (undecided(8.0..=8.1, 5), undecided(4.0..=4.0, 3));
    // Attempts take up to 3 s: three begin within 10 s, two within 5 s.
    let (ten, half) = (undecided(10.0..=10.0, 3), undecided(5.0..=5.0, 2));
    [
        (Failure::ConnectionRefused, everywhere(retried(0))),
        (Failure::Hang, [ten.clone(), half.clone(), half, ten]),
        (Failure::TooManyRequests, [five.clone(), three.clone(), three, five]),
        (Failure::InternalError, everywhere(retried(5))),
        (Failure::Unavailable, everywhere(retried(5))),
        (Failure::Forbidden, everywhere(not_retried())),
        (Failure::Slow, everywhere(served(2.0, 1))),
        (Failure::UnknownAuthority, everywhere(retried(0))),
        (Failure::BrokenJson, everywhere(not_retried())),
        (Failure::EmptyBody, everywhere(not_retried())),
        (Failure::HugeBody, everywhere(retried(5))),
        (Failure::CutConnection, everywhere(retried(5))),
    ]
}

const COLUMNS: [&str; 6] = [
    "TokenReview",
    "JWKS, first load",
    "JWKS, refresh",
    "TokenRequest",
    "SubjectAccessReview",
    "TokenReview, past the TTL, serve_stale",
];

#[tokio::test]
async fn each_failure_of_each_call_has_its_documented_outcome() {
    let mut table = format!(
        "| failure | {} | fallback, first second | WARN lines |\n|---|{}---|---|",
        COLUMNS.join(" | "),
        "---|".repeat(COLUMNS.len())
    );
    for (failure, expected) in matrix() {
        let actual = [
            token_review(failure).await,
            first_load(failure).await,
            refresh(failure).await,
            token_request(failure).await,
            access_review(failure).await,
            stale(failure).await,
        ];
        let last_columns = [expected[0].clone(), Cell { served: true, ..expected[0].clone() }];
        table.push_str(&format!("\n| {failure:?} |"));
        for (column, (actual, expected)) in
            COLUMNS.iter().zip(actual.into_iter().zip(expected.into_iter().chain(last_columns)))
        {
            actual.check(&expected, failure, column);
            table.push_str(&format!(" {} |", actual.text()));
        }
        let first_second = first_second(failure).await;
        let warn_lines = warn_lines(failure).await;
        table.push_str(&format!(" {first_second} | {warn_lines} |"));
    }
    eprintln!("{table}");
}

async fn token_review(failure: Failure) -> Actual {
    let setup = FailingCluster::start(failure, Endpoint::TokenReview).await;
    let service = setup.service(setup.review());
    shared_call(&setup, &service).await
}

/// The callers are authenticated offline, so that only the authorization fails.
async fn access_review(failure: Failure) -> Actual {
    let setup = FailingCluster::start(failure, Endpoint::SubjectAccessReview).await;
    let rule = serde_json::json!({"nonResourceURLs": ["/"], "verbs": ["get"]});
    setup.cluster.grant("system:serviceaccount:shop:checkout", &rule);
    let authorizer =
        SubjectAccessReviewAuthorizer::builder(setup.client()).clock(setup.clock.clock());
    let authorize = AuthorizeLayer::new(authorizer.build().unwrap());
    let authenticator = setup.authenticator(setup.jwks().build().unwrap()).build().unwrap();
    let service =
        Service::behind(move |router| router.layer(authorize).layer(authenticator.layer()));
    shared_call(&setup, &service).await
}

/// All callers send the same token, so they share the calls. A caller whose decision is cached is
/// served meanwhile, but not past the TTL.
async fn shared_call(setup: &FailingCluster, service: &Service) -> Actual {
    let (failure, tokens) = (setup.failure, setup.tokens());
    assert_eq!(service.get(&tokens[0]).await.status, StatusCode::OK);
    setup.fail().await;
    let actual =
        setup.ask(service, &vec![tokens[1].clone(); CALLERS], CALL_LIMIT, Some(&tokens[0])).await;
    let cached = service.get(&tokens[0]).await;
    assert_eq!(cached.status, StatusCode::OK, "{failure:?}: a cached caller");
    setup.clock.advance(LONGEST_TTL);
    let no_longer = setup.ask(service, &tokens[..1], CALL_LIMIT, None).await;
    assert_eq!(no_longer.is_served(), actual.is_served(), "{failure:?}: a caller that was cached");
    setup.recovers(service, &tokens[2], Duration::ZERO, CALL_LIMIT).await;
    actual
}

/// All callers share the first fetch of the keys, whatever their tokens.
async fn first_load(failure: Failure) -> Actual {
    let setup = FailingCluster::start(failure, Endpoint::Jwks).await;
    let service = setup.service(setup.jwks().build().unwrap());
    let tokens = setup.tokens();
    setup.fail().await;
    let actual = setup.ask(&service, &tokens, FETCH_LIMIT, None).await;
    let again = setup.ask(&service, &tokens, FETCH_LIMIT, None).await;
    let expected = if actual.is_served() { "200" } else { "503 for 1 s" };
    let at_once = (again.outcomes[0].as_str(), again.took, again.calls);
    assert_eq!(
        at_once,
        (expected, Duration::ZERO, 0),
        "{failure:?}: the next fetch comes after a pause"
    );
    setup.recovers(&service, &tokens[0], FETCH_PAUSE, FETCH_LIMIT).await;
    actual
}

/// Tokens of a new key trigger a fetch, while the loaded keys serve everybody else.
async fn refresh(failure: Failure) -> Actual {
    let setup = FailingCluster::start(failure, Endpoint::Jwks).await;
    let service = setup.service(setup.jwks().build().unwrap());
    let known = setup.tokens();
    assert_eq!(service.get(&known[0]).await.status, StatusCode::OK);
    setup.clock.advance(COOLDOWN);
    setup.cluster.rotate().unwrap();
    let tokens = setup.tokens();
    setup.fail().await;
    let actual = setup.ask(&service, &tokens, FETCH_LIMIT, Some(&known[0])).await;
    assert_eq!(
        service.get(&known[1]).await.status,
        StatusCode::OK,
        "{failure:?}: a new caller with a known key"
    );
    setup.recovers(&service, &tokens[0], COOLDOWN, FETCH_LIMIT).await;
    actual
}

/// After the TTL the first callers wait for the verification and are served stale; so is everybody
/// until the grace period ends.
async fn stale(failure: Failure) -> Actual {
    let setup = FailingCluster::start(failure, Endpoint::TokenReview).await;
    let builder = setup.authenticator(setup.review());
    let service = Service::new(&builder.serve_stale(GRACE).build().unwrap());
    let token = setup.tokens().remove(0);
    assert_eq!(service.get(&token).await.status, StatusCode::OK);
    setup.fail().await;
    setup.clock.advance(LONGEST_TTL);
    let actual = setup.ask(&service, &vec![token.clone(); CALLERS], CALL_LIMIT, None).await;
    for _ in 0..5 {
        assert_eq!(
            service.get(&token).await.status,
            StatusCode::OK,
            "{failure:?}: at once, because the failure is known"
        );
    }
    setup.clock.advance(GRACE / 2);
    let later = setup.ask(&service, std::slice::from_ref(&token), CALL_LIMIT, None).await;
    assert!(later.is_served(), "{failure:?}: within the grace period");
    setup.clock.advance(GRACE);
    let no_longer = setup.ask(&service, std::slice::from_ref(&token), CALL_LIMIT, None).await;
    assert_eq!(
        no_longer.is_served(),
        failure == Failure::Slow,
        "{failure:?}: past the grace period"
    );
    setup.recovers(&service, &token, Duration::ZERO, CALL_LIMIT).await;
    actual
}

/// Good tokens that are new during the first second of a failure, with a fallback that has its
/// keys: it decides once nobody was decided about for a second. An answer that is no outage, such
/// as a missing right, is 503 at once.
async fn first_second(failure: Failure) -> String {
    let is_outage =
        !matches!(failure, Failure::Forbidden | Failure::BrokenJson | Failure::EmptyBody);
    let setup = FailingCluster::start(failure, Endpoint::TokenReview).await;
    let jwks = setup.jwks().build().unwrap();
    let verifier = setup.review().or_when_unavailable(jwks.clone()).clock(setup.clock.clock());
    let auth = setup.authenticator(verifier).build().unwrap();
    let service = Service::new(&auth);
    assert_eq!(service.get(&setup.token()).await.status, StatusCode::OK);
    until("the fallback has its keys", async || jwks.metrics().keys > 0).await;
    setup.fail().await;
    // The clock stands still for what must be answered without a step of it.
    let limit = if is_outage { CALL_LIMIT } else { Duration::ZERO };
    let actual = setup.ask(&service, &setup.tokens(), limit, None).await;
    let what = format!("{failure:?}: {:?} after {:?}", actual.outcomes, actual.took);
    assert!(actual.outcomes.iter().all(|outcome| *outcome == actual.outcomes[0]), "{what}");
    assert_eq!(actual.is_served(), is_outage, "{what}");
    assert_eq!(actual.took, if is_outage { SUSPICION } else { Duration::ZERO }, "{what}");
    if is_outage {
        assert!(is_from_fallback(&auth, &setup.token()).await, "{what}");
    }
    format!("{}, {:.1} s", actual.outcomes[0], actual.took.as_secs_f64())
}

async fn is_from_fallback(auth: &Authenticator, token: &str) -> bool {
    match auth.authenticate(BearerToken::parse(token).unwrap()).await {
        Ok(Verdict::Accept(acceptance)) => acceptance.identity().is_from_fallback(),
        other => panic!("{other:?}"),
    }
}

/// Callers with a token each cause one warning when they fail together, and the next one after an
/// interval, with the number of those suppressed. Returns the number of the first.
async fn warn_lines(failure: Failure) -> usize {
    let setup = FailingCluster::start(failure, Endpoint::TokenReview).await;
    let service = setup.service(setup.review());
    setup.fail().await;
    let (log, _watching) = Log::watch();
    let is_served = setup.drive_all(&service, &setup.tokens()).await;
    let lines = lines_of_this_crate(&log);
    // A server that asks for a pause is no news for the operator: DEBUG.
    let expected = usize::from(!is_served && failure != Failure::TooManyRequests);
    assert_eq!(lines.len(), expected, "{failure:?}: {lines:?}");
    if expected == 1 {
        setup.clock.advance(WARN_INTERVAL);
        setup.drive_all(&service, &[setup.token()]).await;
        let later = lines_of_this_crate(&log).split_off(expected);
        let suppressed = format!("suppressed={}", CALLERS - 1);
        assert!(
            matches!(&later[..], [line] if line.contains(&suppressed)),
            "{failure:?}: {later:?}"
        );
    }
    failure.end(&setup.cluster).await;
    expected
}

/// kube logs each failed connection as an error of its own.
fn lines_of_this_crate(log: &Log) -> Vec<String> {
    log.lines().into_iter().filter(|line| line.contains(" tower_kube_auth::")).collect()
}

async fn token_request(failure: Failure) -> Actual {
    let setup = FailingCluster::start(failure, Endpoint::TokenRequest).await;
    setup.cluster.grant_token_request(Cluster::VERIFIER, "shop", &["checkout"]);
    let builder =
        TokenRequestSource::builder(setup.client()).namespace("shop").service_account("checkout");
    let source = builder.audience("orders").clock(setup.clock.clock()).build().unwrap();
    setup.fail().await;
    let actual = setup.request(&source).await;
    failure.end(&setup.cluster).await;
    let first = setup.get_token(&source, |_| true).await;

    // An invalidated token is replaced, and kept while it cannot be replaced.
    setup.fail().await;
    source.invalidate(&first);
    let (kept, took) = setup.wait(CALL_LIMIT, source.token(), async || ()).await;
    assert_eq!(kept.unwrap() == first, !actual.is_served(), "{failure:?}: another token");
    assert!(took <= CALL_LIMIT, "{failure:?}: {took:?}");
    failure.end(&setup.cluster).await;
    setup.get_token(&source, |token| *token != first).await;
    actual
}
