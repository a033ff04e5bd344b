//! Single-flight: coalesces concurrent calls for one key into one, whose outcome all callers get.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

use crate::lock::lock;

/// The calls under way, by key.
pub(crate) struct Flights<K, T, S = RandomState> {
    under_way: Mutex<HashMap<K, watch::Receiver<Option<T>>, S>>,
}

/// The role of a caller.
pub(crate) enum Joined<L, F> {
    Leader(L),
    Follower(F),
}

/// Makes the call and [completes](Leader::complete) it. However it ends, also by panic or abort,
/// the key is free afterwards.
pub(crate) struct Leader<K: Hash + Eq, T, S: BuildHasher = RandomState> {
    flights: Arc<Flights<K, T, S>>,
    key: K,
    outcome: watch::Sender<Option<T>>,
}

/// Waits for the leader.
pub(crate) struct Follower<K, T, S = RandomState> {
    flights: Arc<Flights<K, T, S>>,
    key: K,
    outcome: watch::Receiver<Option<T>>,
}

impl<K: Hash + Eq + Copy, T, S: BuildHasher + Default> Flights<K, T, S> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default() })
    }

    pub(crate) fn join(self: &Arc<Self>, key: K) -> Joined<Leader<K, T, S>, Follower<K, T, S>> {
        let mut under_way = lock(&self.under_way);
        if let Some(outcome) = under_way.get(&key) {
            let outcome = outcome.clone();
            return Joined::Follower(Follower { flights: Arc::clone(self), key, outcome });
        }
        let (outcome, receiver) = watch::channel(None);
        under_way.insert(key, receiver);
        Joined::Leader(Leader { flights: Arc::clone(self), key, outcome })
    }
}

impl<K: Hash + Eq, T, S: BuildHasher> Flights<K, T, S> {
    /// Frees the key. The call under way goes on for those who follow it already.
    pub(crate) fn detach(&self, key: &K) {
        lock(&self.under_way).remove(key);
    }

    /// Frees all keys.
    pub(crate) fn detach_all(&self) {
        lock(&self.under_way).clear();
    }

    /// Frees the key of this call, and not its successor's.
    fn end(&self, key: &K, outcome: &watch::Receiver<Option<T>>) {
        let mut under_way = lock(&self.under_way);
        if under_way.get(key).is_some_and(|current| current.same_channel(outcome)) {
            under_way.remove(key);
        }
    }
}

impl<K: Hash + Eq + Copy, T, S: BuildHasher> Leader<K, T, S> {
    /// Returns a follower of this leader, for a caller that moves the call into a task.
    pub(crate) fn follower(&self) -> Follower<K, T, S> {
        let (flights, outcome) = (Arc::clone(&self.flights), self.outcome.subscribe());
        Follower { flights, key: self.key, outcome }
    }
}

impl<K: Hash + Eq, T, S: BuildHasher> Leader<K, T, S> {
    /// Runs `keep` unless the call was detached: another one may have begun later, or ended, and
    /// its outcome is the newer one. Nothing is detached while `keep` runs.
    pub(crate) fn unless_detached(&self, keep: impl FnOnce()) {
        let under_way = lock(&self.flights.under_way);
        let is_current =
            |current: &watch::Receiver<_>| current.same_channel(&self.outcome.subscribe());
        if under_way.get(&self.key).is_some_and(is_current) {
            keep();
        }
    }

    /// Frees the key before the outcome is known to the followers.
    pub(crate) fn free_key(&self) {
        self.flights.end(&self.key, &self.outcome.subscribe());
    }

    /// Passes the outcome to all followers and frees the key.
    pub(crate) fn complete(self, outcome: T) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl<K: Hash + Eq, T, S: BuildHasher> Drop for Leader<K, T, S> {
    fn drop(&mut self) {
        self.free_key();
    }
}

impl<K: Hash + Eq, T: Clone, S: BuildHasher> Follower<K, T, S> {
    /// Returns the leader's outcome; `None` if it ended without one.
    pub(crate) async fn outcome(&mut self) -> Option<T> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Frees the key of a leader that does not end, for example because nothing drives its runtime
    /// any more.
    pub(crate) fn give_up(self) {
        self.flights.end(&self.key, &self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Flights = super::Flights<&'static str, u32>;
    type Leader = super::Leader<&'static str, u32>;
    type Follower = super::Follower<&'static str, u32>;

    fn lead(flights: &Arc<Flights>, key: &'static str) -> Leader {
        let Joined::Leader(leader) = flights.join(key) else { panic!("the key is taken") };
        leader
    }

    fn follow(flights: &Arc<Flights>, key: &'static str) -> Follower {
        let Joined::Follower(follower) = flights.join(key) else { panic!("the key is free") };
        follower
    }

    #[tokio::test]
    async fn followers_get_the_leaders_outcome_and_the_key_is_free_again() {
        let flights = Flights::new();
        let leader = lead(&flights, "a");
        let (mut first, mut second) = (follow(&flights, "a"), follow(&flights, "a"));
        let other = lead(&flights, "b");
        leader.complete(7);
        assert_eq!((first.outcome().await, second.outcome().await), (Some(7), Some(7)));
        lead(&flights, "a");
        drop(other);
        assert!(lock(&flights.under_way).is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_ends_without_outcome_frees_key_and_followers() {
        let flights = Flights::new();
        let leader = lead(&flights, "a");
        let mut follower = follow(&flights, "a");
        let waiting = tokio::spawn(async move { follower.outcome().await });
        tokio::task::yield_now().await;
        drop(leader);
        assert_eq!(waiting.await.unwrap(), None);
        lead(&flights, "a");
    }

    #[tokio::test]
    async fn a_dropped_follower_changes_nothing() {
        let flights = Flights::new();
        let leader = lead(&flights, "a");
        let (gone, mut stays) = (follow(&flights, "a"), follow(&flights, "a"));
        drop(gone);
        leader.complete(1);
        assert_eq!(stays.outcome().await, Some(1));
    }

    #[tokio::test]
    async fn a_detached_flight_completes_for_its_followers_only() {
        let flights = Flights::new();
        let old = lead(&flights, "a");
        let mut follower = follow(&flights, "a");
        flights.detach(&"a");
        let new = lead(&flights, "a");
        old.complete(1);
        assert_eq!(follower.outcome().await, Some(1));
        let mut later = follow(&flights, "a");
        flights.detach_all();
        new.complete(2);
        assert_eq!(later.outcome().await, Some(2));
        assert!(lock(&flights.under_way).is_empty());
    }

    #[test]
    fn giving_up_frees_the_key_of_the_own_leader_only() {
        let flights = Flights::new();
        let stuck = lead(&flights, "a");
        let (first, second) = (follow(&flights, "a"), follow(&flights, "a"));
        first.give_up();
        let _next = lead(&flights, "a");
        second.give_up();
        drop(stuck);
        follow(&flights, "a");
    }
}
