//! What the cache keeps, and for how long.

use std::time::Duration;

use super::*;
use crate::{clock::manual::ManualClock, testing::IdentityBuilder};

const MINUTE: Duration = Duration::from_secs(60);

fn cache(clock: &ManualClock) -> VerdictCache {
    let lifetimes = Lifetimes { accepted: MINUTE, rejected: MINUTE / 6, stale: Duration::ZERO };
    VerdictCache::new(Capacities { accepted: 100, rejected: 10 }, lifetimes, clock.clock()).unwrap()
}

fn digest(cache: &VerdictCache, token: &str) -> Digest {
    cache.digest(token.as_bytes())
}

fn insert(cache: &VerdictCache, key: Digest, verdict: &Verdict) {
    cache.insert(key, verdict, cache.now());
}

fn accept(identity: IdentityBuilder) -> Verdict {
    Verdict::Accept(Acceptance::new(identity.build()))
}

#[test]
fn an_accepted_entry_ends_with_its_ttl() {
    let clock = ManualClock::new();
    let cache = cache(&clock);
    let key = digest(&cache, "a");
    insert(&cache, key, &accept(IdentityBuilder::new("ns", "sa")));
    clock.advance(MINUTE * 9 / 10 - Duration::from_millis(1));
    assert!(cache.accepted(&key).is_some());
    clock.advance(MINUTE * 2 / 10 + Duration::from_millis(2));
    assert!(cache.accepted(&key).is_none());
}

#[test]
fn nothing_is_served_past_exp_within_the_ttl() {
    let clock = ManualClock::new();
    let cache = cache(&clock);
    let key = digest(&cache, "a");
    let expiry = clock.clock().wall() + Duration::from_secs(20);
    insert(&cache, key, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
    clock.advance(Duration::from_millis(19_999));
    assert!(cache.accepted(&key).is_some());
    clock.advance(Duration::from_millis(1));
    assert!(cache.accepted(&key).is_none());
}

#[test]
fn a_wall_clock_jump_past_exp_ends_an_entry_and_a_jump_back_prolongs_no_ttl() {
    let clock = ManualClock::new();
    let cache = cache(&clock);
    let (short, long) = (digest(&cache, "a"), digest(&cache, "b"));
    let expiry = clock.clock().wall() + MINUTE * 30;
    insert(&cache, short, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
    insert(&cache, long, &accept(IdentityBuilder::new("ns", "sa").expires_at(expiry)));
    clock.jump_forward(MINUTE * 60);
    assert!(cache.accepted(&short).is_none());
    clock.jump_back(MINUTE * 120);
    assert!(cache.accepted(&long).is_some());
    clock.advance(MINUTE * 12 / 10);
    assert!(cache.accepted(&long).is_none(), "the TTL runs on the monotonic clock");
}

#[test]
fn rejected_entries_have_their_own_ttl_and_capacity() {
    let clock = ManualClock::new();
    let cache = cache(&clock);
    let good = digest(&cache, "good");
    insert(&cache, good, &accept(IdentityBuilder::new("ns", "sa")));
    for number in 0..10_000 {
        insert(
            &cache,
            digest(&cache, &format!("invalid {number}")),
            &Verdict::Reject(RejectReason::Signature),
        );
    }
    cache.rejected.run_pending_tasks();
    assert!(cache.rejected.entry_count() <= 10, "bounded");
    assert!(cache.accepted(&good).is_some(), "a flood of rejections evicts no acceptance");

    let last = digest(&cache, "last");
    cache.rejected.invalidate_all();
    cache.rejected.run_pending_tasks();
    insert(&cache, last, &Verdict::Reject(RejectReason::Signature));
    assert_eq!(cache.get(&last), Some(Verdict::Reject(RejectReason::Signature)));
    clock.advance(MINUTE / 5);
    assert_eq!(cache.get(&last), None);
}

#[test]
fn a_ttl_of_zero_caches_nothing() {
    let clock = ManualClock::new();
    let lifetimes =
        Lifetimes { accepted: Duration::ZERO, rejected: Duration::ZERO, stale: Duration::ZERO };
    let cache =
        VerdictCache::new(Capacities { accepted: 9, rejected: 9 }, lifetimes, clock.clock())
            .unwrap();
    let key = digest(&cache, "a");
    insert(&cache, key, &accept(IdentityBuilder::new("ns", "sa")));
    insert(&cache, key, &Verdict::Reject(RejectReason::Signature));
    assert_eq!(cache.get(&key), None);
    assert_eq!(cache.accepted.len() + cache.rejected.iter().count(), 0);
}

#[test]
fn an_acceptance_by_a_fallback_has_no_grace_period() {
    let clock = ManualClock::new();
    let lifetimes = Lifetimes { accepted: MINUTE, rejected: MINUTE, stale: MINUTE };
    let cache =
        VerdictCache::new(Capacities { accepted: 9, rejected: 9 }, lifetimes, clock.clock())
            .unwrap();
    let (own, fallback) = (digest(&cache, "own"), digest(&cache, "fallback"));
    insert(&cache, own, &accept(IdentityBuilder::new("ns", "sa")));
    insert(&cache, fallback, &accept(IdentityBuilder::new("ns", "sa").from_fallback()));
    clock.advance(MINUTE * 11 / 10);
    assert!(cache.after_failure(&own, None).is_some());
    assert!(cache.after_failure(&fallback, None).is_none());
}

#[test]
fn a_rejection_outlives_a_concurrent_acceptance_by_a_fallback() {
    let cache = cache(&ManualClock::new());
    let key = digest(&cache, "a");
    let (rejected, accepted) = (
        Verdict::Reject(RejectReason::Unauthenticated),
        accept(IdentityBuilder::new("ns", "sa").from_fallback()),
    );
    for verdicts in [[&rejected, &accepted], [&accepted, &rejected]] {
        verdicts.into_iter().for_each(|verdict| insert(&cache, key, verdict));
        assert_eq!(cache.get(&key), Some(rejected.clone()));
        cache.invalidate(&Invalidation::All);
    }
}

#[test]
fn the_ttl_runs_from_the_start_of_the_verification() {
    let clock = ManualClock::new();
    let cache = cache(&clock);
    let (slow, slower, key) = (
        digest(&cache, "slow"),
        digest(&cache, "slower"),
        accept(IdentityBuilder::new("ns", "sa")),
    );
    let began = cache.now();
    clock.advance(MINUTE / 2);
    cache.insert(slow, &key, began);
    assert!(cache.accepted(&slow).is_some());
    clock.advance(MINUTE * 6 / 10);
    assert!(cache.accepted(&slow).is_none());
    cache.insert(slower, &key, began);
    assert!(cache.accepted(&slower).is_none());
}

#[test]
fn a_verdict_overtaken_by_an_invalidation_is_not_cached() {
    let cache = cache(&ManualClock::new());
    let (key, other) = (digest(&cache, "a"), digest(&cache, "b"));
    for verdict in
        [accept(IdentityBuilder::new("ns", "sa")), Verdict::Reject(RejectReason::Signature)]
    {
        let began = cache.now();
        cache.invalidate(&Invalidation::Key(key));
        cache.insert(key, &verdict, began);
        cache.insert(other, &verdict, began);
        assert_eq!((cache.get(&key), cache.get(&other)), (None, Some(verdict)));
        cache.invalidate(&Invalidation::All);
    }
}
