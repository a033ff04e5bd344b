//! Every trouble with every call that we make to the API server: what callers get, after how long by the injected clock,
//! for how many calls, and that all is well again afterwards without anybody's help.
//!
//! `cargo test --test it fault_matrix -- --nocapture` prints the matrix.

use std::{ops::RangeInclusive, time::Duration};

use axum::http::{StatusCode, header};
use tower_kube_auth::{
    Authenticator, JwksVerifier, TokenReviewVerifier, Verifier,
    client::{Token, TokenError, TokenRequestSource, TokenSource},
    testing::{Algorithm, Cluster, Endpoint, ManualClock},
};

use super::{
    patience::{all, wait},
    trouble::Trouble,
};
use crate::scripted::{Answer, Service};

/// The documented limits: of a review or a token request with all its attempts, and of fetching the keys.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// After a fetch that failed, and after one for an unknown key.
const FETCH_PAUSE: Duration = Duration::from_secs(1);
const COOLDOWN: Duration = Duration::from_secs(10);
/// Of the cache's default, with its jitter.
const LONGEST_TTL: Duration = Duration::from_secs(66);
/// For how long after that a service with `serve_stale` goes on.
const GRACE: Duration = Duration::from_secs(300);
/// How many ask at the same moment.
const CALLERS: usize = 10;

/// What new callers meet with.
#[derive(Clone)]
struct Cell {
    served: bool,
    seconds: RangeInclusive<f64>,
    calls: u64,
}

fn served(seconds: f64, calls: u64) -> Cell {
    Cell { served: true, seconds: seconds..=seconds, calls }
}

/// 503 with a `Retry-After`, or an error where nobody is served.
fn undecided(seconds: RangeInclusive<f64>, calls: u64) -> Cell {
    Cell { served: false, seconds, calls }
}

/// Five attempts, with pauses of 0.5 s that grow by half, and up to a fifth of jitter.
fn tried_again(calls: u64) -> Cell {
    undecided(4.06..=4.88, calls)
}

fn given_up_at_once() -> Cell {
    undecided(0.0..=0.0, 1)
}

/// In the order of [`COLUMNS`], but for the last, which is like the first with everybody served.
fn matrix() -> [(Trouble, [Cell; 4]); 12] {
    let everywhere = |cell: Cell| [cell.clone(), cell.clone(), cell.clone(), cell];
    // A 429 asks for two seconds: five attempts fit into ten seconds, three into five.
    let (five, three) = (undecided(8.0..=8.1, 5), undecided(4.0..=4.0, 3));
    // Attempts of three seconds: three begin within ten seconds, two within five.
    let (ten, half) = (undecided(10.0..=10.0, 3), undecided(5.0..=5.0, 2));
    [
        (Trouble::ConnectionRefused, everywhere(tried_again(0))),
        (Trouble::Hang, [ten.clone(), half.clone(), half, ten]),
        (Trouble::TooManyRequests, [five.clone(), three.clone(), three, five]),
        (Trouble::InternalError, everywhere(tried_again(5))),
        (Trouble::Unavailable, everywhere(tried_again(5))),
        (Trouble::Forbidden, everywhere(given_up_at_once())),
        (Trouble::Slow, everywhere(served(2.0, 1))),
        (Trouble::OtherAuthority, everywhere(tried_again(0))),
        (Trouble::BrokenJson, everywhere(given_up_at_once())),
        (Trouble::EmptyBody, everywhere(given_up_at_once())),
        (Trouble::HugeBody, everywhere(tried_again(5))),
        (Trouble::CutConnection, everywhere(tried_again(5))),
    ]
}

const COLUMNS: [&str; 5] = [
    "TokenReview",
    "JWKS, first load",
    "JWKS, refresh",
    "TokenRequest",
    "TokenReview, past the TTL, serve_stale",
];

#[tokio::test]
async fn the_fault_matrix() {
    let mut table =
        format!("| trouble | {} |\n|---|{}", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
    for (trouble, expected) in matrix() {
        let met = [
            token_review(trouble).await,
            first_load(trouble).await,
            refresh(trouble).await,
            token_request(trouble).await,
            stale(trouble).await,
        ];
        let like_the_first = Cell { served: true, ..expected[0].clone() };
        table.push_str(&format!("\n| {trouble:?} |"));
        for (column, (met, expected)) in
            COLUMNS.iter().zip(met.into_iter().zip(expected.into_iter().chain([like_the_first])))
        {
            met.check(&expected, trouble, column);
            table.push_str(&format!(" {} |", met.text()));
        }
    }
    eprintln!("{table}");
}

/// What new callers did meet with: each by its name, all of them after so long, for so many calls.
struct Met {
    outcomes: Vec<String>,
    took: Duration,
    calls: u64,
}

impl Met {
    fn check(&self, expected: &Cell, trouble: Trouble, column: &str) {
        let Self { outcomes, took, calls } = self;
        let what = format!("{trouble:?}, {column}: {outcomes:?} after {took:?} and {calls} calls");
        assert_eq!(self.is_served(), expected.served, "{what}");
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{what}");
        if outcomes[0].starts_with("503") {
            assert_eq!(outcomes[0], format!("503 for {} s", trouble.retry_after()), "{what}");
        }
        assert!(expected.seconds.contains(&took.as_secs_f64()), "{what}");
        assert_eq!(*calls, expected.calls, "{what}");
    }

    fn is_served(&self) -> bool {
        ["200", "a token"].contains(&&*self.outcomes[0])
    }

    fn text(&self) -> String {
        format!("{}, {:.1} s, {} calls", self.outcomes[0], self.took.as_secs_f64(), self.calls)
    }
}

struct Scene {
    clock: ManualClock,
    cluster: Cluster,
    endpoint: Endpoint,
    trouble: Trouble,
}

impl Scene {
    async fn new(trouble: Trouble, endpoint: Endpoint) -> Self {
        crate::leaks::watch();
        let clock = ManualClock::new();
        let builder = Cluster::builder().clock(clock.clock()).signing_algorithm(Algorithm::ES256);
        let cluster = builder.start().await.unwrap();
        cluster.create_service_account("shop", "checkout");
        Self { clock, cluster, endpoint, trouble }
    }

    /// The default client, whose own retries must not run.
    fn client(&self) -> kube::Client {
        self.cluster.kube_client().unwrap()
    }

    fn service(&self, verifier: impl Verifier) -> Service {
        let builder = Authenticator::builder(verifier).audience("orders").clock(self.clock.clock());
        Service::new(&builder.build().unwrap())
    }

    fn jwks(&self) -> JwksVerifier {
        JwksVerifier::in_cluster(self.client()).clock(self.clock.clock()).build().unwrap()
    }

    /// Distinct ones, though ECDSA alone would see to that.
    fn tokens(&self) -> Vec<String> {
        (0..CALLERS)
            .map(|_| self.cluster.token("shop", "checkout").audience("orders").issue().unwrap())
            .collect()
    }

    async fn begin(&self) {
        self.trouble.begin(&self.cluster, self.endpoint).await;
    }

    /// Has `work` done, while time passes as far as it is waited for.
    async fn wait<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
        meanwhile: impl AsyncFnMut(),
    ) -> (T, Duration) {
        let mut seen = self.cluster.calls(self.endpoint);
        let held = || {
            let before = std::mem::replace(&mut seen, self.cluster.calls(self.endpoint));
            self.trouble == Trouble::Hang && seen > before
        };
        wait(&self.clock, limit, held, work, meanwhile).await
    }

    /// All of `tokens` at once; the handler is reached by those that are served, and by nobody else.
    async fn ask(
        &self,
        service: &Service,
        tokens: &[String],
        limit: Duration,
        cached: Option<&str>,
    ) -> Met {
        let (calls, reached) = (self.cluster.calls(self.endpoint), service.reached());
        let asking = tokens.iter().cloned().map(|token| {
            let service = service.clone();
            tokio::spawn(async move { service.get(&token).await })
        });
        let asking = all(asking.collect());
        let mut through = 0;
        let meanwhile = async || {
            if let Some(token) = cached {
                assert_eq!(
                    service.get(token).await.status,
                    StatusCode::OK,
                    "{:?}: a cached caller",
                    self.trouble
                );
                through += 1;
            }
        };
        let (answers, took) = self.wait(limit, asking, meanwhile).await;
        let served = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(
            service.reached() - reached,
            served + through,
            "{:?}: the handler was reached",
            self.trouble
        );
        let outcomes = answers.iter().map(|answer| self.outcome(answer)).collect();
        Met { outcomes, took, calls: self.cluster.calls(self.endpoint) - calls }
    }

    /// Served, or told when to come back: never that the token is bad.
    fn outcome(&self, answer: &Answer) -> String {
        if answer.status == StatusCode::OK {
            return "200".to_owned();
        }
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{:?}", self.trouble);
        assert_eq!(answer.challenge(), None, "{:?}", self.trouble);
        format!("503 for {} s", answer.header(header::RETRY_AFTER).unwrap())
    }

    /// The trouble is over, the pause that is documented too: the same service serves.
    async fn recovers(&self, service: &Service, token: &str, pause: Duration, limit: Duration) {
        self.trouble.end(&self.cluster).await;
        self.clock.advance(pause);
        // A connection that has died meanwhile may take another attempt.
        let (answer, _) = wait(&self.clock, limit, || false, service.get(token), async || ()).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}: no recovery", self.trouble);
    }
}

/// All callers have the same token, so that they share the calls.
async fn token_review(trouble: Trouble) -> Met {
    let scene = Scene::new(trouble, Endpoint::TokenReview).await;
    let service =
        scene.service(TokenReviewVerifier::new(scene.client()).clock(scene.clock.clock()));
    let tokens = scene.tokens();
    assert_eq!(service.get(&tokens[0]).await.status, StatusCode::OK);
    scene.begin().await;
    let met =
        scene.ask(&service, &vec![tokens[1].clone(); CALLERS], CALL_LIMIT, Some(&tokens[0])).await;
    assert_eq!(
        service.get(&tokens[0]).await.status,
        StatusCode::OK,
        "{trouble:?}: a cached caller"
    );
    scene.clock.advance(LONGEST_TTL);
    let no_longer = scene.ask(&service, &tokens[..1], CALL_LIMIT, None).await;
    assert_eq!(no_longer.is_served(), met.is_served(), "{trouble:?}: a caller that was cached");
    scene.recovers(&service, &tokens[2], Duration::ZERO, CALL_LIMIT).await;
    met
}

/// Nobody can have been cached before the first keys are there. All callers share the fetch, whatever their tokens.
async fn first_load(trouble: Trouble) -> Met {
    let scene = Scene::new(trouble, Endpoint::Jwks).await;
    let service = scene.service(scene.jwks());
    let tokens = scene.tokens();
    scene.begin().await;
    let met = scene.ask(&service, &tokens, FETCH_LIMIT, None).await;
    let again = scene.ask(&service, &tokens, FETCH_LIMIT, None).await;
    let at_once = (again.outcomes[0].as_str(), again.took, again.calls);
    let expected = if met.is_served() { "200" } else { "503 for 1 s" };
    assert_eq!(
        at_once,
        (expected, Duration::ZERO, 0),
        "{trouble:?}: the next fetch comes after a pause"
    );
    scene.recovers(&service, &tokens[0], FETCH_PAUSE, FETCH_LIMIT).await;
    met
}

/// Tokens of a new key make the keys be fetched again, while those at hand serve everybody else.
async fn refresh(trouble: Trouble) -> Met {
    let scene = Scene::new(trouble, Endpoint::Jwks).await;
    let service = scene.service(scene.jwks());
    let known = scene.tokens();
    assert_eq!(service.get(&known[0]).await.status, StatusCode::OK);
    scene.clock.advance(COOLDOWN);
    scene.cluster.rotate().unwrap();
    let tokens = scene.tokens();
    scene.begin().await;
    let met = scene.ask(&service, &tokens, FETCH_LIMIT, Some(&known[0])).await;
    assert_eq!(
        service.get(&known[1]).await.status,
        StatusCode::OK,
        "{trouble:?}: a new caller with a known key"
    );
    scene.recovers(&service, &tokens[0], COOLDOWN, FETCH_LIMIT).await;
    met
}

/// The first to come after their time wait for what cannot be had, and are served; so is everybody until the grace is over.
async fn stale(trouble: Trouble) -> Met {
    let scene = Scene::new(trouble, Endpoint::TokenReview).await;
    let verifier = TokenReviewVerifier::new(scene.client()).clock(scene.clock.clock());
    let builder = Authenticator::builder(verifier).audience("orders").clock(scene.clock.clock());
    let service = Service::new(&builder.serve_stale(GRACE).build().unwrap());
    let token = scene.tokens().remove(0);
    assert_eq!(service.get(&token).await.status, StatusCode::OK);
    scene.begin().await;
    scene.clock.advance(LONGEST_TTL);
    let met = scene.ask(&service, &vec![token.clone(); CALLERS], CALL_LIMIT, None).await;
    for _ in 0..5 {
        assert_eq!(
            service.get(&token).await.status,
            StatusCode::OK,
            "{trouble:?}: at once, for it is known"
        );
    }
    scene.clock.advance(GRACE / 2);
    let later = scene.ask(&service, std::slice::from_ref(&token), CALL_LIMIT, None).await;
    assert!(later.is_served(), "{trouble:?}: within the grace");
    scene.clock.advance(GRACE);
    let no_longer = scene.ask(&service, std::slice::from_ref(&token), CALL_LIMIT, None).await;
    assert_eq!(no_longer.is_served(), trouble == Trouble::Slow, "{trouble:?}: past the grace");
    scene.recovers(&service, &token, Duration::ZERO, CALL_LIMIT).await;
    met
}

async fn token_request(trouble: Trouble) -> Met {
    let scene = Scene::new(trouble, Endpoint::TokenRequest).await;
    scene.cluster.grant_token_request(Cluster::VERIFIER, "shop", &["checkout"]);
    let builder =
        TokenRequestSource::builder(scene.client()).namespace("shop").service_account("checkout");
    let source = builder.audience("orders").clock(scene.clock.clock()).build().unwrap();
    scene.begin().await;
    let met = scene.request(&source).await;
    trouble.end(&scene.cluster).await;
    let first = scene.gets(&source, |_| true).await;

    // One that was refused somewhere is to be replaced, and is better than none where that cannot be.
    scene.begin().await;
    source.invalidate(&first);
    let (kept, took) = scene.wait(CALL_LIMIT, source.token(), async || ()).await;
    assert_eq!(kept.unwrap() == first, !met.is_served(), "{trouble:?}: another token");
    assert!(took <= CALL_LIMIT, "{trouble:?}: {took:?}");
    trouble.end(&scene.cluster).await;
    scene.gets(&source, |token| *token != first).await;
    met
}

impl Scene {
    /// Once the pause after a failure is over, and without anybody's help.
    async fn gets(&self, source: &TokenRequestSource, wanted: impl Fn(&Token) -> bool) -> Token {
        let asking = async {
            loop {
                match source.token().await {
                    Ok(token) if wanted(&token) => return token,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        wait(&self.clock, CALL_LIMIT, || false, asking, async || ()).await.0
    }

    async fn request(&self, source: &TokenRequestSource) -> Met {
        let calls = self.cluster.calls(self.endpoint);
        let asking = (0..CALLERS).map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        });
        let asking = all(asking.collect());
        let (answers, took) = self.wait(CALL_LIMIT, asking, async || ()).await;
        let outcome = |answer: Result<Token, TokenError>| match answer {
            Ok(_) => "a token".to_owned(),
            Err(error) => error.kind().as_str().to_owned(),
        };
        Met {
            outcomes: answers.into_iter().map(outcome).collect(),
            took,
            calls: self.cluster.calls(self.endpoint) - calls,
        }
    }
}
