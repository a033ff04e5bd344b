//! Callers who want a revoked token accepted, or known callers unserved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::task::JoinHandle;
use tower_kube_auth::{
    Audiences, Authenticator, BearerToken, Verifier, VerifierExt,
    authenticator::AuthenticatorBuilder,
    clock::Clock,
    error::{VerifyError, VerifyErrorKind},
    testing::ManualClock,
    verdict::{RejectReason, Verdict},
};

use crate::support::{Log, accept, idle};

type Outcome = Result<Verdict, VerifyError>;

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

/// Returns a token that says what the verifiers do about it.
fn jwt(kind: &str, number: usize) -> String {
    let claims = serde_json::json!({ "aud": "api", "kind": kind, "number": number }).to_string();
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn kind(token: BearerToken<'_>) -> String {
    let claims = token.expose_secret().split('.').nth(1).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    claims["kind"].as_str().unwrap().to_owned()
}

/// Has loaded its keys: accepts what the issuer signed, whatever became of the caller.
#[derive(Clone)]
struct Keys;

impl Verifier for Keys {
    async fn verify(&self, token: BearerToken<'_>, audiences: &Audiences) -> Outcome {
        Ok(self.verify_now(token, audiences).unwrap())
    }

    fn verify_now(&self, token: BearerToken<'_>, _: &Audiences) -> Option<Verdict> {
        Some(match &*kind(token) {
            "junk" => Verdict::Reject(RejectReason::Signature),
            "unknown key" => Verdict::Reject(RejectReason::UnknownKey),
            _ => accept(),
        })
    }
}

/// Decides about the first so many after half a second, then hangs for 10 s.
struct Hangs {
    clock: Clock,
    decided: AtomicUsize,
    calls: Arc<AtomicUsize>,
    most_calls: Arc<AtomicUsize>,
}

impl Hangs {
    fn after(decided: usize, clock: &ManualClock) -> Self {
        Self {
            clock: clock.clock(),
            decided: decided.into(),
            calls: Arc::default(),
            most_calls: Arc::default(),
        }
    }
}

struct Leaves(Arc<AtomicUsize>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Verifier for Hangs {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Outcome {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_calls.fetch_max(calls, Ordering::SeqCst);
        let _leaves = Leaves(self.calls.clone());
        let order = Ordering::SeqCst;
        if self.decided.fetch_update(order, order, |left| left.checked_sub(1)).is_ok() {
            self.clock.sleep(SECOND / 2).await;
            return Ok(accept());
        }
        self.clock.sleep(10 * SECOND).await;
        Err(VerifyError::new(VerifyErrorKind::Timeout, "too slow"))
    }
}

/// Takes 10 s about one kind of token, and rejects the others at once.
struct SlowAbout(&'static str, Clock);

impl Verifier for SlowAbout {
    async fn verify(&self, token: BearerToken<'_>, _: &Audiences) -> Outcome {
        if kind(token) == self.0 {
            self.1.sleep(10 * SECOND).await;
            return Err(VerifyError::new(VerifyErrorKind::Timeout, "too slow"));
        }
        Ok(Verdict::Reject(RejectReason::Unauthenticated))
    }
}

fn authenticator(
    verifier: impl Verifier,
    fallback: impl Verifier,
    clock: &ManualClock,
    options: impl FnOnce(AuthenticatorBuilder) -> AuthenticatorBuilder,
) -> Authenticator {
    let both = verifier.or_when_unavailable(fallback).clock(clock.clock());
    let builder = Authenticator::builder(both).audience("api").clock(clock.clock());
    options(builder).build().unwrap()
}

fn send(auth: &Authenticator, kind: &str, number: usize) -> JoinHandle<Outcome> {
    let (auth, token) = (auth.clone(), jwt(kind, number));
    tokio::spawn(async move { auth.authenticate(BearerToken::parse(&token).unwrap()).await })
}

async fn pass(clock: &ManualClock, tenths: usize) {
    for _ in 0..tenths {
        idle().await;
        clock.advance(TENTH);
    }
    idle().await;
}

async fn is_accepted(task: JoinHandle<Outcome>) -> bool {
    assert!(task.is_finished(), "it waits");
    matches!(task.await.unwrap(), Ok(Verdict::Accept(_)))
}

async fn undecided(tasks: Vec<JoinHandle<Outcome>>) -> usize {
    let mut undecided = 0;
    for task in tasks {
        undecided += usize::from(!is_accepted(task).await);
    }
    undecided
}

/// The service is new, and strangers hold all permits when the verifier begins to hang.
#[tokio::test]
async fn junk_that_holds_all_permits_does_not_hide_an_outage() {
    // Also with a time limit below the verifier's, at which the calls about junk end unseen.
    for limit in [15, 5] {
        let clock = ManualClock::new();
        let auth = authenticator(Hangs::after(0, &clock), Keys, &clock, |builder| {
            builder.verification_timeout(limit * SECOND)
        });
        let (mut good, mut junk) = (Vec::new(), Vec::new());
        for tenth in 0..120 {
            junk.extend(
                (0..if tenth == 0 { 48 } else { 10 })
                    .map(|number| send(&auth, "junk", tenth * 100 + number)),
            );
            idle().await;
            good.push(send(&auth, "good", tenth));
            pass(&clock, 1).await;
        }
        pass(&clock, 30).await;
        assert_eq!(undecided(good).await, 0, "of 120, with a limit of {limit} s");
    }
}

#[tokio::test]
async fn a_burst_that_is_decided_in_part_before_the_outage_is_accepted() {
    let clock = ManualClock::new();
    let auth = authenticator(Hangs::after(30, &clock), Keys, &clock, |builder| builder);
    let good: Vec<_> = (0..300).map(|number| send(&auth, "good", number)).collect();
    pass(&clock, 40).await;
    assert_eq!(undecided(good).await, 0, "of 300");
}

#[tokio::test]
async fn a_fallback_that_computes_nothing_at_once_keeps_the_calls_bounded() {
    struct Later;
    impl Verifier for Later {
        async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Outcome {
            Ok(accept())
        }
    }
    let clock = ManualClock::new();
    let hangs = Hangs::after(0, &clock);
    let most_calls = hangs.most_calls.clone();
    let auth = authenticator(hangs, Later, &clock, |builder| builder);
    let mut good = Vec::new();
    for tenth in 0..100 {
        good.extend((0..20).map(|number| send(&auth, "good", tenth * 100 + number)));
        pass(&clock, 1).await;
    }
    pass(&clock, 30).await;
    let undecided = undecided(good).await;
    let most_calls = most_calls.load(Ordering::SeqCst);
    assert!(undecided == 0 && most_calls <= 64 + 64, "{undecided}, {most_calls} calls");
}

#[tokio::test]
async fn slow_answers_to_a_strangers_tokens_make_no_revoked_token_valid() {
    let clock = ManualClock::new();
    let verifier = SlowAbout("junk", clock.clock());
    let auth = authenticator(verifier, Keys, &clock, |builder| builder);
    let mut junk = Vec::new();
    for tenth in 0..300 {
        if tenth % 5 == 0 {
            junk.push(send(&auth, "junk", tenth));
        }
        pass(&clock, 1).await;
        let revoked = send(&auth, "revoked", tenth);
        idle().await;
        assert!(!is_accepted(revoked).await, "after {tenth} tenths");
    }
}

/// For example on a dead connection. Each other caller comes after a second of silence.
#[tokio::test]
async fn one_stuck_call_makes_no_revoked_token_valid() {
    let clock = ManualClock::new();
    let verifier = SlowAbout("good", clock.clock());
    let auth = authenticator(verifier, Keys, &clock, |builder| builder);
    let _stuck = send(&auth, "good", 0);
    pass(&clock, 1).await;
    let early = send(&auth, "revoked", 100);
    idle().await;
    assert!(!is_accepted(early).await);
    for number in 0..15 {
        pass(&clock, 11).await;
        let revoked = send(&auth, "revoked", number);
        idle().await;
        assert!(!is_accepted(revoked).await, "{number}");
    }
}

/// Its acceptance was computed when the call began.
#[tokio::test]
async fn a_token_that_expires_during_the_call_is_not_accepted() {
    #[derive(Clone)]
    struct Until(SystemTime, Clock);
    impl Verifier for Until {
        async fn verify(&self, token: BearerToken<'_>, audiences: &Audiences) -> Outcome {
            Ok(self.verify_now(token, audiences).unwrap())
        }

        fn verify_now(&self, _: BearerToken<'_>, _: &Audiences) -> Option<Verdict> {
            let is_valid = self.1.wall() < self.0;
            Some(if is_valid { accept() } else { Verdict::Reject(RejectReason::Expired) })
        }
    }
    let clock = ManualClock::new();
    let until = Until(clock.clock().wall() + SECOND / 2, clock.clock());
    let auth = authenticator(Hangs::after(0, &clock), until, &clock, |builder| builder);
    let expiring = send(&auth, "good", 0);
    pass(&clock, 20).await;
    assert_eq!(expiring.await.unwrap().unwrap(), Verdict::Reject(RejectReason::Expired));
}

/// The verifier answers some calls, so that an outage begins and ends with each pair of tokens.
#[tokio::test]
async fn a_verifier_that_fails_in_part_does_not_flood_the_log() {
    struct FailsInPart;
    impl Verifier for FailsInPart {
        async fn verify(&self, token: BearerToken<'_>, _: &Audiences) -> Outcome {
            match &*kind(token) {
                "good" => Err(VerifyError::new(VerifyErrorKind::RateLimited, "busy")),
                _ => Ok(Verdict::Reject(RejectReason::Unauthenticated)),
            }
        }
    }
    let (log, _watching) = Log::watch();
    let clock = ManualClock::new();
    let both = FailsInPart.or_when_unavailable(Keys).clock(clock.clock());
    let audiences = Audiences::new(["api"]).unwrap();
    let verify = async |kind, number| {
        let token = jwt(kind, number);
        let _ = both.verify(BearerToken::parse(&token).unwrap(), &audiences).await;
    };
    for number in 0..1000 {
        verify("good", number).await;
        verify("unknown key", number).await;
    }
    assert_eq!(log.lines().len(), 1, "{:?}", log.lines());
    // An outage that lasts is logged in the end.
    clock.advance(10 * SECOND);
    verify("good", 1000).await;
    assert_eq!(log.lines().len(), 2, "{:?}", log.lines());
}
