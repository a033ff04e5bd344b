//! Tokens requested for audiences, and which audience they are accepted for.

use tower_kube_auth::{
    Audiences, JwksVerifier,
    inspect::UnverifiedToken,
    verdict::{RejectReason, Verdict},
};

use crate::{
    cluster::ISSUER,
    fixture::{Fixture, Outcome},
    identities::assert_equal,
    verifiers::{ACCOUNT, accepted, verify, verify_for},
};

pub(super) async fn both_verifiers_accept_and_return_the_same_identity(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    let uid = fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;

    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    for identity in [review, jwks] {
        assert_eq!(identity.namespace(), fixture.namespace());
        assert_eq!(identity.name(), "robot");
        assert_eq!(identity.uid(), uid);
        let own_group = format!("system:serviceaccounts:{}", fixture.namespace());
        let groups = ["system:serviceaccounts", &own_group, "system:authenticated"];
        assert_eq!(identity.groups().collect::<Vec<_>>(), groups);
        assert_eq!(identity.audiences().collect::<Vec<_>>(), ["orders"]);
        assert!(identity.issuer().is_some() && identity.expires_at().is_some());
        assert!(identity.pod().is_none() && identity.node().is_none());
        let identified = fixture.cluster().version().identifies_tokens();
        assert_eq!(
            identity.credential_id().is_some_and(|id| id.starts_with("JTI=")),
            identified,
            "since 1.30"
        );
    }
    Ok(())
}

pub(super) async fn another_audience_is_rejected(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;
    for other in ["invoices", "order", "orders/", "Orders", "https://kubernetes.default.svc"] {
        verifiers.verdicts(&token, other).await?.rejected(other, RejectReason::Audience);
    }
    Ok(())
}

pub(super) async fn a_token_with_two_audiences_is_accepted_for_each(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders", "invoices"]).await?;
    for wanted in ["orders", "invoices"] {
        let verdicts = verifiers.verdicts(&token, wanted).await?;
        let (review, jwks) = verdicts.accepted();
        assert_equal(review, jwks);
        // Only the audience that was asked for: the other one is not disclosed.
        assert_eq!(review.audiences().collect::<Vec<_>>(), [wanted]);
    }
    verifiers
        .verdicts(&token, "payments")
        .await?
        .rejected("a third audience", RejectReason::Audience);
    Ok(())
}

pub(super) async fn a_token_for_the_api_server_is_for_no_other_audience(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &[]).await?;

    // Valid for the API server, and so for no other audience.
    verifiers
        .verdicts(&token, "orders")
        .await?
        .rejected("the API server's token", RejectReason::Audience);

    let claimed = UnverifiedToken::decode(&token)?;
    let own = claimed.audiences().first().copied().unwrap_or(ISSUER).to_owned();
    let verdicts = verifiers.verdicts(&token, &own).await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);

    // A token for a service is not valid for the API server.
    let token = fixture.token("robot", &["orders"]).await?;
    let verdict = verify(&verifiers.review, &token, &own).await?;
    assert_eq!(verdict, Verdict::Reject(RejectReason::Unauthenticated));
    let rejected = fixture.verifiers_as(&token)?;
    let error = verify(&rejected.review, &token, "orders")
        .await
        .expect_err("the own token is not for the API server");
    assert_eq!(error.kind(), tower_kube_auth::error::VerifyErrorKind::Unauthenticated);
    accepted(&verify(&verifiers.review, &token, "orders").await?);
    Ok(())
}

pub(super) async fn the_api_servers_audience_is_accepted_on_purpose_only(
    fixture: Fixture,
) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &[]).await?;
    let own = UnverifiedToken::decode(&token)?.audiences()[0].to_owned();
    let client = fixture.cluster().client_for(&fixture.token(ACCOUNT, &[]).await?);
    let jwks = JwksVerifier::in_cluster(client).api_server_audience(&own).build()?;

    let api_server = Audiences::api_server();
    let review = verify_for(&verifiers.review, &token, &api_server).await?;
    let offline = verify_for(&jwks, &token, &api_server).await?;
    assert_equal(accepted(&review), accepted(&offline));
    assert_eq!(accepted(&review).audiences().collect::<Vec<_>>(), [own]);

    // A token for a service is not for the API server.
    let token = fixture.token("robot", &["orders"]).await?;
    let review = verify_for(&verifiers.review, &token, &api_server).await?;
    assert_eq!(review, Verdict::Reject(RejectReason::Unauthenticated));
    let offline = verify_for(&jwks, &token, &api_server).await?;
    assert_eq!(offline, Verdict::Reject(RejectReason::Audience));
    Ok(())
}
