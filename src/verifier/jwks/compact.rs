//! The compact serialisation of a JWS, read strictly.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::algorithm::Algorithm;
use crate::{
    json::{Object, present},
    token::BearerToken,
    verdict::RejectReason,
};

/// A token taken apart. Nothing in it is verified.
pub(super) struct Compact<'a> {
    /// What the signature is over: the first two parts with their dot.
    pub(super) message: &'a [u8],
    pub(super) header: Vec<u8>,
    pub(super) claims: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Three parts, each strictly base64url: no padding and no stray bits, so that a token has one spelling only.
    pub(super) fn parse(token: BearerToken<'a>) -> Result<Self, RejectReason> {
        let text = token.expose_secret();
        let (message, signature) = text.rsplit_once('.').ok_or(RejectReason::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(RejectReason::Malformed)?;
        // A dot is not in the alphabet, so a fourth part fails here too.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| RejectReason::Malformed);
        Ok(Self {
            message: message.as_bytes(),
            header: decode(header)?,
            claims: decode(claims)?,
            signature: decode(signature)?,
        })
    }
}

/// What of the header counts. `jwk`, `jku`, `x5u` and `x5c` do not: a token has no say in which key verifies it.
pub(super) struct Header<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    typ: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    b64: bool,
    #[serde(default, deserialize_with = "present")]
    zip: bool,
    #[serde(default, deserialize_with = "present")]
    enc: bool,
}

impl<'a> Header<'a> {
    pub(super) fn parse(json: &'a [u8], allowed: &[Algorithm]) -> Result<Self, RejectReason> {
        let Object(members): Object<Members<'a>> =
            serde_json::from_slice(json).map_err(|_| RejectReason::Malformed)?;
        // We understand no extension, so a critical one is refused (RFC 7515 §4.1.11), and so is what changes the meaning of
        // the payload without a `crit`.
        if members.crit || members.b64 || members.zip || members.enc {
            return Err(RejectReason::Malformed);
        }
        if members.typ.is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT")) {
            return Err(RejectReason::Malformed);
        }
        let algorithm =
            Algorithm::from_name(&members.alg).filter(|algorithm| allowed.contains(algorithm));
        Ok(Self { algorithm: algorithm.ok_or(RejectReason::Algorithm)?, key_id: members.kid })
    }
}
