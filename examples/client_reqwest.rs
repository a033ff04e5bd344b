//! The caller's side with reqwest, through Tower: `AddTokenLayer` works on `http` requests, which a
//! small service converts into reqwest's and back.
//!
//! `cargo run --example client_reqwest` needs no cluster: an embedded one stands in for Kubernetes.

use std::{error::Error, net::SocketAddr};

use axum::{Router, http::HeaderMap, response::Redirect, routing::get};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use reqwest::{Body, redirect};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    client::{AddTokenLayer, TokenRequestSource},
    testing::Cluster,
};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "checkout");

    let auth = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client()?))
        .audience("orders")
        .build()?;
    let elsewhere = serve(Router::new().route("/", get(show_authorization))).await?;
    let orders = Router::new()
        .route("/", get(hello))
        .route("/moved", get(async || Redirect::temporary("/")))
        .route("/gone", get(async move || Redirect::temporary(&format!("http://{elsewhere}/"))));
    let orders = serve(orders.layer(auth.layer())).await?;

    // In a Pod, namespace and name default to the Pod's own. The Role in
    // examples/kubernetes/client-token-request.yaml grants the right to request the token.
    cluster.grant_token_request("system:serviceaccount:shop:checkout", "shop", &["checkout"]);
    let kube_client = cluster.client_for(cluster.token("shop", "checkout").issue()?)?;
    let source = TokenRequestSource::builder(kube_client)
        .namespace("shop")
        .service_account("checkout")
        .audience("orders")
        .build()?;
    let add_token = AddTokenLayer::new(source, [format!("http://{orders}")])?;

    // A layer outside of AddTokenLayer follows redirects instead of reqwest, so that AddTokenLayer
    // decides about each hop.
    let client =
        reqwest::Client::builder().redirect(redirect::Policy::none()).no_proxy().build()?;
    let client = ServiceBuilder::new().layer(FollowRedirectLayer::new()).layer(add_token).service(
        service_fn(move |request: Request<Body>| {
            let client = client.clone();
            async move {
                Ok::<Response<Body>, reqwest::Error>(
                    client.execute(request.try_into()?).await?.into(),
                )
            }
        }),
    );

    for (path, expected) in [
        ("/", "hello, system:serviceaccount:shop:checkout"),
        ("/moved", "hello, system:serviceaccount:shop:checkout"),
        ("/gone", "no Authorization header"),
    ] {
        let body = get_from(client.clone(), &format!("http://{orders}{path}")).await?;
        assert_eq!(body, expected);
    }
    Ok(())
}

async fn get_from<S, B>(client: S, url: &str) -> Result<String, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    B: axum::body::HttpBody<Error: Into<BoxError>>,
{
    let response = client.oneshot(Request::get(url).body(Body::default())?).await?;
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.map_err(Into::into)?.to_bytes();
    let body = String::from_utf8(body.into())?;
    println!("GET {url}\n   {body}");
    Ok(body)
}

async fn hello(caller: ServiceAccountIdentity) -> String {
    format!("hello, {}", caller.username())
}

async fn show_authorization(headers: HeaderMap) -> &'static str {
    if headers.contains_key("authorization") {
        "an Authorization header"
    } else {
        "no Authorization header"
    }
}

async fn serve(app: Router) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}
