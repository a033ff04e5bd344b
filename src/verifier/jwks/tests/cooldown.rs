//! The cost and the verdict of tokens with an unknown key id.

use super::{rotation::settle, *};

const COOLDOWN: Duration = Duration::from_secs(10);
const UNKNOWN: Verdict = Verdict::Reject(RejectReason::UnknownKey);

fn verify_in_a_task(
    setup: &Arc<Setup>,
    token: String,
) -> tokio::task::JoinHandle<Result<Verdict, VerifyError>> {
    let setup = setup.clone();
    tokio::spawn(async move { setup.verify(&token).await })
}

impl Setup {
    fn rotate(&self) -> String {
        let new = key(testing::Algorithm::ES256);
        self.source.publish(&[&self.key, &new]);
        new.sign(&new.header(), &self.claims())
    }

    async fn is_undecided(&self, token: &str, left: Duration) {
        let error = self.verify(token).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry_after()),
            (VerifyErrorKind::Inconclusive, Some(left))
        );
    }
}

#[tokio::test]
async fn a_rotation_after_the_first_load_or_an_internal_refresh_delays_no_token() {
    let setup = set_up();
    assert!(setup.accepts(&setup.sign(&setup.claims())).await);
    assert!(setup.accepts(&setup.rotate()).await);
    setup.clock.advance(COOLDOWN);
    setup.verifier.refresh().await.unwrap();
    assert!(setup.accepts(&setup.rotate()).await);
    assert_eq!(setup.source.fetches(), 4);
}

#[tokio::test]
async fn a_rotation_after_a_token_triggered_fetch_delays_but_never_rejects_the_key() {
    let setup = set_up();
    setup.verifier.refresh().await.unwrap();
    assert_eq!(setup.verify(&setup.sign_as("made-up")).await.unwrap(), UNKNOWN);
    let token = setup.rotate();
    setup.is_undecided(&token, COOLDOWN).await;
    setup.clock.advance(COOLDOWN - Duration::from_secs(3));
    setup.is_undecided(&token, Duration::from_secs(3)).await;
    assert_eq!(setup.verify_now(&token), None);
    setup.clock.advance(Duration::from_secs(3));
    assert!(setup.accepts(&token).await);
    assert_eq!(setup.source.fetches(), 3);
}

#[tokio::test]
async fn within_the_cooldown_an_internal_refresh_brings_the_new_key() {
    let setup = set_up();
    setup.verifier.refresh().await.unwrap();
    let new = key(testing::Algorithm::ES256);
    let token = new.sign(&new.header(), &setup.claims());
    assert_eq!(setup.verify(&token).await.unwrap(), UNKNOWN);
    setup.source.publish(&[&new]);
    setup.verifier.refresh().await.unwrap();
    assert!(setup.accepts(&token).await, "although a fetch did not find it a moment ago");
}

#[tokio::test]
async fn a_missing_key_is_rejected_without_a_fetch_until_the_cooldown_ends() {
    let setup = set_up();
    setup.verifier.refresh().await.unwrap();
    let token = setup.sign_as("hidden");
    assert_eq!((setup.verify_now(&token), setup.source.fetches()), (None, 1));
    for _ in 0..100 {
        assert_eq!(setup.verify(&token).await.unwrap(), UNKNOWN);
        assert_eq!(setup.verify_now(&token), Some(UNKNOWN));
    }
    assert_eq!(setup.source.fetches(), 2);
    setup.is_undecided(&setup.sign_as("another"), COOLDOWN).await;
    setup.clock.advance(COOLDOWN);
    assert_eq!(setup.verify_now(&token), None);
    assert_eq!(setup.verify(&token).await.unwrap(), UNKNOWN);
    assert_eq!(setup.source.fetches(), 3);
}

#[tokio::test]
async fn a_failed_fetch_marks_no_key_as_missing() {
    let setup = set_up();
    setup.verifier.refresh().await.unwrap();
    setup.source.fail();
    let token = setup.sign_as("made-up");
    assert_eq!(setup.verify(&token).await.unwrap_err().kind(), VerifyErrorKind::Unavailable);
    assert_eq!(setup.verify_now(&token), None);
    setup.is_undecided(&token, COOLDOWN).await;
    assert_eq!(setup.source.fetches(), 2, "a failed fetch counts");
}

#[tokio::test]
async fn a_first_load_that_began_after_the_token_arrived_can_reject_its_key() {
    let setup = set_up();
    assert_eq!(setup.verify(&setup.sign_as("made-up")).await.unwrap(), UNKNOWN);
    assert_eq!(setup.source.fetches(), 1);
}

#[tokio::test]
async fn a_fetch_that_began_before_a_token_arrived_cannot_reject_its_key() {
    let setup = Arc::new(set_up());
    setup.verifier.refresh().await.unwrap();
    let gate = setup.source.close();
    let first = verify_in_a_task(&setup, setup.sign_as("a"));
    settle().await;
    let second = verify_in_a_task(&setup, setup.sign_as("b"));
    settle().await;
    setup.source.open();
    gate.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), UNKNOWN);
    assert_eq!(second.await.unwrap().unwrap_err().kind(), VerifyErrorKind::Inconclusive);
    assert_eq!(setup.source.fetches(), 2);
}

#[tokio::test]
async fn tokens_that_an_internal_refresh_did_not_help_share_one_more_fetch() {
    let setup = Arc::new(set_up());
    setup.verifier.refresh().await.unwrap();
    let gate = setup.source.close();
    let verifier = setup.verifier.clone();
    let internal = tokio::spawn(async move { verifier.refresh().await });
    settle().await;
    let new = key(testing::Algorithm::ES256);
    let good = verify_in_a_task(&setup, new.sign(&new.header(), &setup.claims()));
    let made_up = ["a", "b"].map(|key_id| verify_in_a_task(&setup, setup.sign_as(key_id)));
    settle().await;
    gate.notify_one();
    internal.await.unwrap().unwrap();
    setup.clock.advance(Duration::from_secs(1));
    settle().await;
    setup.source.publish(&[&setup.key, &new]);
    gate.notify_one();
    assert!(matches!(good.await.unwrap(), Ok(Verdict::Accept(_))));
    for made_up in made_up {
        assert_eq!(made_up.await.unwrap().unwrap(), UNKNOWN, "the second fetch included them");
    }
    assert_eq!(setup.source.fetches(), 3);
    for key_id in ["a", "b"] {
        assert_eq!(
            setup.verify_now(&setup.sign_as(key_id)),
            Some(UNKNOWN),
            "they are known to be missing"
        );
    }
}

#[tokio::test]
async fn fetches_and_unknown_keys_are_counted() {
    let setup = set_up();
    assert_eq!(setup.verifier.metrics(), JwksMetrics::default());
    setup.verifier.refresh().await.unwrap();
    for _ in 0..3 {
        assert!(setup.accepts(&setup.sign(&setup.claims())).await);
        assert!(setup.verify_now(&setup.sign(&setup.claims())).is_some());
    }
    assert_eq!(
        setup.verifier.metrics(),
        JwksMetrics { fetches: 1, keys: 1, ..JwksMetrics::default() }
    );
    assert_eq!(setup.verify(&setup.sign_as("a")).await.unwrap(), UNKNOWN);
    assert_eq!(setup.verify_now(&setup.sign_as("a")), Some(UNKNOWN));
    setup.is_undecided(&setup.sign_as("b"), COOLDOWN).await;
    setup.source.fail();
    setup.verifier.refresh().await.unwrap_err();
    let expected =
        JwksMetrics { fetches: 3, failed_fetches: 1, unknown_keys: 3, within_cooldown: 1, keys: 1 };
    assert_eq!(setup.verifier.metrics(), expected);
}
