//! The header of a JWS, read strictly.

use std::borrow::Cow;

use serde::Deserialize;

use super::algorithm::Algorithm;
use crate::{
    json::{Object, present},
    verdict::RejectReason,
};

/// The members of the header that count. `jwk`, `jku`, `x5u` and `x5c` do not: a token has no say
/// in which key verifies it.
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
        // No extension is supported, so a critical one is rejected (RFC 7515 §4.1.11), and so is
        // what changes the meaning of the payload without a `crit`.
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
