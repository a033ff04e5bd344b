//! TLS server on loopback that can be stopped and restarted on the same port.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    select,
    sync::{Mutex, oneshot},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{api, state::State};

pub(super) struct Server {
    address: SocketAddr,
    phase: Mutex<Phase>,
}

enum Phase {
    /// The accept loop and its connections end when `stop` is dropped.
    Up {
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    },
    /// Bound but not listening: the port stays reserved and connections fail.
    Down {
        reserved: TcpSocket,
    },
    Changing,
}

impl Server {
    /// Reserves a port.
    pub(super) fn bind() -> io::Result<Self> {
        let reserved = reserve(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Self { address: reserved.local_addr()?, phase: Mutex::new(Phase::Down { reserved }) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn start(&self, tls: Arc<ServerConfig>, state: Arc<State>) -> io::Result<()> {
        let mut phase = self.phase.lock().await;
        *phase = match std::mem::replace(&mut *phase, Phase::Changing) {
            Phase::Up { stop, task } => Phase::Up { stop, task },
            Phase::Down { reserved } => self.listen(reserved, tls, state)?,
            Phase::Changing => self.listen(reserve(self.address)?, tls, state)?,
        };
        Ok(())
    }

    fn listen(
        &self,
        socket: TcpSocket,
        tls: Arc<ServerConfig>,
        state: Arc<State>,
    ) -> io::Result<Phase> {
        let listener = socket.listen(1024)?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(tls), state, stopped));
        Ok(Phase::Up { stop, task })
    }

    pub(super) async fn stop(&self) -> io::Result<()> {
        let mut phase = self.phase.lock().await;
        *phase = match std::mem::replace(&mut *phase, Phase::Changing) {
            Phase::Up { stop, task } => {
                drop(stop);
                // Ends after the listener and every connection are closed.
                let _ = task.await;
                Phase::Down { reserved: reserve(self.address)? }
            }
            Phase::Down { reserved } => Phase::Down { reserved },
            Phase::Changing => Phase::Down { reserved: reserve(self.address)? },
        };
        Ok(())
    }
}

fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections in TIME_WAIT must not block the port. On Windows the option would let other
    // processes bind it.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    state: Arc<State>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, tls.clone(), state.clone()));
                }
                // Probably out of file descriptors: wait until some are closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    // A failed handshake or connection is the client's to report.
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(move |request| {
        let answer = api::answer(state.clone(), request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
