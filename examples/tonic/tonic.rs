//! gRPC with tonic on both sides: a server behind the layer, and a client that sends a token. Neither side needs axum, and
//! refusals arrive as gRPC statuses, not as HTTP errors.
//!
//! `cargo run --example tonic` needs no cluster and no protoc: an embedded cluster stands in for Kubernetes, and what protoc
//! would generate is written out at the end.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, net::SocketAddr, time::Duration};

use http::Uri;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};
use tower::ServiceBuilder;
use tower_kube_auth::{
    Authenticator, ServiceAccountIdentity, TokenReviewVerifier,
    client::{AddTokenLayer, TokenRequestSource, TokenSource},
    testing::Cluster,
};

use greeter::{Greeter, GreeterClient, GreeterServer, Hello};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let cluster = Cluster::start().await?;
    for name in ["checkout", "gatecrasher"] {
        cluster.create_service_account("shop", name);
    }

    // The server: the layer goes around all services. (Short limits, to see soon what an outage looks like.)
    let verifier =
        TokenReviewVerifier::new(cluster.kube_client()?).timeout(Duration::from_millis(500));
    let auth = Authenticator::builder(verifier).audience("greeter").build()?;
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = incoming.local_addr()?;
    let server = Server::builder().layer(auth.layer()).add_service(GreeterServer::new(Doorman));
    tokio::spawn(server.serve_with_incoming(incoming));

    println!("checkout, with a token for greeter:");
    let answer = greet(address, source(&cluster, "checkout", "greeter")?).await?;
    assert_eq!(answer, Ok("hello, system:serviceaccount:shop:checkout".to_owned()));

    println!("checkout, with a token for somebody else:");
    let answer = greet(address, source(&cluster, "checkout", "another-service")?).await?;
    assert_eq!(answer, Err(Code::Unauthenticated));

    println!("gatecrasher, whom the server knows and does not let in:");
    let answer = greet(address, source(&cluster, "gatecrasher", "greeter")?).await?;
    assert_eq!(answer, Err(Code::PermissionDenied));

    println!("gatecrasher with a new token, while the API server is down:");
    let source = source(&cluster, "gatecrasher", "greeter")?;
    source.token().await?;
    cluster.go_down().await?;
    let answer = greet(address, source).await?;
    assert_eq!(answer, Err(Code::Unavailable));
    Ok(())
}

/// Lets everybody in but the gatecrasher.
struct Doorman;

impl Greeter for Doorman {
    async fn greet(&self, request: Request<Hello>) -> Result<Response<Hello>, Status> {
        let caller = request.extensions().get::<ServiceAccountIdentity>();
        let caller =
            caller.ok_or_else(|| Status::internal("the server is not behind the layer"))?;
        if caller.name() == "gatecrasher" {
            return Err(Status::permission_denied("not you"));
        }
        let text = format!("{}, {}", request.get_ref().text, caller.username());
        Ok(Response::new(Hello { text }))
    }
}

async fn greet(
    address: SocketAddr,
    source: TokenRequestSource,
) -> Result<Result<String, Code>, BoxError> {
    let origin: Uri = format!("http://{address}").parse()?;
    let channel = Channel::builder(origin.clone()).connect().await?;
    let channel = ServiceBuilder::new()
        .layer(AddTokenLayer::new(source, [origin.to_string()])?)
        .service(channel);
    // With the origin: the layer has to know where a request goes.
    let mut client = GreeterClient::with_origin(channel, origin);

    let answer = client.greet(Hello { text: "hello".to_owned() }).await;
    Ok(match answer {
        Ok(answer) => {
            println!("   {}", answer.get_ref().text);
            Ok(answer.into_inner().text)
        }
        Err(status) => {
            println!("   {:?}: {}", status.code(), status.message());
            Err(status.code())
        }
    })
}

/// In a Pod, namespace and name are our own by default, and the client is `kube::Client::try_default()`.
fn source(cluster: &Cluster, name: &str, audience: &str) -> Result<TokenRequestSource, BoxError> {
    let client = cluster.admin_client()?;
    Ok(TokenRequestSource::builder(client)
        .namespace("shop")
        .service_account(name)
        .audience(audience)
        .build()?)
}

/// What tonic-prost-build generates from
///
/// ```proto
/// package example;
/// message Hello { string text = 1; }
/// service Greeter { rpc Greet(Hello) returns (Hello); }
/// ```
mod greeter {
    use std::{
        convert::Infallible,
        future::Future,
        pin::Pin,
        sync::Arc,
        task::{Context, Poll},
    };

    use http::{Uri, uri::PathAndQuery};
    use http_body_util::BodyExt;
    use tonic::{
        Request, Response, Status,
        body::Body,
        client::GrpcService,
        server::{NamedService, UnaryService},
    };
    use tonic_prost::ProstCodec;
    use tower::Service;

    const GREET: &str = "/example.Greeter/Greet";

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Hello {
        #[prost(string, tag = "1")]
        pub(crate) text: String,
    }

    pub(crate) struct GreeterClient<T>(tonic::client::Grpc<T>);

    impl<T> GreeterClient<T>
    where
        T: GrpcService<Body, Error: Into<super::BoxError>>,
        T::ResponseBody: http_body::Body<Data = bytes::Bytes, Error: Into<super::BoxError> + Send>
            + Send
            + 'static,
    {
        pub(crate) fn with_origin(service: T, origin: Uri) -> Self {
            Self(tonic::client::Grpc::with_origin(service, origin))
        }

        pub(crate) async fn greet(&mut self, hello: Hello) -> Result<Response<Hello>, Status> {
            self.0
                .ready()
                .await
                .map_err(|error| Status::unknown(format!("not ready: {}", error.into())))?;
            let codec = ProstCodec::<Hello, Hello>::default();
            self.0.unary(Request::new(hello), PathAndQuery::from_static(GREET), codec).await
        }
    }

    pub(crate) trait Greeter: Send + Sync + 'static {
        fn greet(
            &self,
            request: Request<Hello>,
        ) -> impl Future<Output = Result<Response<Hello>, Status>> + Send;
    }

    pub(crate) struct GreeterServer<G>(Arc<G>);

    impl<G> GreeterServer<G> {
        pub(crate) fn new(greeter: G) -> Self {
            Self(Arc::new(greeter))
        }
    }

    impl<G> Clone for GreeterServer<G> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0))
        }
    }

    impl<G> NamedService for GreeterServer<G> {
        const NAME: &'static str = "example.Greeter";
    }

    impl<G: Greeter, B> Service<http::Request<B>> for GreeterServer<G>
    where
        B: http_body::Body<Error: Into<super::BoxError> + Send> + Send + 'static,
    {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<B>) -> Self::Future {
            let this = self.clone();
            Box::pin(async move {
                if request.uri().path() != GREET {
                    return Ok(Status::unimplemented("").into_http());
                }
                let mut grpc = tonic::server::Grpc::new(ProstCodec::<Hello, Hello>::default());
                Ok(grpc.unary(this, request).await.map(|body| Body::new(body.boxed_unsync())))
            })
        }
    }

    impl<G: Greeter> UnaryService<Hello> for GreeterServer<G> {
        type Response = Hello;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Hello>, Status>> + Send>>;

        fn call(&mut self, request: Request<Hello>) -> Self::Future {
            let greeter = Arc::clone(&self.0);
            Box::pin(async move { greeter.greet(request).await })
        }
    }
}
