//! The self-check where each need is missing in turn, and the SelfSubjectAccessReviews behind it.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use tower_kube_auth::{
    ApiServer, Authenticator, JwksVerifier, TokenReviewVerifier, VerifierExt,
    authenticator::SelfCheck,
    authorizer::SubjectAccessReviewAuthorizer,
    client::{StaticToken, Token},
    readiness::{NeedState, Readiness},
    testing::ManualClock,
};

use crate::{
    fixture::{Fixture, Outcome, eventually},
    verifiers::ACCOUNT,
};

const TOKEN_REVIEWS: (&str, &str) = ("authentication.k8s.io", "tokenreviews");
const ACCESS_REVIEWS: (&str, &str) = ("authorization.k8s.io", "subjectaccessreviews");

/// The needs that a service with everything meets.
const NEEDS: [&str; 5] =
    ["create tokenreviews", "clock", "keys", "create subjectaccessreviews", "own token"];

/// A service whose client is `client` and whose token for others is `own`.
struct Checked {
    client: Client,
    own: String,
    clock: ManualClock,
}

impl Checked {
    async fn new(fixture: &Fixture, account: &str) -> Outcome<Self> {
        let client = fixture.cluster().client_for(&fixture.token(account, &[]).await?);
        let own = fixture.token(account, &["orders"]).await?;
        Ok(Self { client, own, clock: ManualClock::new() })
    }

    async fn run(&self) -> Outcome<Readiness> {
        let (api, clock) = (ApiServer::from(self.client.clone()), self.clock.clock());
        let keys = JwksVerifier::in_cluster(api.clone()).clock(clock.clone()).build()?;
        let review = TokenReviewVerifier::new(api.clone()).clock(clock.clone());
        let verifier = review.or_when_unavailable(keys);
        let auth = Authenticator::builder(verifier).audience("orders").build()?;
        let authorizer = SubjectAccessReviewAuthorizer::builder(api).clock(clock).build()?;
        let check = SelfCheck::new(&auth).authorizer(authorizer);
        let own = StaticToken::new(Token::new(&*self.own)?);
        Ok(check.token_source(own).token_audience("orders").run().await)
    }

    /// Asserts which needs are not met. A need that is not checked after another one failed is left
    /// out of the report.
    #[track_caller]
    fn assert(readiness: &Readiness, unmet: &[(&str, NeedState, &str)]) {
        for need in &readiness.needs {
            let expected = unmet.iter().find(|(name, ..)| *name == need.name);
            let state = expected.map_or(NeedState::Met, |(_, state, _)| *state);
            assert_eq!(need.state, state, "{readiness}");
            let text = expected.map_or("", |(.., text)| text);
            assert!(need.to_string().contains(text), "{readiness}");
        }
        for (name, ..) in unmet {
            assert!(readiness.needs.iter().any(|need| need.name == *name), "{readiness}");
        }
    }
}

/// Lets `account` create one kind of review.
async fn grant(fixture: &Fixture, account: &str, (group, resource): (&str, &str)) -> Outcome {
    let name = format!("{}-{resource}", fixture.namespace());
    let role = json!({"metadata": {"name": name}, "rules": [
        {"apiGroups": [group], "resources": [resource], "verbs": ["create"]},
    ]});
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [
            {"kind": "ServiceAccount", "name": account, "namespace": fixture.namespace()},
        ],
    });
    let how = PostParams::default();
    let role: ClusterRole = serde_json::from_value(role)?;
    Api::<ClusterRole>::all(fixture.admin()).create(&how, &role).await?;
    let binding: ClusterRoleBinding = serde_json::from_value(binding)?;
    Api::<ClusterRoleBinding>::all(fixture.admin()).create(&how, &binding).await?;
    let client = fixture.cluster().client_for(&fixture.token(account, &[]).await?);
    eventually("the ClusterRoleBinding to take effect", || async {
        let status = raw_self_review(client.clone(), (group, resource)).await?;
        Ok(status["allowed"] == true)
    })
    .await
}

async fn revoke(fixture: &Fixture, (_, resource): (&str, &str)) -> Outcome {
    let (name, how) = (format!("{}-{resource}", fixture.namespace()), DeleteParams::default());
    Api::<ClusterRoleBinding>::all(fixture.admin()).delete(&name, &how).await?;
    Api::<ClusterRole>::all(fixture.admin()).delete(&name, &how).await?;
    Ok(())
}

/// Returns the `status` of a SelfSubjectAccessReview, without any code of this crate.
async fn raw_self_review(client: Client, (group, resource): (&str, &str)) -> kube::Result<Value> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "group": group, "resource": resource}},
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let mut reviewed: Value = client.request(request).await?;
    assert_eq!(reviewed["kind"], "SelfSubjectAccessReview");
    Ok(reviewed["status"].take())
}

pub(super) async fn a_missing_right_is_reported_alone(fixture: Fixture) -> Outcome {
    for (account, granted, missing) in [
        ("reviewer", TOKEN_REVIEWS, "create subjectaccessreviews"),
        ("authorizer", ACCESS_REVIEWS, "create tokenreviews"),
    ] {
        fixture.service_account(account).await?;
        grant(&fixture, account, granted).await?;
        let readiness = Checked::new(&fixture, account).await?.run().await?;
        let mut unmet = vec![(missing, NeedState::Missing, "system:auth-delegator")];
        if granted == ACCESS_REVIEWS {
            unmet.push(("own token", NeedState::Unknown, "forbidden"));
        }
        Checked::assert(&readiness, &unmet);
        assert!(!readiness.is_ready(true));
        revoke(&fixture, granted).await?;
    }
    Ok(())
}

pub(super) async fn a_service_with_all_its_rights_meets_all_needs(fixture: Fixture) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    fixture.grant_auth_delegator(ACCOUNT).await?;
    let readiness = Checked::new(&fixture, ACCOUNT).await?.run().await?;
    Checked::assert(&readiness, &[]);
    let mut names: Vec<_> = readiness.needs.iter().map(|need| &*need.name).collect();
    names.sort_unstable();
    let mut expected = NEEDS;
    expected.sort_unstable();
    assert_eq!(names, expected, "{readiness}");
    Ok(())
}

pub(super) async fn an_own_token_for_another_audience_and_a_skewed_clock_are_reported(
    fixture: Fixture,
) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    fixture.grant_auth_delegator(ACCOUNT).await?;
    let good = Checked::new(&fixture, ACCOUNT).await?;

    let own = fixture.token(ACCOUNT, &["payments"]).await?;
    let checked = Checked { own, client: good.client.clone(), clock: ManualClock::new() };
    let own = ("own token", NeedState::Missing, "[\"payments\"]");
    Checked::assert(&checked.run().await?, &[own]);

    // The client's own credential is for another audience than the API server's.
    let checked = Checked {
        client: fixture.cluster().client_for(&good.own),
        own: good.own.clone(),
        clock: ManualClock::new(),
    };
    let readiness = checked.run().await?;
    let rejected = |name| (name, NeedState::Missing, "(401)");
    Checked::assert(
        &readiness,
        &[
            rejected("create tokenreviews"),
            rejected("create subjectaccessreviews"),
            ("keys", NeedState::Degraded, "own_token_rejected"),
            ("own token", NeedState::Unknown, "own_token_rejected"),
        ],
    );

    good.clock.jump_back(Duration::from_secs(300));
    let behind = ("clock", NeedState::Degraded, "behind the API server's");
    Checked::assert(&good.run().await?, &[behind]);
    good.clock.jump_forward(Duration::from_secs(600));
    let ahead = ("clock", NeedState::Degraded, "ahead of the API server's");
    Checked::assert(&good.run().await?, &[ahead]);
    Ok(())
}

pub(super) async fn keys_that_cannot_be_loaded_are_reported(fixture: Fixture) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    fixture.grant_auth_delegator(ACCOUNT).await?;
    let name = "system:service-account-issuer-discovery";
    let bindings: Api<ClusterRoleBinding> = Api::all(fixture.admin());
    bindings.delete(name, &DeleteParams::default()).await?;
    let checked = Checked::new(&fixture, ACCOUNT).await?;
    eventually("the revocation to take effect", || async {
        let readiness = checked.run().await?;
        Ok(readiness.needs.iter().any(|need| need.name == "keys" && need.state != NeedState::Met))
    })
    .await?;
    Checked::assert(&checked.run().await?, &[("keys", NeedState::Degraded, name)]);
    Ok(())
}

pub(super) async fn a_self_review_answers_for_the_caller(fixture: Fixture) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    let client = fixture.cluster().client_for(&fixture.token(ACCOUNT, &[]).await?);
    for right in [TOKEN_REVIEWS, ACCESS_REVIEWS] {
        let status = raw_self_review(client.clone(), right).await?;
        assert_eq!(status["allowed"], false, "{status}");
        assert!(status["denied"].is_null(), "RBAC has no denials: {status}");
    }
    fixture.grant_auth_delegator(ACCOUNT).await?;
    for right in [TOKEN_REVIEWS, ACCESS_REVIEWS] {
        let status = raw_self_review(client.clone(), right).await?;
        assert_eq!(status["allowed"], true, "{status}");
        let reason = status["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("system:auth-delegator"), "{status}");
    }
    let status = raw_self_review(client, ("", "secrets")).await?;
    assert_eq!(status["allowed"], false, "{status}");

    let anonymous = Client::try_from(fixture.cluster().anonymous())?;
    let answer = raw_self_review(anonymous, TOKEN_REVIEWS).await;
    let Err(kube::Error::Api(status)) = answer else { panic!("{answer:?}") };
    assert!([401, 403].contains(&status.code), "{status:?}");
    Ok(())
}
