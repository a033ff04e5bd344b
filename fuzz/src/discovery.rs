//! Any bytes as the discovery document of a cluster with valid keys.

use serde_json::json;
use tower_kube_auth::{
    BearerToken, JwksVerifier, Verifier,
    clock::Clock,
    testing::{Algorithm, SigningKey},
    verdict::Verdict,
};

use crate::{
    AUDIENCE, NOW, audiences,
    fake_api_server::FakeApiServer,
    object::{Object, is_text},
};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";
/// Too long for the fuzzer to produce, so no document names it.
const OTHER_ISSUER: &str =
    "https://issuer.example/that/is/named/nowhere/0b54cb0e-cfbb-4ac8-a9a0-1cdbb0a2aee4";

thread_local! {
    static UNDER_TEST: (FakeApiServer, SigningKey, Clock) = {
        let (api_server, key) = (FakeApiServer::new(), SigningKey::generate(Algorithm::ES256).unwrap());
        api_server.serve(KEYS, json!({ "keys": [key.jwk()] }).to_string().as_bytes());
        (api_server, key, crate::clock())
    };
}

pub fn check(data: &[u8]) {
    let named = issuer(data);
    UNDER_TEST.with(|(api_server, key, clock)| {
        api_server.serve(DISCOVERY, data);
        // A new one each time, because a verifier keeps loaded keys.
        let verifier = JwksVerifier::in_cluster(api_server.client.clone())
            .clock(clock.clone())
            .build()
            .unwrap();
        api_server.block_on(async {
            let refreshed = verifier.refresh().await;
            if let Some(named) = &named {
                let accepted = is_accepted(&verifier, &token(key, named)).await;
                assert!(
                    accepted || !is_text(data),
                    "{refreshed:?}: a token of the named issuer is rejected"
                );
            }
            let accepted = is_accepted(&verifier, &token(key, OTHER_ISSUER)).await;
            let is_named = named.as_deref() == Some(OTHER_ISSUER);
            assert!(!accepted || is_named, "a token of another issuer is accepted");
            assert!(refreshed.is_err() || named.is_some(), "keys are loaded without an issuer");
        });
    });
}

async fn is_accepted(verifier: &JwksVerifier, token: &str) -> bool {
    let token = BearerToken::parse(token).expect("an issuer is shorter than a token may be");
    matches!(verifier.verify(token, audiences()).await, Ok(Verdict::Accept(_)))
}

fn token(key: &SigningKey, issuer: &str) -> String {
    let account =
        json!({ "namespace": "shop", "serviceaccount": { "name": "checkout", "uid": "1" } });
    let claims = json!({
        "iss": issuer, "sub": "system:serviceaccount:shop:checkout", "aud": [AUDIENCE], "exp": NOW + 600,
        "kubernetes.io": account,
    });
    key.sign(&key.header(), &claims)
}

/// Returns the `issuer` of a document that also has a `jwks_uri`.
fn issuer(data: &[u8]) -> Option<String> {
    let document = Object::read(data)?;
    document.text("jwks_uri").ok()??;
    document.text("issuer").ok()?.filter(|issuer| !issuer.is_empty())
}
