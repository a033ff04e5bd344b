//! Kubernetes takes a reviewed token apart as it does a header, so that whitespace hides it or what follows it. None of
//! that may reach it through us.

use http::StatusCode;
use tower_kube_auth::BearerToken;

use crate::{
    raw_review::raw_review,
    scene::{Outcome, Scene},
    service::Service,
};

pub(super) async fn tokens_with_whitespace_never_reach_the_api_server(scene: Scene) -> Outcome {
    let verifiers = scene.verifiers().await?;
    scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders"]).await?;
    let service = Service::forgetful(verifiers.review.clone(), "orders");
    assert_eq!(service.ask(&format!("Bearer {token}")).await.body, scene.username("robot"));

    // What makes the check necessary: one token in any number of spellings, and nobody's token as somebody.
    for followed in [" junk", " ", "\n"] {
        let review = raw_review(scene.admin(), &format!("{token}{followed}"), &["orders"]).await?;
        assert_eq!(review["authenticated"], true, "followed by {followed:?}");
        assert_eq!(review["user"]["username"], scene.username("robot"));
    }
    let review = raw_review(scene.admin(), &format!(" {token}"), &["orders"]).await?;
    assert_eq!(review["user"]["username"], "system:anonymous", "{review}");
    assert_eq!(review["authenticated"], true);

    for spelling in [
        format!(" {token}"),
        format!("{token} junk"),
        format!("{token}\t"),
        format!("\t{token}"),
        format!("{}\u{a0}", &token),
        format!("{token},{token}"),
        format!("{} {}", &token[..10], &token[10..]),
        " ".to_owned(),
    ] {
        assert!(BearerToken::parse(&spelling).is_err(), "{spelling:?}");
    }
    for header in [
        format!("Bearer {token} junk"),
        format!("Bearer \t{token}"),
        format!("Bearer {token},{token}"),
    ] {
        let answer = service.ask(&header).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{header:?}");
        assert!(answer.challenge.is_some_and(|challenge| challenge.contains("invalid_request")));
    }
    Ok(())
}
