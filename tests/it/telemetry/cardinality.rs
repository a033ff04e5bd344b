//! Requests cannot create series.

use std::collections::BTreeMap;

use axum::http::{Request, Response};
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};
use tower_kube_auth::{
    LiveObjects, LocalReviewVerifier, VerifierExt, authorizer::AllowList, server::AuthorizeLayer,
    testing::SigningKey,
};

use super::ATTEMPTS;
use crate::support::{Fixture, Recorder};

/// A request of an attacker, or of a caller that may do nothing here. All that is random in it is
/// the caller's choice.
fn hostile(kind: u32, key: &SigningKey, claims: &Value) -> Request<()> {
    let random = || format!("{:016x}", fastrand::u64(..));
    let mut claims = claims.clone();
    claims["jti"] = random().into();
    let mut header = key.header();
    let credential = match kind {
        0 => String::new(),
        1 => format!("{} {}", random(), random()),
        2 => format!("Bearer {} {}", random(), random()),
        3 => format!("Bearer {}", random()),
        4 | 5 => {
            let name = if kind == 4 { "aud" } else { "iss" };
            claims[name] = random().into();
            format!("Bearer {}", key.sign(&header, &claims))
        }
        6 => {
            claims["exp"] = fastrand::u32(1..1_000_000).into();
            format!("Bearer {}", key.sign(&header, &claims))
        }
        7 | 8 => {
            let name = if kind == 7 { "kid" } else { "alg" };
            header[name] = random().into();
            format!("Bearer {}", key.sign(&header, &claims))
        }
        9 => {
            let token = key.sign(&header, &claims);
            format!("Bearer {}.{}", token.rsplit_once('.').unwrap().0, random())
        }
        // Accepted, and denied by the allow-list.
        _ => {
            let (namespace, name) = (format!("ns-{}", random()), random());
            claims["sub"] = format!("system:serviceaccount:{namespace}:{name}").into();
            claims["kubernetes.io"]["namespace"] = namespace.into();
            claims["kubernetes.io"]["serviceaccount"]["name"] = name.into();
            format!("Bearer {}", key.sign(&header, &claims))
        }
    };
    let method = ["GET", "POST", &random().to_uppercase()][fastrand::usize(..3)].to_owned();
    let request = Request::builder().method(&*method).uri(format!("/{}", random()));
    let request = request.header("user-agent", random());
    let request = if kind == 0 { request } else { request.header("authorization", credential) };
    request.body(()).unwrap()
}

#[tokio::test]
async fn a_hundred_thousand_hostile_requests_create_no_new_series() {
    const KINDS: u32 = 11;
    const REQUESTS: u32 = 100_000;
    let recorder = Recorder::new();
    let _recording = recorder.install();
    let fixture = Fixture::start().await;
    let (key, claims) = (fixture.cluster.signing_key(), fixture.claims());
    let jwks = fixture.jwks().build().unwrap();
    jwks.refresh().await.unwrap();
    let live_objects = LiveObjects::builder(fixture.cluster.admin_client().unwrap());
    let live_objects = live_objects.clock(fixture.clock.clock()).build().unwrap();
    live_objects.synced().await;
    let verifier = LocalReviewVerifier::new(jwks.clone(), live_objects.clone())
        .or_when_inconclusive(jwks.clone())
        .or_when_unavailable(jwks);
    let builder = fixture.authenticator(verifier).invalidated_by(&live_objects);
    let authenticator = builder.build().unwrap();
    let authorize = AuthorizeLayer::new(AllowList::new(["shop/checkout"]).unwrap());
    let handler = service_fn(async |_: Request<()>| -> Result<Response<()>, &str> {
        Err("the handler was reached")
    });
    let service = authenticator.layer().layer(authorize.layer(handler));
    let send = async |kind| {
        let response = service.clone().oneshot(hostile(kind, &key, &claims)).await.unwrap();
        assert!(response.status().is_client_error() || response.status() == 503, "{kind}");
    };
    for kind in 0..KINDS {
        send(kind).await;
        send(kind).await;
    }
    let before = recorder.series();
    assert!(before.len() > 30, "{before:?}");
    let inconclusive = "local_review_inconclusive_total{reason=\"service_account_not_seen\"}";
    assert!(before[inconclusive] > 0.0, "{before:?}");
    // Few with signatures, which are slow to make.
    for number in 0..REQUESTS {
        send(if number % 50 == 0 { (number / 50) % KINDS } else { number % 4 }).await;
    }
    let after = recorder.series();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let counted = |series: &BTreeMap<String, f64>| {
        let attempts = series.iter().filter(|(name, _)| name.starts_with(ATTEMPTS));
        attempts.map(|(_, value)| value).sum::<f64>()
    };
    assert_eq!(counted(&after) - counted(&before), f64::from(REQUESTS));
}
