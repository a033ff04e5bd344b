//! Token sources: audiences, lifetime, replacement, and the rights that the manifest grants.

use std::{fs, path::Path, time::Duration};

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tower_kube_auth::{
    client::{
        ProjectedToken, Token, TokenErrorKind, TokenRequestBuilder, TokenRequestSource, TokenSource,
    },
    inspect::UnverifiedToken,
    verdict::{RejectReason, Verdict},
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    identities::assert_equal,
    kube_apiserver::process::Folder,
    verifiers::{accepted, verify},
};

/// The ServiceAccount in the manifest.
pub(super) const ACCOUNT: &str = "checkout";

pub(super) async fn the_own_token_names_the_account_and_the_manifest_grants_enough(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account(ACCOUNT).await?;
    let own = fixture.token(ACCOUNT, &[]).await?;
    let mount = Folder::create("own-mount")?;
    fs::write(mount.path().join("token"), &own)?;
    let client = fixture.cluster().client_for(&own);
    let source =
        || TokenRequestSource::builder(client.clone()).own_mount(mount.path()).audience("orders");

    let error = source().build()?.token().await.expect_err("the right is missing");
    assert_eq!(error.kind(), TokenErrorKind::Forbidden, "{error}");
    let text = error.to_string();
    for part in [
        "`create`",
        "`serviceaccounts/token`",
        "client-token-request.yaml",
        &fixture.username(ACCOUNT),
    ] {
        assert!(text.contains(part), "{text}");
    }

    apply_manifest(&fixture).await?;
    eventually("the right to take effect", || async {
        Ok(source().build()?.token().await.is_ok())
    })
    .await?;
    let token = source().build()?.token().await?;
    let verdicts = verifiers.verdicts(token.expose_secret(), "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    assert_eq!(review.username(), fixture.username(ACCOUNT));
    let elsewhere = verify(&verifiers.review, token.expose_secret(), "stock").await?;
    assert!(matches!(elsewhere, Verdict::Reject(_)), "valid for another audience");

    // `resourceNames` restricts the right to this ServiceAccount.
    fixture.service_account("treasurer").await?;
    let error = source()
        .service_account("treasurer")
        .build()?
        .token()
        .await
        .expect_err("a token of another ServiceAccount");
    assert_eq!(error.kind(), TokenErrorKind::Forbidden, "{error}");
    Ok(())
}

pub(super) async fn requested_audiences_are_in_the_token_and_none_means_the_api_server(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account(ACCOUNT).await?;
    let both = orders(&fixture).audience("stock").build()?.token().await?;
    for audience in ["orders", "stock"] {
        verifiers.verdicts(both.expose_secret(), audience).await?.accepted();
    }

    let own = TokenRequestSource::builder(fixture.admin())
        .namespace(fixture.namespace())
        .service_account(ACCOUNT);
    let own = own.dangerous_api_server_audience().build()?.token().await?;
    let client = fixture.cluster().client_for(own.expose_secret());
    assert!(client.apiserver_version().await.is_ok(), "the API server accepts it");
    let elsewhere = verify(&verifiers.review, own.expose_secret(), "orders").await?;
    assert!(matches!(elsewhere, Verdict::Reject(_)), "no other audience does");
    Ok(())
}

pub(super) async fn the_lifetime_is_that_of_the_status(fixture: Fixture) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    for seconds in [600, 3600, 86_400] {
        let token =
            orders(&fixture).expires_in(Duration::from_secs(seconds)).build()?.token().await?;
        let left = left(&token)?;
        assert!((seconds - 60..=seconds).contains(&left), "{left} s instead of {seconds}");
        assert_eq!(claimed_life(&token)?, seconds, "in the token itself");
    }
    Ok(())
}

/// For a request of 3607 s, as kubelet sends it, the API server sets `exp` to a year ahead and
/// reports the real expiry in the status (`WarnOnlyBoundTokenExpirationPeriod`).
pub(super) async fn the_expiry_is_that_of_the_status_even_if_exp_is_a_year_later(
    fixture: Fixture,
) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    fixture.pod("checkout-0", ACCOUNT).await?;
    let source = TokenRequestSource::builder(fixture.admin())
        .namespace(fixture.namespace())
        .service_account(ACCOUNT);
    let source = source.dangerous_api_server_audience().expires_in(Duration::from_secs(3607));
    let token = source
        .bound_to(tower_kube_auth::client::BoundObjectRef::pod("checkout-0"))
        .build()?
        .token()
        .await?;
    assert!(
        claimed_life(&token)? > 300 * 86_400,
        "exp is not extended: {} s",
        claimed_life(&token)?
    );
    let left = left(&token)?;
    assert!((3500..=3607).contains(&left), "{left} s");
    Ok(())
}

/// The source rejects before the call exactly the lifetimes that the server rejects.
pub(super) async fn the_limits_of_the_lifetime_are_those_of_the_server(
    fixture: Fixture,
) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    let path =
        format!("/api/v1/namespaces/{}/serviceaccounts/{ACCOUNT}/token", fixture.namespace());
    for (seconds, good) in
        [(0, false), (599, false), (600, true), (1_u64 << 32, true), ((1_u64 << 32) + 1, false)]
    {
        let source = orders(&fixture).expires_in(Duration::from_secs(seconds)).build();
        assert_eq!(source.is_ok(), good, "the source, for {seconds} s");
        let document = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": ["orders"], "expirationSeconds": seconds},
        });
        let request = http::Request::post(&path).header("content-type", "application/json");
        match fixture
            .admin()
            .request::<Value>(request.body(document.to_string().into_bytes())?)
            .await
        {
            Ok(_) => assert!(good, "the server grants {seconds} s"),
            Err(kube::Error::Api(status)) => {
                assert_eq!((good, status.code), (false, 422), "{seconds} s: {status}")
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

pub(super) async fn the_error_names_a_missing_service_account(fixture: Fixture) -> Outcome {
    let error = orders(&fixture).build()?.token().await.expect_err("no such ServiceAccount");
    assert_eq!(error.kind(), TokenErrorKind::InvalidRequest, "{error}");
    assert!(
        error.to_string().contains(&format!("serviceaccounts {ACCOUNT:?} not found")),
        "{error}"
    );
    Ok(())
}

/// The token of a recreated ServiceAccount is replaced after a 401, and not before.
pub(super) async fn a_rejected_token_is_replaced(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account(ACCOUNT).await?;
    let source = orders(&fixture).build()?;
    let old = source.token().await?;
    verifiers.verdicts(old.expose_secret(), "orders").await?.accepted();
    assert_eq!(source.token().await?, old, "the same token while it is valid");

    fixture.delete_service_account(ACCOUNT).await?;
    let uid = fixture.service_account(ACCOUNT).await?;
    eventually("the old token to be rejected", || async {
        Ok(verify(&verifiers.review, old.expose_secret(), "orders").await?
            == Verdict::Reject(RejectReason::Unauthenticated))
    })
    .await?;
    source.invalidate(&old);
    let new = source.token().await?;
    assert_ne!(new, old);
    eventually("the new token to be accepted", || async {
        let verdict = verify(&verifiers.review, new.expose_secret(), "orders").await?;
        Ok(matches!(verdict, Verdict::Accept(_)) && accepted(&verdict).uid() == uid)
    })
    .await
}

pub(super) async fn a_projected_token_is_sent_without_its_line_end(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account(ACCOUNT).await?;
    let volume = Folder::create("orders-token")?;
    let path = volume.path().join("token");
    fs::write(&path, format!("{}\n", fixture.token(ACCOUNT, &["orders"]).await?))?;
    let token = ProjectedToken::new(&path).token().await?;
    verifiers.verdicts(token.expose_secret(), "orders").await?.accepted();
    assert_eq!(claimed_life(&token)?, 3600);
    Ok(())
}

/// In an outage the old token is kept. Afterwards it is replaced without further calls.
pub(super) async fn a_token_source_survives_an_outage(fixture: Fixture) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    let source = orders(&fixture).timeout(Duration::from_secs(2)).build()?;
    let old = source.token().await?;
    fixture.cluster().go_down().await?;
    source.invalidate(&old);
    assert_eq!(source.token().await?, old, "the old token is kept");
    let stranger = orders(&fixture).timeout(Duration::from_secs(2)).build()?;
    let error = stranger.token().await.expect_err("the API server is down");
    assert!(
        matches!(error.kind(), TokenErrorKind::Unavailable | TokenErrorKind::Timeout),
        "{error}"
    );

    fixture.cluster().come_up().await?;
    eventually("a new token", || async { Ok(source.token().await? != old) }).await?;
    eventually("a first token", || async { Ok(stranger.token().await.is_ok()) }).await
}

/// Returns a source with all rights, for tokens of [`ACCOUNT`].
pub(super) fn orders(fixture: &Fixture) -> TokenRequestBuilder {
    let builder = TokenRequestSource::builder(fixture.admin());
    builder.namespace(fixture.namespace()).service_account(ACCOUNT).audience("orders")
}

/// Applies the Role and RoleBinding of examples/kubernetes/client-token-request.yaml to the
/// fixture's namespace.
async fn apply_manifest(fixture: &Fixture) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/kubernetes/client-token-request.yaml");
    for document in fs::read_to_string(path)?.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(document)?;
        object["metadata"]["namespace"] = fixture.namespace().into();
        match object["kind"].as_str() {
            Some("Role") => {
                let roles: Api<Role> = Api::namespaced(fixture.admin(), fixture.namespace());
                roles.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            }
            Some("RoleBinding") => {
                object["subjects"][0]["namespace"] = fixture.namespace().into();
                let bindings: Api<RoleBinding> =
                    Api::namespaced(fixture.admin(), fixture.namespace());
                bindings.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns for how many seconds the source considers the token valid.
fn left(token: &Token) -> Outcome<u64> {
    let expiry = token.expires_at().ok_or("a token without an expiry")?;
    Ok(expiry.duration_since(std::time::SystemTime::now())?.as_secs_f64().ceil() as u64)
}

/// Returns `exp` − `iat`.
fn claimed_life(token: &Token) -> Outcome<u64> {
    let claims = UnverifiedToken::decode(token.expose_secret())?;
    let claim =
        |name| claims.claims().get(name).and_then(Value::as_u64).ok_or("a token without its times");
    Ok(claim("exp")? - claim("iat")?)
}
