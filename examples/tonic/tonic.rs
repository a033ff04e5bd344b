//! gRPC with tonic on both sides: a server behind the layers, and a client that sends a token.
//!
//! The service is gRPC's own health check, as tonic-health ships it. Neither side needs axum, and
//! rejections arrive as gRPC statuses instead of HTTP errors.
//!
//! `cargo run --example tonic` needs no cluster: an embedded one stands in for Kubernetes.

use std::{error::Error, net::SocketAddr, time::Duration};

use http::Uri;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient, health_server::HealthServer},
    server::{HealthReporter, HealthService},
};
use tower::ServiceBuilder;
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    authorizer::AllowList,
    client::{AddTokenLayer, TokenRequestSource, TokenSource},
    server::AuthorizeLayer,
    testing::Cluster,
};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let cluster = Cluster::start().await?;
    for name in ["checkout", "basket"] {
        cluster.create_service_account("shop", name);
    }

    // The short timeout shows soon what an outage looks like.
    let verifier =
        TokenReviewVerifier::new(cluster.kube_client()?).timeout(Duration::from_millis(500));
    let auth = Authenticator::builder(verifier).audience("health").build()?;
    let health = HealthService::from_health_reporter(HealthReporter::new());
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = incoming.local_addr()?;
    // The first layer is the outermost. Both go around all services.
    let server = Server::builder()
        .layer(auth.layer())
        .layer(AuthorizeLayer::new(AllowList::new(["shop/checkout"])?))
        .add_service(HealthServer::with_interceptor(health, print_caller));
    tokio::spawn(server.serve_with_incoming(incoming));

    println!("checkout, with a token for this service:");
    let code = check(address, source(&cluster, "checkout", "health")?).await?;
    assert_eq!(code, Code::Ok);

    println!("checkout, with a token for another service:");
    let code = check(address, source(&cluster, "checkout", "payments")?).await?;
    assert_eq!(code, Code::Unauthenticated);

    println!("basket, which is authenticated and not on the allow-list:");
    let code = check(address, source(&cluster, "basket", "health")?).await?;
    assert_eq!(code, Code::PermissionDenied);

    println!("checkout, with a new token while the API server is down:");
    let source = source(&cluster, "checkout", "health")?;
    source.token().await?;
    cluster.go_down().await?;
    assert_eq!(check(address, source).await?, Code::Unavailable);
    Ok(())
}

/// A tonic interceptor. Handlers find the identity in the same place.
fn print_caller(request: Request<()>) -> Result<Request<()>, Status> {
    let caller = request.extensions().get::<ServiceAccountIdentity>();
    let caller = caller.ok_or_else(|| Status::internal("the authenticate layer is missing"))?;
    println!("   the server sees {}", caller.username());
    Ok(request)
}

async fn check(address: SocketAddr, source: TokenRequestSource) -> Result<Code, BoxError> {
    let origin: Uri = format!("http://{address}").parse()?;
    let channel = Channel::builder(origin.clone()).connect().await?;
    let channel = ServiceBuilder::new()
        .layer(AddTokenLayer::new(source, [origin.to_string()])?)
        .service(channel);
    // The layer decides by the request's origin, so the client must set it.
    let mut client = HealthClient::with_origin(channel, origin);
    match client.check(HealthCheckRequest::default()).await {
        Ok(response) => {
            println!("   {:?}", response.into_inner().status());
            Ok(Code::Ok)
        }
        Err(status) => {
            println!("   {:?} ({}): {}", status.code(), status.code() as i32, status.message());
            Ok(status.code())
        }
    }
}

/// In a Pod, the API server is `ApiServer::try_default()`, and namespace and name default to the
/// Pod's own.
fn source(cluster: &Cluster, name: &str, audience: &str) -> Result<TokenRequestSource, BoxError> {
    Ok(TokenRequestSource::builder(cluster.admin_client()?)
        .namespace("shop")
        .service_account(name)
        .audience(audience)
        .build()?)
}
