//! A restart of the API server under load: no wrong decision, only 503s, and automatic recovery.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use http::StatusCode;
use tower_kube_auth::TokenReviewVerifier;

use crate::{
    fixture::{Fixture, Outcome, eventually},
    service::Service,
};

/// Callers of each kind. Each sends its next request as soon as it has an answer.
const CALLERS: usize = 4;

pub(super) async fn a_restart_causes_only_503s_and_needs_no_help(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let good = fixture.token("robot", &["orders"]).await?;
    let elsewhere = fixture.token("robot", &["invoices"]).await?;
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    // Short, so that many reviews run into the time limit.
    let review: TokenReviewVerifier = verifiers.review.clone().timeout(Duration::from_secs(2));
    let by_review = Load::start(Service::uncached(review, "orders"), &[&good, &forged, &elsewhere]);
    let by_jwks =
        Load::start(Service::uncached(verifiers.jwks, "orders"), &[&good, &forged, &elsewhere]);

    for gracefully in [false, true] {
        all_is_well(&by_review).await?;
        all_is_well(&by_jwks).await?;
        if gracefully {
            fixture.cluster().shut_down().await?
        } else {
            fixture.cluster().go_down().await?
        }
        by_review.until(0, StatusCode::SERVICE_UNAVAILABLE).await?;
        fixture.cluster().come_up().await?;
    }
    all_is_well(&by_review).await?;
    all_is_well(&by_jwks).await?;

    let (review, jwks) = (by_review.end().await?, by_jwks.end().await?);
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    for (service, answers) in [("TokenReview", &review), ("JWKS", &jwks)] {
        for (caller, right) in
            [StatusCode::OK, StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED].iter().enumerate()
        {
            let wrong: Vec<_> = answers[&caller]
                .keys()
                .filter(|status| ![*right, unavailable].contains(status))
                .collect();
            assert!(wrong.is_empty(), "{service}: caller {caller} was answered {answers:?}");
        }
    }
    let offline = jwks.values().all(|answers| !answers.contains_key(&unavailable));
    assert!(offline, "JWKS needs no API server once the keys are loaded: {jwks:?}");
    Ok(())
}

fn count(seen: &Mutex<(Answers, Answers)>, kind: usize, status: StatusCode) {
    let (all, recent) = &mut *seen.lock().expect("no panic");
    for answers in [all, recent] {
        *answers.entry(kind).or_default().entry(status).or_default() += 1;
    }
}

/// Waits until each kind of caller gets its correct answer.
async fn all_is_well(load: &Load) -> Outcome {
    load.reset();
    load.until(0, StatusCode::OK).await?;
    load.until(1, StatusCode::UNAUTHORIZED).await?;
    load.until(2, StatusCode::UNAUTHORIZED).await
}

/// How often each caller got each status: in total, and since the last reset.
type Answers = BTreeMap<usize, BTreeMap<StatusCode, u64>>;

struct Load {
    seen: Arc<Mutex<(Answers, Answers)>>,
    over: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(service: Service, tokens: &[&str]) -> Self {
        let (seen, over) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let service = Arc::new(service);
        let mut load = Self { seen, over, callers: Vec::new() };
        for (kind, token) in tokens.iter().enumerate() {
            for _ in 0..CALLERS {
                let (service, seen, over) = (service.clone(), load.seen.clone(), load.over.clone());
                let authorization = format!("Bearer {token}");
                load.callers.push(tokio::spawn(async move {
                    while !over.load(SeqCst) {
                        let status = service.ask(&authorization).await.status;
                        count(&seen, kind, status);
                        // Synchronous answers never suspend: let other tasks run.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }));
            }
        }
        load
    }

    async fn until(&self, caller: usize, status: StatusCode) -> Outcome {
        let question = || async {
            let seen = self.seen.lock().expect("no panic");
            Ok(seen.1.get(&caller).is_some_and(|answers| answers.contains_key(&status)))
        };
        eventually(&format!("caller {caller} to be answered {status}"), question).await
    }

    /// Resets the recent answers, so that `until` waits for new ones.
    fn reset(&self) {
        self.seen.lock().expect("no panic").1.clear();
    }

    async fn end(self) -> Outcome<Answers> {
        self.over.store(true, SeqCst);
        for caller in self.callers {
            caller.await?;
        }
        Ok(self.seen.lock().expect("no panic").0.clone())
    }
}
