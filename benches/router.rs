//! The time that the layer adds to a request through an axum router, beside the minimum and a
//! hand-written cache.
//!
//! `cargo bench --bench router`

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench reads the clock, prints, and panics on a failed expectation"
)]

mod setup;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    http::{HeaderValue, Request, Response},
    middleware::from_fn_with_state,
    routing::get,
};
use setup::{
    by_hand::ByHand,
    contest::{Contest, Outcome, compare},
    floor::Floor,
    requests::{sender, shuffled},
    tokens::{AUDIENCE, Trusting, unsigned},
};
use tower::service_fn;
use tower_kube_auth::{
    ApiServer, Authenticator, ServiceAccountIdentity,
    authorizer::{AllowList, SubjectAccessReviewAuthorizer},
    server::AuthorizeLayer,
};

async fn nobody() -> &'static str {
    "hello"
}

async fn anybody(_: Extension<Arc<str>>) -> &'static str {
    "hello"
}

async fn caller(_: ServiceAccountIdentity) -> &'static str {
    "hello"
}

/// An API server that allows everything.
async fn allow(_: Request<Bytes>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from(r#"{"status":{"allowed":true}}"#)))
}

async fn perhaps(_: Option<ServiceAccountIdentity>) -> &'static str {
    "hello"
}

fn race(title: &'static str, credentials: &[HeaderValue]) -> Outcome {
    let auth = Authenticator::builder(Trusting)
        .audience(AUDIENCE)
        .cache_ttl(Duration::from_secs(600))
        .build();
    let layer = auth.expect("the options are good").layer();
    let auth_layer = layer.clone();
    let floor = Floor("system:serviceaccount:shop:checkout".into());
    let bare = Router::new().route("/", get(nobody));
    let floor_router = Router::new().route("/", get(anybody)).layer(floor);
    let by_hand = Router::new()
        .route("/", get(anybody))
        .layer(from_fn_with_state(ByHand::new(), ByHand::authenticate));
    let ours = Router::new().route("/", get(caller)).layer(layer.clone());
    let ours_unread = Router::new().route("/", get(nobody)).layer(layer.clone());
    let with = |layer: AuthorizeLayer| {
        Router::new().route("/", get(caller)).layer((auth_layer.clone(), layer))
    };
    let with_allow_list = with(AuthorizeLayer::new(
        AllowList::new(["shop/checkout", "shop/basket", "ops/*"]).expect("the list is good"),
    ));
    let with_review = with(AuthorizeLayer::new(SubjectAccessReviewAuthorizer::new(
        ApiServer::from_service(service_fn(allow)),
    )));
    let ours_optional = Router::new().route("/", get(perhaps)).layer(layer.optional());
    Contest::new(title, 20)
        .timed("bare", sender(bare, credentials))
        .timed("floor: a layer that inserts an Arc", sender(floor_router, credentials))
        .timed("ours", sender(ours, credentials))
        .timed("ours, and an AllowList", sender(with_allow_list, credentials))
        .timed("ours, and a cached SubjectAccessReview", sender(with_review, credentials))
        .timed("ours, identity not extracted", sender(ours_unread, credentials))
        .timed("ours, optional", sender(ours_optional, credentials))
        .timed("by hand: from_fn and a moka cache", sender(by_hand, credentials))
        .run(Duration::from_secs(6))
}

fn judge(title: &str, outcome: &Outcome, over_floor: f64) {
    let bare = outcome.nanoseconds("bare");
    let added = |name| outcome.nanoseconds(name) - bare;
    let [floor, ours, by_hand] =
        ["floor: a layer that inserts an Arc", "ours", "by hand: from_fn and a moka cache"]
            .map(added);
    println!(
        "{title}: added to the bare router: floor {floor:.0} ns, ours {ours:.0} ns, by hand {by_hand:.0} ns"
    );
    compare("ours / floor, of the added time", ours / floor, "<=", over_floor);
    let request = outcome.nanoseconds("ours");
    for (name, limit) in
        [("ours, and an AllowList", 1.15), ("ours, and a cached SubjectAccessReview", 1.4)]
    {
        compare(&format!("{name} / ours"), outcome.nanoseconds(name) / request, "<=", limit);
    }
    compare("ours / by hand, of the added time", ours / by_hand, "<=", 0.5);
    println!("   {:<62} {:>8.2}", "ours / bare, of the whole request", (bare + ours) / bare);
}

fn main() {
    let one = race("one hot token", &shuffled(1, unsigned));
    let thousand = race("1 000 tokens", &shuffled(1000, unsigned));
    judge("one hot token", &one, 2.5);
    judge("1 000 tokens", &thousand, 3.0);
}
