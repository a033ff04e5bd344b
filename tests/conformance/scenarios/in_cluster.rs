//! What a Pod finds in its projected volume is enough: CA, token, namespace.

use std::{fs, path::Path};

use kube::{Client, Config, config::AuthInfo};
use tower_kube_auth::TokenReviewVerifier;

use crate::{
    identities::assert_equal,
    kube_apiserver::process::Folder,
    scene::{Outcome, Scene},
    verifiers::{ACCOUNT, Verifiers, offline},
};

pub(super) async fn a_projected_volume_is_all_it_takes(scene: Scene) -> Outcome {
    scene.service_account(ACCOUNT).await?;
    scene.grant_auth_delegator(ACCOUNT).await?;
    scene.pod("verifier-0", ACCOUNT).await?;
    let own = scene.bound_token(ACCOUNT, &[], "Pod", "verifier-0").await?;
    let volume = Folder::create("volume")?;
    project(
        volume.path(),
        &[("token", &own), ("ca.crt", scene.cluster().ca_pem()), ("namespace", scene.namespace())],
    )?;

    let client = Client::try_from(in_pod(&scene, volume.path())?)?;
    assert_eq!(client.default_namespace(), scene.namespace());
    let verifiers =
        Verifiers { review: TokenReviewVerifier::new(client.clone()), jwks: offline(client) };
    scene.service_account("robot").await?;
    let token = scene.token("robot", &["orders"]).await?;
    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);

    // The CA in the volume is what the server is known by: another one's certificate is not taken.
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?.cert.pem();
    let stranger = Folder::create("volume")?;
    project(
        stranger.path(),
        &[("token", &own), ("ca.crt", &other), ("namespace", scene.namespace())],
    )?;
    let client = Client::try_from(in_pod(&scene, stranger.path())?)?;
    assert!(client.apiserver_version().await.is_err(), "a server of another CA is trusted");
    Ok(())
}

/// As kubelet writes it: a folder with the time in its name, and links through `..data`.
fn project(volume: &Path, files: &[(&str, &str)]) -> std::io::Result<()> {
    let folder = "..2026_11_23_00_00_00.123456789";
    fs::create_dir(volume.join(folder))?;
    std::os::unix::fs::symlink(folder, volume.join("..data"))?;
    for (name, content) in files {
        fs::write(volume.join(folder).join(name), content)?;
        std::os::unix::fs::symlink(Path::new("..data").join(name), volume.join(name))?;
    }
    Ok(())
}

/// What `Config::incluster` makes of the volume; it reads one fixed path only, which is not ours to write.
fn in_pod(scene: &Scene, volume: &Path) -> Outcome<Config> {
    let mut config = Config::new(scene.cluster().anonymous().cluster_url);
    config.default_namespace = fs::read_to_string(volume.join("namespace"))?;
    config.root_cert_file = Some(volume.join("ca.crt"));
    let token_file = Some(volume.join("token").display().to_string());
    config.auth_info = AuthInfo { token_file, ..AuthInfo::default() };
    config.proxy_url = None;
    Ok(config)
}
