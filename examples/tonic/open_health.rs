//! An exact allow-list around one gRPC service, and open health checks on the same server.
//! `cargo run --example open_health` needs no cluster: an embedded one stands in for Kubernetes.

use std::{convert::Infallible, error::Error, future::Ready, task};

use http::{Request, Response};
use tonic::{Code, Status, body::Body, server::NamedService, service::LayerExt, transport};
use tonic_health::{pb::HealthCheckRequest, pb::health_client::HealthClient, server};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_kube_auth::{
    Authenticator, TokenReviewVerifier, authorizer::AllowList, server::AuthorizeLayer, testing,
};

/// Stands in for the server that tonic-build generates.
#[derive(Clone)]
struct Models;
impl NamedService for Models {
    const NAME: &'static str = "models.Models";
}
impl Service<Request<Body>> for Models {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;
    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Status::ok("").into_http()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = testing::Cluster::start().await?;
    let verifier = TokenReviewVerifier::new(cluster.kube_client()?);
    let auth = Authenticator::builder(verifier).audience("models").build()?.layer();
    let authorize = AuthorizeLayer::new(AllowList::new(["ml/worker", "ml/trainer"])?);
    let incoming = transport::server::TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let url = format!("http://{}", incoming.local_addr()?);
    // Around one service only: the other one stays open.
    let models = ServiceBuilder::new().layer(auth).layer(authorize).named_layer(Models);
    let server =
        transport::Server::builder().add_service(models).add_service(server::health_reporter().1);
    tokio::spawn(server.serve_with_incoming(incoming));

    let channel = transport::Channel::from_shared(url.clone())?.connect().await?;
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await?;
    for (name, expected) in [("worker", Code::Ok), ("notebook", Code::PermissionDenied)] {
        cluster.create_service_account("ml", name);
        let token = cluster.token("ml", name).audience("models").issue()?;
        let call = Request::post(format!("{url}/models.Models/List"))
            .header("content-type", "application/grpc")
            .header("authorization", format!("Bearer {token}"));
        let response = channel.clone().oneshot(call.body(Body::empty())?).await?;
        let status = Status::from_header_map(response.headers()).ok_or("no status")?;
        println!("ml/{name}: {:?}", status.code());
        assert_eq!(status.code(), expected);
    }
    Ok(())
}
