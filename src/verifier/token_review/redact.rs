//! What the API server says, without the token: it has the token from us, and a webhook of its chain may say it back.

use crate::{error::VerifyError, token::BearerToken};

/// Messages of an honest API server are shorter.
const LONGEST: usize = 300;
/// Anything up to this length may stand in a message by chance, and is no secret.
const LONGEST_HARMLESS_PART: usize = 8;
const WITHHELD: &str = "(withheld, because it quotes the token)";

/// The API server's words for a log or an error message, cut to a sane length.
pub(super) fn printable(token: BearerToken<'_>, words: &str) -> String {
    // First, because a token that was broken into lines would come together again.
    let words: String = words.chars().filter(|character| !character.is_control()).collect();
    if quotes(token, &words) {
        return WITHHELD.to_owned();
    }
    words.chars().take(LONGEST).collect()
}

/// The same error, without its message if that quotes the token.
pub(super) fn without(token: BearerToken<'_>, error: VerifyError) -> VerifyError {
    if !quotes(token, &error.to_string()) {
        return error;
    }
    let bare = VerifyError::new(
        error.kind(),
        format!("TokenReview: the API server's answer is an error {WITHHELD}"),
    );
    match error.retry_after() {
        Some(pause) => bare.with_retry_after(pause),
        None => bare,
    }
}

/// Whether the token stands in there, or its header, claims or signature.
fn quotes(token: BearerToken<'_>, words: &str) -> bool {
    let token = token.expose_secret();
    let mut parts = token.split('.').filter(|part| part.len() > LONGEST_HARMLESS_PART);
    words.contains(token) || parts.any(|part| words.contains(part))
}
