//! The discovery document and the key set, byte for byte, with their headers.

use http::{Response, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

use crate::fixture::{Fixture, Outcome};

pub(super) async fn the_discovery_document_is_as_expected(fixture: Fixture) -> Outcome {
    let document = fetch(&fixture, "/.well-known/openid-configuration", "application/json").await?;
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

pub(super) async fn the_key_set_is_as_expected(fixture: Fixture) -> Outcome {
    key_set_is_serialized_as_expected(&fixture).await
}

pub(super) async fn key_set_is_serialized_as_expected(fixture: &Fixture) -> Outcome {
    let document = fetch(fixture, "/openid/v1/jwks", "application/jwk-set+json").await?;
    let parsed: Value = serde_json::from_str(&document)?;
    let keys: Vec<_> = parsed["keys"].as_array().ok_or("keys")?.iter().map(spelled).collect();
    assert!(!keys.is_empty());
    assert_eq!(document, format!(r#"{{"keys":[{}]}}"#, keys.join(",")));
    Ok(())
}

/// Serializes a key as go-jose does.
fn spelled(key: &Value) -> String {
    let of = |name: &str| key[name].as_str().expect("a member").to_owned();
    let numbers = match key["kty"].as_str() {
        Some("RSA") => format!(r#""n":"{}","e":"{}""#, of("n"), of("e")),
        Some("EC") => format!(r#""x":"{}","y":"{}""#, of("x"), of("y")),
        _ => panic!("an unknown kty: {key}"),
    };
    let curve = key["crv"].as_str().map(|curve| format!(r#""crv":"{curve}","#)).unwrap_or_default();
    let (kid, alg) = (of("kid"), of("alg"));
    format!(r#"{{"use":"sig","kty":"{}","kid":"{kid}",{curve}"alg":"{alg}",{numbers}}}"#, of("kty"))
}

/// Fetches a document as a ServiceAccount without extra rights. Anonymous requests must fail.
async fn fetch(fixture: &Fixture, path: &str, content_type: &str) -> Outcome<String> {
    let reader = "reader";
    fixture.service_account(reader).await?;
    let client = fixture.cluster().client_for(&fixture.token(reader, &[]).await?);
    let request = || http::Request::get(path).body(Body::empty());
    let response: Response<Body> = client.send(request()?).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=3600");
    let document = response.into_body().collect().await?.to_bytes();

    let anonymous = kube::Client::try_from(fixture.cluster().anonymous())?;
    let rejected = anonymous.send(request()?).await?.status();
    assert!(rejected == 403 || rejected == 401, "without a credential: {rejected}");
    Ok(String::from_utf8(document.to_vec())?)
}
