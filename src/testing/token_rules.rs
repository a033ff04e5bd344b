//! Verification of ServiceAccount tokens by the rules of Kubernetes' `pkg/serviceaccount`.
//!
//! Written from Kubernetes' behaviour and independent of this crate's verifiers, so that a mistake
//! there is not repeated here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    jws_parser::{self, Jws},
    legacy_token,
    lock::lock,
    lookup::{LEEWAY, earlier_than, later_than},
    objects::text,
    release::Release,
    state::State,
    user::User,
};

impl State {
    /// Returns `Ok(None)` for a token of another issuer, `Err` for an invalid token of this one.
    pub(super) fn authenticate_service_account(
        &self,
        token: &str,
        wanted: &[String],
    ) -> Result<Option<(User, Vec<String>)>, String> {
        let Some(issuer) = jws_parser::unverified_issuer(token) else { return Ok(None) };
        let legacy = issuer == legacy_token::ISSUER;
        if !legacy && !self.issuers.contains(&issuer) {
            return Ok(None);
        }
        let Some(jws) = Jws::parse(token, self.release == Release::V1_20) else { return Ok(None) };
        let claims = self.verified_claims(&jws)?;
        let given = match self.audiences(&claims)? {
            // Legacy tokens have no audiences and are valid for the API server.
            none if none.is_empty() => self.api_audiences.clone(),
            some => some,
        };
        let matching = intersection(&given, wanted);
        if matching.is_empty() {
            return Err(format!(
                "token audiences {} is invalid for the target audiences {}",
                go(&given),
                go(wanted)
            ));
        }
        let user = if legacy { self.check_legacy(token, &claims)? } else { self.check(&claims)? };
        Ok(Some((user, matching)))
    }

    fn verified_claims(&self, jws: &Jws) -> Result<Value, String> {
        let modern = self.release != Release::V1_20;
        let failure = self.go_jose();
        let mut keys = lock(&self.keys).verifying();
        // 1.20 ignores the `kid` and tries every key.
        if modern && !jws.kid.is_empty() {
            keys.retain(|key| key.kid() == jws.kid);
        }
        if keys.is_empty() {
            return Err("invalid signature, no keys found".to_owned());
        }
        if jws.has_crit
            || !keys.iter().any(|key| key.verifies(&jws.alg, &jws.signed, &jws.signature))
        {
            return Err(format!("{failure}: error in cryptographic primitive"));
        }
        let claims = jws_parser::strict_json(&jws.payload).filter(Value::is_object);
        let claims = claims.ok_or_else(|| format!("{failure}/jwt: failed to unmarshal claims"))?;
        self.check_types(&claims)?;
        Ok(claims)
    }

    /// Checks the claims of a token from the TokenRequest API.
    fn check(&self, claims: &Value) -> Result<User, String> {
        self.check_times(claims)?;
        let modern = self.release != Release::V1_20;
        let claim = |name: &str| text(claims, &format!("/kubernetes.io/{name}")).to_owned();
        let namespace = claim("namespace");
        let (name, uid) = (claim("serviceaccount/name"), claim("serviceaccount/uid"));
        let invalidated = if modern {
            "service account token has been invalidated"
        } else {
            "Token has been invalidated"
        };

        let title = if modern { "service account" } else { "ServiceAccount" };
        match self.find("serviceaccounts", &namespace, &name)? {
            None if name.is_empty() => return Err("resource name may not be empty".to_owned()),
            None => return Err(format!("serviceaccounts {name:?} not found")),
            Some(found) if found.deleted => {
                return Err(format!("{title} {namespace}/{name} has been deleted"));
            }
            Some(found) if found.uid != uid => {
                return Err(format!("{title} UID ({}) does not match claim ({uid})", found.uid));
            }
            Some(_) => {}
        }
        let mut extra = BTreeMap::new();
        let bound = |kind: &str| {
            claims.pointer(&format!("/kubernetes.io/{kind}")).is_some_and(|bound| !bound.is_null())
        };
        for (plural, kind) in [("secrets", "secret"), ("pods", "pod")] {
            if !bound(kind) {
                continue;
            }
            let (name, uid) = (claim(&format!("{kind}/name")), claim(&format!("{kind}/uid")));
            self.check_bound(plural, kind, &namespace, (&name, &uid), invalidated)?;
            if kind == "pod" {
                extra.insert("authentication.kubernetes.io/pod-name".to_owned(), vec![name]);
                extra.insert("authentication.kubernetes.io/pod-uid".to_owned(), vec![uid]);
            }
        }
        if modern && bound("node") {
            let (name, uid) = (claim("node/name"), claim("node/uid"));
            // With a Pod the node is informational; without one the token is bound to it.
            if !bound("pod") {
                self.check_bound("nodes", "node", "", (&name, &uid), invalidated)?;
            }
            for (key, value) in [("node-name", name), ("node-uid", uid)] {
                if !value.is_empty() {
                    extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
                }
            }
        }
        let id = text(claims, "/jti");
        if modern && !id.is_empty() {
            extra.insert(
                "authentication.kubernetes.io/credential-id".to_owned(),
                vec![format!("JTI={id}")],
            );
        }
        Ok(User::service_account(&namespace, &name, &uid, extra))
    }

    fn check_bound(
        &self,
        plural: &'static str,
        kind: &str,
        namespace: &str,
        (name, uid): (&str, &str),
        invalidated: &str,
    ) -> Result<(), String> {
        // Kubernetes discards lookup errors here and reports an invalidated token.
        match self.find(plural, namespace, name).unwrap_or_default() {
            Some(found) if found.uid != uid && self.release == Release::V1_20 => {
                let kind = if kind == "pod" { "Pod" } else { "Secret" };
                Err(format!("{kind} UID ({}) does not match claim ({uid})", found.uid))
            }
            Some(found) if found.uid != uid => Err(format!(
                "{kind} UID ({}) does not match service account {kind} ref claim ({uid})",
                found.uid
            )),
            Some(found) if !found.deleted => Ok(()),
            _ => Err(invalidated.to_owned()),
        }
    }

    fn check_times(&self, claims: &Value) -> Result<(), String> {
        let modern = self.release != Release::V1_20;
        let now = self.now();
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::Null) if modern => Ok(None),
            Some(value) => self.numeric_date(value).map(Some),
        };
        let (expiry, not_before, issued) = (time("exp")?, time("nbf")?, time("iat")?);
        if not_before.is_some_and(|nbf| later_than(nbf, LEEWAY, now)) {
            let message = "service account token is not valid yet";
            return Err(if modern { message } else { "Token could not be validated." }.to_owned());
        }
        // A missing `exp` means no expiry, in 1.20 expiry in 1970.
        let expiry = if modern { expiry } else { Some(expiry.unwrap_or(0)) };
        if expiry.is_some_and(|exp| earlier_than(exp, LEEWAY, now)) {
            return Err(if modern {
                "service account token has expired"
            } else {
                "Token has expired."
            }
            .to_owned());
        }
        if modern && issued.is_some_and(|iat| later_than(iat, LEEWAY, now)) {
            let message = "service account token claims could not be validated due to unexpected \
                           validation error";
            return Err(message.to_owned());
        }
        Ok(())
    }

    fn numeric_date(&self, value: &Value) -> Result<i64, String> {
        let number = value.as_f64();
        let number = number.ok_or_else(|| {
            format!("{}/jwt: expected number value to unmarshal NumericDate", self.go_jose())
        })?;
        // Go's conversion returns the smallest integer for a number out of range.
        #[expect(clippy::cast_possible_truncation, reason = "go-jose truncates too")]
        Ok(if number.abs() < 9.2e18 { number as i64 } else { i64::MIN })
    }

    fn go_jose(&self) -> &'static str {
        if self.release == Release::V1_20 { "square/go-jose" } else { "go-jose/go-jose" }
    }

    /// Returns `aud`, a string or a list of strings.
    fn audiences(&self, claims: &Value) -> Result<Vec<String>, String> {
        let strings = match claims.get("aud") {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::String(one)) => Some(vec![one.clone()]),
            Some(Value::Array(list)) => {
                list.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            Some(_) => None,
        };
        let problem = "expected string or array value to unmarshal to Audience";
        strings.ok_or_else(|| format!("{}/jwt: {problem}", self.go_jose()))
    }

    /// Checks the types that Go checks when it unmarshals the claims into a struct.
    fn check_types(&self, claims: &Value) -> Result<(), String> {
        for name in ["iss", "sub", "jti"] {
            let kind = match claims.get(name) {
                None | Some(Value::Null | Value::String(_)) => continue,
                Some(Value::Bool(_)) => "bool",
                Some(Value::Number(_)) => "number",
                Some(Value::Array(_)) => "array",
                Some(Value::Object(_)) => "object",
            };
            return Err(format!("json: cannot unmarshal {kind} into Go value of type string"));
        }
        match claims.pointer("/kubernetes.io/warnafter") {
            None | Some(Value::Null) => Ok(()),
            Some(value) => self.numeric_date(value).map(|_| ()),
        }
    }
}

/// Returns the items of `wanted` that are in `given`.
pub(super) fn intersection(given: &[String], wanted: &[String]) -> Vec<String> {
    wanted.iter().filter(|audience| given.contains(audience)).cloned().collect()
}

/// Formats a list of strings like Go's `%q`.
fn go(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
