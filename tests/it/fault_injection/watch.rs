//! Each failure of a watch: what callers get while it lasts, that a deletion meanwhile is noticed
//! after it, and after how long by the injected clock.
//!
//! `cargo test --test it fault_injection::watch -- --nocapture` prints the table.

use std::time::Duration;

use axum::http::StatusCode;
use tower_kube_auth::{
    LiveObjects, LocalReviewVerifier, VerifierExt, live_objects::WatchPhase, testing::Endpoint,
};

use super::failure::Failure;
use crate::support::{Fixture, Service, idle};

/// The default of `LocalReviewVerifier::max_staleness`.
const MAX_STALENESS: Duration = Duration::from_secs(120);
/// The longest documented pause, of 45 s, and the time limits of a list and of a watch, of 30 s.
const RECOVERY: Duration = Duration::from_secs(45 + 30 + 30);

/// What happens to the watches.
#[derive(Clone, Copy, Debug)]
enum WatchFailure {
    /// Their connections are closed once.
    Closed,
    /// Their connections stay open without a byte.
    HalfOpen,
    /// Their connections are closed, and the version that they had reached is compacted.
    Expired,
    /// The store is restored from a backup, with other objects under the same versions.
    Restored,
    /// From now on, the API server fails in this way for lists and watches.
    Lasting(Failure),
}

use WatchFailure::*;

const FAILURES: [WatchFailure; 16] = [
    Closed,
    HalfOpen,
    Expired,
    Restored,
    Lasting(Failure::ConnectionRefused),
    Lasting(Failure::UnknownAuthority),
    Lasting(Failure::Hang),
    Lasting(Failure::Slow),
    Lasting(Failure::TooManyRequests),
    Lasting(Failure::InternalError),
    Lasting(Failure::Unavailable),
    Lasting(Failure::Forbidden),
    Lasting(Failure::BrokenJson),
    Lasting(Failure::EmptyBody),
    Lasting(Failure::HugeBody),
    Lasting(Failure::CutConnection),
];

#[tokio::test]
async fn each_failure_of_a_watch_is_bounded_and_heals_by_itself() {
    let mut table = String::from(
        "| failure | at once: live, with TokenReview | after 121 s: live, with TokenReview | \
         a deleted caller then: live, with TokenReview | deletion seen after | lists and watches |\n\
         |---|---|---|---|---|---|",
    );
    for failure in FAILURES {
        table.push_str(&row(failure).await);
    }
    eprintln!("{table}");
}

async fn row(failure: WatchFailure) -> String {
    let watched = Watched::start().await;
    let [good, doomed] = ["good", "doomed"].map(|pod| watched.bound_token(pod));
    watched.until_watching().await;
    let calls = watched.calls();
    watched.begin(failure).await;

    let at_once = watched.statuses(&good).await;
    assert_eq!(at_once, [200, 200], "{failure:?}: at once");
    let seen = async || watched.status(&watched.services[0], &doomed).await == 401;
    let seen_during = watched.step_until(MAX_STALENESS + SECOND, seen).await;
    // What is left of the time.
    let left = MAX_STALENESS + SECOND - seen_during.unwrap_or(MAX_STALENESS + SECOND);
    watched.step_until(left, never).await;
    let lasts = matches!(failure, Lasting(one) if one != Failure::Slow);
    let reviews_fail =
        matches!(failure, Lasting(Failure::ConnectionRefused | Failure::UnknownAuthority));
    let later = watched.statuses(&good).await;
    let deleted = watched.statuses(&doomed).await;
    let (expected, expected_deleted) = match (lasts, reviews_fail) {
        (false, _) => ([200, 200], [401, 401]),
        (true, false) => ([503, 200], [503, 401]),
        (true, true) => ([503, 503], [503, 503]),
    };
    assert_eq!((later, deleted), (expected, expected_deleted), "{failure:?}: after 121 s");
    assert_eq!(seen_during.is_some(), !lasts, "{failure:?}: {:#?}", watched.live.state());
    let calls = watched.calls() - calls;
    assert!(calls <= 40, "{failure:?}: {calls} lists and watches of two kinds in 121 s");

    watched.end(failure).await;
    let recovered = watched.step_until(RECOVERY, seen).await;
    let Some(recovered) = recovered else {
        panic!("{failure:?}: not within {RECOVERY:?}: {:#?}", watched.live.state())
    };
    assert_eq!(watched.statuses(&good).await, [200, 200], "{failure:?}: afterwards");
    let after = match seen_during {
        Some(took) => format!("{:.1} s", took.as_secs_f64()),
        None => format!("{:.1} s from the end of the failure", recovered.as_secs_f64()),
    };
    format!("\n| {failure:?} | {at_once:?} | {later:?} | {deleted:?} | {after} | {calls} |")
}

const SECOND: Duration = Duration::from_secs(1);

async fn never() -> bool {
    false
}

/// A cluster whose ServiceAccounts and Pods are watched, and services without a cache.
struct Watched {
    fixture: Fixture,
    live: LiveObjects,
    services: [Service; 2],
}

impl std::ops::Deref for Watched {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl Watched {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        let client = fixture.cluster.admin_client().unwrap();
        let live = LiveObjects::builder(client).clock(fixture.clock.clock()).build().unwrap();
        live.synced().await;
        let jwks = fixture.jwks().build().unwrap();
        jwks.refresh().await.unwrap();
        let local = LocalReviewVerifier::new(jwks, live.clone());
        let combined = local
            .clone()
            .or_when_inconclusive(fixture.review())
            .or_when_unavailable(fixture.review())
            .clock(fixture.clock.clock());
        let uncached = |builder: tower_kube_auth::authenticator::AuthenticatorBuilder| {
            Service::new(&builder.cache_ttl(Duration::ZERO).build().unwrap())
        };
        let services =
            [uncached(fixture.authenticator(local)), uncached(fixture.authenticator(combined))];
        Self { fixture, live, services }
    }

    /// Returns a token that is bound to a new Pod.
    fn bound_token(&self, pod: &str) -> String {
        self.cluster.create_pod("shop", pod, "checkout");
        let token = self.cluster.token("shop", "checkout").audience("orders");
        token.bound_to_pod(pod).issue().unwrap()
    }

    async fn until_watching(&self) {
        let is_watching = async || {
            let state = self.live.state();
            state.iter().all(|watch| watch.phase == WatchPhase::Watching) && state[1].objects == 2
        };
        assert!(self.step_until(Duration::ZERO, is_watching).await.is_some());
    }

    /// The Pod `doomed` is deleted while the watch cannot see it.
    async fn begin(&self, failure: WatchFailure) {
        let cluster = &self.cluster;
        if let HalfOpen = failure {
            cluster.stall_watches();
        } else {
            cluster.go_down().await.unwrap();
        }
        let version = cluster.resource_version();
        cluster.delete_pod("shop", "doomed");
        match failure {
            Closed | HalfOpen => {}
            Expired => cluster.compact(cluster.resource_version()),
            Restored => {
                cluster.create_pod("shop", "lost", "checkout");
                cluster.restore(version).await.unwrap();
                cluster.delete_pod("shop", "doomed");
            }
            Lasting(failure) => {
                failure.begin(cluster, Endpoint::List).await;
                failure.begin(cluster, Endpoint::Watch).await;
            }
        }
        let stays_down = matches!(
            failure,
            HalfOpen | Lasting(Failure::ConnectionRefused | Failure::UnknownAuthority)
        );
        if !stays_down {
            cluster.come_up().await.unwrap();
        }
    }

    async fn end(&self, failure: WatchFailure) {
        if let Lasting(failure) = failure {
            failure.end(&self.cluster).await;
        }
    }

    /// Returns the statuses of the service with the watch alone, and of the one with TokenReview
    /// behind it.
    async fn statuses(&self, token: &str) -> [u16; 2] {
        let [alone, combined] = &self.services;
        [self.status(alone, token).await, self.status(combined, token).await]
    }

    async fn status(&self, service: &Service, token: &str) -> u16 {
        let reached = service.reached();
        let mut asking = service.spawn_get(token);
        loop {
            idle().await;
            if asking.is_finished() {
                let status = (&mut asking).await.unwrap().status;
                assert_eq!(service.reached() - reached, usize::from(status == StatusCode::OK));
                return status.as_u16();
            }
            // A TokenReview that fails is tried again after a pause.
            self.clock.advance(self.clock.next_wake().unwrap_or_default());
        }
    }

    /// Lets as much time pass as `condition` needs to hold, in the steps of what sleeps on the
    /// clock, and returns it. `None` if it does not hold within `limit`.
    async fn step_until(
        &self,
        limit: Duration,
        mut condition: impl AsyncFnMut() -> bool,
    ) -> Option<Duration> {
        let mut passed = Duration::ZERO;
        loop {
            // Everything happens on this runtime, so nothing is in transit once it is idle.
            for _ in 0..3 {
                idle().await;
            }
            if condition().await {
                return Some(passed);
            }
            let step = self.clock.next_wake().unwrap_or(limit).min(limit - passed);
            if passed == limit {
                return None;
            }
            self.clock.advance(step);
            passed += step;
        }
    }

    fn calls(&self) -> u64 {
        self.cluster.calls(Endpoint::List) + self.cluster.calls(Endpoint::Watch)
    }
}
