//! Rewrites `seeds/` and `fixtures.json` from an embedded cluster.

use std::{error::Error, fs, path::Path};

use http::Request;
use serde_json::{Value, json};
use tower_kube_auth::testing::{Algorithm, Cluster};
use tower_kube_auth_fuzz::{AUDIENCE, ISSUER, NOW, clock};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

fn main() -> Outcome {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR"))?;
    if Path::new("seeds").exists() {
        fs::remove_dir_all("seeds")?;
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(write_all())
}

async fn write_all() -> Outcome {
    let cluster = Cluster::builder().clock(clock()).issuer(ISSUER).start().await?;
    let second = cluster.add_key(Algorithm::ES256)?;
    let first = cluster.signing_key();
    cluster.create_service_account("shop", "checkout");
    cluster.create_pod_on_node("shop", "checkout-0", "checkout", "worker-1");
    let token = || cluster.token("shop", "checkout").audience(AUDIENCE).audience("other");
    let claims = token().bound_to_pod("checkout-0").claims()?;
    let good = cluster.mint(&claims);
    let other = cluster.token("shop", "checkout").audience("other").issue()?;

    usernames()?;
    headers(&good)?;
    parts(&claims, &first.header(), &good)?;
    all_claims(&claims, &token().claims()?)?;

    let set: Value = serde_json::from_str(&cluster.jwks_json())?;
    write("jwks", "cluster", &cluster.jwks_json())?;
    for algorithm in [Algorithm::ES384, Algorithm::EdDSA] {
        cluster.add_key(algorithm)?;
    }
    write("jwks", "four_keys", &cluster.jwks_json())?;
    for (position, key) in set["keys"].as_array().into_iter().flatten().enumerate() {
        write("jwks", &format!("key_{position}"), &json!({ "keys": [key] }).to_string())?;
        for (name, member, value) in [
            ("encryption_key", "use", json!("enc")),
            ("another_purpose", "key_ops", json!(["sign"])),
        ] {
            let mut changed = key.clone();
            changed[member] = value;
            write(
                "jwks",
                &format!("{name}_{position}"),
                &json!({ "keys": [changed] }).to_string(),
            )?;
        }
    }
    let mut tokens = Vec::new();
    for (position, key) in [&first, &second].into_iter().enumerate() {
        let (with_id, mut without_id) = (key.header(), key.header());
        without_id.as_object_mut().ok_or("no header")?.remove("kid");
        for (has_key_id, header) in [(true, with_id), (false, without_id)] {
            tokens.push(json!({ "key": position, "has_key_id": has_key_id, "token": key.sign(&header, &claims) }));
        }
    }
    let fixtures = json!({ "keys": [first.jwk(), second.jwk()], "tokens": tokens });
    fs::write("fixtures.json", format!("{fixtures:#}\n"))?;

    let client = cluster.admin_client()?;
    let document = Request::get("/.well-known/openid-configuration").body(Vec::new())?;
    write("discovery", "cluster", &client.request_text(document).await?)?;
    let slash = json!({ "issuer": format!("{ISSUER}/"), "jwks_uri": "https://x" });
    write("discovery", "slash", &slash.to_string())?;
    write("discovery", "least", &json!({ "issuer": ISSUER, "jwks_uri": "https://x" }).to_string())?;

    let admin = cluster.admin_token().to_owned();
    let review = async |name: &str, token: &str| {
        let review = json!({ "spec": { "token": token, "audiences": [AUDIENCE] } });
        let answer = client
            .request_text(Request::post(REVIEWS).body(review.to_string().into_bytes())?)
            .await?;
        // The response repeats the token, which is long and not read.
        let mut answer: Value = serde_json::from_str(&answer)?;
        answer["spec"]["token"] = "…".into();
        write("token_review", name, &answer.to_string())
    };
    review("good", &good).await?;
    lists()?;
    review("unbound", &token().issue()?).await?;
    review("another_audience", &other).await?;
    review("not_a_service_account", &admin).await?;
    review("no_token", "e30.e30.c2ln").await?;
    cluster.delete_pod("shop", "checkout-0");
    review("deleted_pod", &good).await
}

/// Writes lists in place of objects.
fn lists() -> Outcome {
    let good: Value = serde_json::from_str(&fs::read_to_string("seeds/token_review/good")?)?;
    let (status, user) = (&good["status"], &good["status"]["user"]);
    write("token_review", "list_of_members", &json!([status]).to_string())?;
    let listed = json!({ "status": [true, user, [AUDIENCE], ""] });
    write("token_review", "list_as_status", &listed.to_string())?;
    let user = json!([user["username"], user["uid"], user["groups"], {}]);
    let listed =
        json!({ "status": { "authenticated": true, "audiences": [AUDIENCE], "user": user } });
    write("token_review", "list_as_user", &listed.to_string())
}

fn usernames() -> Outcome {
    write("username", "service_account", "system:serviceaccount:shop:checkout")?;
    write("username", "subdomain", "system:serviceaccount:kube-system:node.controller-2")?;
    write("username", "short", "a:b")?;
    write("username", "anonymous", "system:anonymous")?;
    write("username", "node", "system:node:worker-1")
}

fn headers(good: &str) -> Outcome {
    write("authorization_header", "good", &format!("Bearer {good}"))?;
    write("authorization_header", "small", "bearer e30.e30.c2ln")?;
    write("authorization_header", "padded", "Bearer abc==")?;
    write("authorization_header", "two", &format!("Bearer {good}\nBearer {good}"))?;
    write("authorization_header", "basic", "Basic dXNlcjpwYXNz")?;
    write("authorization_header", "empty", "")
}

fn parts(claims: &Value, header: &Value, good: &str) -> Outcome {
    write("precheck", "whole", good)?;
    write("precheck", "parts", &format!("{header}\n{claims}\nsignature"))?;
    let small = json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": NOW });
    write("precheck", "small", &format!("{{}}\n{small}\nsignature"))?;
    let other =
        json!({ "iss": "https://other.example", "aud": ["other", AUDIENCE], "exp": NOW + 1 });
    write("precheck", "other_issuer", &format!("{{}}\n{other}\nsignature"))?;
    let second = json!({ "iss": ISSUER, "aud": ["other", AUDIENCE], "exp": NOW + 1 });
    write("precheck", "second_audience", &format!("{{}}\n{second}\nsignature"))?;
    let expired = json!({ "iss": ISSUER, "aud": [AUDIENCE], "exp": NOW - 3600 });
    write("precheck", "expired", &format!("{{}}\n{expired}\nsignature"))
}

fn all_claims(bound: &Value, unbound: &Value) -> Outcome {
    write("claims", "bound", &bound.to_string())?;
    write("claims", "unbound", &unbound.to_string())?;
    let header = json!({ "alg": "ES256", "kid": "key-1", "typ": "JWT" });
    write("claims", "with_header", &format!("{header}\0{unbound}"))?;
    write("claims", "without_key_id", &format!("{}\0{unbound}", json!({ "alg": "ES256" })))?;
    write(
        "claims",
        "critical",
        &format!("{}\0{unbound}", json!({ "alg": "ES256", "crit": ["b64"], "b64": false })),
    )?;
    let mut changed = unbound.clone();
    changed["aud"] = AUDIENCE.into();
    changed["exp"] = json!(NOW as f64 + 0.5);
    changed["jti"] = Value::Null;
    write("claims", "one_audience", &changed.to_string())?;
    changed["sub"] = "system:serviceaccount:shop:other".into();
    write("claims", "another_subject", &changed.to_string())
}

fn write(target: &str, name: &str, text: &str) -> Outcome {
    fs::create_dir_all(format!("seeds/{target}"))?;
    Ok(fs::write(format!("seeds/{target}/{name}"), text)?)
}
