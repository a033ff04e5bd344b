//! The cache key: a keyed digest of what is decided about. The cache holds no token, and nothing to
//! test a guess against.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use highway::{HighwayHash, HighwayHasher, Key};

/// HighwayHash-256 under a random key of this process: a pseudo-random function without the key,
/// and its output never leaves the process. ARCHITECTURE.md gives the reasons for the choice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u64; 4]);

impl Hash for Digest {
    /// The digest is uniformly distributed, so one word of it is a good hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [first, ..] = self.0;
        state.write_u64(first);
    }
}

/// The random key of this process.
pub(crate) struct DigestKey(Key);

impl DigestKey {
    /// Returns a new key; `None` if the operating system has no random bytes.
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

/// Digests several parts. Each is written with its length, so that no two lists of parts are the
/// same bytes.
pub(crate) struct DigestWriter(HighwayHasher);

impl DigestKey {
    pub(crate) fn digest_of(&self, write: impl FnOnce(&mut DigestWriter)) -> Digest {
        let mut writer = DigestWriter(HighwayHasher::new(self.0));
        write(&mut writer);
        Digest(writer.0.finalize256())
    }
}

impl DigestWriter {
    pub(crate) fn part(&mut self, part: &[u8]) {
        self.length(part.len());
        self.0.append(part);
    }

    /// Writes the length of a list of parts.
    pub(crate) fn length(&mut self, length: usize) {
        self.0.append(&(length as u64).to_le_bytes());
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(redacted)")
    }
}

pub(crate) type DigestHasher = BuildHasherDefault<FirstWord>;

/// Uses the word that [`Digest`] writes as the hash.
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
    fn the_digest_depends_on_every_byte_and_on_the_length() {
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
    fn the_digest_of_parts_depends_on_their_borders() {
        let key = DigestKey::random().unwrap();
        let digest = |parts: &[&str]| {
            key.digest_of(|writer| parts.iter().for_each(|part| writer.part(part.as_bytes())))
        };
        assert!(digest(&["a", "bc"]) == digest(&["a", "bc"]));
        for other in [&["ab", "c"][..], &["abc"], &["a", "bc", ""], &["", "a", "bc"]] {
            assert!(digest(&["a", "bc"]) != digest(other), "{other:?}");
        }
    }

    #[test]
    fn another_key_gives_another_digest() {
        let digest = || DigestKey::random().unwrap().digest(b"token").0;
        assert_ne!(digest(), digest());
        assert_eq!(format!("{:?}", DigestKey::random().unwrap()), "DigestKey(redacted)");
    }
}
