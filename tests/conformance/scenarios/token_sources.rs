//! The caller's side: `TokenRequestSource` gets what it asks for, for as long as the server says, and with no more rights than
//! its manifest grants.

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
    identities::assert_equal,
    kube_apiserver::process::Folder,
    scene::{Outcome, Scene, eventually},
    verifiers::{accepted, verify},
};

/// The ServiceAccount that the manifest is about.
pub(super) const ACCOUNT: &str = "checkout";

pub(super) async fn who_we_are_is_in_our_own_token_and_the_manifests_rights_are_enough(
    scene: Scene,
) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account(ACCOUNT).await?;
    let own = scene.token(ACCOUNT, &[]).await?;
    let mount = Folder::create("own-mount")?;
    fs::write(mount.path().join("token"), &own)?;
    let client = scene.cluster().client_for(&own);
    let source =
        || TokenRequestSource::builder(client.clone()).own_mount(mount.path()).audience("orders");

    let error = source().build()?.token().await.expect_err("the right is missing");
    assert_eq!(error.kind(), TokenErrorKind::Forbidden, "{error}");
    let text = error.to_string();
    for part in [
        "`create`",
        "`serviceaccounts/token`",
        "client-token-request.yaml",
        &scene.username(ACCOUNT),
    ] {
        assert!(text.contains(part), "{text}");
    }

    apply_manifest(&scene).await?;
    eventually("the right to be noticed", || async { Ok(source().build()?.token().await.is_ok()) })
        .await?;
    let token = source().build()?.token().await?;
    let verdicts = verifiers.verdicts(token.expose_secret(), "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    assert_eq!(review.username(), scene.username(ACCOUNT));
    let elsewhere = verify(&verifiers.review, token.expose_secret(), "stock").await?;
    assert!(matches!(elsewhere, Verdict::Reject(_)), "good for another audience too");

    // `resourceNames`: nobody else's tokens.
    scene.service_account("treasurer").await?;
    let error = source()
        .service_account("treasurer")
        .build()?
        .token()
        .await
        .expect_err("a token of somebody else");
    assert_eq!(error.kind(), TokenErrorKind::Forbidden, "{error}");
    Ok(())
}

pub(super) async fn all_requested_audiences_are_in_the_token_and_none_means_the_api_servers(
    scene: Scene,
) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account(ACCOUNT).await?;
    let both = orders(&scene).audience("stock").build()?.token().await?;
    for audience in ["orders", "stock"] {
        verifiers.verdicts(both.expose_secret(), audience).await?.accepted();
    }

    let own = TokenRequestSource::builder(scene.admin())
        .namespace(scene.namespace())
        .service_account(ACCOUNT);
    let own = own.dangerous_api_server_audience().build()?.token().await?;
    let client = scene.cluster().client_for(own.expose_secret());
    assert!(client.apiserver_version().await.is_ok(), "the API server takes it");
    let elsewhere = verify(&verifiers.review, own.expose_secret(), "orders").await?;
    assert!(matches!(elsewhere, Verdict::Reject(_)), "nobody else does");
    Ok(())
}

pub(super) async fn the_life_is_that_of_the_status(scene: Scene) -> Outcome {
    scene.service_account(ACCOUNT).await?;
    for seconds in [600, 3600, 86_400] {
        let token =
            orders(&scene).expires_in(Duration::from_secs(seconds)).build()?.token().await?;
        let left = left(&token)?;
        assert!((seconds - 60..=seconds).contains(&left), "{left} s instead of {seconds}");
        assert_eq!(claimed_life(&token)?, seconds, "in the token itself");
    }
    Ok(())
}

/// The API server writes a year into the token that kubelet asks for, and the truth into the status.
pub(super) async fn the_trap_of_3607_seconds(scene: Scene) -> Outcome {
    scene.service_account(ACCOUNT).await?;
    scene.pod("checkout-0", ACCOUNT).await?;
    let source = TokenRequestSource::builder(scene.admin())
        .namespace(scene.namespace())
        .service_account(ACCOUNT);
    let source = source.dangerous_api_server_audience().expires_in(Duration::from_secs(3607));
    let token = source
        .bound_to(tower_kube_auth::client::BoundObjectRef::pod("checkout-0"))
        .build()?
        .token()
        .await?;
    assert!(claimed_life(&token)? > 300 * 86_400, "no trap here: {} s", claimed_life(&token)?);
    let left = left(&token)?;
    assert!((3500..=3607).contains(&left), "{left} s");
    Ok(())
}

/// Our own limits are the server's: what we refuse before the call it refuses, and what we let pass it grants.
pub(super) async fn the_limits_of_the_life_are_the_servers(scene: Scene) -> Outcome {
    scene.service_account(ACCOUNT).await?;
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{ACCOUNT}/token", scene.namespace());
    for (seconds, good) in
        [(0, false), (599, false), (600, true), (1_u64 << 32, true), ((1_u64 << 32) + 1, false)]
    {
        let ours = orders(&scene).expires_in(Duration::from_secs(seconds)).build();
        assert_eq!(ours.is_ok(), good, "ours, for {seconds} s");
        let document = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": ["orders"], "expirationSeconds": seconds},
        });
        let request = http::Request::post(&path).header("content-type", "application/json");
        match scene.admin().request::<Value>(request.body(document.to_string().into_bytes())?).await
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

pub(super) async fn a_service_account_that_is_not_there_is_named(scene: Scene) -> Outcome {
    let error = orders(&scene).build()?.token().await.expect_err("nobody is there");
    assert_eq!(error.kind(), TokenErrorKind::InvalidRequest, "{error}");
    assert!(
        error.to_string().contains(&format!("serviceaccounts {ACCOUNT:?} not found")),
        "{error}"
    );
    Ok(())
}

/// What a 401 leads to: the token of a ServiceAccount that was made anew is replaced, and not before.
pub(super) async fn a_refused_token_is_replaced(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account(ACCOUNT).await?;
    let source = orders(&scene).build()?;
    let old = source.token().await?;
    verifiers.verdicts(old.expose_secret(), "orders").await?.accepted();
    assert_eq!(source.token().await?, old, "the same, as long as it is good");

    scene.delete_service_account(ACCOUNT).await?;
    let uid = scene.service_account(ACCOUNT).await?;
    eventually("the old token to be refused", || async {
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

pub(super) async fn a_projected_token_is_sent_as_it_is_in_the_file(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account(ACCOUNT).await?;
    let volume = Folder::create("orders-token")?;
    let path = volume.path().join("token");
    fs::write(&path, format!("{}\n", scene.token(ACCOUNT, &["orders"]).await?))?;
    let token = ProjectedToken::new(&path).token().await?;
    verifiers.verdicts(token.expose_secret(), "orders").await?.accepted();
    assert_eq!(claimed_life(&token)?, 3600);
    Ok(())
}

/// An outage, and the end of it: the old token is kept, a new one is there afterwards, and nobody was told of it.
pub(super) async fn an_outage_is_sat_out(scene: Scene) -> Outcome {
    scene.service_account(ACCOUNT).await?;
    let source = orders(&scene).timeout(Duration::from_secs(2)).build()?;
    let old = source.token().await?;
    scene.cluster().go_down().await?;
    source.invalidate(&old);
    assert_eq!(source.token().await?, old, "there is no other");
    let stranger = orders(&scene).timeout(Duration::from_secs(2)).build()?;
    let error = stranger.token().await.expect_err("nobody is there to ask");
    assert!(
        matches!(error.kind(), TokenErrorKind::Unavailable | TokenErrorKind::Timeout),
        "{error}"
    );

    scene.cluster().come_up().await?;
    eventually("a new token", || async { Ok(source.token().await? != old) }).await?;
    eventually("a first token", || async { Ok(stranger.token().await.is_ok()) }).await
}

/// A source that may do everything, for tokens of [`ACCOUNT`].
pub(super) fn orders(scene: &Scene) -> TokenRequestBuilder {
    let builder = TokenRequestSource::builder(scene.admin());
    builder.namespace(scene.namespace()).service_account(ACCOUNT).audience("orders")
}

/// The Role and the RoleBinding of examples/kubernetes/client-token-request.yaml, in the scene's namespace.
async fn apply_manifest(scene: &Scene) -> Outcome {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kubernetes/client-token-request.yaml");
    for document in fs::read_to_string(path)?.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(document)?;
        object["metadata"]["namespace"] = scene.namespace().into();
        match object["kind"].as_str() {
            Some("Role") => {
                let roles: Api<Role> = Api::namespaced(scene.admin(), scene.namespace());
                roles.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            }
            Some("RoleBinding") => {
                object["subjects"][0]["namespace"] = scene.namespace().into();
                let bindings: Api<RoleBinding> = Api::namespaced(scene.admin(), scene.namespace());
                bindings.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// How long the source takes the token to be good, in seconds.
fn left(token: &Token) -> Outcome<u64> {
    let expiry = token.expires_at().ok_or("a token without an expiry")?;
    Ok(expiry.duration_since(std::time::SystemTime::now())?.as_secs_f64().ceil() as u64)
}

/// `exp` − `iat`.
fn claimed_life(token: &Token) -> Outcome<u64> {
    let claims = UnverifiedToken::decode(token.expose_secret())?;
    let claim =
        |name| claims.claims().get(name).and_then(Value::as_u64).ok_or("a token without its times");
    Ok(claim("exp")? - claim("iat")?)
}
