//! The caller's side with hyper-util: only requests to `orders` carry the projected volume's token.
//!
//! Needs no cluster. A temporary folder is the volume of `kubernetes/client-projected-volume.yaml`.

use std::{error::Error, net::SocketAddr, path::PathBuf, time::Duration};

use axum::{Router, body::Body, http::HeaderMap, routing::get};
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    client::{AddToken, AddTokenLayer, ProjectedToken},
    testing::Cluster,
};

type HttpClient = AddToken<Client<HttpConnector, Body>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "checkout");
    let volume = Volume::mount(&cluster)?;

    // The called service. It does not cache, to notice the deletion below at once.
    let auth = Authenticator::builder(TokenReviewVerifier::new(cluster.kube_client()?))
        .audience("orders")
        .cache_ttl(Duration::ZERO)
        .reject_ttl(Duration::ZERO)
        .build()?;
    let orders = serve(Router::new().route("/", get(hello)).layer(auth.layer())).await?;
    // Another service, which must not receive the token.
    let elsewhere = serve(Router::new().route("/", get(show_authorization))).await?;

    // The caller.
    let token = ProjectedToken::new(volume.0.join("token"));
    let add_token = AddTokenLayer::new(token, [format!("http://{orders}")])?;
    let client = ServiceBuilder::new()
        .layer(add_token)
        .service(Client::builder(TokioExecutor::new()).build_http());

    println!("1. to orders, with the token:");
    let (status, body) = get_from(&client, orders).await?;
    assert_eq!((status, &*body), (StatusCode::OK, "hello, system:serviceaccount:shop:checkout"));

    println!("2. to another service, without it:");
    let (_, body) = get_from(&client, elsewhere).await?;
    assert_eq!(body, "no Authorization header");

    println!(
        "3. the ServiceAccount is recreated, so its old tokens are invalid; the kubelet has \
         written a new one:"
    );
    cluster.delete_service_account("shop", "checkout");
    cluster.create_service_account("shop", "checkout");
    volume.refresh(&cluster)?;
    let (status, _) = get_from(&client, orders).await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the token in memory is the old one");
    let (status, _) = get_from(&client, orders).await?;
    assert_eq!(status, StatusCode::OK, "the source read the file again after the 401");
    Ok(())
}

async fn hello(caller: ServiceAccountIdentity) -> String {
    format!("hello, {}", caller.username())
}

async fn show_authorization(headers: HeaderMap) -> &'static str {
    match headers.contains_key("authorization") {
        true => "an Authorization header",
        false => "no Authorization header",
    }
}

async fn get_from(
    client: &HttpClient,
    address: SocketAddr,
) -> Result<(StatusCode, String), Box<dyn Error + Send + Sync>> {
    let uri: Uri = format!("http://{address}/").parse()?;
    let response = client.clone().oneshot(Request::get(uri).body(Body::empty())?).await?;
    let status = response.status();
    let body = String::from_utf8(response.into_body().collect().await?.to_bytes().into())?;
    println!("   {status}: {body}");
    Ok((status, body))
}

async fn serve(app: Router) -> Result<SocketAddr, Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// The folder that the kubelet would mount.
struct Volume(PathBuf);

impl Volume {
    fn mount(cluster: &Cluster) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let volume =
            Self(std::env::temp_dir().join(format!("client-hyper-{}", std::process::id())));
        volume.refresh(cluster)?;
        Ok(volume)
    }

    fn refresh(&self, cluster: &Cluster) -> Result<(), Box<dyn Error + Send + Sync>> {
        let token = cluster.token("shop", "checkout").audience("orders").issue()?;
        Ok(cluster.write_projected_volume(&self.0, &token)?)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
