use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{HeaderMap, Request, Response, StatusCode, header};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

use super::*;
use crate::client::{Token, TokenError, TokenErrorKind, TokenSource};

const ORDERS: &str = "https://orders.shop.svc";

/// Gives `token-1` until it is told to invalidate it, then `token-2`, and so on.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    asked: u32,
    forgotten: Vec<String>,
    failing: bool,
}

impl TokenSource for Scripted {
    async fn token(&self) -> Result<Token, TokenError> {
        tokio::task::yield_now().await;
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        if state.failing {
            return Err(TokenError::new(TokenErrorKind::Unavailable, "no token today"));
        }
        Ok(Token::new(format!("token-{}", state.forgotten.len() + 1)).unwrap())
    }

    fn invalidate(&self, token: &Token) {
        self.0.lock().unwrap().forgotten.push(token.expose_secret().to_owned());
    }
}

impl Scripted {
    fn asked(&self) -> u32 {
        self.0.lock().unwrap().asked
    }

    fn forgotten(&self) -> Vec<String> {
        self.0.lock().unwrap().forgotten.clone()
    }

    fn layer(&self) -> AddTokenLayer {
        AddTokenLayer::new(self.clone(), [ORDERS]).unwrap()
    }
}

/// Sends a request through the layer to a server that answers with `answer`; gives back the headers
/// that the server saw.
async fn send(layer: &AddTokenLayer, request: Request<()>, answer: Response<()>) -> HeaderMap {
    let seen = Arc::new(Mutex::new(HeaderMap::new()));
    let server = service_fn(|request: Request<()>| {
        *seen.lock().unwrap() = request.headers().clone();
        let mut response = Response::new(());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        async { Ok::<_, Infallible>(response) }
    });
    let response = layer.layer(server).oneshot(request).await.unwrap();
    assert_eq!(response.status(), answer.status(), "the answer comes through");
    seen.lock().unwrap().clone()
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn answer(status: StatusCode) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

#[tokio::test]
async fn a_request_to_a_named_origin_gets_the_token_in_a_sensitive_header() {
    let source = Scripted::default();
    let seen =
        send(&source.layer(), get("https://orders.shop.svc/v1"), answer(StatusCode::OK)).await;
    assert_eq!(seen[header::AUTHORIZATION], "Bearer token-1");
    assert!(seen[header::AUTHORIZATION].is_sensitive());
    assert!(source.forgotten().is_empty());
}

#[tokio::test]
async fn another_origin_never_gets_the_token() {
    let source = Scripted::default();
    for elsewhere in [
        "https://evil.example/",
        "http://orders.shop.svc/",
        "https://orders.shop.svc:8443/",
        "https://orders.shop.svc@evil.example/",
        "/relative",
    ] {
        let seen = send(&source.layer(), get(elsewhere), answer(StatusCode::UNAUTHORIZED)).await;
        assert!(!seen.contains_key(header::AUTHORIZATION), "{elsewhere}");
    }
    assert_eq!(source.asked(), 0);
    assert!(
        source.forgotten().is_empty(),
        "a 401 to a request without our token says nothing about it"
    );
}

#[tokio::test]
async fn only_the_dangerous_constructor_sends_it_anywhere() {
    let source = Scripted::default();
    for anywhere in ["http://evil.example/", "/relative"] {
        let layer = AddTokenLayer::dangerous_any_origin(source.clone());
        let seen = send(&layer, get(anywhere), answer(StatusCode::OK)).await;
        assert_eq!(seen[header::AUTHORIZATION], "Bearer token-1");
    }
}

#[tokio::test]
async fn a_caller_set_authorization_header_wins() {
    let source = Scripted::default();
    for value in ["Basic dXNlcjpwYXNz", "Bearer of-the-caller", ""] {
        let mut request = get(ORDERS);
        request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
        let seen = send(&source.layer(), request, answer(StatusCode::UNAUTHORIZED)).await;
        assert_eq!(seen.get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>(), [value]);
    }
    assert_eq!(source.asked(), 0);
    assert!(source.forgotten().is_empty());
}

#[tokio::test]
async fn a_401_invalidates_the_sent_token_and_the_next_request_gets_another() {
    let source = Scripted::default();
    let layer = source.layer();
    let first = send(&layer, get(ORDERS), answer(StatusCode::UNAUTHORIZED)).await;
    assert_eq!(first[header::AUTHORIZATION], "Bearer token-1");
    assert_eq!(
        (source.forgotten(), source.asked()),
        (vec!["token-1".to_owned()], 1),
        "and it is not sent again by itself"
    );
    let second = send(&layer, get(ORDERS), answer(StatusCode::OK)).await;
    assert_eq!(second[header::AUTHORIZATION], "Bearer token-2");
}

#[tokio::test]
async fn grpc_unauthenticated_invalidates_too_and_other_errors_do_not() {
    let source = Scripted::default();
    let grpc = |status: &str| Response::builder().header("grpc-status", status).body(()).unwrap();
    for kept in [
        grpc("0"),
        grpc("7"),
        grpc("14"),
        answer(StatusCode::FORBIDDEN),
        answer(StatusCode::BAD_GATEWAY),
    ] {
        send(&source.layer(), get(ORDERS), kept).await;
        assert!(source.forgotten().is_empty());
    }
    send(&source.layer(), get(ORDERS), grpc("16")).await;
    assert_eq!(source.forgotten(), ["token-1"]);
}

#[tokio::test]
async fn without_a_token_the_request_is_not_made() {
    let source = Scripted::default();
    source.0.lock().unwrap().failing = true;
    let server = service_fn(async |_: Request<()>| -> Result<Response<()>, Infallible> {
        panic!("it was called")
    });
    let error = source.layer().layer(server).oneshot(get(ORDERS)).await.unwrap_err();
    assert_eq!(error.downcast_ref::<TokenError>().unwrap().kind(), TokenErrorKind::Unavailable);
}

#[tokio::test]
async fn the_inner_services_error_comes_through_boxed() {
    let server = service_fn(async |_: Request<()>| {
        Err::<Response<()>, _>(std::io::Error::other("cable cut"))
    });
    let error = Scripted::default().layer().layer(server).oneshot(get(ORDERS)).await.unwrap_err();
    assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), "cable cut");
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    // A clone that was not polled panics in ConcurrencyLimit.
    let server = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let mut client = Scripted::default().layer().layer(ConcurrencyLimitLayer::new(1).layer(server));
    for uri in [ORDERS, "https://elsewhere/", ORDERS] {
        client.ready().await.unwrap().call(get(uri)).await.unwrap();
    }
}
