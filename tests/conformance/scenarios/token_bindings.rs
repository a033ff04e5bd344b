//! Tokens from `TokenRequestSource` that are bound to a Pod, a Secret or a Node.

use std::fs;

use tower_kube_auth::client::{BoundObjectRef, TokenErrorKind, TokenRequestSource, TokenSource};

use super::token_sources::{ACCOUNT, orders};
use crate::{
    fixture::{Fixture, Outcome},
    kube_apiserver::process::Folder,
    verifiers::{accepted, verify},
};

pub(super) async fn a_token_can_be_bound_to_a_pod_a_secret_and_the_own_pod(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account(ACCOUNT).await?;
    let pod = fixture.pod("checkout-0", ACCOUNT).await?;
    let secret = fixture.secret("anchor").await?;
    let own = fixture.bound_token(ACCOUNT, &[], "Pod", "checkout-0").await?;
    let mount = Folder::create("own-mount")?;
    fs::write(mount.path().join("token"), own)?;

    let by_name = orders(&fixture).bound_to(BoundObjectRef::pod("checkout-0"));
    let by_uid = orders(&fixture).bound_to(BoundObjectRef::pod("checkout-0").uid(&pod));
    let our_own = TokenRequestSource::builder(fixture.admin())
        .own_mount(mount.path())
        .audience("orders")
        .bound_to_own_pod();
    for source in [by_name, by_uid, our_own] {
        let token = source.build()?.token().await?;
        let verdict = verify(&verifiers.review, token.expose_secret(), "orders").await?;
        let bound = accepted(&verdict).pod().ok_or("no Pod")?;
        assert_eq!((bound.name, bound.uid), ("checkout-0", Some(&*pod)));
    }

    let to_secret = orders(&fixture)
        .bound_to(BoundObjectRef::secret("anchor").uid(secret))
        .build()?
        .token()
        .await?;
    verifiers.verdicts(to_secret.expose_secret(), "orders").await?.accepted();
    Ok(())
}

pub(super) async fn a_failed_binding_is_an_error_with_the_reason(fixture: Fixture) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    fixture.service_account("other").await?;
    fixture.pod("checkout-0", ACCOUNT).await?;
    fixture.pod("other-0", "other").await?;
    fixture.secret("anchor").await?;
    let cases = [
        (BoundObjectRef::pod("checkout-0").uid("another"), "UID"),
        (BoundObjectRef::secret("anchor").uid("another"), "UID"),
        (BoundObjectRef::pod("other-0"), "different serviceaccount"),
        (BoundObjectRef::pod("nobody"), "not found"),
        (BoundObjectRef::secret("nothing"), "not found"),
    ];
    for (bound, reason) in cases {
        let error =
            orders(&fixture).bound_to(bound.clone()).build()?.token().await.expect_err(reason);
        assert_eq!(error.kind(), TokenErrorKind::InvalidRequest, "{bound:?}: {error}");
        assert!(error.to_string().contains(reason), "{bound:?}: {error}");
    }
    Ok(())
}

pub(super) async fn a_token_can_be_bound_to_a_node_if_the_version_supports_it(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account(ACCOUNT).await?;
    let (node, uid) = fixture.node().await?;
    let asked =
        orders(&fixture).bound_to(BoundObjectRef::node(&node).uid(uid)).build()?.token().await;
    match (asked, fixture.cluster().version().binds_tokens_to_nodes()) {
        (Ok(token), Some(true) | None) => {
            verifiers.verdicts(token.expose_secret(), "orders").await?.accepted();
        }
        (Err(error), Some(false) | None) => {
            assert_eq!(error.kind(), TokenErrorKind::InvalidRequest, "{error}");
            assert!(error.to_string().contains("cannot bind token"), "{error}");
        }
        (asked, expected) => return Err(format!("{asked:?} instead of {expected:?}").into()),
    }
    Ok(())
}
