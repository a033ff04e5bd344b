//! The pre-check, which rejects junk before it costs a call.
//!
//! The claims that it reads are unverified, so they can lead to a rejection only.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use crate::{
    audience::{Audiences, ClaimedAudiences},
    json::Object,
    jws::{self, CompactJws},
    token::BearerToken,
    verdict::RejectReason,
};

/// Upper bound for the leeway of this crate's verifiers. The pre-check must not reject what a
/// verifier could accept.
const LEEWAY: Duration = Duration::from_secs(300);

pub(super) struct Precheck {
    audiences: Audiences,
    issuers: Vec<String>,
    /// Whether the verifier decides about tokens that are no JWTs.
    accepts_opaque_tokens: bool,
}

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Option<Cow<'a, str>>,
    #[serde(borrow)]
    aud: Option<ClaimedAudiences<'a>>,
    exp: Option<f64>,
}

impl Precheck {
    pub(super) fn new(
        audiences: Audiences,
        issuers: Vec<String>,
        accepts_opaque_tokens: bool,
    ) -> Self {
        Self { audiences, issuers, accepts_opaque_tokens }
    }

    pub(super) fn has_issuers(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// Rejects what the verifier could not accept: a token that is no JWT, unless the verifier
    /// takes opaque ones, of another issuer, for other audiences, or expired. A missing claim is
    /// left to the verifier.
    pub(super) fn check(
        &self,
        token: BearerToken<'_>,
        now: SystemTime,
    ) -> Result<(), RejectReason> {
        let json = claims_json(token.expose_secret());
        let claims = json.as_deref().map(serde_json::from_slice::<Object<Claims<'_>>>);
        let Some(Ok(Object(claims))) = claims else {
            return if self.accepts_opaque_tokens { Ok(()) } else { Err(RejectReason::Malformed) };
        };
        if !self.issuers.is_empty()
            && !claims.iss.is_some_and(|issuer| self.issuers.iter().any(|known| *known == issuer))
        {
            return Err(RejectReason::Issuer);
        }
        // The name of the API server's audience is not known here.
        if !self.audiences.is_api_server()
            && let Some(claimed) = claims.aud
            && self.audiences.intersection(claimed.iter()).is_empty()
        {
            return Err(RejectReason::Audience);
        }
        if let Some(expiry) = claims.exp
            && now.checked_sub(LEEWAY).is_some_and(|latest| is_before(expiry, latest))
        {
            return Err(RejectReason::Expired);
        }
        Ok(())
    }
}

fn is_before(seconds: f64, time: SystemTime) -> bool {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    seconds < since_epoch.as_secs_f64()
}

/// Returns the JSON of the claims; `None` unless the token is a strict JWS with a header and a
/// signature.
fn claims_json(token: &str) -> Option<Vec<u8>> {
    let jws = CompactJws::split(token)?;
    let mut decoded = Vec::with_capacity(token.len());
    for part in [jws.header(), jws.signature()] {
        jws::decode_into(part, &mut decoded).filter(|()| !part.is_empty())?;
    }
    decoded.clear();
    jws::decode_into(jws.claims(), &mut decoded)?;
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn check(claims: &str) -> Result<(), RejectReason> {
        check_token(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)))
    }

    fn check_token(token: &str) -> Result<(), RejectReason> {
        let precheck = Precheck::new(
            Audiences::new(["a", "b"]).unwrap(),
            vec!["https://issuer".into()],
            false,
        );
        precheck.check(BearerToken::parse(token).unwrap(), UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn what_is_no_jwt_is_rejected() {
        for token in [
            "abc",
            "a.b",
            "a.b.c.d",
            ".e30.x",
            "e30.e30.",
            "e30..x",
            "e30.e3=.x",
            "e30.W10.x",
            "e30.bm90anNvbg.x",
        ] {
            assert!(
                BearerToken::parse(token).is_err()
                    || check_token(token) == Err(RejectReason::Malformed),
                "{token}"
            );
        }
    }

    #[test]
    fn another_spelling_of_the_same_bytes_is_rejected() {
        let [header, claims, signature] = ["e30", "eyJpc3MiOiJodHRwczovL2lzc3VlciJ9", "c2k"];
        assert_eq!(check_token(&format!("{header}.{claims}.{signature}")), Ok(()));
        // The same bytes to whoever ignores the bits that are left over.
        for (header, signature) in [("e31", signature), (header, "c2l"), (header, "c2k=")] {
            let token = format!("{header}.{claims}.{signature}");
            assert!(
                BearerToken::parse(&token).is_err()
                    || check_token(&token) == Err(RejectReason::Malformed),
                "{token}"
            );
        }
    }

    #[test]
    fn other_issuers_audiences_and_expired_tokens_are_rejected() {
        assert_eq!(check(r#"{"iss":"https://issuer","aud":["x","b"],"exp":1700000000}"#), Ok(()));
        assert_eq!(check(r#"{"iss":"https://issuer","aud":"a"}"#), Ok(()));
        assert_eq!(check(r#"{"iss":"https://other","aud":"a"}"#), Err(RejectReason::Issuer));
        assert_eq!(check(r#"{"aud":"a"}"#), Err(RejectReason::Issuer));
        assert_eq!(check(r#"{"iss":"https://issuer","aud":"x"}"#), Err(RejectReason::Audience));
        assert_eq!(check(r#"{"iss":"https://issuer","aud":[]}"#), Err(RejectReason::Audience));
        assert_eq!(
            check(r#"{"iss":"https://issuer","aud":"a","exp":1699999699}"#),
            Err(RejectReason::Expired)
        );
        assert_eq!(check(r#"{"iss":"https://issuer","aud":"a","exp":1699999701.5}"#), Ok(()));
        assert_eq!(
            check(r#"{"iss":"https://issuer","aud":"a","exp":-1e300}"#),
            Err(RejectReason::Expired)
        );
    }

    #[test]
    fn no_audience_is_excluded_as_the_api_servers() {
        let claims = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"aud":"anything"}"#));
        let token = BearerToken::parse(&claims).unwrap();
        let precheck = Precheck::new(Audiences::api_server(), Vec::new(), false);
        assert_eq!(precheck.check(token, UNIX_EPOCH), Ok(()));
    }

    #[test]
    fn claims_of_the_wrong_type_or_given_twice_are_rejected() {
        for claims in [
            r#"{"iss":["https://issuer"],"aud":"a"}"#,
            r#"{"iss":"https://issuer","aud":1}"#,
            r#"{"iss":"https://issuer","aud":["a",1]}"#,
            r#"{"iss":"https://issuer","aud":"a","exp":"soon"}"#,
            r#"{"iss":"https://issuer","iss":"https://issuer","aud":"a"}"#,
        ] {
            assert_eq!(check(claims), Err(RejectReason::Malformed), "{claims}");
        }
    }

    #[test]
    fn a_missing_audience_is_left_to_the_verifier() {
        assert_eq!(check(r#"{"iss":"https://issuer"}"#), Ok(()), "legacy Secret tokens have none");
    }
}
