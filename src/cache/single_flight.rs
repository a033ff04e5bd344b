//! Single-flight: of all who want to know about one token at one time, one finds out and the others
//! wait for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::digest::{Digest, DigestHasher};

/// The lookups under way, by token.
pub(crate) struct Flights<T> {
    under_way: Mutex<HashMap<Digest, watch::Receiver<Option<T>>, DigestHasher>>,
}

/// What somebody who wants to know has become.
pub(crate) enum Joined<T> {
    Leader(Leader<T>),
    Follower(Follower<T>),
}

/// Has to find out, and to [`land`](Leader::land). However it ends, by panic or abort too, the key
/// is free afterwards.
pub(crate) struct Leader<T> {
    flights: Arc<Flights<T>>,
    digest: Digest,
    outcome: watch::Sender<Option<T>>,
}

/// Waits for the leader.
pub(crate) struct Follower<T> {
    flights: Arc<Flights<T>>,
    digest: Digest,
    outcome: watch::Receiver<Option<T>>,
}

impl<T> Flights<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default() })
    }

    pub(crate) fn join(self: &Arc<Self>, digest: Digest) -> Joined<T> {
        let mut under_way = self.under_way();
        if let Some(outcome) = under_way.get(&digest) {
            return Joined::Follower(Follower {
                flights: Arc::clone(self),
                digest,
                outcome: outcome.clone(),
            });
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(digest, receiver);
        Joined::Leader(Leader { flights: Arc::clone(self), digest, outcome: sender })
    }

    /// Lets nobody else follow the flight of this token, which goes on for those who do already.
    pub(crate) fn detach(&self, digest: &Digest) {
        self.under_way().remove(digest);
    }

    /// The same for all flights.
    pub(crate) fn detach_all(&self) {
        self.under_way().clear();
    }

    /// Removes the flight of this outcome, and not its successor's.
    fn end(&self, digest: &Digest, outcome: &watch::Receiver<Option<T>>) {
        let mut under_way = self.under_way();
        if under_way.get(digest).is_some_and(|current| current.same_channel(outcome)) {
            under_way.remove(digest);
        }
    }

    fn under_way(
        &self,
    ) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<Option<T>>, DigestHasher>> {
        // A map of receivers has no invariant that a panic could break.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Leader<T> {
    /// A follower of this leader, for the one who became it but does not want to do the work in
    /// person.
    pub(crate) fn follower(&self) -> Follower<T> {
        Follower {
            flights: Arc::clone(&self.flights),
            digest: self.digest,
            outcome: self.outcome.subscribe(),
        }
    }

    /// Runs `keep`, unless the flight was detached: then somebody else finds out, or has done so
    /// already, and knows better. Nobody is detached meanwhile.
    pub(crate) fn unless_detached(&self, keep: impl FnOnce()) {
        let under_way = self.flights.under_way();
        if under_way
            .get(&self.digest)
            .is_some_and(|current| current.same_channel(&self.outcome.subscribe()))
        {
            keep();
        }
    }

    /// Tells the outcome to all followers and frees the key.
    pub(crate) fn complete(self, outcome: T) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        self.flights.end(&self.digest, &self.outcome.subscribe());
    }
}

impl<T: Clone> Follower<T> {
    /// The leader's outcome; `None` if it ended without one.
    pub(crate) async fn outcome(&mut self) -> Option<T> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Frees the key of a leader that does not come to an end, because its runtime is not driven
    /// any more for instance.
    pub(crate) fn give_up(self) {
        self.flights.end(&self.digest, &self.outcome);
    }
}

#[cfg(test)]
impl<T> Flights<T> {
    pub(crate) fn is_free(&self, digest: &Digest) -> bool {
        !self.under_way().contains_key(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::digest::DigestKey;

    fn digest(text: &str) -> Digest {
        static KEY: std::sync::OnceLock<DigestKey> = std::sync::OnceLock::new();
        KEY.get_or_init(|| DigestKey::random().unwrap()).digest(text.as_bytes())
    }

    fn lead(flights: &Arc<Flights<u32>>, key: &str) -> Leader<u32> {
        let Joined::Leader(leader) = flights.join(digest(key)) else {
            panic!("somebody leads already")
        };
        leader
    }

    fn follow(flights: &Arc<Flights<u32>>, key: &str) -> Follower<u32> {
        let Joined::Follower(follower) = flights.join(digest(key)) else { panic!("nobody leads") };
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
        assert!(flights.under_way().is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_ends_without_an_outcome_frees_the_key_and_its_followers() {
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
    async fn a_follower_that_goes_away_changes_nothing() {
        let flights = Flights::new();
        let leader = lead(&flights, "a");
        let (gone, mut stays) = (follow(&flights, "a"), follow(&flights, "a"));
        drop(gone);
        leader.complete(1);
        assert_eq!(stays.outcome().await, Some(1));
    }

    #[tokio::test]
    async fn a_detached_flight_lands_for_its_own_followers_and_leaves_its_successor_alone() {
        let flights = Flights::new();
        let old = lead(&flights, "a");
        let mut follower = follow(&flights, "a");
        flights.detach(&digest("a"));
        let new = lead(&flights, "a");
        old.complete(1);
        assert_eq!(follower.outcome().await, Some(1));
        let mut later = follow(&flights, "a");
        flights.detach_all();
        new.complete(2);
        assert_eq!(later.outcome().await, Some(2));
        assert!(flights.under_way().is_empty());
    }

    #[test]
    fn a_follower_that_gives_up_frees_the_key_of_its_own_leader_only() {
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
