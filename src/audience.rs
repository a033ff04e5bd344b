//! The audiences that a service accepts.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

/// Upper bound for the audiences of one token where any audience is accepted. They are chosen by
/// the token's bearer, and no configured set limits how many the identity keeps.
const MAX_ANY_AUDIENCES: usize = 64;

/// The audiences of which a token must name at least one ([RFC 7519 §4.1.3]; `spec.audiences` of a
/// TokenReview).
///
/// The set cannot be empty: without an audience, a token that its bearer sent to *any* other
/// service would be accepted. Only [`Audiences::dangerous_any`] turns the check off.
///
/// ```
/// use tower_kube_auth::audience::Audiences;
///
/// let audiences = Audiences::new(["my-audience"]).unwrap();
/// assert_eq!(audiences.to_string(), "my-audience");
/// assert!(Audiences::new([""]).is_err());
/// assert!(Audiences::new(Vec::<String>::new()).is_err());
/// ```
///
/// [RFC 7519 §4.1.3]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audiences(Accepted);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Accepted {
    AnyOf(Arc<[Arc<str>]>),
    /// The API server's own, whose names only it knows.
    ApiServer,
    All,
}

impl Audiences {
    /// Returns the set of `audiences`, without duplicates.
    ///
    /// # Errors
    ///
    /// [`InvalidAudiences`] if there is none, or one is empty or has leading or trailing white
    /// space.
    pub fn new<I>(audiences: I) -> Result<Self, InvalidAudiences>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let mut set: Vec<Arc<str>> = Vec::new();
        for audience in audiences {
            let audience: String = audience.into();
            if audience.is_empty() {
                return Err(InvalidAudiences::Empty);
            }
            if audience.trim() != audience {
                return Err(InvalidAudiences::Padded(audience));
            }
            if !set.iter().any(|known| **known == *audience) {
                set.push(audience.into());
            }
        }
        if set.is_empty() {
            Err(InvalidAudiences::None)
        } else {
            Ok(Self(Accepted::AnyOf(set.into())))
        }
    }

    /// Accepts tokens issued for the Kubernetes API server, whatever its audience is called. See
    /// [`api_server_audience`](crate::authenticator::AuthenticatorBuilder::api_server_audience).
    ///
    /// The set has no names, so the [`intersection`](Self::intersection) is empty: a verifier that
    /// does not [handle it](Self::is_api_server) accepts nothing.
    #[must_use]
    pub fn api_server() -> Self {
        Self(Accepted::ApiServer)
    }

    /// Returns whether this is [`api_server`](Self::api_server).
    #[must_use]
    pub fn is_api_server(&self) -> bool {
        self.0 == Accepted::ApiServer
    }

    /// Accepts tokens issued for any audience; of a token that names more than 64, none.
    ///
    /// Every service that receives a caller's token can then act as that caller here. Meant for
    /// debugging only.
    #[must_use]
    pub fn dangerous_any() -> Self {
        Self(Accepted::All)
    }

    /// Returns the configured audiences; `None` if any audience is accepted, and an empty slice for
    /// the API server's own. A TokenReview with that as its `spec.audiences` means the same.
    #[must_use]
    pub fn required(&self) -> Option<&[Arc<str>]> {
        match &self.0 {
            Accepted::AnyOf(set) => Some(set),
            Accepted::ApiServer => Some(&[]),
            Accepted::All => None,
        }
    }

    /// Returns the accepted ones of `claimed`, without duplicates. The token must be rejected if
    /// there are none, even where any audience is accepted. Always empty for
    /// [`api_server`](Self::api_server): a name proves nothing there.
    #[must_use]
    pub fn intersection<'a, I>(&self, claimed: I) -> Vec<Arc<str>>
    where
        I: IntoIterator<Item = &'a str>,
    {
        let mut common: Vec<Arc<str>> = Vec::new();
        for (position, audience) in claimed.into_iter().enumerate() {
            let accepted = match &self.0 {
                // Nothing is left to find. Keeps the work linear in what the token claims.
                Accepted::AnyOf(set) if common.len() == set.len() => break,
                Accepted::ApiServer => break,
                Accepted::AnyOf(set) => set.iter().find(|known| ***known == *audience).cloned(),
                // Rejected rather than cut: no part of the list speaks for the token.
                Accepted::All if position == MAX_ANY_AUDIENCES => return Vec::new(),
                Accepted::All => Some(audience.into()),
            };
            common.extend(accepted.filter(|accepted| !common.contains(accepted)));
        }
        common
    }
}

impl fmt::Display for Audiences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Accepted::AnyOf(set) => {
                for (position, audience) in set.iter().enumerate() {
                    write!(f, "{}{audience}", if position == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Accepted::ApiServer => f.write_str("the API server's audience"),
            Accepted::All => f.write_str("any audience"),
        }
    }
}

/// The `aud` of a token: one audience or a list of them ([RFC 7519 §4.1.3]).
///
/// [RFC 7519 §4.1.3]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
pub(crate) struct ClaimedAudiences<'a>(Vec<ClaimedAudience<'a>>);

#[derive(Deserialize)]
#[serde(transparent)]
struct ClaimedAudience<'a>(#[serde(borrow)] Cow<'a, str>);

impl ClaimedAudiences<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|audience| &*audience.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ClaimedAudiences<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = ClaimedAudiences<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an audience or a list of audiences")
            }

            fn visit_str<E>(self, audience: &str) -> Result<Self::Value, E> {
                Ok(ClaimedAudiences(vec![ClaimedAudience(Cow::Owned(audience.into()))]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut audiences = Vec::new();
                while let Some(audience) = list.next_element()? {
                    audiences.push(audience);
                }
                Ok(ClaimedAudiences(audiences))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// Why a list of audiences is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidAudiences {
    /// The list is empty.
    None,
    /// An audience is the empty string.
    Empty,
    /// An audience has leading or trailing white space.
    Padded(String),
}

impl fmt::Display for InvalidAudiences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(
                "no audience is configured: call .audience(\"…\") with the name that callers \
                 request their token for",
            ),
            Self::Empty => {
                f.write_str("an audience is the empty string: is an environment variable unset?")
            }
            Self::Padded(audience) => write!(
                f,
                "the audience {audience:?} has leading or trailing white space, so no token can \
                 match it: trim it"
            ),
        }
    }
}

impl std::error::Error for InvalidAudiences {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intersection_keeps_the_tokens_order_without_duplicates() {
        let audiences = Audiences::new(["a", "b", "a"]).unwrap();
        let common = audiences.intersection(["x", "b", "a", "b"]);
        assert_eq!(common.iter().map(|audience| &**audience).collect::<Vec<_>>(), ["b", "a"]);
        assert!(audiences.intersection(["A", "ab", ""]).is_empty());
    }

    #[test]
    fn any_audience_still_requires_one() {
        assert!(Audiences::dangerous_any().intersection([]).is_empty());
        assert_eq!(Audiences::dangerous_any().intersection(["x", "y", "x"]).len(), 2);
    }

    #[test]
    fn no_name_is_that_of_the_api_server() {
        let audiences = Audiences::api_server();
        assert!(audiences.intersection(["https://kubernetes.default.svc", ""]).is_empty());
        assert_eq!(audiences.required(), Some(&[][..]));
    }

    #[test]
    fn the_work_is_bounded_whatever_a_token_claims() {
        let claimed: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
        let looked_at = std::cell::Cell::new(0);
        let claims = |count| {
            looked_at.set(0);
            let counted = |_: &&String| looked_at.set(looked_at.get() + 1);
            claimed.iter().take(count).inspect(counted).map(String::as_str)
        };
        let any = Audiences::dangerous_any();
        assert_eq!(any.intersection(claims(64)).len(), 64);
        assert!(any.intersection(claims(65)).is_empty());
        assert!(any.intersection(claims(10_000)).is_empty());
        assert_eq!(looked_at.get(), 65, "each one is compared with all before it");
        let two = Audiences::new(["1", "3"]).unwrap();
        assert_eq!(two.intersection(claims(10_000)).len(), 2);
        assert_eq!(looked_at.get(), 5, "there are no others to find");
    }

    #[test]
    fn invalid_lists_are_build_errors() {
        assert_eq!(Audiences::new(Vec::<String>::new()), Err(InvalidAudiences::None));
        assert_eq!(Audiences::new(["a", ""]), Err(InvalidAudiences::Empty));
        assert_eq!(Audiences::new([" a"]), Err(InvalidAudiences::Padded(" a".into())));
    }
}
