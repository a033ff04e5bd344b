//! When keys are fetched, and the verdicts meanwhile.

use super::*;

pub(super) const COOLDOWN: Duration = Duration::from_secs(10);

pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_token_loads_the_keys_once_for_all_callers() {
    let setup = Arc::new(set_up());
    let gate = setup.source.close();
    let token = setup.sign(&setup.claims());
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (setup, token) = (setup.clone(), token.clone());
            tokio::spawn(async move { setup.accepts(&token).await })
        })
        .collect();
    settle().await;
    waiting[0].abort();
    gate.notify_one();
    for task in waiting.into_iter().skip(1) {
        assert!(task.await.unwrap());
    }
    assert_eq!(setup.source.fetches(), 1);
}

#[tokio::test]
async fn a_failed_load_is_an_error_and_recovery_is_automatic() {
    let setup = set_up();
    setup.source.fail();
    let token = setup.sign(&setup.claims());
    assert_eq!(setup.verify(&token).await.unwrap_err().kind(), VerifyErrorKind::Unavailable);
    assert_eq!(setup.verify(&token).await.unwrap_err().kind(), VerifyErrorKind::Unavailable);
    assert_eq!(setup.source.fetches(), 1, "an issuer that is down is asked once a second");
    setup.source.publish(&[&setup.key]);
    setup.clock.advance(Duration::from_secs(1));
    assert!(setup.accepts(&token).await);
}

#[tokio::test]
async fn an_unknown_key_id_refreshes_at_once_and_the_new_key_verifies() {
    let setup = set_up();
    let old = setup.sign(&setup.claims());
    assert!(setup.accepts(&old).await);
    setup.clock.advance(COOLDOWN);
    let new_key = key(testing::Algorithm::ES256);
    setup.source.publish(&[&setup.key, &new_key]);
    let new = new_key.sign(&new_key.header(), &setup.claims());
    assert!(setup.accepts(&new).await && setup.accepts(&old).await);
    assert_eq!(setup.source.fetches(), 2);
}

#[tokio::test]
async fn many_unknown_key_ids_cost_one_fetch_per_cooldown_and_stay_undecided() {
    let setup = set_up();
    assert!(setup.accepts(&setup.sign(&setup.claims())).await);
    for round in 1..=3_u32 {
        setup.clock.advance(COOLDOWN);
        let mut rejected = 0;
        for number in 0..1000 {
            let header = json!({ "alg": "ES256", "kid": format!("made-up-{round}-{number}") });
            match setup.verify(&setup.key.sign(&header, &setup.claims())).await {
                Ok(Verdict::Reject(RejectReason::UnknownKey)) => rejected += 1,
                Err(error) => assert_eq!(error.kind(), VerifyErrorKind::Inconclusive),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((setup.source.fetches(), rejected), (1 + round, 1));
    }
    assert!(setup.accepts(&setup.sign(&setup.claims())).await, "known keys verify all along");
}

#[tokio::test]
async fn a_failed_refresh_keeps_the_keys() {
    let setup = set_up();
    let token = setup.sign(&setup.claims());
    assert!(setup.accepts(&token).await);
    setup.source.fail();
    assert!(setup.verifier.refresh().await.is_err());
    *setup.source.0.answer.lock().unwrap() = Some("not json".into());
    assert!(setup.verifier.refresh().await.is_err());
    assert!(setup.accepts(&token).await);
}

#[tokio::test]
async fn known_keys_verify_during_a_hanging_fetch_which_ends_at_its_time_limit() {
    let setup = Arc::new(set_up());
    let token = setup.sign(&setup.claims());
    assert!(setup.accepts(&token).await);
    let _never_opened = setup.source.close();
    let verifier = setup.verifier.clone();
    let refresh = tokio::spawn(async move { verifier.refresh().await });
    settle().await;
    assert!(setup.accepts(&token).await);
    setup.clock.advance(Duration::from_secs(5));
    assert_eq!(refresh.await.unwrap().unwrap_err().kind(), VerifyErrorKind::Timeout);
}

#[tokio::test]
async fn a_removed_key_stops_verifying_after_the_next_background_refresh() {
    let setup = set_up();
    let token = setup.sign(&setup.claims());
    assert!(setup.accepts(&token).await);
    settle().await;
    let new_key = key(testing::Algorithm::ES256);
    setup.source.publish(&[&new_key]);
    setup.clock.advance(Duration::from_secs(331));
    while setup.source.fetches() < 2 {
        tokio::task::yield_now().await;
    }
    settle().await;
    setup.clock.advance(COOLDOWN);
    assert_eq!(setup.verify(&token).await.unwrap(), Verdict::Reject(RejectReason::UnknownKey));
}

#[tokio::test]
async fn a_source_that_panics_is_an_error_and_the_next_fetch_works() {
    let setup = set_up();
    setup.source.0.panics.store(1, Ordering::SeqCst);
    let token = setup.sign(&setup.claims());
    assert_eq!(setup.verify(&token).await.unwrap_err().kind(), VerifyErrorKind::Aborted);
    setup.clock.advance(Duration::from_secs(1));
    assert!(setup.accepts(&token).await);
}

#[tokio::test]
async fn a_refresh_interval_may_mean_never() {
    // In half of the runs the jitter lengthens the period.
    for _ in 0..20 {
        let setup = set_up_with(testing::Algorithm::ES256, |builder| {
            builder.refresh_interval(Duration::MAX)
        });
        setup.verifier.refresh().await.unwrap();
        settle().await;
        assert!(setup.verifier.shared.loader.is_refreshed_in_background());
    }
}

#[tokio::test]
async fn a_token_that_its_claims_reject_costs_no_fetch_whatever_its_key_id() {
    let setup = set_up();
    setup.verifier.refresh().await.unwrap();
    setup.clock.advance(COOLDOWN);
    let header = json!({ "alg": "ES256", "kid": "made-up" });
    for (claims, reason) in [
        (setup.with("aud", json!(["x"])), RejectReason::Audience),
        (setup.with("iss", json!("https://other")), RejectReason::Issuer),
        (setup.with("exp", json!(1)), RejectReason::Expired),
    ] {
        assert_eq!(
            setup.verify(&setup.key.sign(&header, &claims)).await.unwrap(),
            Verdict::Reject(reason)
        );
    }
    assert_eq!(setup.source.fetches(), 1);
}

#[tokio::test]
async fn made_up_key_ids_that_wait_for_a_slow_issuer_delay_no_known_key() {
    let setup = set_up();
    setup.verifier.refresh().await.unwrap();
    setup.clock.advance(COOLDOWN);
    let _never_opened = setup.source.close();
    let builder =
        crate::Authenticator::builder(setup.verifier.clone()).audience("api").max_in_flight(64);
    let authenticator = builder.clock(setup.clock.clock()).build().unwrap();
    for number in 0..200 {
        let token = setup
            .key
            .sign(&json!({ "alg": "ES256", "kid": format!("made-up-{number}") }), &setup.claims());
        let authenticator = authenticator.clone();
        tokio::spawn(async move {
            authenticator.authenticate(BearerToken::parse(&token).unwrap()).await
        });
    }
    settle().await;
    let good = setup.sign(&setup.claims());
    let waiting = tokio::spawn(async move {
        authenticator.authenticate(BearerToken::parse(&good).unwrap()).await
    });
    settle().await;
    setup.clock.advance(Duration::from_secs(1));
    let outcome = waiting.await.unwrap();
    assert!(matches!(outcome, Ok(Verdict::Accept(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_key_set_of_unusable_keys_only_is_invalid_and_keeps_the_old_keys() {
    let setup = set_up();
    let known = setup.sign(&setup.claims());
    assert!(setup.accepts(&known).await);
    let new_key = key(testing::Algorithm::ES384);
    setup.source.publish(&[&new_key, &new_key]);
    let error = setup.verifier.refresh().await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::InvalidResponse);
    let message = error.to_string();
    assert!(message.starts_with("none of its 2 keys can be used; key 1: "), "{message}");
    assert!(setup.accepts(&known).await, "the old keys stay");

    // A token of the new key asks for it, and is undecided.
    setup.clock.advance(COOLDOWN);
    let header = json!({ "alg": "ES256", "kid": new_key.kid() });
    let of_new_key = setup.key.sign(&header, &setup.claims());
    let error = setup.verify(&of_new_key).await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::InvalidResponse);

    setup.source.publish(&[]);
    setup.verifier.refresh().await.unwrap();
    assert!(!setup.accepts(&known).await, "an empty set is the issuer's word");
}

#[tokio::test]
async fn keys_beyond_their_greatest_age_decide_nothing_until_they_are_fetched() {
    const LIMIT: Duration = Duration::from_secs(600);
    let setup = set_up_with(testing::Algorithm::ES256, |builder| builder.max_key_age(LIMIT));
    let token = setup.sign(&setup.claims());
    assert!(setup.accepts(&token).await);
    settle().await;
    setup.source.fail();
    setup.clock.advance(LIMIT);
    settle().await;
    assert!(setup.accepts(&token).await && setup.verify_now(&token).is_some());

    setup.clock.advance(Duration::from_secs(1));
    settle().await;
    assert_eq!(setup.verify_now(&token), None);
    *setup.source.0.answer.lock().unwrap() = Some("not json".into());
    let error = setup.verify(&token).await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Unavailable);
    assert!(error.to_string().contains("older than max_key_age ["), "{error}");
    let fetches = setup.source.fetches();
    assert!(setup.verify(&token).await.is_err());
    assert_eq!(setup.source.fetches(), fetches, "an issuer that is down is asked once a second");

    setup.source.publish(&[&setup.key]);
    setup.clock.advance(Duration::from_secs(1));
    assert!(setup.accepts(&token).await && setup.verify_now(&token).is_some());
}

#[tokio::test]
async fn keys_of_any_age_are_used_by_default() {
    let setup = set_up();
    let token = setup.sign(&setup.with("exp", json!(setup.now() + 1e8)));
    assert!(setup.accepts(&token).await);
    setup.source.fail();
    setup.clock.advance(Duration::from_secs(10_000_000));
    assert!(setup.accepts(&token).await);
}

#[test]
fn a_key_age_that_cannot_hold_is_a_build_error() {
    let seconds = Duration::from_secs;
    let build = |builder: JwksBuilder, limit| builder.max_key_age(limit).build().err();
    let fetched = || JwksBuilder::new(KeyOrigin::Scripted(ScriptedSource::default()));
    // 300 s, a tenth, and the 5 s of a fetch.
    let too_short = JwksBuildError::KeyAgeTooShort { limit: seconds(335), least: seconds(335) };
    assert_eq!(build(fetched(), seconds(335)), Some(too_short));
    assert_eq!(build(fetched(), seconds(336)), None);
    let given = JwksVerifier::from_pem("any").issuer(ISSUER);
    assert_eq!(build(given, seconds(1_000)), Some(JwksBuildError::KeyAgeOfGivenKeys));
}
