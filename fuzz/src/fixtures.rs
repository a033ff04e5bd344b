//! Keys and tokens of the embedded cluster that produced the seeds.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub struct Fixtures {
    /// An RS256 and an ES256 key.
    pub keys: Vec<Value>,
    pub tokens: Vec<Token>,
}

#[derive(Deserialize)]
pub struct Token {
    /// The index of the key that signed it.
    pub key: usize,
    /// Whether its header has the id of that key.
    pub has_key_id: bool,
    pub token: String,
}

pub static FIXTURES: LazyLock<Fixtures> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../fixtures.json")).expect("fixtures.json")
});
