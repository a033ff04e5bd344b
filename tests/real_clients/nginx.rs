//! nginx's `auth_request` with examples/auth_request.rs and the configuration beside it, in front of
//! a service that answers with the headers it got.

use std::{fs, net::SocketAddr};

use axum::{Json, Router, http::HeaderMap};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tower_kube_auth::testing::{Cluster, Endpoint, Fault};

use crate::{
    auth_request,
    process::{Process, eventually, folder, free_address, serve, start},
};

const CONFIGURATION: &str = include_str!("../../examples/auth_request.nginx.conf");
const CALLER: &str = "system:serviceaccount:shop:checkout";

struct Proxy {
    cluster: Cluster,
    address: SocketAddr,
    _nginx: Process,
}

impl Proxy {
    /// Starts nginx, the example and a service. `shop/checkout` may get `/orders` and below.
    async fn start() -> Self {
        let cluster = Cluster::start().await.unwrap();
        cluster.create_service_account("shop", "checkout");
        let rule = serde_json::json!({
            "nonResourceURLs": ["/orders", "/orders/*"],
            "verbs": ["get"],
        });
        cluster.grant(CALLER, &rule);
        let auth = auth_request::app(cluster.kube_client().unwrap(), "orders").unwrap();
        let (auth, service) = (serve(auth).await, serve(Router::new().fallback(echo)).await);
        let (address, folder) = (free_address(), folder());
        let server = CONFIGURATION
            .replace("127.0.0.1:8080", &address.to_string())
            .replace("127.0.0.1:8081", &auth.to_string())
            .replace("127.0.0.1:9000", &service.to_string());
        let of = |name: &str| folder.join(name).display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};\n", of(kind)))
            .concat();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {};\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{server}}}\n",
            of("pid")
        );
        fs::write(of("nginx.conf"), configuration).unwrap();
        let arguments = ["-c", &of("nginx.conf"), "-p", &of(""), "-e", &of("error.log")];
        let nginx = start("nginx", &arguments, &folder);
        let proxy = Self { cluster, address, _nginx: nginx };
        eventually("nginx listens", async || proxy.get("/").send().await.ok()).await;
        proxy
    }

    fn token(&self) -> String {
        self.cluster.token("shop", "checkout").audience("orders").issue().unwrap()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, format!("http://{}{path}", self.address))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Asserts that the request ends at nginx, and returns its response.
    async fn blocked(&self, request: RequestBuilder, status: StatusCode) -> Response {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert!(!response.headers().contains_key("x-service"), "the service was reached");
        response
    }
}

async fn echo(headers: HeaderMap) -> ([(&'static str, &'static str); 1], Json<Value>) {
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), Value::from(text(value))));
    ([("x-service", "reached")], Json(headers.collect()))
}

async fn reached(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("x-service"));
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

pub async fn decides() {
    let proxy = Proxy::start().await;
    let token = proxy.token();
    reached(proxy.get("/orders?id=1").bearer_auth(&token)).await;
    reached(proxy.get("/orders/7").bearer_auth(&token)).await;

    let response = proxy.blocked(proxy.get("/orders"), StatusCode::UNAUTHORIZED).await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"kubernetes\"");
    let other = proxy.cluster.token("shop", "checkout").audience("payments").issue().unwrap();
    let request = proxy.get("/orders").bearer_auth(other);
    let response = proxy.blocked(request, StatusCode::UNAUTHORIZED).await;
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");

    for (method, path) in [
        (Method::GET, "/admin"),
        (Method::POST, "/orders"),
        // Allowed by its beginning, and another resource to a service that resolves it.
        (Method::GET, "/orders/%2e%2e/admin"),
        (Method::GET, "/orders//admin"),
    ] {
        let request = proxy.request(method, path).bearer_auth(&token);
        proxy.blocked(request, StatusCode::FORBIDDEN).await;
    }
    // The subrequest's own address is not for clients.
    proxy.blocked(proxy.get("/_auth").bearer_auth(&token), StatusCode::NOT_FOUND).await;
}

pub async fn passes_identity() {
    let proxy = Proxy::start().await;
    let forged = |request: RequestBuilder| {
        request
            .header("X-Auth-User", "system:admin")
            .header("X-Auth-Uid", "0")
            .header("X_Auth_User", "system:admin")
            .header("X-Original-URI", "/orders")
            .header("X-Original-Method", "GET")
    };
    let seen = reached(forged(proxy.get("/orders")).bearer_auth(proxy.token())).await;
    assert_eq!(seen["x-auth-user"], CALLER);
    assert!(seen["x-auth-uid"].as_str().is_some_and(|uid| uid.len() > 1), "{seen}");
    assert_eq!((&seen["authorization"], &seen["x_auth_user"]), (&Value::Null, &Value::Null));

    let request = forged(proxy.get("/admin")).bearer_auth(proxy.token());
    proxy.blocked(request, StatusCode::FORBIDDEN).await;
    proxy.blocked(forged(proxy.get("/orders")), StatusCode::UNAUTHORIZED).await;
    // The subrequest is a GET, so it is never answered as gRPC, which would be a 200.
    let request = forged(proxy.request(Method::POST, "/orders"));
    let request = request.header("Content-Type", "application/grpc");
    proxy.blocked(request, StatusCode::UNAUTHORIZED).await;
}

pub async fn undecided() {
    let proxy = Proxy::start().await;
    proxy.cluster.set_fault(Endpoint::TokenReview, Fault::Status { code: 403, retry_after: None });
    let request = proxy.get("/orders").bearer_auth(proxy.token());
    let response = proxy.blocked(request, StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(response.headers().contains_key("retry-after"));
    proxy.cluster.clear_faults();
    reached(proxy.get("/orders").bearer_auth(proxy.token())).await;
}
