//! The services under load: one for each way to verify, most with a short TTL, so that they verify
//! often.

use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use http::Response;
use kube::Client;
use tower_kube_auth::{
    Authenticator, JwksVerifier, LiveObjects, LocalReviewVerifier, ServiceAccountIdentity,
    TokenReviewVerifier, VerifierExt, authenticator::AuthenticatorBuilder, server::Rejection,
};

use crate::fixture::Outcome;

/// The audience of all services.
pub(crate) const AUDIENCE: &str = "orders";

/// The time limit of a TokenReview and of a fetch of the keys, with their retries. An outage has
/// effects for this long after its end.
const CALL_LIMIT: Duration = Duration::from_secs(4);
const SHORT: Duration = Duration::from_secs(1);
/// The default of the builder, used by one service of each kind.
const CACHE_TTL: Duration = Duration::from_secs(60);
/// The leeway of Kubernetes.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);
const DEFAULT_KEYS: Keys =
    Keys { refresh_interval: Duration::from_secs(300), cooldown: Duration::from_secs(10) };
const SHORT_KEYS: Keys = Keys { refresh_interval: Duration::from_secs(2), cooldown: SHORT };

/// A service, and the properties of it that the oracle needs.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    pub(crate) cache_ttl: Duration,
    pub(crate) leeway: Duration,
    pub(crate) call_limit: Duration,
    /// Whether the API server decides about each token.
    pub(crate) asks_server: bool,
    /// The key options, if it verifies by JWKS.
    pub(crate) keys: Option<Keys>,
    /// Whether it falls back to JWKS while the server is down.
    pub(crate) falls_back: bool,
    /// Whether it watches the objects of tokens.
    pub(crate) watches: bool,
    /// The number of concurrent callers.
    pub(crate) callers: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) refresh_interval: Duration,
    pub(crate) cooldown: Duration,
}

/// Returns all services. Their own credential is the static token of an administrator, which
/// survives key rotations. How a service keeps its own token fresh is tested elsewhere.
pub(crate) fn all(client: Client, live_objects: &LiveObjects) -> Outcome<Vec<Service>> {
    let review = || TokenReviewVerifier::new(client.clone()).timeout(CALL_LIMIT);
    let jwks = |keys: Keys, leeway| {
        let verifier =
            JwksVerifier::in_cluster(client.clone()).leeway(leeway).fetch_timeout(CALL_LIMIT);
        verifier.refresh_interval(keys.refresh_interval).unknown_key_cooldown(keys.cooldown).build()
    };
    let short_lived = |builder: AuthenticatorBuilder| builder.cache_ttl(SHORT).reject_ttl(SHORT);
    let offline = |name, keys, leeway| Service {
        name,
        router: Router::new(),
        cache_ttl: SHORT,
        leeway,
        call_limit: CALL_LIMIT,
        asks_server: false,
        keys: Some(keys),
        falls_back: false,
        watches: false,
        callers: 4,
    };
    let online = |name| Service {
        asks_server: true,
        keys: None,
        callers: 16,
        ..offline(name, SHORT_KEYS, LEEWAY)
    };
    // Two verifiers in sequence can each use up their time limit.
    let both =
        |name| Service { keys: Some(SHORT_KEYS), call_limit: CALL_LIMIT * 2, ..online(name) };
    let screened = review().screened_by(jwks(SHORT_KEYS, LEEWAY)?);
    let with_fallback = review().or_when_unavailable(jwks(SHORT_KEYS, LEEWAY)?);
    let live = || -> Outcome<_> {
        Ok(LocalReviewVerifier::new(jwks(SHORT_KEYS, LEEWAY)?, live_objects.clone()))
    };
    // Signature and watch, with the cache of the builder: a deletion drops what is in it.
    let watching = |service: Service| Service {
        watches: true,
        cache_ttl: CACHE_TTL,
        keys: Some(SHORT_KEYS),
        callers: 4,
        ..service
    };
    let checked = review().screened_by(jwks(SHORT_KEYS, LEEWAY)?);
    let live_or_review = live()?.or_when_inconclusive(checked.clone()).or_when_unavailable(checked);
    Ok(vec![
        online("TokenReview").behind(short_lived(Authenticator::builder(review())))?,
        both("TokenReview behind JWKS").behind(short_lived(Authenticator::builder(screened)))?,
        Service { falls_back: true, ..both("TokenReview or JWKS") }
            .behind(short_lived(Authenticator::builder(with_fallback)))?,
        Service { cache_ttl: CACHE_TTL, ..online("TokenReview, defaults") }
            .behind(Authenticator::builder(review()))?,
        offline("JWKS", SHORT_KEYS, LEEWAY)
            .behind(short_lived(Authenticator::builder(jwks(SHORT_KEYS, LEEWAY)?)))?,
        // Without leeway the oracle notices at once if the one-minute cache serves a token past
        // `exp`.
        Service {
            cache_ttl: CACHE_TTL,
            ..offline("JWKS, defaults, no leeway", DEFAULT_KEYS, Duration::ZERO)
        }
        .behind(Authenticator::builder(jwks(DEFAULT_KEYS, Duration::ZERO)?))?,
        watching(offline("live", SHORT_KEYS, LEEWAY))
            .behind(Authenticator::builder(live()?).invalidated_by(live_objects))?,
        // Its own keys, and then both verifiers of the next one.
        watching(Service { call_limit: CALL_LIMIT * 3, ..online("live or TokenReview") })
            .behind(Authenticator::builder(live_or_review).invalidated_by(live_objects))?,
    ])
}

impl Service {
    /// Builds the service. It answers with the caller's username or with the reason of the
    /// rejection.
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
