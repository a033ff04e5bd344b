//! The issuer: its valid and invalid tokens, and its keys, also over HTTP.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use tower_kube_auth::testing::{Algorithm, SigningKey};

pub const AUDIENCE: &str = "orders";

pub struct Issuer {
    key: SigningKey,
    pub url: String,
    pub good: String,
}

impl Issuer {
    pub async fn start() -> Self {
        let key = SigningKey::generate(Algorithm::RS256).expect("random numbers");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let jwks = json!({"keys": [key.jwk()]});
        let discovery = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/jwks"),
            "authorization_endpoint": url,
            "token_endpoint": url,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        let app = Router::new()
            .route("/jwks", get(async || Json(jwks)))
            .route("/.well-known/openid-configuration", get(async || Json(discovery)));
        tokio::spawn(async { axum::serve(listener, app).await });
        let mut issuer = Self { key, url, good: String::new() };
        // token-review 0.3 decodes claims with the wrong alphabet and does not cache a token whose
        // claims contain '-' or '_'.
        let fits = |token: &String| !token.split('.').nth(1).expect("claims").contains(['-', '_']);
        issuer.good = (0..)
            .map(|number| issuer.token(issuer.claims(number)))
            .find(fits)
            .expect("one of them fits");
        println!("a token of {} bytes", issuer.good.len());
        issuer
    }

    pub fn jwks(&self) -> String {
        json!({"keys": [self.key.jwk()]}).to_string()
    }

    /// Returns the claims of a projected token that is bound to a Pod.
    fn claims(&self, number: usize) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let uid = |kind: usize| format!("{kind:08x}-5d1c-4c6b-9b35-{number:012x}");
        json!({
            "aud": [AUDIENCE], "exp": now + 3607, "iat": now, "iss": self.url, "jti": uid(1),
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

    fn token(&self, claims: Value) -> String {
        self.key.sign(&self.key.header(), &claims)
    }

    /// Returns tokens that must be rejected.
    pub fn bad(&self) -> [(&'static str, String); 4] {
        let with = |name: &str, value: Value| {
            let mut claims = self.claims(1);
            claims[name] = value;
            self.token(claims)
        };
        let stranger = SigningKey::generate(Algorithm::RS256).expect("random numbers");
        [
            ("another key's signature", stranger.sign(&self.key.header(), &self.claims(1))),
            ("another audience", with("aud", json!(["other"]))),
            ("another issuer", with("iss", json!("https://other.example"))),
            ("an expired token", with("exp", json!(1_700_000_000))),
        ]
    }
}
