//! The API server goes down in the middle of load and comes up again: no wrong decision, only 503s, and recovery
//! without help.

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
    scene::{Outcome, Scene, eventually},
    service::Service,
};

/// Callers of each kind, who ask again as soon as they are answered.
const CALLERS: usize = 4;

pub(super) async fn only_503s_and_recovery_without_help(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let good = scene.token("robot", &["orders"]).await?;
    let elsewhere = scene.token("robot", &["invoices"]).await?;
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    // One time limit for all attempts of a review: short, so that many are ended by it.
    let review: TokenReviewVerifier = verifiers.review.clone().timeout(Duration::from_secs(2));
    let by_review =
        Load::start(Service::forgetful(review, "orders"), &[&good, &forged, &elsewhere]);
    let by_jwks =
        Load::start(Service::forgetful(verifiers.jwks, "orders"), &[&good, &forged, &elsewhere]);

    for gracefully in [false, true] {
        all_is_well(&by_review).await?;
        all_is_well(&by_jwks).await?;
        if gracefully {
            scene.cluster().shut_down().await?
        } else {
            scene.cluster().go_down().await?
        }
        by_review.until(0, StatusCode::SERVICE_UNAVAILABLE).await?;
        scene.cluster().come_up().await?;
    }
    all_is_well(&by_review).await?;
    all_is_well(&by_jwks).await?;

    let (review, jwks) = (by_review.end().await?, by_jwks.end().await?);
    let trouble = StatusCode::SERVICE_UNAVAILABLE;
    for (service, answers) in [("TokenReview", &review), ("JWKS", &jwks)] {
        for (caller, right) in
            [StatusCode::OK, StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED].iter().enumerate()
        {
            let wrong: Vec<_> = answers[&caller]
                .keys()
                .filter(|status| ![*right, trouble].contains(status))
                .collect();
            assert!(wrong.is_empty(), "{service}: caller {caller} was answered {answers:?}");
        }
    }
    let offline = jwks.values().all(|answers| !answers.contains_key(&trouble));
    assert!(offline, "the keys were known, and nobody needed the API server: {jwks:?}");
    Ok(())
}

fn count(seen: &Mutex<(Answers, Answers)>, kind: usize, status: StatusCode) {
    let (all, recent) = &mut *seen.lock().expect("no panic");
    for answers in [all, recent] {
        *answers.entry(kind).or_default().entry(status).or_default() += 1;
    }
}

/// From now on each caller gets the answer that is right.
async fn all_is_well(load: &Load) -> Outcome {
    load.invalidate();
    load.until(0, StatusCode::OK).await?;
    load.until(1, StatusCode::UNAUTHORIZED).await?;
    load.until(2, StatusCode::UNAUTHORIZED).await
}

/// How often each caller got each status, over all and since the last look.
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
                        // Offline answers need no waiting; others want the processor too.
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

    /// Looks anew: `until` waits for answers that come from now on.
    fn invalidate(&self) {
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
