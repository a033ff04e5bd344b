//! TokenRequest with audiences, and who accepts the token for which of them.

use tower_kube_auth::verdict::{RejectReason, Verdict};

use crate::{
    cluster::ISSUER,
    identities::assert_equal,
    scene::{Outcome, Scene},
    verifiers::{accepted, verify},
};

pub(super) async fn both_verifiers_accept_and_agree(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    let uid = scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders"]).await?;

    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    for identity in [review, jwks] {
        assert_eq!(identity.namespace(), scene.namespace());
        assert_eq!(identity.name(), "robot");
        assert_eq!(identity.uid(), uid);
        let own_group = format!("system:serviceaccounts:{}", scene.namespace());
        let groups = ["system:serviceaccounts", &own_group, "system:authenticated"];
        assert_eq!(identity.groups().collect::<Vec<_>>(), groups);
        assert_eq!(identity.audiences().collect::<Vec<_>>(), ["orders"]);
        assert!(identity.issuer().is_some() && identity.expires_at().is_some());
        assert!(identity.pod().is_none() && identity.node().is_none());
        let identified = scene.cluster().version().identifies_tokens();
        assert_eq!(
            identity.credential_id().is_some_and(|id| id.starts_with("JTI=")),
            identified,
            "since 1.30"
        );
    }
    Ok(())
}

pub(super) async fn another_audience_is_refused(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders"]).await?;
    for other in ["invoices", "order", "orders/", "Orders", "https://kubernetes.default.svc"] {
        verifiers.verdicts(&token, other).await?.refused(other, RejectReason::Audience);
    }
    Ok(())
}

pub(super) async fn two_audiences_in_the_token(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders", "invoices"]).await?;
    for wanted in ["orders", "invoices"] {
        let verdicts = verifiers.verdicts(&token, wanted).await?;
        let (review, jwks) = verdicts.accepted();
        assert_equal(review, jwks);
        // Only what was asked for: the token's other audience is nobody's business.
        assert_eq!(review.audiences().collect::<Vec<_>>(), [wanted]);
    }
    verifiers
        .verdicts(&token, "payments")
        .await?
        .refused("a third audience", RejectReason::Audience);
    Ok(())
}

pub(super) async fn the_api_servers_own_audience(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let token = scene.token("robot", &[]).await?;

    // Good for the API server, and so for nobody else.
    verifiers
        .verdicts(&token, "orders")
        .await?
        .refused("the API server's token", RejectReason::Audience);

    let claimed = tower_kube_auth::inspect::UnverifiedToken::decode(&token)?;
    let own = claimed.audiences().first().copied().unwrap_or(ISSUER).to_owned();
    let verdicts = verifiers.verdicts(&token, &own).await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);

    // The other way round: a token for a service does not open the API server, nor passes for its audience.
    let token = scene.token("robot", &["orders"]).await?;
    let verdict = verify(&verifiers.review, &token, &own).await?;
    assert_eq!(verdict, Verdict::Reject(RejectReason::Unauthenticated));
    let refused = scene.verifiers_as(&token)?;
    let error = verify(&refused.review, &token, "orders")
        .await
        .expect_err("our own token is not for the API server");
    assert_eq!(error.kind(), tower_kube_auth::error::VerifyErrorKind::Unauthenticated);
    accepted(&verify(&verifiers.review, &token, "orders").await?);
    Ok(())
}
