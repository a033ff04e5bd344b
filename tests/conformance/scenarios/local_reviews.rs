//! Verification by signature and watch, which decides as TokenReview does without one.

use http::StatusCode;
use tower_kube_auth::{
    Authenticator, LiveObjects, LocalReviewVerifier,
    verdict::{RejectReason, Verdict},
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    identities::assert_equal,
    service::Service,
    verifiers::{Verifiers, accepted, verify},
};

/// Watches the objects of the scenario's namespace, and the Nodes.
async fn watch(fixture: &Fixture) -> Outcome<LiveObjects> {
    let builder = LiveObjects::builder(fixture.admin()).namespaces([fixture.namespace()]);
    let live_objects = builder.watch_secrets().watch_nodes().build()?;
    live_objects.synced().await;
    Ok(live_objects)
}

pub(super) async fn the_identity_is_that_of_token_review(fixture: Fixture) -> Outcome {
    let Verifiers { review, jwks } = fixture.verifiers().await?;
    let local = LocalReviewVerifier::new(jwks, watch(&fixture).await?);
    fixture.service_account("robot").await?;
    let (node, _) = fixture.node().await?;
    fixture.pod_on(&node, "robot-0", "robot").await?;
    fixture.secret("anchor").await?;
    let mut tokens = vec![
        fixture.token("robot", &["orders", "metrics"]).await?,
        fixture.bound_token("robot", &["orders"], "Pod", "robot-0").await?,
        fixture.bound_token("robot", &["orders"], "Secret", "anchor").await?,
    ];
    if fixture.cluster().version().identifies_tokens() {
        tokens.extend(fixture.bound_token("robot", &["orders"], "Node", &node).await);
    }
    for token in tokens {
        eventually("the watch to see the token's objects", || async {
            Ok(matches!(verify(&local, &token, "orders").await, Ok(Verdict::Accept(_))))
        })
        .await?;
        let (review, local) =
            (verify(&review, &token, "orders").await?, verify(&local, &token, "orders").await?);
        assert_equal(accepted(&review), accepted(&local));
    }
    Ok(())
}

pub(super) async fn a_deletion_rejects_also_what_token_review_still_accepts(
    fixture: Fixture,
) -> Outcome {
    let Verifiers { review, jwks } = fixture.verifiers().await?;
    let live_objects = watch(&fixture).await?;
    let local = LocalReviewVerifier::new(jwks, live_objects.clone());
    let cached = Authenticator::builder(review).audience("orders").invalidated_by(&live_objects);
    let cached = Service::new(&cached.build()?);
    fixture.service_account("robot").await?;
    fixture.pod("robot-0", "robot").await?;
    let token = fixture.bound_token("robot", &["orders"], "Pod", "robot-0").await?;
    let header = format!("Bearer {token}");
    assert_eq!(cached.ask(&header).await.status, StatusCode::OK);

    fixture.delete_pod("robot-0").await?;
    eventually("the watch to see the deletion", || async {
        Ok(verify(&local, &token, "orders").await? == Verdict::Reject(RejectReason::Deleted))
    })
    .await?;
    // The API server's own cache may accept for 10 s; the subscriber may still be at work.
    eventually("the cached acceptance to be dropped", || async {
        Ok(cached.ask(&header).await.status == StatusCode::UNAUTHORIZED)
    })
    .await?;
    let rejected = cached.ask(&header).await;
    assert!(rejected.challenge.is_some_and(|challenge| challenge.contains("invalid_token")));
    Ok(())
}
