//! Authentication of requests: the API server's chain of authenticators for bearer tokens.

use std::collections::BTreeMap;

use super::{lock::lock, state::State, token_rules::intersection, user::User};

#[derive(Debug, PartialEq)]
pub(super) enum Authentication {
    /// The user, and the requested audiences that the token is for.
    User(User, Vec<String>),
    Nobody,
    Failed(String),
}

impl State {
    /// Authenticates an `Authorization` header's value for any of `audiences`.
    pub(super) fn authenticate(&self, authorization: &str, audiences: &[String]) -> Authentication {
        let Some(token) = bearer_token(authorization) else {
            if !self.anonymous {
                return Authentication::Nobody;
            }
            let anonymous = User {
                name: "system:anonymous".to_owned(),
                uid: String::new(),
                groups: vec!["system:unauthenticated".to_owned()],
                extra: BTreeMap::new(),
            };
            // The anonymous authenticator reports every requested audience.
            return Authentication::User(anonymous, audiences.to_vec());
        };
        let (mut user, audiences) = match self.authenticate_token(token, audiences) {
            Ok(Some(authenticated)) => authenticated,
            Ok(None) => return Authentication::Failed(INVALID.to_owned()),
            // Two bearer authenticators run: one for the API server's own loopback token, then the
            // configured ones. Go joins their errors.
            Err(error) => return Authentication::Failed(format!("[{INVALID}, {error}]")),
        };
        user.groups.push("system:authenticated".to_owned());
        Authentication::User(user, audiences)
    }

    fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<(User, Vec<String>)>, String> {
        // A static token is valid for the API server's own audiences.
        let implicit = intersection(&self.api_audiences, audiences);
        if let Some(user) = lock(&self.static_tokens).get(token)
            && !implicit.is_empty()
        {
            return Ok(Some((user.clone(), implicit)));
        }
        self.authenticate_service_account(token, audiences)
    }
}

const INVALID: &str = "invalid bearer token";

/// Returns the token in a header's value, with Kubernetes' leniency: anything after the token's
/// space is ignored, and two spaces before the token hide it.
fn bearer_token(authorization: &str) -> Option<&str> {
    let mut parts = authorization.trim().splitn(3, ' ');
    let scheme = parts.next()?;
    let token = parts.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::bearer_token;

    #[test]
    fn the_authorization_header_is_parsed_as_in_kubernetes() {
        for found in ["Bearer token", "bearer token", "BEARER token a", " Bearer token "] {
            assert_eq!(bearer_token(found), Some("token"), "{found:?}");
        }
        for none in
            ["", "Basic 123", "Bearer", "Bearer ", "bear token", "Bearer: token", "Bearer  token"]
        {
            assert_eq!(bearer_token(none), None, "{none:?}");
        }
    }
}
