//! A look into a token without verification, as by `step crypto jwt inspect --insecure`.
//!
//! `kubectl create token default | cargo run --example inspect -- -` reads a token from standard
//! input; without the argument, the example shows a token of the embedded cluster.

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
        println!("claims to be: {} in namespace {}", account.name, account.namespace);
    }
    if let Some(expiry) = unverified.expires_at() {
        let left = expiry.duration_since(UNIX_EPOCH)?.as_secs() as i64
            - Clock::system().wall().duration_since(UNIX_EPOCH)?.as_secs() as i64;
        println!("expires in:   {left} s");
    }
    println!("verified:     no");
    Ok(())
}
