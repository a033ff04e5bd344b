//! Properties that hold for all input.

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, Uri},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use tower::{Layer, ServiceExt, service_fn};
use tower_kube_auth::{
    audience::Audiences,
    client::{AddTokenLayer, StaticToken, Token},
    identity::{ServiceAccountIdentity, UserInfo},
    verdict::{Acceptance, RejectReason, Verdict},
};

use crate::support::{Answer, FakeVerifier, Service, accept, bearer, token};

/// Returns a verifier that accepts only this token.
fn accepting_only(secret: &str) -> FakeVerifier {
    let secret = secret.to_owned();
    FakeVerifier::scripted(move |token| {
        let verdict =
            if token == secret { accept() } else { Verdict::Reject(RejectReason::Signature) };
        async move { Ok(verdict) }
    })
}

fn verifiers() -> [FakeVerifier; 3] {
    [
        FakeVerifier::rejecting(RejectReason::Signature),
        FakeVerifier::failing(),
        accepting_only(&token("secret")),
    ]
}

fn in_a_runtime<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Arbitrary bytes, also behind a prefix that makes them look like a token.
fn header_value() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop_oneof![
        Just(""),
        Just("Bearer "),
        Just("bearer "),
        Just("Bearer e30."),
        Just("Bearer e30.e30.")
    ];
    (prefix, vec(any::<u8>(), 0..300))
        .prop_map(|(prefix, bytes)| [prefix.as_bytes(), &bytes].concat())
}

fn is_blocked(answer: &Answer) -> bool {
    [400, 401, 503].contains(&answer.status.as_u16())
}

proptest! {
    #[test]
    fn no_byte_string_in_the_header_is_accepted(value in header_value()) {
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        for verifier in verifiers() {
            let service = Service::new(&verifier.authenticator());
            let request = Request::get("/").header("authorization", &value).body(Body::empty()).unwrap();
            let answer = in_a_runtime(service.send(request));
            prop_assert!(is_blocked(&answer), "{}", answer.status);
            prop_assert_eq!(service.reached(), 0);
        }
    }

    #[test]
    fn two_headers_are_not_accepted_even_if_one_is_valid(value in header_value(), good_first: bool) {
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let good = HeaderValue::try_from(format!("Bearer {}", token("secret"))).unwrap();
        let (first, second) = if good_first { (good, value) } else { (value, good) };
        let service = Service::new(&accepting_only(&token("secret")).authenticator());
        let request = Request::get("/").header("authorization", first).header("authorization", second);
        let answer = in_a_runtime(service.send(request.body(Body::empty()).unwrap()));
        prop_assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        prop_assert_eq!(service.reached(), 0);
    }

    /// The accepted token is in the cache when the changed one arrives.
    #[test]
    fn a_changed_token_is_not_accepted(at: Index, byte in any::<u8>(), change in 0..3) {
        let secret = token("secret");
        let mut changed = secret.clone().into_bytes();
        let at = at.index(changed.len());
        match change {
            0 => changed[at] = byte,
            1 => changed.insert(at, byte),
            _ => drop(changed.remove(at)),
        }
        prop_assume!(changed != secret.as_bytes());
        let value = HeaderValue::from_bytes(&[b"Bearer ", changed.as_slice()].concat());
        let Ok(value) = value else { return Ok(()) };
        let service = Service::new(&accepting_only(&secret).authenticator());
        let request = Request::get("/").header("authorization", value).body(Body::empty()).unwrap();
        let (good, answer) = in_a_runtime(async { (service.send(bearer(&secret)).await, service.send(request).await) });
        prop_assert_eq!(good.status, StatusCode::OK);
        prop_assert!(is_blocked(&answer), "{}", answer.status);
        prop_assert_eq!(service.reached(), 1);
    }

    #[test]
    fn a_valid_username_round_trips(
        namespace in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        name in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?){0,6}",
    ) {
        let identity = identity_of(&format!("system:serviceaccount:{namespace}:{name}"), &namespace);
        let identity = identity.unwrap();
        prop_assert_eq!((identity.namespace(), identity.name()), (&*namespace, &*name));
        prop_assert_eq!(identity_of(identity.username(), identity.namespace()), Some(identity));
    }

    #[test]
    fn any_username_that_parses_is_valid_and_round_trips(
        namespace in "[a-zA-Z0-9.: -]{0,4}",
        name in "[a-zA-Z0-9.: \u{0}ä-]{0,6}",
    ) {
        let username = format!("system:serviceaccount:{namespace}:{name}");
        if let Some(identity) = identity_of(&username, &namespace) {
            prop_assert_eq!(identity.username(), &*username);
            prop_assert_eq!((identity.namespace(), identity.name()), (&*namespace, &*name));
            let is_inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
            prop_assert!(namespace.chars().all(|character| is_inner(character) || character == '-'));
            prop_assert!(name.chars().all(|character| is_inner(character) || "-.".contains(character)));
        }
    }
}

/// Returns the identity of a user with this name in the groups of `namespace`.
fn identity_of(username: &str, namespace: &str) -> Option<ServiceAccountIdentity> {
    let mut user = UserInfo::service_account(namespace, "any", "uid-1");
    user.username = username.into();
    let accepted = Acceptance::builder(user, ["api"]).build(&Audiences::new(["api"]).unwrap());
    accepted.ok().map(|accepted| accepted.identity().clone())
}

/// Parts of URLs that a careless parser takes for another's: ports within hosts, brackets, user
/// names, letter case.
fn url() -> impl Strategy<Value = String> {
    let scheme = prop_oneof![Just("https"), Just("http"), Just("HTTPS"), Just("ftp")];
    let user = prop_oneof![4 => Just(""), 1 => Just("orders@"), 1 => Just("80:443@")];
    let host = prop_oneof![
        Just("orders"),
        Just("ORDERS"),
        Just("orders.shop"),
        Just("80"),
        Just("443"),
        Just("[::1]"),
        Just("[::1:80]"),
        Just("[::443]"),
        Just("127.0.0.1"),
    ];
    let port = prop_oneof![
        Just(""),
        Just(":"),
        Just(":80"),
        Just(":443"),
        Just(":8080"),
        Just(":080"),
        Just(":0"),
        Just(":65536"),
    ];
    (scheme, user, host, port)
        .prop_map(|(scheme, user, host, port)| format!("{scheme}://{user}{host}{port}"))
}

/// Returns what RFC 6454 §4 calls the origin, by the parser of `http`.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let default = if scheme == "https" { 443 } else { 80 };
    let authority = uri.authority()?;
    let behind_user = authority.as_str().rsplit('@').next()?;
    let behind_host = behind_user.strip_prefix(uri.host()?)?;
    let port = match behind_host {
        "" | ":" => default,
        _ => uri.port_u16().filter(|port| *port != 0)?,
    };
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

proptest! {
    #[test]
    fn a_token_goes_to_the_listed_origins_and_to_no_other(listed in url(), requested in url()) {
        let source = StaticToken::new(Token::new("e30.e30.c2ln").unwrap());
        let layer = AddTokenLayer::new(source, [&listed]);
        let listed = listed.parse::<Uri>();
        let is_origin = |uri: &Uri| {
            let is_http = ["http", "https"].contains(&uri.scheme_str().unwrap_or_default());
            is_http && !uri.to_string().contains('@') && origin(uri).is_some()
        };
        prop_assert_eq!(layer.is_ok(), listed.as_ref().is_ok_and(is_origin), "{:?}", listed);
        let requested = format!("{requested}/path").parse::<Uri>();
        let (Ok(layer), Ok(listed), Ok(requested)) = (layer, listed, requested) else {
            return Ok(());
        };
        let got_token = in_a_runtime(async {
            let inner = service_fn(async |request: Request<()>| {
                let got = request.headers().contains_key("authorization");
                Ok::<_, std::convert::Infallible>(Response::new(got))
            });
            let request = Request::get(requested.clone()).body(()).unwrap();
            layer.layer(inner).oneshot(request).await.unwrap().into_body()
        });
        let expected = origin(&requested).is_some() && origin(&listed) == origin(&requested);
        prop_assert_eq!(got_token, expected, "{} listed, {} requested", listed, requested);
    }
}
