//! The way of the watches to the API server, which can be cut, stalled and held up.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use kube::{Client, client::Body};
use tokio::{sync::watch, time::timeout};
use tower::service_fn;
use tower_kube_auth::ApiServer;

use crate::watch_history::{OpenWatch, RESOURCES, WatchHistory};

/// Upper bound for the wait until all watches are held up.
const HELD_WITHIN: Duration = Duration::from_secs(10);

type BoxError = Box<dyn Error + Send + Sync>;
type Fault = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection whose faults are made by the soak. Clones share it.
#[derive(Clone)]
pub(crate) struct WatchFaults(Arc<Shared>);

struct Shared {
    link: watch::Sender<Link>,
    /// Number of the watch requests that are held up.
    held: watch::Sender<usize>,
    /// Held while link and history change, so that they agree.
    order: Mutex<()>,
    history: Arc<WatchHistory>,
    expired: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Link {
    is_cut: bool,
    is_holding: bool,
    cuts: u64,
    stalls: u64,
}

impl WatchFaults {
    pub(crate) fn new(history: Arc<WatchHistory>) -> Self {
        Self(Arc::new(Shared {
            link: watch::Sender::default(),
            held: watch::Sender::default(),
            order: Mutex::default(),
            history,
            expired: AtomicU64::default(),
        }))
    }

    /// Returns the API server of `client`, as the watches reach it.
    pub(crate) fn api_server(&self, client: Client) -> ApiServer {
        let faults = self.clone();
        ApiServer::from_service(service_fn(move |request| {
            faults.clone().send(client.clone(), request)
        }))
    }

    /// Breaks all connections, stalled ones too, and lets none through until
    /// [`restore`](Self::restore).
    pub(crate) fn cut(&self) {
        let _order = self.0.order.lock().expect("no panic");
        self.0.link.send_modify(|link| (link.is_cut, link.cuts) = (true, link.cuts + 1));
        self.0.history.cut();
    }

    pub(crate) fn restore(&self) {
        self.0.link.send_modify(|link| link.is_cut = false);
    }

    /// Stops the bytes of all open watches. Their connections stay open, whatever the server does,
    /// and new ones work.
    pub(crate) fn stall(&self) {
        let _order = self.0.order.lock().expect("no panic");
        self.0.link.send_modify(|link| link.stalls += 1);
        self.0.history.stall();
    }

    /// Breaks all connections, and returns when the objects are listed again and the watches from
    /// the version of that list are held up, until [`release`](Self::release).
    pub(crate) async fn hold(&self) -> bool {
        self.0.link.send_modify(|link| link.is_holding = true);
        self.cut();
        self.restore();
        let mut held = self.0.held.subscribe();
        let all = held.wait_for(|held| *held == RESOURCES.len());
        timeout(HELD_WITHIN, all).await.is_ok()
    }

    pub(crate) fn release(&self) {
        self.0.link.send_modify(|link| link.is_holding = false);
    }

    /// Returns how often the server answered that it has forgotten a version (410).
    pub(crate) fn expired(&self) -> u64 {
        self.0.expired.load(Relaxed)
    }

    async fn send(
        self,
        client: Client,
        request: Request<Bytes>,
    ) -> Result<Response<FaultyBody>, BoxError> {
        let Shared { link, held, order, history, .. } = &*self.0;
        let path = request.uri().path();
        let resource = RESOURCES.into_iter().find(|resource| path.ends_with(resource));
        let resource = resource.ok_or("neither a list nor a watch")?;
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let before = *link.borrow();
        if before.is_cut {
            return Err(broken());
        }
        let sent = Instant::now();
        let mut cut = self.fault(move |link| link.cuts != before.cuts);
        let answering = async {
            if is_watch {
                let _held = Held::new(held);
                self.fault(|link| !link.is_holding).await;
            }
            client.send(request.map(Into::into)).await
        };
        let response = tokio::select! {
            biased;
            () = &mut cut => return Err(broken()),
            response = answering => response?,
        };
        let _order = order.lock().expect("no panic");
        let stalls = link.borrow().stalls;
        let open = (is_watch && response.status().is_success()).then(|| history.open(resource));
        if !is_watch && response.status().is_success() {
            history.sign(resource, sent);
        }
        let stall = self.fault(move |link| is_watch && link.stalls != stalls);
        let faults = self.clone();
        Ok(response.map(|body| FaultyBody { body, cut, stall, is_stalled: false, open, faults }))
    }

    fn fault(&self, condition: impl Fn(&Link) -> bool + Send + Sync + 'static) -> Fault {
        let mut link = self.0.link.subscribe();
        Box::pin(async move { drop(link.wait_for(condition).await) })
    }
}

/// Counts a request that is held up.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn new(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

struct FaultyBody {
    body: Body,
    cut: Fault,
    stall: Fault,
    is_stalled: bool,
    open: Option<OpenWatch>,
    faults: WatchFaults,
}

impl http_body::Body for FaultyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        // Not polled again: an error ends the body.
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(broken())));
        }
        if this.is_stalled || this.stall.as_mut().poll(cx).is_ready() {
            this.is_stalled = true;
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match (&frame, &this.open) {
            (Some(Ok(frame)), Some(open)) => {
                let is_expired =
                    |data: &Bytes| String::from_utf8_lossy(data).contains(r#""code":410"#);
                if frame.data_ref().is_some_and(is_expired) {
                    this.faults.0.expired.fetch_add(1, Relaxed);
                } else {
                    open.sign();
                }
            }
            (Some(Ok(_)), None) => {}
            _ => this.open = None,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }
}

fn broken() -> BoxError {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}
