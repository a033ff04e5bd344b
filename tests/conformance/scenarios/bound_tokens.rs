//! Tokens that are bound to a Pod, a Secret or a Node.

use crate::{
    fixture::{Fixture, Outcome},
    identities::assert_equal,
};

pub(super) async fn a_bound_pod_is_in_the_identity_with_its_uid(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let uid = fixture.pod("robot-0", "robot").await?;
    let token = fixture.bound_token("robot", &["orders"], "Pod", "robot-0").await?;

    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    let pod = review.pod().expect("a Pod");
    assert_eq!((pod.name, pod.uid), ("robot-0", Some(&*uid)));
    Ok(())
}

pub(super) async fn a_bound_secret_is_not_in_the_identity(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    fixture.secret("anchor").await?;
    let token = fixture.bound_token("robot", &["orders"], "Secret", "anchor").await?;

    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    // Kubernetes does not disclose the Secret.
    assert_equal(review, jwks);
    assert!(review.pod().is_none());
    assert!(review.extra().all(|(key, _)| !key.contains("secret")));
    Ok(())
}

pub(super) async fn the_node_is_in_the_identity_since_1_30(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let (node, uid) = fixture.node().await?;
    fixture.pod_on(&node, "robot-0", "robot").await?;
    let token = fixture.bound_token("robot", &["orders"], "Pod", "robot-0").await?;

    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    assert_eq!(review.pod().map(|pod| pod.name), Some("robot-0"));
    if fixture.cluster().version().identifies_tokens() {
        let bound = review.node().expect("a Node since 1.30");
        assert_eq!((bound.name, bound.uid), (&*node, Some(&*uid)));
    } else {
        assert!(review.node().is_none(), "no Node before 1.30");
        let rejected = fixture.bound_token("robot", &["orders"], "Node", &node).await;
        assert!(rejected.is_err(), "no token is bound to a Node before 1.30");
    }
    Ok(())
}
