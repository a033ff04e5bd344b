//! Looking into a token without verifying it, as `step crypto jwt inspect --insecure` does.
//!
//! `kubectl create token default | cargo run --example inspect -- -` reads one from standard input; without an argument a
//! token of the embedded cluster is shown.

use std::{error::Error, io::Read, time::UNIX_EPOCH};

use tower_kube_auth::{clock::Clock, inspect::UnverifiedToken, testing::Cluster};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let token = match std::env::args().nth(1).as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().take(64 * 1024).read_to_string(&mut text)?;
            text.trim().to_owned()
        }
        Some(other) => {
            return Err(format!(
                "unknown argument {other:?}; give - to read a token from standard input"
            )
            .into());
        }
        None => {
            let cluster = Cluster::start().await?;
            cluster.create_service_account("shop", "checkout");
            cluster.token("shop", "checkout").audience("orders").issue()?
        }
    };
    let unverified = UnverifiedToken::decode(&token)?;
    println!("{unverified}");
    if let Some(account) = unverified.service_account() {
        println!("says it is: {} in namespace {}", account.name, account.namespace);
    }
    if let Some(expiry) = unverified.expires_at() {
        let left = expiry.duration_since(UNIX_EPOCH)?.as_secs() as i64
            - Clock::system().wall().duration_since(UNIX_EPOCH)?.as_secs() as i64;
        println!("expires in: {left} s");
    }
    println!("verified:   no, nothing of this is");
    Ok(())
}
