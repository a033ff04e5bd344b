//! Tokens that the verifier rejected after the fallback had accepted them.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::Mutex,
};

use crate::{
    lock::lock,
    token::BearerToken,
    verdict::{Outcome, Verdict},
};

/// Upper bound for the tokens. Each was signed by the issuer, so strangers add none.
const CAPACITY: usize = 1024;

/// The fallback must not accept these again: it does not see what the verifier sees. Holds hashes
/// under a random key, and no token. Two tokens with one hash leave a token to the verifier.
#[derive(Debug, Default)]
pub(super) struct RejectedTokens {
    key: RandomState,
    hashes: Mutex<VecDeque<u64>>,
}

/// A token in the set, or not.
#[derive(Clone, Copy)]
pub(super) struct TokenHash(u64);

impl RejectedTokens {
    pub(super) fn hash(&self, token: BearerToken<'_>) -> TokenHash {
        TokenHash(self.key.hash_one(token.expose_secret()))
    }

    pub(super) fn contains(&self, TokenHash(hash): TokenHash) -> bool {
        lock(&self.hashes).contains(&hash)
    }

    /// Adds a token that the verifier rejects, and removes one that it accepts. One that the
    /// fallback rejects as well needs no place.
    pub(super) fn record(&self, hash: TokenHash, outcome: &Outcome, fallback_accepts: bool) {
        match outcome {
            Ok(Verdict::Reject(_)) if fallback_accepts => self.insert(hash),
            Ok(Verdict::Reject(_)) => {}
            Ok(Verdict::Accept(_)) => self.remove(hash),
            Err(_) => {}
        }
    }

    /// Adds a token in place of the oldest one.
    fn insert(&self, TokenHash(hash): TokenHash) {
        let mut hashes = lock(&self.hashes);
        hashes.retain(|known| *known != hash);
        if hashes.len() == CAPACITY {
            hashes.pop_front();
        }
        hashes.push_back(hash);
    }

    fn remove(&self, TokenHash(hash): TokenHash) {
        lock(&self.hashes).retain(|known| *known != hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tokens_are_kept_and_their_number_is_bounded() {
        let rejected = RejectedTokens::default();
        let tokens: Vec<_> = (0..=CAPACITY).map(|number| format!("e30.e30.{number}")).collect();
        let hash = |number: usize| rejected.hash(BearerToken::parse(&tokens[number]).unwrap());
        (0..CAPACITY).for_each(|number| rejected.insert(hash(number)));
        rejected.insert(hash(0));
        rejected.insert(hash(CAPACITY));
        assert!(rejected.contains(hash(0)) && rejected.contains(hash(CAPACITY)));
        assert!(!rejected.contains(hash(1)), "the oldest one");
        assert_eq!(lock(&rejected.hashes).len(), CAPACITY);
        rejected.remove(hash(0));
        assert!(!rejected.contains(hash(0)));
    }
}
