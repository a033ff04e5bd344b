//! A verifier whose mood a test sets: it accepts, refuses, fails or hangs, and can be looked into.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::sync::Notify;
use tower_kube_auth::{
    audience::Audiences,
    authenticator::AuthenticatorBuilder,
    error::{VerifyError, VerifyErrorKind},
    identity::UserInfo,
    testing::ManualClock,
    verdict::{Acceptance, RejectReason, Verdict},
};

use crate::scripted::Scripted;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Accepts,
    AcceptsUntil(SystemTime),
    Rejects,
    Fails,
    FailsWithPause(Duration),
    /// Until [`Switch::go_on`] is called, and then by the mood of that moment.
    Hangs,
}

/// Tokens named `<ServiceAccount>` or `<ServiceAccount>/<Pod>` are of that ServiceAccount and Pod, whose uids are their names with
/// `-uid` appended.
#[derive(Clone)]
pub struct Switch {
    mood: Arc<Mutex<Mood>>,
    go_on: Arc<Notify>,
    pub verifier: Scripted,
    pub clock: ManualClock,
}

impl Switch {
    pub fn new(mood: Mood) -> Self {
        let (mood, go_on) = (Arc::new(Mutex::new(mood)), Arc::new(Notify::new()));
        let (mood_inside, go_on_inside) = (mood.clone(), go_on.clone());
        let verifier = Scripted::new(move |token| {
            let (mood, go_on) = (mood_inside.clone(), go_on_inside.clone());
            async move {
                if *mood.lock().unwrap() == Mood::Hangs {
                    go_on.notified().await;
                }
                let mood = *mood.lock().unwrap();
                answer(mood, &token)
            }
        });
        Self { mood, go_on, verifier, clock: ManualClock::new() }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Ends all hanging verifications, by `mood`.
    pub fn go_on(&self, mood: Mood) {
        self.set(mood);
        self.go_on.notify_waiters();
    }

    pub fn calls(&self) -> usize {
        self.verifier.calls()
    }

    pub fn builder(&self) -> AuthenticatorBuilder {
        self.verifier.builder().clock(self.clock.clock())
    }

    pub fn advance(&self, seconds: f64) {
        self.clock.advance(Duration::from_secs_f64(seconds));
    }
}

fn answer(mood: Mood, token: &str) -> Result<Verdict, VerifyError> {
    let down = || VerifyError::new(VerifyErrorKind::Unavailable, "the backend is down");
    match mood {
        Mood::Accepts => Ok(accept(token, None)),
        Mood::AcceptsUntil(expiry) => Ok(accept(token, Some(expiry))),
        Mood::Rejects => Ok(Verdict::Reject(RejectReason::Unauthenticated)),
        Mood::Fails | Mood::Hangs => Err(down()),
        Mood::FailsWithPause(pause) => Err(down().with_retry_after(pause)),
    }
}

fn accept(token: &str, expires_at: Option<SystemTime>) -> Verdict {
    let name = tower_kube_auth::inspect::UnverifiedToken::decode(token).unwrap().claims()["jti"]
        .as_str()
        .unwrap()
        .to_owned();
    let (account, pod) = name.split_once('/').unwrap_or((&name, ""));
    let mut user = UserInfo::service_account("ns", account, &format!("{account}-uid"));
    if !pod.is_empty() {
        user.extra.insert("authentication.kubernetes.io/pod-name".into(), vec![pod.into()]);
        user.extra
            .insert("authentication.kubernetes.io/pod-uid".into(), vec![format!("{pod}-uid")]);
    }
    let audiences = Audiences::new(["api"]).unwrap();
    Verdict::Accept(
        Acceptance::from_user_info(user, &audiences, ["api"], None, expires_at).unwrap(),
    )
}

/// Lets other tasks of this thread run until `condition` holds.
pub async fn until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not come to that");
}

/// Lets other tasks of this thread run until none of them has anything left to do.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
