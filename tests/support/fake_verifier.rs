//! A verifier whose behavior a test sets and changes, on a clock that the test moves.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::{Notify, watch};
use tower_kube_auth::{
    Authenticator, BearerToken, Verifier,
    audience::Audiences,
    authenticator::AuthenticatorBuilder,
    error::{VerifyError, VerifyErrorKind},
    identity::UserInfo,
    inspect::UnverifiedToken,
    testing::ManualClock,
    verdict::{Acceptance, RejectReason, Verdict},
};

type Outcome = Result<Verdict, VerifyError>;
type Script = dyn Fn(String) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync;

const AUDIENCE: &str = "api";

#[derive(Clone)]
pub enum Behavior {
    /// Accepts the ServiceAccount, and the Pod if there is one, that the token is named after:
    /// `<ServiceAccount>` or `<ServiceAccount>/<Pod>`. Their UIDs are the names with `-uid`
    /// appended.
    Accept,
    AcceptUntil(SystemTime),
    Reject,
    Fail,
    FailWithRetryAfter(Duration),
    /// Waits for [`FakeVerifier::resume`], then does what is set at that moment.
    Hang,
    Script(Arc<Script>),
}

#[derive(Clone)]
pub struct FakeVerifier {
    behavior: Arc<Mutex<Behavior>>,
    resumed: Arc<Notify>,
    calls: watch::Sender<usize>,
    pub clock: ManualClock,
}

impl FakeVerifier {
    pub fn new(behavior: Behavior) -> Self {
        super::token_leaks::watch();
        Self {
            behavior: Arc::new(Mutex::new(behavior)),
            resumed: Arc::default(),
            calls: watch::Sender::new(0),
            clock: ManualClock::new(),
        }
    }

    /// Runs `script` with the token's text for each verification.
    pub fn scripted<F, Fut>(script: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        Self::new(Behavior::Script(Arc::new(move |token| Box::pin(script(token)))))
    }

    /// Accepts each token for the ServiceAccount `ns/sa`.
    pub fn accepting() -> Self {
        Self::scripted(async |_| Ok(accept()))
    }

    /// Accepts each token for the ServiceAccount `ns/sa`, after one suspension.
    pub fn accepting_asynchronously() -> Self {
        Self::scripted(async |_| {
            tokio::task::yield_now().await;
            Ok(accept())
        })
    }

    pub fn rejecting(reason: RejectReason) -> Self {
        Self::scripted(move |_| async move { Ok(Verdict::Reject(reason)) })
    }

    pub fn failing() -> Self {
        Self::new(Behavior::Fail)
    }

    pub fn set(&self, behavior: Behavior) {
        *self.behavior.lock().unwrap() = behavior;
    }

    /// Ends the verifications that hang, by `behavior`.
    pub fn resume(&self, behavior: Behavior) {
        self.set(behavior);
        self.resumed.notify_waiters();
    }

    pub fn calls(&self) -> usize {
        *self.calls.borrow()
    }

    /// Returns once there have been `count` calls.
    pub async fn wait_for_calls(&self, count: usize) {
        let waiting =
            async { self.calls.subscribe().wait_for(|calls| *calls >= count).await.is_ok() };
        let in_time = tokio::time::timeout(super::wait::PATIENCE, waiting).await;
        assert!(in_time.is_ok(), "timed out waiting for {count} calls: {}", self.calls());
    }

    pub fn advance(&self, seconds: f64) {
        self.clock.advance(Duration::from_secs_f64(seconds));
    }

    pub fn builder(&self) -> AuthenticatorBuilder {
        Authenticator::builder(self.clone()).audience(AUDIENCE).clock(self.clock.clock())
    }

    pub fn authenticator(&self) -> Authenticator {
        self.builder().build().unwrap()
    }

    fn behavior(&self) -> Behavior {
        self.behavior.lock().unwrap().clone()
    }
}

impl Verifier for FakeVerifier {
    async fn verify(&self, token: BearerToken<'_>, _: &Audiences) -> Outcome {
        self.calls.send_modify(|calls| *calls += 1);
        if matches!(self.behavior(), Behavior::Hang) {
            self.resumed.notified().await;
        }
        let token = token.expose_secret();
        let down = || VerifyError::new(VerifyErrorKind::Unavailable, "the backend is down");
        match self.behavior() {
            Behavior::Accept => Ok(accept_by_name(token, None)),
            Behavior::AcceptUntil(expiry) => Ok(accept_by_name(token, Some(expiry))),
            Behavior::Reject => Ok(Verdict::Reject(RejectReason::Unauthenticated)),
            Behavior::Fail | Behavior::Hang => Err(down()),
            Behavior::FailWithRetryAfter(pause) => Err(down().with_retry_after(pause)),
            Behavior::Script(script) => script(token.to_owned()).await,
        }
    }
}

/// Accepts the ServiceAccount `ns/sa`.
pub fn accept() -> Verdict {
    accept_user(UserInfo::service_account("ns", "sa", "uid-1"), None)
}

fn accept_by_name(token: &str, expires_at: Option<SystemTime>) -> Verdict {
    let claims = UnverifiedToken::decode(token).unwrap();
    let name = claims.claims()["jti"].as_str().unwrap();
    let (account, pod) = name.split_once('/').unwrap_or((name, ""));
    let mut user = UserInfo::service_account("ns", account, &format!("{account}-uid"));
    if !pod.is_empty() {
        let mut insert = |key: &str, value| user.extra.insert(key.into(), vec![value]);
        insert("authentication.kubernetes.io/pod-name", pod.into());
        insert("authentication.kubernetes.io/pod-uid", format!("{pod}-uid"));
    }
    accept_user(user, expires_at)
}

fn accept_user(user: UserInfo, expires_at: Option<SystemTime>) -> Verdict {
    let audiences = Audiences::new([AUDIENCE]).unwrap();
    let mut acceptance = Acceptance::builder(user, [AUDIENCE]);
    if let Some(expires_at) = expires_at {
        acceptance = acceptance.expires_at(expires_at);
    }
    Verdict::Accept(acceptance.build(&audiences).unwrap())
}

/// Returns a well-formed token with a made-up signature, a different one for each `name`.
pub fn token(name: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = encode(r#"{"alg":"RS256","kid":"some-key-id"}"#);
    let claims = format!(r#"{{"aud":["{AUDIENCE}"],"jti":"{name}","padding":"0123456789"}}"#);
    format!("{header}.{}.c2lnbmF0dXJl", encode(&claims))
}
