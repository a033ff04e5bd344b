//! The cache key: a keyed digest of the token, so that no token, and nothing to test a guess against, lies in the cache.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use highway::{HighwayHash, HighwayHasher, Key};

/// 256 bits of HighwayHash under a random key of this process: a pseudo-random function to whoever does not know the key,
/// and nobody is ever shown its output. ARCHITECTURE.md argues the choice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u64; 4]);

impl Hash for Digest {
    /// The digest is uniformly distributed already: a part of it is as good a hash as any.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [first, ..] = self.0;
        state.write_u64(first);
    }
}

/// The process's random key.
pub(crate) struct DigestKey(Key);

impl DigestKey {
    /// `None` if the operating system has no random bytes to give.
    pub(crate) fn random() -> Option<Self> {
        let mut words = [0; 4];
        for word in &mut words {
            let mut bytes = [0; 8];
            aws_lc_rs::rand::fill(&mut bytes).ok()?;
            *word = u64::from_ne_bytes(bytes);
        }
        Some(Self(Key(words)))
    }

    #[inline]
    pub(crate) fn digest(&self, token: &[u8]) -> Digest {
        let mut hasher = HighwayHasher::new(self.0);
        hasher.append(token);
        Digest(hasher.finalize256())
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(redacted)")
    }
}

pub(crate) type DigestHasher = BuildHasherDefault<FirstWord>;

/// Takes the word that [`Digest`] offers as the hash.
#[derive(Default)]
pub(crate) struct FirstWord(u64);

impl Hasher for FirstWord {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_token_counts_and_so_does_its_length() {
        let key = DigestKey::random().unwrap();
        let token = [b'a'; 1165];
        let digest = key.digest(&token);
        assert_eq!(key.digest(&token).0, digest.0);
        for position in 0..token.len() {
            let mut other = token;
            other[position] ^= 1;
            assert_ne!(key.digest(&other).0, digest.0, "byte {position}");
        }
        assert_ne!(key.digest(&token[..1164]).0, digest.0);
    }

    #[test]
    fn another_key_gives_another_digest() {
        let digest = || DigestKey::random().unwrap().digest(b"token").0;
        assert_ne!(digest(), digest());
        assert_eq!(format!("{:?}", DigestKey::random().unwrap()), "DigestKey(redacted)");
    }
}
