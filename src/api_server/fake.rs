//! An API server in memory, for unit tests.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use super::server::ApiServer;

/// Answers every request by one function of its path and its document, and keeps both.
#[derive(Clone)]
pub(crate) struct FakeApiServer(Arc<State>);

struct State {
    respond: Mutex<Box<Respond>>,
    seen: Mutex<Vec<(String, Value)>>,
}

type Respond = dyn FnMut(&str, &Value) -> Reply + Send;

#[derive(Clone)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, body: impl ToString) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl FakeApiServer {
    pub(crate) fn new(respond: impl FnMut(&str, &Value) -> Reply + Send + 'static) -> Self {
        let respond: Box<Respond> = Box::new(respond);
        Self(Arc::new(State { respond: Mutex::new(respond), seen: Mutex::default() }))
    }

    /// Gives the same reply to every request.
    pub(crate) fn replying(reply: Reply) -> Self {
        Self::new(move |_, _| reply.clone())
    }

    pub(crate) fn api_server(&self) -> ApiServer {
        let this = self.clone();
        ApiServer::from_service(tower::service_fn(move |request: Request<Bytes>| {
            std::future::ready(Ok::<_, Infallible>(this.respond(&request)))
        }))
    }

    /// Returns how many requests there were.
    pub(crate) fn calls(&self) -> u32 {
        u32::try_from(self.0.seen.lock().unwrap().len()).unwrap()
    }

    /// Returns the path and the document of each request.
    pub(crate) fn seen(&self) -> Vec<(String, Value)> {
        self.0.seen.lock().unwrap().clone()
    }

    fn respond(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        assert_eq!(request.method(), "POST");
        let path = request.uri().path();
        let document: Value = serde_json::from_slice(request.body()).unwrap();
        let reply = (self.0.respond.lock().unwrap())(path, &document);
        self.0.seen.lock().unwrap().push((path.to_owned(), document));
        let mut response = Response::builder().status(reply.status);
        for (name, value) in reply.headers {
            response = response.header(name, value);
        }
        response.body(Full::from(reply.body)).unwrap()
    }
}
