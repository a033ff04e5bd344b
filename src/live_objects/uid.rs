//! The UID of an object, in little memory.

use std::fmt;

/// A UID. The API server makes UUIDs only, in lower case; any other text is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Uid {
    Uuid([u8; 16]),
    Text(Box<str>),
}

/// Where the hyphens of a UUID are.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl Uid {
    pub(super) fn new(text: &str) -> Self {
        Self::uuid(text).unwrap_or_else(|| Self::Text(text.into()))
    }

    /// Parses the one form that `Display` writes, so that equal UIDs are equal texts.
    fn uuid(text: &str) -> Option<Self> {
        if text.len() != 36 {
            return None;
        }
        let mut bytes = [0; 16];
        let mut digits = 0;
        for (position, byte) in text.bytes().enumerate() {
            if HYPHENS.contains(&position) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            let half: &mut u8 = bytes.get_mut(digits / 2)?;
            *half = *half << 4 | digit;
            digits += 1;
        }
        Some(Self::Uuid(bytes))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::Uuid(bytes) => bytes,
            Self::Text(text) => return f.write_str(text),
        };
        for (position, byte) in bytes.iter().enumerate() {
            if [4, 6, 8, 10].contains(&position) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Uid;

    #[test]
    fn a_uid_is_written_as_it_was_read() {
        let uuid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        assert!(matches!(Uid::new(uuid), Uid::Uuid(_)));
        for text in
            [uuid, &uuid.to_uppercase(), &uuid.replace('-', "0"), &uuid.replace('c', "g"), "", "x"]
        {
            assert_eq!(Uid::new(text).to_string(), text);
        }
    }

    #[test]
    fn uids_that_differ_in_one_character_differ() {
        let uuid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        for position in 0..uuid.len() {
            let mut other = uuid.to_owned();
            let digit = if &uuid[position..=position] == "9" { "8" } else { "9" };
            other.replace_range(position..=position, digit);
            assert_ne!(Uid::new(uuid), Uid::new(&other), "{other}");
        }
    }
}
