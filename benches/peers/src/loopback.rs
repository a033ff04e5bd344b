//! Throughput behind each layer, over real connections on loopback.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::contestants::Contestant;

const CONNECTIONS: usize = 16;
const ROUND: Duration = Duration::from_millis(60);
const ROUNDS: usize = 40;

/// Returns the requests per second of each contestant: the best of rounds taken in turns.
pub async fn throughputs(contestants: &[Contestant], token: &str) -> Vec<f64> {
    let mut best = vec![0_f64; contestants.len()];
    for _ in 0..ROUNDS {
        for (contestant, best) in contestants.iter().zip(&mut best) {
            *best = best.max(round(contestant, token).await);
        }
    }
    best
}

async fn round(contestant: &Contestant, token: &str) -> f64 {
    let request = format!("GET / HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut connections = JoinSet::new();
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        let (request, address) = (request.clone(), contestant.address);
        connections.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            let (mut answer, mut done) = (vec![0; 4096], 0_usize);
            while start.elapsed() < ROUND {
                stream.write_all(request.as_bytes()).await.expect("the server reads");
                let mut length = 0;
                while !answer[..length].ends_with(b"hello") {
                    let read =
                        stream.read(&mut answer[length..]).await.expect("the server answers");
                    assert!(read > 0, "the server closed the connection");
                    length += read;
                }
                done += 1;
            }
            done
        });
    }
    let mut done = 0;
    while let Some(requests) = connections.join_next().await {
        done += requests.expect("no panic");
    }
    done as f64 / start.elapsed().as_secs_f64()
}
