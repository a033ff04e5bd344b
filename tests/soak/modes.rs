//! The services under load: one for each way to verify, most of them with little memory, so that much is verified.

use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use http::Response;
use kube::Client;
use tower_kube_auth::{
    Authenticator, JwksVerifier, ServiceAccountIdentity, TokenReviewVerifier, Verifier,
    authenticator::AuthenticatorBuilder, server::Rejection,
};

use crate::scene::Outcome;

/// What all services are called.
pub(crate) const AUDIENCE: &str = "orders";

/// The time limit of a TokenReview with all its attempts, and of a fetch of keys: how long an outage is felt after its end.
const CALL_LIMIT: Duration = Duration::from_secs(4);
const SHORT: Duration = Duration::from_secs(1);
/// The defaults of the builders; a service with these is soaked too.
const CACHE_TTL: Duration = Duration::from_secs(60);
/// Kubernetes' own.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);
const DEFAULT_KEYS: Keys =
    Keys { refresh_interval: Duration::from_secs(300), cooldown: Duration::from_secs(10) };
const SHORT_KEYS: Keys = Keys { refresh_interval: Duration::from_secs(2), cooldown: SHORT };

/// A service, and what the oracle has to know of it.
#[derive(Clone)]
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    pub(crate) cache_ttl: Duration,
    pub(crate) leeway: Duration,
    pub(crate) call_limit: Duration,
    /// Whether the server has a say about each token.
    pub(crate) asks_server: bool,
    /// Where it verifies offline.
    pub(crate) keys: Option<Keys>,
    /// Whether it goes on offline while the server is down.
    pub(crate) falls_back: bool,
    /// How many ask at once.
    pub(crate) callers: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) refresh_interval: Duration,
    pub(crate) cooldown: Duration,
}

/// All services. Their own credential is that of an administrator, which no rotation takes away: how a service keeps its own
/// token fresh is tested elsewhere.
pub(crate) fn all(client: Client) -> Outcome<Vec<Mode>> {
    let review = || TokenReviewVerifier::new(client.clone()).timeout(CALL_LIMIT);
    let jwks = |keys: Keys, leeway| {
        let verifier =
            JwksVerifier::in_cluster(client.clone()).leeway(leeway).fetch_timeout(CALL_LIMIT);
        verifier.refresh_interval(keys.refresh_interval).unknown_key_cooldown(keys.cooldown).build()
    };
    let forgetful = |builder: AuthenticatorBuilder| builder.cache_ttl(SHORT).reject_ttl(SHORT);
    let offline = |name, keys, leeway| Mode {
        name,
        router: Router::new(),
        cache_ttl: SHORT,
        leeway,
        call_limit: CALL_LIMIT,
        asks_server: false,
        keys: Some(keys),
        falls_back: false,
        callers: 4,
    };
    let online = |name| Mode {
        asks_server: true,
        keys: None,
        callers: 16,
        ..offline(name, SHORT_KEYS, LEEWAY)
    };
    // With two steps, either can use up its time limit.
    let both = |name| Mode { keys: Some(SHORT_KEYS), call_limit: CALL_LIMIT * 2, ..online(name) };
    let screened = review().screened_by(jwks(SHORT_KEYS, LEEWAY)?);
    let with_fallback = review().or_when_unavailable(jwks(SHORT_KEYS, LEEWAY)?);
    // A further way to verify has its line here: with what it asks, and whether it falls back.
    Ok(vec![
        online("TokenReview").behind(forgetful(Authenticator::builder(review())))?,
        both("TokenReview behind JWKS").behind(forgetful(Authenticator::builder(screened)))?,
        Mode { falls_back: true, ..both("TokenReview or JWKS") }
            .behind(forgetful(Authenticator::builder(with_fallback)))?,
        Mode { cache_ttl: CACHE_TTL, ..online("TokenReview, defaults") }
            .behind(Authenticator::builder(review()))?,
        offline("JWKS", SHORT_KEYS, LEEWAY)
            .behind(forgetful(Authenticator::builder(jwks(SHORT_KEYS, LEEWAY)?)))?,
        // Without leeway what is served past `exp` is seen at once, and with a minute's cache it would be.
        Mode {
            cache_ttl: CACHE_TTL,
            ..offline("JWKS, defaults, no leeway", DEFAULT_KEYS, Duration::ZERO)
        }
        .behind(Authenticator::builder(jwks(DEFAULT_KEYS, Duration::ZERO)?))?,
    ])
}

impl Mode {
    /// A service that answers with the caller's username, or with why there is none.
    fn behind(self, builder: AuthenticatorBuilder) -> Outcome<Self> {
        async fn whoami(caller: ServiceAccountIdentity) -> String {
            caller.username().to_owned()
        }
        let layer = builder.audience(AUDIENCE).build()?.layer();
        let layer =
            layer.map_rejection_response(|response: Response<()>, rejection: &Rejection| {
                response.map(|()| Body::from(rejection.to_string()))
            });
        Ok(Self { router: Router::new().route("/", get(whoami)).layer(layer), ..self })
    }
}
