//! A client with an in-memory API server that answers with configured documents.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response, StatusCode};
use kube::{Client, client::Body};
use tokio::runtime::{Builder, Runtime};

type Documents = HashMap<&'static str, Vec<u8>>;

pub struct FakeApiServer {
    pub client: Client,
    documents: Arc<Mutex<Documents>>,
    runtime: Runtime,
}

impl FakeApiServer {
    pub fn new() -> Self {
        // No timers, because the clocks are manual.
        let runtime = Builder::new_current_thread().build().unwrap();
        let documents = Arc::<Mutex<Documents>>::default();
        let served = documents.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let document = served.lock().unwrap().get(request.uri().path()).cloned();
            // No other document is requested: a `jwks_uri` is not followed.
            let document = document.unwrap_or_else(|| panic!("{} is requested", request.uri()));
            let mut response = Response::new(Body::from(document));
            *response.status_mut() = StatusCode::OK;
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let client = runtime.block_on(async { Client::new(service, "default") });
        Self { client, documents, runtime }
    }

    pub fn serve(&self, path: &'static str, document: &[u8]) {
        self.documents.lock().unwrap().insert(path, document.into());
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}
