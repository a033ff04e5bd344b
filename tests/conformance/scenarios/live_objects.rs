//! `LiveObjects` with exactly the documented rights, and what it makes of deletions.

use serde_json::json;
use tower_kube_auth::{
    LiveObjects, LocalReviewVerifier,
    error::VerifyErrorKind,
    live_objects::WatchPhase,
    verdict::{RejectReason, Verdict},
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    verifiers::{ACCOUNT, accepted, offline, verify},
};

const DELETED: Verdict = Verdict::Reject(RejectReason::Deleted);

pub(super) async fn deletions_are_seen_without_a_review(fixture: Fixture) -> Outcome {
    fixture.service_account("robot").await?;
    fixture.pod("robot-0", "robot").await?;
    let unbound = fixture.token("robot", &["orders"]).await?;
    let bound = fixture.bound_token("robot", &["orders"], "Pod", "robot-0").await?;
    let (_, verifier) = watching(&fixture, &["serviceaccounts", "pods"]).await?;
    for token in [&unbound, &bound] {
        accepted(&verify(&verifier, token, "orders").await?);
    }

    fixture.delete_pod("robot-0").await?;
    is_deleted(&verifier, &bound).await?;
    accepted(&verify(&verifier, &unbound, "orders").await?);

    // The watch sees a Pod that is newer than itself.
    fixture.pod("robot-1", "robot").await?;
    let newer = fixture.bound_token("robot", &["orders"], "Pod", "robot-1").await?;
    eventually("the watch to see the new Pod", || async {
        match verify(&verifier, &newer, "orders").await {
            Err(error) if error.kind() == VerifyErrorKind::Inconclusive => Ok(false),
            verdict => Ok(matches!(verdict?, Verdict::Accept(_))),
        }
    })
    .await?;

    fixture.delete_service_account("robot").await?;
    is_deleted(&verifier, &unbound).await
}

pub(super) async fn labels_and_owners_of_pods_are_kept(fixture: Fixture) -> Outcome {
    fixture.service_account("robot").await?;
    let bare = fixture.pod("bare", "robot").await?;
    let live_objects = LiveObjects::builder(fixture.admin())
        .namespaces([fixture.namespace()])
        .keep_labels()
        .build()?;
    live_objects.synced().await;
    assert_eq!(live_objects.pod(&bare).ok_or("the Pod")?.labels().len(), 0);

    let labels = json!({"app": "robot", "pod-template-hash": "6d4cf56db6"});
    let mut controller =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "robot", "uid": bare});
    controller["controller"] = true.into();
    let pod = fixture.labelled_pod("robot-0", "robot", labels, json!([controller])).await?;
    eventually("the watch to see the new Pod", || async { Ok(live_objects.pod(&pod).is_some()) })
        .await?;
    let seen = live_objects.pod(&pod).ok_or("the Pod")?;
    assert_eq!(
        seen.labels().collect::<Vec<_>>(),
        [("app", "robot"), ("pod-template-hash", "6d4cf56db6")]
    );
    let controller = seen.controller().ok_or("a controller")?;
    assert_eq!(
        (&*controller.kind, &*controller.name, &*controller.uid),
        ("ReplicaSet", "robot", &*bare)
    );

    fixture.delete_pod("robot-0").await?;
    eventually("the watch to see the deletion", || async { Ok(live_objects.pod(&pod).is_none()) })
        .await
}

pub(super) async fn the_missing_right_on_one_kind_is_named(fixture: Fixture) -> Outcome {
    let (live_objects, _) = watching(&fixture, &["serviceaccounts"]).await?;
    let state = live_objects.state();
    let pods = state.iter().find(|watch| watch.resource == "pods").ok_or("a watch of Pods")?;
    assert_eq!((pods.phase, pods.lists), (WatchPhase::Broken, 0));
    let failure = pods.last_failure.as_deref().unwrap_or_default();
    assert!(failure.contains("the verbs `list` and `watch` on `pods`"), "{failure}");
    Ok(())
}

async fn is_deleted(verifier: &LocalReviewVerifier, token: &str) -> Outcome {
    eventually("the watch to see the deletion", || async {
        Ok(verify(verifier, token, "orders").await? == DELETED)
    })
    .await
}

/// Returns a watch of the fixture's namespace that has listed all resources that it may list, and
/// failed for all others.
async fn watching(
    fixture: &Fixture,
    resources: &[&str],
) -> Outcome<(LiveObjects, LocalReviewVerifier)> {
    fixture.service_account(ACCOUNT).await?;
    fixture.grant_watching(ACCOUNT, resources).await?;
    let client = fixture.cluster().client_for(&fixture.token(ACCOUNT, &[]).await?);
    let live_objects =
        LiveObjects::builder(client.clone()).namespaces([fixture.namespace()]).build()?;
    eventually("the watch to be in its expected state", || async {
        Ok(live_objects.state().iter().all(|watch| match resources.contains(&watch.resource) {
            true => watch.phase == WatchPhase::Watching,
            false => watch.phase == WatchPhase::Broken,
        }))
    })
    .await?;
    Ok((live_objects.clone(), LocalReviewVerifier::new(offline(client), live_objects)))
}
