//! `/readyz` after a check on a runtime that is no longer driven, but was not shut down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::{Request, StatusCode};
use tokio::{runtime::Runtime, task::yield_now};
use tower::ServiceExt;
use tower_kube_auth::{
    Authenticator, BearerToken, Verifier,
    audience::Audiences,
    authenticator::SelfCheck,
    error::VerifyError,
    readiness::Need,
    server::Readyz,
    testing::ManualClock,
    verdict::{RejectReason, Verdict},
};

use crate::support::until;

/// The time limit of a check, and a second.
const GIVE_UP_AFTER: Duration = Duration::from_secs(16);
/// Longer than a result is served.
const STALE: Duration = Duration::from_secs(6);

/// A verifier whose check suspends ten times.
#[derive(Clone, Default)]
struct SlowCheck(Arc<AtomicBool>);

impl SlowCheck {
    fn set_missing(&self, is_missing: bool) {
        self.0.store(is_missing, Ordering::SeqCst);
    }
}

impl Verifier for SlowCheck {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
        Ok(Verdict::Reject(RejectReason::Unauthenticated))
    }

    async fn check_needs(&self) -> Vec<Need> {
        yield_times(10).await;
        if self.0.load(Ordering::SeqCst) {
            return vec![Need::missing("right", "not allowed", "bind it")];
        }
        vec![Need::met("right", "allowed")]
    }
}

struct Setup {
    clock: ManualClock,
    verifier: SlowCheck,
    readyz: Readyz,
    stalled: Runtime,
    driven: Runtime,
}

impl Setup {
    fn new() -> Self {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (clock, verifier) = (ManualClock::new(), SlowCheck::default());
        let auth = Authenticator::builder(verifier.clone()).audience("orders").clock(clock.clock());
        let readyz = Readyz::new(SelfCheck::new(&auth.build().unwrap()));
        Self { clock, verifier, readyz, stalled: runtime(), driven: runtime() }
    }

    fn get(&self) -> impl Future<Output = (StatusCode, String)> + Send + 'static {
        let call = self.readyz.clone().oneshot(Request::new(()));
        async move {
            let response = call.await.unwrap();
            (response.status(), response.into_body())
        }
    }

    async fn status(&self) -> StatusCode {
        self.get().await.0
    }
}

async fn yield_times(times: usize) {
    for _ in 0..times {
        yield_now().await;
    }
}

#[test]
fn a_first_check_on_a_stalled_runtime_is_503_in_time_and_the_next_one_answers() {
    let setup = Setup::new();
    setup.stalled.block_on(async {
        tokio::select! {
            answer = setup.get() => panic!("{answer:?}"),
            () = yield_times(3) => {}
        }
    });
    setup.driven.block_on(async {
        let waiting = tokio::spawn(setup.get());
        yield_times(3).await;
        setup.clock.advance(GIVE_UP_AFTER);
        until("the wait ends", async || waiting.is_finished()).await;
        let (status, body) = waiting.await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "the check did not end in time\n");
        assert_eq!(setup.status().await, StatusCode::OK);
    });
}

#[test]
fn a_check_on_a_stalled_runtime_does_not_keep_an_old_result() {
    let setup = Setup::new();
    setup.driven.block_on(async { assert_eq!(setup.status().await, StatusCode::OK) });
    setup.clock.advance(STALE);
    // The old result answers, and the check is spawned here.
    setup.stalled.block_on(async { assert_eq!(setup.status().await, StatusCode::OK) });
    setup.verifier.set_missing(true);
    setup.driven.block_on(async {
        setup.clock.advance(GIVE_UP_AFTER - Duration::from_secs(1));
        assert_eq!(setup.status().await, StatusCode::OK);
        yield_times(30).await;
        assert_eq!(setup.status().await, StatusCode::OK, "the check may still end");
        setup.clock.advance(Duration::from_secs(1));
        assert_eq!(setup.status().await, StatusCode::OK, "starts another check");
        yield_times(30).await;
        assert_eq!(setup.status().await, StatusCode::SERVICE_UNAVAILABLE);
    });
    setup.verifier.set_missing(false);
    setup.stalled.block_on(yield_times(30));
    let status = setup.driven.block_on(setup.status());
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "the older check's result is dropped");
}
