//! Any claims with a valid signature. A header may precede them, separated by a NUL.

use std::time::{Duration, UNIX_EPOCH};

use tower_kube_auth::{
    BearerToken, JwksVerifier, ServiceAccountIdentity, Verifier,
    testing::{Algorithm, SigningKey},
    verdict::Verdict,
};

use crate::{
    AUDIENCE, ISSUER, NOW, audiences, clock,
    object::{Object, Unusable, is_text},
    username::is_service_account,
};

/// The published key id, which seeds name.
const KEY_ID: &str = "key-1";
const LEEWAY: u64 = 60;
/// Larger times may be valid or not.
const BEYOND_TIME: f64 = 1e15;
const LEGACY_CLAIMS: [&str; 3] = [
    "kubernetes.io/serviceaccount/namespace",
    "kubernetes.io/serviceaccount/service-account.name",
    "kubernetes.io/serviceaccount/service-account.uid",
];

thread_local! {
    static UNDER_TEST: (SigningKey, JwksVerifier) = {
        let key = SigningKey::generate(Algorithm::ES256).unwrap();
        let mut jwk = key.jwk();
        jwk["kid"] = KEY_ID.into();
        let set = serde_json::json!({ "keys": [jwk] }).to_string();
        (key, JwksVerifier::from_jwks(set).issuer(ISSUER).clock(clock()).build().unwrap())
    };
}

pub fn check(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (header, claims) = match (parts.next().unwrap_or_default(), parts.next()) {
        (header, Some(claims)) => (header, claims),
        (claims, None) => (br#"{"alg":"ES256","kid":"key-1"}"#.as_slice(), claims),
    };
    let verdict = UNDER_TEST.with(|(key, verifier)| {
        let token = key.sign_bytes("ES256", header, claims);
        let token = BearerToken::parse(&token).ok()?;
        verifier
            .verify_now(token, audiences())
            .or(Some(Verdict::Reject(tower_kube_auth::verdict::RejectReason::UnknownKey)))
    });
    let Some(verdict) = verdict else { return };
    let expected = Expected::read(header, claims);
    match (&verdict, &expected) {
        (Verdict::Accept(accepted), Ok(expected)) => expected.compare(accepted.identity()),
        (Verdict::Accept(_), Err(Unusable)) => panic!("accepted, but must not be"),
        (Verdict::Reject(_), Err(Unusable)) => {}
        (Verdict::Reject(reason), Ok(expected)) => {
            let may_be_rejected =
                !is_text(header) || !is_text(claims) || expected.expiry >= BEYOND_TIME;
            assert!(may_be_rejected, "{reason}, but must be accepted");
        }
    }
}

/// The expected identity.
struct Expected {
    sub: String,
    namespace: String,
    name: String,
    uid: String,
    expiry: f64,
    pod: Option<String>,
    node: Option<String>,
}

impl Expected {
    /// Returns `Unusable` if the token must be rejected.
    fn read(header: &[u8], claims: &[u8]) -> Result<Self, Unusable> {
        check_header(&Object::read(header).ok_or(Unusable)?)?;
        let claims = Object::read(claims).ok_or(Unusable)?;
        let expiry = claims.number("exp")?.ok_or(Unusable)?;
        require(expiry > (NOW - LEEWAY) as f64)?;
        for begin in ["nbf", "iat"] {
            require(
                claims
                    .number(begin)?
                    .is_none_or(|begin| (0.0..=(NOW + LEEWAY) as f64).contains(&begin)),
            )?;
        }
        require(claims.text("iss")?.as_deref() == Some(ISSUER))?;
        require(
            claims
                .audiences()?
                .is_some_and(|audiences| audiences.iter().any(|one| one == AUDIENCE)),
        )?;
        for name in LEGACY_CLAIMS {
            claims.text(name)?;
        }
        // Any type, but not twice, and a string must be valid.
        if claims.raw("jti")?.is_some_and(|jti| !jti.starts_with(['[', '{', 't', 'f']))
            && claims.text("jti").is_err()
        {
            claims.number("jti")?;
        }
        let kubernetes = claims.object("kubernetes.io")?.ok_or(Unusable)?;
        let account = kubernetes.object("serviceaccount")?.ok_or(Unusable)?;
        let bound = |kind: &str| match kubernetes.object(kind)? {
            Some(object) => {
                object.text("uid").and_then(|_| object.text("name")?.ok_or(Unusable)).map(Some)
            }
            None => Ok(None),
        };
        let expected = Self {
            sub: claims.text("sub")?.ok_or(Unusable)?,
            namespace: kubernetes.text("namespace")?.ok_or(Unusable)?,
            name: account.text("name")?.ok_or(Unusable)?,
            uid: account.text("uid")?.ok_or(Unusable)?,
            expiry,
            pod: bound("pod")?,
            node: bound("node")?,
        };
        let Self { sub, namespace, name, uid, .. } = &expected;
        require(
            is_service_account(namespace, name)
                && *sub == format!("system:serviceaccount:{namespace}:{name}"),
        )?;
        require(
            (1..=128).contains(&uid.len())
                && uid.chars().all(|character| character.is_ascii_graphic()),
        )?;
        Ok(expected)
    }

    fn compare(&self, identity: &ServiceAccountIdentity) {
        assert_eq!(identity.username(), self.sub);
        assert_eq!(
            (identity.namespace(), identity.name(), identity.uid()),
            (&*self.namespace, &*self.name, &*self.uid)
        );
        assert_eq!(identity.issuer(), Some(ISSUER));
        assert_eq!(identity.audiences().collect::<Vec<_>>(), [AUDIENCE]);
        assert_eq!(identity.pod().map(|pod| pod.name), self.pod.as_deref());
        assert_eq!(identity.node().map(|node| node.name), self.node.as_deref());
        if self.expiry < BEYOND_TIME {
            assert_eq!(
                identity.expires_at(),
                Some(UNIX_EPOCH + Duration::from_secs_f64(self.expiry))
            );
        }
    }
}

fn check_header(header: &Object) -> Result<(), Unusable> {
    require(header.text("alg")?.as_deref() == Some("ES256"))?;
    require(header.text("kid")?.is_none_or(|id| id == KEY_ID))?;
    require(header.text("typ")?.is_none_or(|kind| kind.to_ascii_lowercase() == "jwt"))?;
    require(!["crit", "b64", "zip", "enc"].into_iter().any(|name| header.has(name)))
}

fn require(holds: bool) -> Result<(), Unusable> {
    if holds { Ok(()) } else { Err(Unusable) }
}
