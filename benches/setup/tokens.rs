//! Tokens of the size and shape that Kubernetes issues.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower_kube_auth::{
    BearerToken, Verifier,
    audience::Audiences,
    error::VerifyError,
    identity::UserInfo,
    verdict::{Acceptance, Verdict},
};

pub const AUDIENCE: &str = "orders";
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Returns the claims of a projected token that is bound to a Pod.
pub fn claims(number: usize) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let uid = |kind: usize| format!("{kind:08x}-5d1c-4c6b-9b35-{number:012x}");
    json!({
        "aud": [AUDIENCE],
        "exp": now + 3607,
        "iat": now,
        "iss": ISSUER,
        "jti": uid(1),
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "gke-production-pool-2-4f7a9c11-x8kd", "uid": uid(2)},
            "pod": {"name": format!("checkout-7d9f6b5c4d-{number:05}"), "uid": uid(3)},
            "serviceaccount": {"name": "checkout", "uid": uid(4)},
            "warnafter": now + 3000,
        },
        "nbf": now,
        "sub": "system:serviceaccount:shop:checkout",
    })
}

/// Returns a token with a random signature of RS256's length, because signing thousands takes long.
pub fn unsigned(number: usize) -> String {
    let header = json!({"alg": "RS256", "kid": "9qZ0hVxG7rJt4mP2nWc8sLyK3bD6fEaU1iOoQvXzB5k"});
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut noise = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let signature: Vec<u8> = (0..256).map(|_| noise()).collect();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let [header, claims] = [header, claims(number)].map(|part| encode(part.to_string().as_bytes()));
    format!("{header}.{claims}.{}", encode(&signature))
}

/// Accepts every token at once, to measure the work before and after a verification.
pub struct Trusting;

impl Verifier for Trusting {
    async fn verify(
        &self,
        _: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        Ok(Verdict::Accept(acceptance(audiences)))
    }
}

/// Accepts every token, each as a different caller with all fields that Kubernetes fills in.
#[derive(Default)]
pub struct Describing(AtomicUsize);

impl Verifier for Describing {
    async fn verify(
        &self,
        _: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let mut user =
            UserInfo::service_account("shop", "checkout", "6b2f7c9e-0000-4000-8000-000000000000");
        let uid = format!("5d1c0000-4c6b-4000-9b35-{number:012x}");
        for (key, value) in [
            ("pod-name", format!("checkout-7d9f6b5c4d-{number:05}")),
            ("pod-uid", uid.clone()),
            ("node-name", "gke-production-pool-2-4f7a9c11-x8kd".to_owned()),
            ("node-uid", uid.clone()),
            ("credential-id", format!("JTI={uid}")),
        ] {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        }
        let expiry = SystemTime::now() + std::time::Duration::from_secs(3600);
        let issuer = SHARED_ISSUER.get_or_init(|| ISSUER.into()).clone();
        let accepted = Acceptance::builder(user, [AUDIENCE]).issuer(issuer).expires_at(expiry);
        Ok(Verdict::Accept(accepted.build(audiences).unwrap()))
    }
}

static SHARED_ISSUER: OnceLock<Arc<str>> = OnceLock::new();

pub fn acceptance(audiences: &Audiences) -> Acceptance {
    let user =
        UserInfo::service_account("shop", "checkout", "6b2f7c9e-0000-4000-8000-000000000000");
    let expiry = SystemTime::now() + std::time::Duration::from_secs(3600);
    let accepted = Acceptance::builder(user, [AUDIENCE]).issuer(ISSUER).expires_at(expiry);
    accepted.build(audiences).unwrap()
}
