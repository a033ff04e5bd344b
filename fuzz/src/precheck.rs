//! Any bytes as a token: three lines are its parts, which are encoded here; one line is the whole
//! token.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_kube_auth::{
    Authenticator, BearerToken, Verifier,
    audience::Audiences,
    error::VerifyError,
    verdict::{RejectReason, Verdict},
};

use crate::{
    AUDIENCE, ISSUER, NOW, at_once, clock,
    object::{Object, is_text},
};

/// The clock skew that the crate tolerates.
const LEEWAY: u64 = 300;

/// Rejects every token that passes the pre-check.
struct Denying(Arc<AtomicUsize>);

impl Verifier for Denying {
    async fn verify(&self, _: BearerToken<'_>, _: &Audiences) -> Result<Verdict, VerifyError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Verdict::Reject(RejectReason::Denied))
    }
}

thread_local! {
    static UNDER_TEST: (Authenticator, Arc<AtomicUsize>) = {
        let calls = Arc::new(AtomicUsize::new(0));
        let builder = Authenticator::builder(Denying(calls.clone())).audience(AUDIENCE).issuer(ISSUER);
        // No caches, so that a run depends only on its input.
        let builder = builder.cache_ttl(Default::default()).reject_ttl(Default::default());
        (builder.clock(clock()).build().unwrap(), calls)
    };
}

pub fn check(data: &[u8]) {
    let lines: Vec<_> = data.splitn(3, |byte| *byte == b'\n').collect();
    let token = match lines[..] {
        [header, claims, signature] => {
            [header, claims, signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
        }
        _ => String::from_utf8_lossy(data).into_owned(),
    };
    let Ok(token) = BearerToken::parse(&token) else { return };
    let first = judge(token);
    assert_eq!(judge(token), first, "the verdict differs the second time");
    let is_looked_at = first == RejectReason::Denied;
    match may_be_good(token.expose_secret()) {
        None => assert!(!is_looked_at, "a token that no verifier could accept passes"),
        Some(claims) => {
            assert!(
                is_looked_at || !is_text(&claims),
                "{first}, although a verifier could accept it"
            )
        }
    }
}

fn judge(token: BearerToken<'_>) -> RejectReason {
    UNDER_TEST.with(|(authenticator, calls)| {
        let before = calls.load(Ordering::Relaxed);
        let Ok(Verdict::Reject(reason)) = at_once(authenticator.authenticate(token)) else {
            panic!("the token is accepted")
        };
        let called = calls.load(Ordering::Relaxed) - before;
        assert_eq!(called, usize::from(reason == RejectReason::Denied));
        reason
    })
}

/// Returns the claims of a token that a verifier could accept.
fn may_be_good(token: &str) -> Option<Vec<u8>> {
    let parts: Option<Vec<_>> = token.split('.').map(decode).collect();
    let [header, claims, signature] = <[_; 3]>::try_from(parts?).ok()?;
    let object = Object::read(&claims).filter(|_| !header.is_empty() && !signature.is_empty())?;
    let is_ours = object.text("iss").ok()?.is_some_and(|issuer| issuer == ISSUER);
    let is_for_us = object
        .audiences()
        .ok()?
        .is_none_or(|audiences| audiences.iter().any(|one| one == AUDIENCE));
    let is_alive = object.number("exp").ok()?.is_none_or(|expiry| expiry >= (NOW - LEEWAY) as f64);
    (is_ours && is_for_us && is_alive).then_some(claims)
}

/// Decodes only the canonical spelling.
fn decode(part: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    (URL_SAFE_NO_PAD.encode(&bytes) == part).then_some(bytes)
}
