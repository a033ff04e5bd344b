//! Whitespace in tokens. Kubernetes parses a reviewed token like a header, so whitespace hides the
//! token or what follows it. This crate must not forward such a token.

use http::StatusCode;
use tower_kube_auth::BearerToken;

use crate::{
    fixture::{Fixture, Outcome},
    raw_review::raw_review,
    service::Service,
};

pub(super) async fn tokens_with_whitespace_never_reach_the_api_server(fixture: Fixture) -> Outcome {
    let verifiers = fixture.verifiers().await?;
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;
    let service = Service::uncached(verifiers.review.clone(), "orders");
    assert_eq!(service.ask(&format!("Bearer {token}")).await.body, fixture.username("robot"));

    // Without the check one token would have many spellings, and an empty token would be a user.
    for followed in [" junk", " ", "\n"] {
        let review =
            raw_review(fixture.admin(), &format!("{token}{followed}"), &["orders"]).await?;
        assert_eq!(review["authenticated"], true, "followed by {followed:?}");
        assert_eq!(review["user"]["username"], fixture.username("robot"));
    }
    let review = raw_review(fixture.admin(), &format!(" {token}"), &["orders"]).await?;
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
