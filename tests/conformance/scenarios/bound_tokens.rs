//! Tokens that are bound to a Pod, a Secret or a Node.

use crate::{
    identities::assert_equal,
    scene::{Outcome, Scene},
};

pub(super) async fn a_pod_arrives_with_its_uid(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let uid = scene.pod("robot-0", "robot").await?;
    let token = scene.bound_token("robot", &["orders"], "Pod", "robot-0").await?;

    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    let pod = review.pod().expect("a Pod");
    assert_eq!((pod.name, pod.uid), ("robot-0", Some(&*uid)));
    Ok(())
}

pub(super) async fn a_secret_does_not_arrive(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    scene.secret("anchor").await?;
    let token = scene.bound_token("robot", &["orders"], "Secret", "anchor").await?;

    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    // Kubernetes tells nobody which Secret it is.
    assert_equal(review, jwks);
    assert!(review.pod().is_none());
    assert!(review.extra().all(|(key, _)| !key.contains("secret")));
    Ok(())
}

pub(super) async fn the_node_arrives_from_1_30_on(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let (node, uid) = scene.node().await?;
    scene.pod_on(&node, "robot-0", "robot").await?;
    let token = scene.bound_token("robot", &["orders"], "Pod", "robot-0").await?;

    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);
    assert_eq!(review.pod().map(|pod| pod.name), Some("robot-0"));
    if scene.cluster().version().identifies_tokens() {
        let bound = review.node().expect("a Node since 1.30");
        assert_eq!((bound.name, bound.uid), (&*node, Some(&*uid)));
    } else {
        assert!(review.node().is_none(), "no Node before 1.30");
        let refused = scene.bound_token("robot", &["orders"], "Node", &node).await;
        assert!(refused.is_err(), "no token is bound to a Node before 1.30");
    }
    Ok(())
}
