//! The rules that a token must meet, applied with one set of keys.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    algorithm::Algorithm,
    claims::{Claims, Expected},
    header::Header,
    key_set::SignatureCheck,
    key_snapshot::LoadedKeys,
};
use crate::{
    audience::Audiences,
    jws::{self, CompactJws},
    token::BearerToken,
    verdict::{RejectReason, Verdict},
};

pub(super) struct Rules {
    /// Empty if the issuer comes with the keys.
    pub(super) issuers: Box<[Arc<str>]>,
    pub(super) algorithms: Arc<[Algorithm]>,
    pub(super) leeway: Duration,
    pub(super) max_token_lifetime: Option<Duration>,
    pub(super) legacy_tokens: bool,
    /// The names of the API server's audience.
    pub(super) api_server_audiences: Option<Audiences>,
}

/// The result of applying the rules with one set of keys.
pub(super) enum Evaluation {
    Decided(Verdict),
    /// The set has no key with the token's key id, which is this.
    UnknownKey(Box<str>),
}

impl Rules {
    pub(super) fn evaluate(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
        loaded: &LoadedKeys,
        now: SystemTime,
    ) -> Evaluation {
        self.check(token, audiences, loaded, now)
            .unwrap_or_else(|reason| Evaluation::Decided(Verdict::Reject(reason)))
    }

    fn check(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
        loaded: &LoadedKeys,
        now: SystemTime,
    ) -> Result<Evaluation, RejectReason> {
        let jws = CompactJws::split(token.expose_secret()).ok_or(RejectReason::Malformed)?;
        let decoded = |part| jws::decode(part).ok_or(RejectReason::Malformed);
        let (header, claims) = (decoded(jws.header())?, decoded(jws.claims())?);
        let signature = decoded(jws.signature())?;
        let header = Header::parse(&header, &self.algorithms)?;
        let claims = Claims::parse(&claims)?;
        let audiences = match &self.api_server_audiences {
            Some(names) if audiences.is_api_server() => names,
            _ => audiences,
        };
        let expected = Expected {
            issuers: if self.issuers.is_empty() { loaded.issuer.as_slice() } else { &self.issuers },
            audiences,
            leeway: self.leeway,
            max_token_lifetime: self.max_token_lifetime,
            now,
            legacy_tokens: self.legacy_tokens,
        };
        claims.check(&expected)?;
        match loaded.keys.verify(
            header.key_id.as_deref(),
            header.algorithm,
            jws.signed_text().as_bytes(),
            &signature,
        ) {
            SignatureCheck::Verified => claims
                .accept(&expected)
                .map(|accepted| Evaluation::Decided(Verdict::Accept(accepted))),
            SignatureCheck::BadSignature => Err(RejectReason::Signature),
            SignatureCheck::WrongAlgorithm => Err(RejectReason::Algorithm),
            SignatureCheck::UnknownKey => {
                Ok(Evaluation::UnknownKey(header.key_id.unwrap_or_default().into()))
            }
        }
    }
}
