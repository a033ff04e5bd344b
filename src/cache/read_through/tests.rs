//! The order of a look-up and a flight.

use super::*;
use crate::cache::{Capacities, Lifetimes};

struct NeverCalled;

impl Load for NeverCalled {
    type Input = ();
    const NAME: &'static str = "the loader";
    const STAGE: Stage = Stage::Authentication;

    async fn load(&self, (): &()) -> Outcome {
        Err(VerifyError::new(VerifyErrorKind::Unavailable, "it was called"))
    }

    fn load_now(&self, (): &()) -> Option<Outcome> {
        None
    }
}

#[test]
fn a_verdict_cached_before_the_leader_looks_is_not_loaded_again() {
    const MINUTE: Duration = Duration::from_secs(60);
    let lifetimes = Lifetimes { accepted: MINUTE, rejected: MINUTE, stale: Duration::ZERO };
    let clock = Clock::system();
    let capacities = Capacities { accepted: 9, rejected: 9 };
    let verdicts = VerdictCache::new(capacities, lifetimes, clock.clone()).unwrap();
    let limit = Limit::new(4, MINUTE, clock.clone());
    let cache = Arc::new(ReadThroughCache::new(verdicts, NeverCalled, limit, MINUTE, clock));
    let digest = cache.digest(b"key");
    let Joined::Leader(leader) = cache.flights.join(digest) else {
        panic!("there is another leader")
    };
    let verdict = Verdict::Reject(RejectReason::Signature);
    cache.verdicts.insert(digest, &verdict, cache.verdicts.now());
    let Lookup::Decided(outcome) = cache.lead(leader, digest, || ()) else {
        panic!("the verdict is cached")
    };
    assert_eq!(outcome.unwrap(), verdict);
    assert!(matches!(cache.flights.join(digest), Joined::Leader(_)), "the key is free");
}
