//! The embedded cluster as a separate process, for services in any language.
//!
//! `cargo run --example embedded_cluster -- FOLDER` writes a kubeconfig with the rights of
//! `system:auth-delegator`, and a token of the caller `system:serviceaccount:shop:checkout` for the
//! audience `orders`. It runs until Ctrl-C.

use std::{error::Error, fs, path::PathBuf};

use tower_kube_auth::testing::Cluster;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(
        std::env::args().nth(1).ok_or("give the folder to write kubeconfig and token to")?,
    );
    fs::create_dir_all(&folder)?;
    let cluster = Cluster::start().await?;
    cluster.create_service_account("shop", "orders");
    cluster.grant_auth_delegator("system:serviceaccount:shop:orders");
    cluster.create_service_account("shop", "checkout");

    fs::write(folder.join("ca.crt"), cluster.ca_pem())?;
    let own = cluster.token("shop", "orders").issue()?;
    let ca = folder.canonicalize()?.join("ca.crt");
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "embedded",
            "cluster": { "server": cluster.url(), "certificate-authority": ca },
        }],
        "users": [{ "name": "orders", "user": { "token": own } }],
        "contexts": [{
            "name": "embedded",
            "context": { "cluster": "embedded", "user": "orders", "namespace": "shop" },
        }],
        "current-context": "embedded",
    });
    fs::write(folder.join("kubeconfig"), kubeconfig.to_string())?;
    fs::write(folder.join("token"), cluster.token("shop", "checkout").audience("orders").issue()?)?;

    println!(
        "export KUBECONFIG={}\nthe caller's token is in {}",
        folder.join("kubeconfig").display(),
        folder.join("token").display()
    );
    tokio::signal::ctrl_c().await?;
    Ok(())
}
