//! The discovery document and the keys: their shape, byte for byte, and their headers.

use http::{Response, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

use crate::scene::{Outcome, Scene};

pub(super) async fn discovery(scene: Scene) -> Outcome {
    let document = fetch(&scene, "/.well-known/openid-configuration", "application/json").await?;
    let parsed: Value = serde_json::from_str(&document)?;
    let [issuer, jwks_uri] =
        ["issuer", "jwks_uri"].map(|key| parsed[key].as_str().expect("a string").to_owned());
    assert!(issuer.starts_with("https://"), "{issuer}");
    assert!(
        jwks_uri.starts_with("https://") && jwks_uri.ends_with("/openid/v1/jwks"),
        "{jwks_uri}"
    );
    let algorithms = parsed["id_token_signing_alg_values_supported"].to_string();
    let expected = format!(
        r#"{{"issuer":"{issuer}","jwks_uri":"{jwks_uri}","response_types_supported":["id_token"],"#,
    ) + &format!(
        r#""subject_types_supported":["public"],"id_token_signing_alg_values_supported":{algorithms}}}"#
    );
    assert_eq!(document, expected);
    Ok(())
}

pub(super) async fn keys(scene: Scene) -> Outcome {
    keys_are_spelled_as_ever(&scene).await
}

pub(super) async fn keys_are_spelled_as_ever(scene: &Scene) -> Outcome {
    let document = fetch(scene, "/openid/v1/jwks", "application/jwk-set+json").await?;
    let parsed: Value = serde_json::from_str(&document)?;
    let keys: Vec<_> = parsed["keys"].as_array().ok_or("keys")?.iter().map(spelled).collect();
    assert!(!keys.is_empty());
    assert_eq!(document, format!(r#"{{"keys":[{}]}}"#, keys.join(",")));
    Ok(())
}

/// A key as go-jose writes it.
fn spelled(key: &Value) -> String {
    let of = |name: &str| key[name].as_str().expect("a member").to_owned();
    let numbers = match key["kty"].as_str() {
        Some("RSA") => format!(r#""n":"{}","e":"{}""#, of("n"), of("e")),
        Some("EC") => format!(r#""x":"{}","y":"{}""#, of("x"), of("y")),
        _ => panic!("a key of another kind: {key}"),
    };
    let curve = key["crv"].as_str().map(|curve| format!(r#""crv":"{curve}","#)).unwrap_or_default();
    let (kid, alg) = (of("kid"), of("alg"));
    format!(r#"{{"use":"sig","kty":"{}","kid":"{kid}",{curve}"alg":"{alg}",{numbers}}}"#, of("kty"))
}

/// The document as a ServiceAccount without further rights reads it; nobody else's business.
async fn fetch(scene: &Scene, path: &str, content_type: &str) -> Outcome<String> {
    let reader = "reader";
    scene.service_account(reader).await?;
    let client = scene.cluster().client_for(&scene.token(reader, &[]).await?);
    let request = || http::Request::get(path).body(Body::empty());
    let response: Response<Body> = client.send(request()?).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=3600");
    let document = response.into_body().collect().await?.to_bytes();

    let anonymous = kube::Client::try_from(scene.cluster().anonymous())?;
    let refused = anonymous.send(request()?).await?.status();
    assert!(refused == 403 || refused == 401, "without a credential: {refused}");
    Ok(String::from_utf8(document.to_vec())?)
}
