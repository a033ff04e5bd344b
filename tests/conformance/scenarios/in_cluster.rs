//! A client configured from a Pod's projected volume: CA, token, namespace.

use std::{fs, path::Path};

use kube::{Client, Config, config::AuthInfo};
use tower_kube_auth::TokenReviewVerifier;

use crate::{
    fixture::{Fixture, Outcome},
    identities::assert_equal,
    kube_apiserver::process::Folder,
    verifiers::{ACCOUNT, Verifiers, offline},
};

pub(super) async fn a_projected_volume_is_sufficient(fixture: Fixture) -> Outcome {
    fixture.service_account(ACCOUNT).await?;
    fixture.grant_auth_delegator(ACCOUNT).await?;
    fixture.pod("verifier-0", ACCOUNT).await?;
    let own = fixture.bound_token(ACCOUNT, &[], "Pod", "verifier-0").await?;
    let volume = Folder::create("volume")?;
    project(
        volume.path(),
        &[
            ("token", &own),
            ("ca.crt", fixture.cluster().ca_pem()),
            ("namespace", fixture.namespace()),
        ],
    )?;

    let client = Client::try_from(in_pod(&fixture, volume.path())?)?;
    assert_eq!(client.default_namespace(), fixture.namespace());
    let verifiers =
        Verifiers { review: TokenReviewVerifier::new(client.clone()), jwks: offline(client) };
    fixture.service_account("robot").await?;
    let token = fixture.token("robot", &["orders"]).await?;
    let verdicts = verifiers.verdicts(&token, "orders").await?;
    let (review, jwks) = verdicts.accepted();
    assert_equal(review, jwks);

    // Only the CA in the volume is trusted.
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?.cert.pem();
    let stranger = Folder::create("volume")?;
    project(
        stranger.path(),
        &[("token", &own), ("ca.crt", &other), ("namespace", fixture.namespace())],
    )?;
    let client = Client::try_from(in_pod(&fixture, stranger.path())?)?;
    assert!(client.apiserver_version().await.is_err(), "a server with another CA is trusted");
    Ok(())
}

/// Writes `files` as kubelet does: a timestamped folder, and links through `..data`.
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

/// Returns what `Config::incluster` would read. It reads only a fixed path outside the test's
/// control.
fn in_pod(fixture: &Fixture, volume: &Path) -> Outcome<Config> {
    let mut config = Config::new(fixture.cluster().anonymous().cluster_url);
    config.default_namespace = fs::read_to_string(volume.join("namespace"))?;
    config.root_cert_file = Some(volume.join("ca.crt"));
    let token_file = Some(volume.join("token").display().to_string());
    config.auth_info = AuthInfo { token_file, ..AuthInfo::default() };
    config.proxy_url = None;
    Ok(config)
}
