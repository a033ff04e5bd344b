//! Tests with tokens that the embedded cluster's keys sign, which share no code with the verifier.

mod background_refresh;
mod cooldown;
mod keys;
mod rotation;
mod rules;
mod serialisation;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    Algorithm, JwksBuildError, JwksBuilder, JwksMetrics, JwksVerifier, key_origin::KeyOrigin,
    key_set::KeySet, key_snapshot::LoadedKeys,
};
use crate::{
    audience::Audiences,
    clock::manual::ManualClock,
    error::{VerifyError, VerifyErrorKind},
    testing::{self, SigningKey},
    token::BearerToken,
    verdict::{RejectReason, Verdict},
    verifier::Verifier,
};

const ISSUER: &str = "https://issuer.example";

/// A source that serves what its test says, counts the fetches, and can be made to wait.
#[derive(Clone, Debug, Default)]
pub(super) struct ScriptedSource(Arc<Script>);

#[derive(Debug, Default)]
struct Script {
    answer: Mutex<Option<String>>,
    fetches: AtomicU32,
    gate: Mutex<Option<Arc<Notify>>>,
    panics: AtomicU32,
}

impl ScriptedSource {
    fn publishing(keys: &[&SigningKey]) -> Self {
        let source = Self::default();
        source.publish(keys);
        source
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        *self.0.answer.lock().unwrap() = Some(json!({ "keys": keys }).to_string());
    }

    fn fail(&self) {
        *self.0.answer.lock().unwrap() = None;
    }

    /// Fetches wait from now on, until the gate is notified.
    fn close(&self) -> Arc<Notify> {
        self.0.gate.lock().unwrap().insert(Arc::default()).clone()
    }

    fn open(&self) {
        *self.0.gate.lock().unwrap() = None;
    }

    fn fetches(&self) -> u32 {
        self.0.fetches.load(Ordering::SeqCst)
    }

    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<LoadedKeys, VerifyError> {
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let panics = self.0.panics.load(Ordering::SeqCst);
        self.0.panics.store(panics.saturating_sub(1), Ordering::SeqCst);
        assert!(panics == 0, "on purpose");
        let answer = self.0.answer.lock().unwrap().clone();
        let json = answer
            .ok_or_else(|| VerifyError::new(VerifyErrorKind::Unavailable, "the issuer is down"))?;
        let keys = KeySet::from_json(json.as_bytes(), algorithms).map_err(|error| {
            VerifyError::new(VerifyErrorKind::InvalidResponse, error.to_string())
        })?;
        Ok(LoadedKeys { keys, issuer: Some(ISSUER.into()) })
    }
}

/// A clock, a key, and a verifier that has this key.
struct Setup {
    clock: ManualClock,
    key: SigningKey,
    source: ScriptedSource,
    verifier: JwksVerifier,
}

fn key(algorithm: testing::Algorithm) -> SigningKey {
    SigningKey::generate(algorithm).unwrap()
}

fn set_up() -> Setup {
    set_up_with(testing::Algorithm::ES256, |builder| builder)
}

fn set_up_with(
    algorithm: testing::Algorithm,
    tune: impl FnOnce(JwksBuilder) -> JwksBuilder,
) -> Setup {
    let (clock, key) = (ManualClock::new(), key(algorithm));
    let source = ScriptedSource::publishing(&[&key]);
    let builder = tune(JwksBuilder::new(KeyOrigin::Scripted(source.clone())).clock(clock.clock()));
    Setup { verifier: builder.build().unwrap(), clock, key, source }
}

impl Setup {
    fn now(&self) -> f64 {
        self.clock.clock().wall().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    }

    /// Good claims, as a modern API server makes them.
    fn claims(&self) -> Value {
        let now = self.now().floor();
        json!({
            "iss": ISSUER,
            "sub": "system:serviceaccount:ns:sa",
            "aud": ["api"],
            "exp": now + 3600.0,
            "nbf": now,
            "iat": now,
            "jti": "token-1",
            "kubernetes.io": {
                "namespace": "ns",
                "serviceaccount": { "name": "sa", "uid": "sa-uid" },
                "pod": { "name": "pod", "uid": "pod-uid" },
                "node": { "name": "node", "uid": "node-uid" },
            },
        })
    }

    fn with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims
    }

    fn without(&self, name: &str) -> Value {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(name).unwrap();
        claims
    }

    fn sign(&self, claims: &Value) -> String {
        self.key.sign(&self.key.header(), claims)
    }

    async fn verify(&self, token: &str) -> Result<Verdict, VerifyError> {
        let audiences = Audiences::new(["api", "other-api"]).unwrap();
        self.verifier.verify(BearerToken::parse(token).unwrap(), &audiences).await
    }

    async fn verify_claims(&self, claims: &Value) -> Verdict {
        self.verify(&self.sign(claims)).await.unwrap()
    }

    /// A good token but for its key id, which no key has.
    fn sign_as(&self, key_id: &str) -> String {
        self.key.sign(&json!({ "alg": "ES256", "kid": key_id }), &self.claims())
    }

    fn verify_now(&self, token: &str) -> Option<Verdict> {
        self.verifier
            .verify_now(BearerToken::parse(token).unwrap(), &Audiences::new(["api"]).unwrap())
    }

    async fn accepts(&self, token: &str) -> bool {
        matches!(self.verify(token).await, Ok(Verdict::Accept(_)))
    }

    async fn reason(&self, claims: &Value) -> RejectReason {
        match self.verify_claims(claims).await {
            Verdict::Reject(reason) => reason,
            accepted => panic!("{accepted:?} for {claims}"),
        }
    }
}

#[tokio::test]
async fn a_good_token_is_accepted_with_all_that_it_says() {
    let setup = set_up();
    let verdict = setup.verify_claims(&setup.claims()).await;
    let Verdict::Accept(acceptance) = verdict else { panic!("{verdict:?}") };
    let identity = acceptance.identity();
    assert_eq!(identity.username(), "system:serviceaccount:ns:sa");
    assert_eq!((identity.uid(), identity.issuer()), ("sa-uid", Some(ISSUER)));
    assert_eq!(identity.audiences().collect::<Vec<_>>(), ["api"]);
    assert_eq!(identity.pod().unwrap().name, "pod");
    assert_eq!(identity.node().unwrap().uid, Some("node-uid"));
    assert_eq!(identity.credential_id(), Some("JTI=token-1"));
    let expiry = UNIX_EPOCH + Duration::from_secs_f64(setup.now().floor() + 3600.0);
    assert_eq!(identity.expires_at(), Some(expiry));
}

#[tokio::test]
async fn a_known_key_takes_one_poll_and_no_fetch() {
    let setup = set_up();
    setup.verifier.refresh().await.unwrap();
    let token = setup.sign(&setup.claims());
    let audiences = Audiences::new(["api"]).unwrap();
    let mut verification =
        std::pin::pin!(setup.verifier.verify(BearerToken::parse(&token).unwrap(), &audiences));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(verification.as_mut().poll(&mut cx).is_ready(), "pure computation");
    assert_eq!(setup.source.fetches(), 1);
}

#[tokio::test]
async fn every_algorithm_that_is_allowed_verifies() {
    for (signing, header) in [
        (
            testing::Algorithm::RS256,
            ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].as_slice(),
        ),
        (testing::Algorithm::ES256, &["ES256"]),
        (testing::Algorithm::ES384, &["ES384"]),
        (testing::Algorithm::EdDSA, &["EdDSA"]),
    ] {
        let key = key(signing);
        for name in header {
            let algorithm = Algorithm::from_name(name).unwrap();
            let mut jwk = key.jwk();
            jwk["alg"] = json!(name);
            let json = json!({ "keys": [jwk] }).to_string();
            let verifier = JwksVerifier::from_jwks(json)
                .issuer(ISSUER)
                .algorithms([algorithm])
                .build()
                .unwrap();
            let setup = Setup { verifier, ..set_up() };
            let token = key.sign(&json!({ "alg": name, "kid": key.kid() }), &setup.claims());
            assert!(setup.accepts(&token).await, "{name}");
        }
    }
}
