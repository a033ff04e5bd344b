//! Messages of the API server without the token. The API server has the token from the review, and
//! a webhook of its authenticator chain may quote it.

use crate::{error::VerifyError, token::BearerToken};

/// Upper bound for a message, in characters. Real ones are shorter.
const LONGEST: usize = 300;
/// A part of a token up to this length may occur in a message by chance, and is no secret.
const LONGEST_HARMLESS_PART: usize = 8;
const WITHHELD: &str = "(withheld, because it quotes the token)";

/// Returns the API server's message for a log or an error: without control characters, cut, and
/// withheld if it quotes the token.
pub(super) fn message(token: BearerToken<'_>, message: &str) -> String {
    // Before the search, because removing line breaks may restore a token.
    let message: String = message.chars().filter(|character| !character.is_control()).collect();
    if quotes(token, &message) {
        return WITHHELD.to_owned();
    }
    message.chars().take(LONGEST).collect()
}

/// Returns the same error, without its message if that quotes the token.
pub(super) fn error(token: BearerToken<'_>, error: VerifyError) -> VerifyError {
    if !quotes(token, &error.to_string()) {
        return error;
    }
    let message = format!("TokenReview: the API server's answer is an error {WITHHELD}");
    let bare = VerifyError::new(error.kind(), message);
    match error.retry_after() {
        Some(pause) => bare.with_retry_after(pause),
        None => bare,
    }
}

/// Whether `text` contains the token, or its header, claims or signature.
fn quotes(token: BearerToken<'_>, text: &str) -> bool {
    let token = token.expose_secret();
    let mut parts = token.split('.').filter(|part| part.len() > LONGEST_HARMLESS_PART);
    text.contains(token) || parts.any(|part| text.contains(part))
}
