//! Unverified tokens: their header and claims, for diagnosis.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use crate::jws::{self, CompactJws};

/// The header and the claims of a JWT that is **not verified**: everything in it may be forged.
///
/// For diagnosis, like `step crypto jwt inspect --insecure`. The type is unrelated to
/// [`ServiceAccountIdentity`](crate::ServiceAccountIdentity), so it cannot be taken for one.
/// `Display` prints header and claims as JSON without the signature, so the output is not a usable
/// token; the claims may still be confidential.
///
/// ```
/// use tower_kube_auth::inspect::UnverifiedToken;
///
/// let token = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lzc3VlciIsImF1ZCI6ImEifQ.";
/// let unverified = UnverifiedToken::decode(token).unwrap();
/// assert_eq!(unverified.algorithm(), Some("none"));
/// assert_eq!(unverified.issuer(), Some("https://issuer"));
/// assert_eq!(unverified.audiences(), ["a"]);
/// ```
#[derive(Clone, PartialEq)]
pub struct UnverifiedToken {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// What the claims say about the ServiceAccount. Unverified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnverifiedServiceAccount<'a> {
    /// `kubernetes.io.namespace`.
    pub namespace: &'a str,
    /// `kubernetes.io.serviceaccount.name`.
    pub name: &'a str,
    /// `kubernetes.io.serviceaccount.uid`.
    pub uid: Option<&'a str>,
}

impl UnverifiedToken {
    /// Decodes a JWT in compact serialisation ([RFC 7515 §3.1]) strictly. The signature is ignored.
    ///
    /// # Errors
    ///
    /// [`InspectError`], which names the part that cannot be read.
    ///
    /// [RFC 7515 §3.1]: https://www.rfc-editor.org/rfc/rfc7515#section-3.1
    pub fn decode(token: &str) -> Result<Self, InspectError> {
        let jws = CompactJws::split(token)
            .ok_or_else(|| InspectError::Parts(token.split('.').count()))?;
        Ok(Self {
            header: decode_part(jws.header(), "header")?,
            claims: decode_part(jws.claims(), "claims")?,
        })
    }

    /// Returns the whole header.
    #[must_use]
    pub fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// Returns all claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Returns `alg` of the header.
    #[must_use]
    pub fn algorithm(&self) -> Option<&str> {
        self.header.get("alg")?.as_str()
    }

    /// Returns `kid` of the header.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.header.get("kid")?.as_str()
    }

    /// Returns `iss`.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Returns `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.claims.get("sub")?.as_str()
    }

    /// Returns `aud`, one string or a list ([RFC 7519 §4.1.3]). Empty if there is none.
    ///
    /// [RFC 7519 §4.1.3]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
    #[must_use]
    pub fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(audience)) => vec![audience],
            Some(Value::Array(audiences)) => audiences.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns `exp`, if it is a number that stands for a time.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        let seconds = Duration::try_from_secs_f64(self.claims.get("exp")?.as_f64()?).ok()?;
        UNIX_EPOCH.checked_add(seconds)
    }

    /// Returns the ServiceAccount of Kubernetes' private claim.
    #[must_use]
    pub fn service_account(&self) -> Option<UnverifiedServiceAccount<'_>> {
        let kubernetes = self.claims.get("kubernetes.io")?;
        let account = kubernetes.get("serviceaccount")?;
        Some(UnverifiedServiceAccount {
            namespace: kubernetes.get("namespace")?.as_str()?,
            name: account.get("name")?.as_str()?,
            uid: account.get("uid").and_then(Value::as_str),
        })
    }
}

impl fmt::Display for UnverifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let document = serde_json::json!({ "header": self.header, "claims": self.claims });
        write!(f, "{document:#}")
    }
}

impl fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedToken").finish_non_exhaustive()
    }
}

/// Why a token cannot be decoded. Contains no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InspectError {
    /// It has this many parts between its dots instead of three.
    Parts(usize),
    /// A part, `header` or `claims`, is not base64url without padding (RFC 7515 §2).
    Base64(&'static str),
    /// A part, `header` or `claims`, is not a JSON object.
    Json(&'static str),
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parts(count) => write!(f, "a JWT has three parts between dots; this has {count}"),
            Self::Base64(part) => {
                write!(f, "the {part} of the token is not base64url without padding")
            }
            Self::Json(part) => write!(f, "the {part} of the token is not a JSON object"),
        }
    }
}

impl std::error::Error for InspectError {}

fn decode_part(part: &str, name: &'static str) -> Result<Map<String, Value>, InspectError> {
    let json = jws::decode(part).ok_or(InspectError::Base64(name))?;
    serde_json::from_slice(&json).map_err(|_| InspectError::Json(name))
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn token(claims: &str) -> String {
        format!(
            "{}.{}.c2ln",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"k"}"#),
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    #[test]
    fn a_service_accounts_claims_are_read() {
        let token = token(
            r#"{"aud":["a","b"],"exp":1700000000,"sub":"s",
                "kubernetes.io":{"namespace":"ns","serviceaccount":{"name":"sa","uid":"u"}}}"#,
        );
        let unverified = UnverifiedToken::decode(&token).unwrap();
        assert_eq!(unverified.key_id(), Some("k"));
        assert_eq!(unverified.audiences(), ["a", "b"]);
        assert_eq!(unverified.expires_at(), Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        let account = UnverifiedServiceAccount { namespace: "ns", name: "sa", uid: Some("u") };
        assert_eq!(unverified.service_account(), Some(account));
    }

    #[test]
    fn neither_debug_nor_display_shows_the_signature() {
        let unverified = UnverifiedToken::decode(&token(r#"{"sub":"secret-subject"}"#)).unwrap();
        assert!(!format!("{unverified:?}").contains("secret-subject"));
        assert!(unverified.to_string().contains("secret-subject"));
        assert!(!unverified.to_string().contains("c2ln"));
    }

    #[test]
    fn the_wrong_part_is_named() {
        assert_eq!(UnverifiedToken::decode("a.b"), Err(InspectError::Parts(2)));
        assert_eq!(UnverifiedToken::decode("a=.e30.x"), Err(InspectError::Base64("header")));
        assert_eq!(UnverifiedToken::decode("e30.W10.x"), Err(InspectError::Json("claims")));
        let token = token(r#"{"exp":-5}"#);
        assert_eq!(UnverifiedToken::decode(&token).unwrap().expires_at(), None);
    }
}
