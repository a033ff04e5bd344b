//! Wall clocks that jump, and the lifetime of cache entries, for each verifier.

use std::time::Duration;

use axum::http::StatusCode;

use crate::support::BothVerifiers;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// The default of this crate, and what Kubernetes tolerates.
const LEEWAY: Duration = Duration::from_secs(60);
/// The bounds of the default cache TTL with its jitter.
const SHORTEST_TTL: Duration = Duration::from_secs(54);
const LONGEST_TTL: Duration = Duration::from_secs(66);
/// The upper bound of a rejection's TTL.
const LONGEST_REJECT_TTL: Duration = Duration::from_secs(11);

impl BothVerifiers {
    async fn answer(&self, token: &str, status: StatusCode, when: &str) {
        for (name, service) in [("TokenReview", &self.review), ("JWKS", &self.jwks)] {
            let reached = service.reached();
            assert_eq!(service.get(token).await.status, status, "{name}: {when}");
            let served = usize::from(status == StatusCode::OK);
            assert_eq!(service.reached() - reached, served, "{name}: {when}");
        }
    }
}

#[tokio::test]
async fn a_token_is_accepted_up_to_the_leeway_and_no_longer() {
    let setup = BothVerifiers::start().await;
    let token = setup.token();
    // Only the wall clock moves: a token near or past its `exp` is cached briefly or not at all.
    for (past_expiry, status) in [(-1, 200), (0, 200), (58, 200), (62, 401), (3600, 401)] {
        let expiry = HOUR.as_secs().checked_add_signed(past_expiry).unwrap();
        setup.clock.jump_forward(Duration::from_secs(expiry));
        setup
            .answer(
                &token,
                StatusCode::from_u16(status).unwrap(),
                &format!("{past_expiry} s after exp"),
            )
            .await;
        setup.clock.jump_back(Duration::from_secs(expiry));
        setup.clock.advance(Duration::from_millis(1));
    }
    for (before_issue, status) in [(58, 200), (63, 401)] {
        let token = setup.token();
        setup.clock.jump_back(Duration::from_secs(before_issue));
        setup
            .answer(
                &token,
                StatusCode::from_u16(status).unwrap(),
                &format!("{before_issue} s before iat"),
            )
            .await;
        setup.clock.jump_forward(Duration::from_secs(before_issue));
    }
}

/// Within the leeway a verifier still accepts a token, but is asked each time.
#[tokio::test]
async fn nothing_is_served_from_the_cache_past_exp() {
    let setup = BothVerifiers::start().await;
    let token = setup.token();
    setup.clock.advance(HOUR - SECOND * 20);
    setup.answer(&token, StatusCode::OK, "20 s before exp").await;
    setup.clock.advance(SECOND * 18);
    let reviews = setup.reviews();
    setup.answer(&token, StatusCode::OK, "2 s before exp").await;
    assert_eq!(setup.reviews(), reviews, "cached until exp");
    setup.clock.advance(SECOND * 2);
    for asked in 1..=3 {
        setup.answer(&token, StatusCode::OK, "past exp, within the leeway").await;
        assert_eq!(setup.reviews(), reviews + asked, "not cached");
    }
    setup.clock.advance(LEEWAY + SECOND);
    setup.answer(&token, StatusCode::UNAUTHORIZED, "past exp and the leeway").await;
}

#[tokio::test]
async fn a_wall_clock_that_jumps_forward_expires_cache_entries() {
    let setup = BothVerifiers::start().await;
    let token = setup.token();
    setup.answer(&token, StatusCode::OK, "before").await;
    setup.clock.jump_forward(HOUR + LEEWAY + SECOND);
    setup.answer(&token, StatusCode::UNAUTHORIZED, "cached a moment ago, now expired").await;
    setup.answer(&setup.token(), StatusCode::OK, "a token issued at the new time").await;
    setup.clock.jump_back(HOUR + LEEWAY + SECOND);
    setup.clock.advance(LONGEST_REJECT_TTL);
    setup.answer(&token, StatusCode::OK, "the clock is corrected").await;
}

/// The TTL is measured by the monotonic clock, so setting the wall clock back must not extend it.
#[tokio::test]
async fn a_wall_clock_that_jumps_back_extends_no_cache_entry() {
    let setup = BothVerifiers::start().await;
    let token = setup.token();
    setup.answer(&token, StatusCode::OK, "before").await;
    let reviews = setup.reviews();
    setup.clock.jump_back(HOUR);
    setup.clock.advance(SHORTEST_TTL - SECOND);
    setup.answer(&token, StatusCode::OK, "cached").await;
    assert_eq!(setup.reviews(), reviews, "cached");
    setup.clock.advance(LONGEST_TTL - SHORTEST_TTL + SECOND);
    setup.answer(&token, StatusCode::UNAUTHORIZED, "not valid yet").await;
    assert_eq!(setup.reviews(), reviews + 1, "verified again");
    setup.clock.jump_forward(HOUR);
    setup.clock.advance(LONGEST_REJECT_TTL);
    setup.answer(&token, StatusCode::OK, "the clock is corrected").await;
}

#[tokio::test]
async fn a_deletion_is_noticed_within_the_ttl_although_the_clock_was_set_back() {
    let setup = BothVerifiers::start().await;
    let token = setup.token();
    assert_eq!(setup.review.get(&token).await.status, StatusCode::OK);
    setup.cluster.delete_service_account("shop", "checkout");
    setup.clock.jump_back(LEEWAY / 2);
    setup.clock.advance(LONGEST_TTL);
    assert_eq!(setup.review.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_cache_entry_expires_within_the_jitter_of_its_ttl() {
    let setup = BothVerifiers::start().await;
    let tokens: Vec<_> = (0..50).map(|_| setup.token()).collect();
    for token in &tokens {
        assert_eq!(setup.review.get(token).await.status, StatusCode::OK);
    }
    setup.clock.advance(SHORTEST_TTL - Duration::from_millis(1));
    for token in &tokens {
        assert_eq!(setup.review.get(token).await.status, StatusCode::OK);
    }
    assert_eq!(setup.reviews(), 50, "no entry expires before 54 s");
    setup.clock.advance(LONGEST_TTL - SHORTEST_TTL + Duration::from_millis(1));
    for token in &tokens {
        assert_eq!(setup.review.get(token).await.status, StatusCode::OK);
    }
    assert_eq!(setup.reviews(), 100, "every entry expires by 66 s");
}
