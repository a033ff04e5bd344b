//! Keys and tokens of the embedded cluster that the seeds are from.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub struct Fixtures {
    /// One of RS256 and one of ES256.
    pub keys: Vec<Value>,
    pub tokens: Vec<Token>,
}

#[derive(Deserialize)]
pub struct Token {
    /// Which of the keys has signed it.
    pub key: usize,
    /// Whether it names that key.
    pub has_key_id: bool,
    pub token: String,
}

pub static FIXTURES: LazyLock<Fixtures> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../fixtures.json")).expect("fixtures.json")
});
