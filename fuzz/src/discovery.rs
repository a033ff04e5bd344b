//! Any bytes as the discovery document of the cluster, beside good keys.

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
/// No document can name this one: it is too long for the fuzzer.
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
        // Another one each time: one that has keys would keep them.
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
                    "{refreshed:?}: a token of the issuer that is named is refused"
                );
            }
            let accepted = is_accepted(&verifier, &token(key, OTHER_ISSUER)).await;
            let is_named = named.as_deref() == Some(OTHER_ISSUER);
            assert!(!accepted || is_named, "a token of an issuer that is not named is accepted");
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

/// `issuer` of a document that has a `jwks_uri` too.
fn issuer(data: &[u8]) -> Option<String> {
    let document = Object::read(data)?;
    document.text("jwks_uri").ok()??;
    document.text("issuer").ok()?.filter(|issuer| !issuer.is_empty())
}
