//! The tokens that callers send: valid ones, formerly valid ones, and invalid ones.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};
use tower_kube_auth::testing::SigningKey;

use crate::facts::{Facts, Key, Pod};

/// Upper bound of the tokens of each kind. The oldest are dropped.
const OF_A_KIND: usize = 90;

/// How a token was made. Later events are in its facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From the TokenRequest API.
    Plain,
    /// From the TokenRequest API, bound to a Pod.
    OfAPod,
    /// Signed here with the cluster's key, because the API issues no token for less than ten
    /// minutes.
    ShortLived,
    OtherAudience,
    /// The header and claims of a valid token with a random signature each time.
    Forged,
    /// Signed by another key under the id of the cluster's key.
    Resigned,
    /// Signed by another key under its own id.
    Strangers,
    /// Random content each time.
    Junk,
}

pub(crate) struct Token {
    pub(crate) kind: Kind,
    text: String,
    pub(crate) username: String,
    pub(crate) facts: Facts,
}

impl Token {
    /// Returns the token to send.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self.kind {
            Kind::Forged => {
                let signature: Vec<u8> = (0..256).map(|_| fastrand::u8(..)).collect();
                Cow::Owned(format!("{}.{}", self.text, BASE64URL.encode(signature)))
            }
            Kind::Junk => {
                let [header, claims] =
                    [r#"{"alg":"RS256"}"#.to_owned(), json!({"n": fastrand::u64(..)}).to_string()];
                Cow::Owned(format!(
                    "{}.{}.AAAA",
                    BASE64URL.encode(header),
                    BASE64URL.encode(claims)
                ))
            }
            _ => Cow::Borrowed(&self.text),
        }
    }

    /// Returns the token's category in the report.
    pub(crate) fn label(&self, at: Instant) -> &'static str {
        match self.kind {
            Kind::Forged => "forged signature",
            Kind::Resigned => "signed by another key, known id",
            Kind::Strangers => "signed by another key",
            Kind::Junk => "junk",
            Kind::OtherAudience => "other audience",
            _ if self.facts.key.removal.has_begun() => "of a removed key",
            _ if self.facts.pod.as_ref().is_some_and(|pod| pod.removal.has_begun()) => {
                "of a deleted Pod"
            }
            _ if self.facts.expires_at < at => "expired, in or past the leeway",
            Kind::Plain => "good",
            Kind::OfAPod => "good, of a Pod",
            Kind::ShortLived => "short-lived",
        }
    }
}

/// All tokens in use. The list is replaced as a whole, so that callers never wait for its changes.
#[derive(Default)]
pub(crate) struct TokenPool {
    tokens: RwLock<Arc<Vec<Arc<Token>>>>,
}

impl TokenPool {
    pub(crate) fn pick(&self) -> Arc<Token> {
        let tokens = self.tokens.read().expect("no panic").clone();
        tokens[fastrand::usize(..tokens.len())].clone()
    }

    pub(crate) fn add(&self, new: impl IntoIterator<Item = Token>) {
        let mut tokens = self.tokens.write().expect("no panic");
        let all: Vec<_> = tokens.iter().cloned().chain(new.into_iter().map(Arc::new)).collect();
        let newer =
            |at: usize| all[at + 1..].iter().filter(|other| other.kind == all[at].kind).count();
        *tokens = Arc::new(
            (0..all.len()).filter(|at| newer(*at) < OF_A_KIND).map(|at| all[at].clone()).collect(),
        );
    }
}

/// Makes tokens of one account with one key.
pub(crate) struct Mint<'a> {
    pub(crate) key: &'a Arc<Key>,
    pub(crate) signing: &'a SigningKey,
    pub(crate) stranger: &'a SigningKey,
    pub(crate) username: &'a str,
}

impl Mint<'_> {
    /// Wraps a token that the API has issued.
    pub(crate) fn issued(&self, text: String, pod: Option<Arc<Pod>>) -> Token {
        let expires_at = instant(claims(&text)["exp"].as_i64().expect("a time"));
        let kind = if pod.is_some() { Kind::OfAPod } else { Kind::Plain };
        self.token(
            kind,
            text,
            Facts {
                never_good: false,
                known_key: true,
                key: self.key.clone(),
                pod,
                expires_at,
                rejections: Mutex::default(),
            },
        )
    }

    /// Derives further tokens from a valid one, most of them invalid.
    pub(crate) fn variants(&self, good: &str) -> Vec<Token> {
        let (header, claims) = (self.signing.header(), claims(good));
        let mut made = Vec::new();
        // The last two are past their `exp`: one within Kubernetes' leeway of 60 s, one beyond.
        for life in [4_i64, 20, -45, -300] {
            let mut short = claims.clone();
            short["exp"] = json!(seconds_since_1970() + life);
            let facts = Facts {
                expires_at: instant(short["exp"].as_i64().expect("a time")),
                ..self.good_facts(good)
            };
            made.push(self.token(Kind::ShortLived, self.signing.sign(&header, &short), facts));
        }
        let mut elsewhere = claims.clone();
        elsewhere["aud"] = json!(["invoices"]);
        let never = |known_key| Facts { never_good: true, known_key, ..self.good_facts(good) };
        made.push(self.token(
            Kind::OtherAudience,
            self.signing.sign(&header, &elsewhere),
            never(true),
        ));
        let unsigned = good.rsplit_once('.').expect("a signature").0.to_owned();
        made.push(self.token(Kind::Forged, unsigned, never(true)));
        made.push(self.token(Kind::Resigned, self.stranger.sign(&header, &claims), never(true)));
        made.push(self.token(
            Kind::Strangers,
            self.stranger.sign(&self.stranger.header(), &claims),
            never(false),
        ));
        made.push(self.token(Kind::Junk, String::new(), never(false)));
        made
    }

    fn good_facts(&self, good: &str) -> Facts {
        self.issued(good.to_owned(), None).facts
    }

    fn token(&self, kind: Kind, text: String, facts: Facts) -> Token {
        Token { kind, text, username: self.username.to_owned(), facts }
    }
}

fn claims(token: &str) -> Value {
    let payload = BASE64URL.decode(token.split('.').nth(1).expect("three parts")).expect("base64");
    serde_json::from_slice(&payload).expect("JSON")
}

fn seconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed()
}

/// Converts to the monotonic clock, which the oracle uses.
fn instant(since_1970: i64) -> Instant {
    let from_now = Duration::from_secs(since_1970.abs_diff(seconds_since_1970()));
    let now = Instant::now();
    if since_1970 < seconds_since_1970() {
        now.checked_sub(from_now).unwrap_or(now)
    } else {
        now + from_now
    }
}
