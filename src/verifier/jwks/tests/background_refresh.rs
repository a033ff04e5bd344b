//! The background refresh, and the runtimes that it runs on.

use super::{
    rotation::{COOLDOWN, settle},
    *,
};

#[tokio::test]
async fn the_background_refresh_ends_with_the_last_handle() {
    let setup = set_up();
    assert!(setup.accepts(&setup.sign(&setup.claims())).await);
    settle().await;
    let Setup { clock, source, verifier, .. } = setup;
    let shared = Arc::downgrade(&verifier.shared);
    let clone = verifier.clone();
    drop(verifier);
    assert!(shared.upgrade().is_some());
    drop(clone);
    assert!(shared.upgrade().is_none());
    settle().await;
    let fetches = source.fetches();
    clock.advance(Duration::from_secs(3600));
    settle().await;
    assert_eq!(source.fetches(), fetches);
    assert_eq!(Arc::strong_count(&source.0), 1, "nothing holds the source");
    source.open();
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_runtime_shutdown_aborts_the_fetch_without_a_deadlock() {
    let setup = set_up();
    let token = setup.sign(&setup.claims());
    let gone = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let handle = gone.handle().clone();
    gone.shutdown_background();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _entered = handle.enter();
        let audiences = Audiences::new(["api"]).unwrap();
        let mut verification =
            std::pin::pin!(setup.verifier.verify(BearerToken::parse(&token).unwrap(), &audiences));
        // The shutdown goes on meanwhile: the runtime drops the task within `spawn` or later.
        let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut cx = std::task::Context::from_waker(&waker);
        let outcome = loop {
            match verification.as_mut().poll(&mut cx) {
                std::task::Poll::Ready(outcome) => break outcome,
                std::task::Poll::Pending => std::thread::park(),
            }
        };
        let kind = outcome.map_err(|error| error.kind()).map(drop);
        done.send(kind).unwrap();
    });
    // A deadlock would be the thread waiting for a lock that it holds itself.
    assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(Err(VerifyErrorKind::Aborted)));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_background_refresh_outlives_the_runtime_that_loaded_the_keys() {
    let setup = set_up();
    let token = setup.sign(&setup.claims());
    runtime().block_on(setup.verifier.refresh()).unwrap();
    runtime().block_on(async {
        assert!(setup.accepts(&token).await);
        settle().await;
        setup.source.publish(&[&key(testing::Algorithm::ES256)]);
        setup.clock.advance(Duration::from_secs(331));
        settle().await;
        assert_eq!(setup.source.fetches(), 2, "otherwise a removed key verifies indefinitely");
        setup.clock.advance(COOLDOWN);
        assert_eq!(setup.verify(&token).await.unwrap(), Verdict::Reject(RejectReason::UnknownKey));
    });
}

#[test]
fn keys_that_aged_without_a_runtime_are_refreshed_when_due() {
    let setup = set_up();
    let token = setup.sign(&setup.claims());
    runtime().block_on(setup.verifier.refresh()).unwrap();
    setup.clock.advance(Duration::from_secs(200));
    runtime().block_on(async {
        assert!(setup.accepts(&token).await);
        settle().await;
        assert_eq!(setup.source.fetches(), 1, "the earliest is at 270 s");
        setup.clock.advance(Duration::from_secs(131));
        settle().await;
        assert_eq!(setup.source.fetches(), 2);
    });
    setup.clock.advance(Duration::from_secs(3600));
    setup.source.fail();
    runtime().block_on(async {
        assert!(setup.accepts(&setup.sign(&setup.claims())).await);
        settle().await;
        assert_eq!(setup.source.fetches(), 3, "at once");
        setup.clock.advance(Duration::from_secs(269));
        settle().await;
        assert_eq!(setup.source.fetches(), 3, "after a failure a whole period passes");
    });
}

#[test]
fn the_background_refresh_moves_away_from_a_runtime_that_is_not_driven() {
    let setup = set_up();
    let token = setup.sign(&setup.with("exp", json!(setup.now() + 10_000.0)));
    let (idle, driven) = (runtime(), runtime());
    idle.block_on(async {
        assert!(setup.accepts(&token).await);
        settle().await;
    });
    setup.source.publish(&[&key(testing::Algorithm::ES256)]);
    driven.block_on(async {
        // Twice 300 s, a tenth, and the 5 s of a fetch.
        setup.clock.advance(Duration::from_secs(670));
        for _ in 0..100 {
            assert!(setup.verify_now(&token).is_some());
        }
        settle().await;
        assert_eq!(setup.source.fetches(), 1, "the refresh may be on time on its own runtime");
        setup.clock.advance(Duration::from_secs(1));
        for _ in 0..100 {
            setup.verify_now(&token);
        }
        settle().await;
        assert_eq!(setup.source.fetches(), 2, "otherwise a removed key verifies indefinitely");
        assert_eq!(setup.verify_now(&token), None, "the key is no longer known");
        setup.clock.advance(Duration::from_secs(331));
        settle().await;
        assert_eq!(setup.source.fetches(), 3, "the new task goes on");
    });
    drop(idle);
}

#[test]
fn the_background_refresh_gives_up_a_fetch_on_a_runtime_that_is_not_driven() {
    let setup = set_up();
    let token = setup.sign(&setup.with("exp", json!(setup.now() + 10_000.0)));
    let (idle, driven) = (runtime(), runtime());
    driven.block_on(async {
        assert!(setup.accepts(&token).await);
        settle().await;
    });
    setup.clock.advance(COOLDOWN);
    let _never_opened = setup.source.close();
    let unknown = setup.sign_as("made-up");
    idle.block_on(async {
        tokio::select! {
            outcome = setup.verify(&unknown) => panic!("{outcome:?}"),
            () = settle() => {}
        }
    });
    assert_eq!(setup.source.fetches(), 2);
    driven.block_on(async {
        setup.source.open();
        setup.source.publish(&[&key(testing::Algorithm::ES256)]);
        // It joins the fetch, gives it up, and begins another one after a period.
        for wait in [331, 6, 331] {
            setup.clock.advance(Duration::from_secs(wait));
            settle().await;
        }
        assert_eq!(setup.source.fetches(), 3);
        assert_eq!(setup.verify_now(&token), None, "the key is no longer known");
    });
    drop(idle);
}
