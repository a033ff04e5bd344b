//! Files that are replaced while a service runs, as kubelet replaces them: a new folder, to which a
//! symbolic link is switched.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::StatusCode;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tower_kube_auth::{
    ApiServer, Audiences, Authenticator, BearerToken, JwksVerifier, TokenReviewVerifier, Verdict,
    Verifier, authenticator::SelfCheck, error::VerifyErrorKind, readiness::NeedState,
    verifier::jwks::JwksBuilder,
};

use crate::support::{Fixture, Service, bearer, idle, until};

/// Upper bound of the default refresh interval, with its jitter.
const LONGEST_PERIOD: Duration = Duration::from_secs(331);
const COOLDOWN: Duration = Duration::from_secs(10);

/// A volume with the key set of a cluster, removed at the end of the test.
struct KeyVolume(PathBuf);

impl KeyVolume {
    fn new(jwks: &str) -> Self {
        let name = format!("tower-kube-auth-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let volume = Self(std::env::temp_dir().join(name));
        volume.replace(jwks);
        volume
    }

    fn replace(&self, jwks: &str) {
        let folder = format!("..2026_11_24_00_00_00.{:09}", fastrand::u32(..1_000_000_000));
        fs::create_dir_all(self.0.join(&folder)).unwrap();
        fs::write(self.0.join(&folder).join("jwks.json"), jwks).unwrap();
        let data = self.0.join("..data");
        let old = fs::read_link(&data).ok();
        symlink(&folder, self.0.join("..data_tmp")).unwrap();
        fs::rename(self.0.join("..data_tmp"), &data).unwrap();
        match old {
            Some(old) => fs::remove_dir_all(self.0.join(old)).unwrap(),
            None => symlink(Path::new("..data/jwks.json"), self.file()).unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.0.join("jwks.json")
    }

    fn verifier(&self, fixture: &Fixture) -> JwksBuilder {
        let builder = JwksVerifier::from_jwks_file(self.file()).issuer(fixture.cluster.issuer());
        builder.clock(fixture.clock.clock())
    }
}

impl Drop for KeyVolume {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn set_up() -> (Fixture, KeyVolume, JwksVerifier, Authenticator) {
    let fixture = Fixture::start().await;
    let volume = KeyVolume::new(&fixture.cluster.jwks_json());
    let verifier = volume.verifier(&fixture).build().unwrap();
    let auth = fixture.authenticator(verifier.clone()).build().unwrap();
    (fixture, volume, verifier, auth)
}

#[tokio::test]
async fn a_key_that_is_added_to_the_file_verifies_the_first_token_it_signs() {
    let (fixture, volume, verifier, auth) = set_up().await;
    let service = Service::new(&auth);
    let old = fixture.token();
    assert_eq!(service.get(&old).await.status, StatusCode::OK);
    fixture.cluster.rotate().unwrap();
    volume.replace(&fixture.cluster.jwks_json());
    assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
    assert_eq!(service.get(&old).await.status, StatusCode::OK);

    // Invented key ids cause no more reading than that, and reject nobody.
    fixture.cluster.rotate().unwrap();
    volume.replace(&fixture.cluster.jwks_json());
    let third = fixture.token();
    for _ in 0..3 {
        service.blocked(bearer(&third)).await.assert_unavailable();
    }
    assert_eq!(verifier.metrics().fetches, 1);
    fixture.clock.advance(COOLDOWN);
    assert_eq!(service.get(&third).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_that_is_removed_from_the_file_is_rejected_after_the_next_reading() {
    let (fixture, volume, verifier, auth) = set_up().await;
    let service = Service::new(&auth);
    assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
    let old = fixture.token();
    fixture.cluster.rotate().unwrap();
    fixture.cluster.remove_old_keys();
    volume.replace(&fixture.cluster.jwks_json());
    idle().await;
    fixture.clock.advance(LONGEST_PERIOD);
    until("reading begins", async || verifier.metrics().fetches == 1).await;
    // Joins it.
    verifier.refresh().await.unwrap();
    service.blocked(bearer(&old)).await.assert_invalid_token("the removed key");
    assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_file_without_usable_keys_leaves_the_last_keys_in_use() {
    let (fixture, volume, verifier, auth) = set_up().await;
    let service = Service::new(&auth);
    let hmac = r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"a","alg":"HS256"}]}"#;
    for (content, kind) in [
        ("", VerifyErrorKind::InvalidResponse),
        (r#"{"keys":[{"kty":"#, VerifyErrorKind::InvalidResponse),
        (r#"{"keys":[]}"#, VerifyErrorKind::InvalidResponse),
        (hmac, VerifyErrorKind::InvalidResponse),
        (&*" ".repeat(2_000_000), VerifyErrorKind::Unavailable),
    ] {
        volume.replace(content);
        assert_eq!(verifier.refresh().await.unwrap_err().kind(), kind, "{content:.20}");
        assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
    }
    fs::remove_file(volume.file()).unwrap();
    let error = verifier.refresh().await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Unavailable);
    assert!(error.to_string().contains(volume.file().to_str().unwrap()), "{error}");
    assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);

    // A key that could not be read is undecided, not unknown.
    fixture.cluster.rotate().unwrap();
    service.blocked(bearer(&fixture.token())).await.assert_unavailable();
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_told_by_the_self_check_and_bounded_by_max_key_age() {
    let fixture = Fixture::start().await;
    let volume = KeyVolume::new(&fixture.cluster.jwks_json());
    let limit = Duration::from_secs(1_800);
    let verifier = volume.verifier(&fixture).max_key_age(limit).build().unwrap();
    let auth = fixture.authenticator(verifier.clone()).build().unwrap();
    let check = SelfCheck::new(&auth);
    let state = async || check.run().await.needs[0].state;
    assert_eq!(state().await, NeedState::Met);
    fs::remove_file(volume.file()).unwrap();
    fixture.clock.advance(Duration::from_secs(901));
    assert_eq!(state().await, NeedState::Unknown);
    let service = Service::new(&auth);
    assert_eq!(service.get(&fixture.token()).await.status, StatusCode::OK);
    fixture.clock.advance(limit);
    service.blocked(bearer(&fixture.token())).await.assert_unavailable();
}

/// Forwards connections to an address that can be changed.
struct Relay {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
}

impl Relay {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = watch::Sender::new(target);
        let targets = target.subscribe();
        tokio::spawn(async move {
            loop {
                let (mut inbound, _) = listener.accept().await.unwrap();
                let mut targets = targets.clone();
                tokio::spawn(async move {
                    let target = *targets.borrow_and_update();
                    let Ok(mut outbound) = TcpStream::connect(target).await else { return };
                    // Ends with its target.
                    tokio::select! {
                        _ = copy_bidirectional(&mut inbound, &mut outbound) => {}
                        _ = targets.changed() => {}
                    }
                });
            }
        });
        Self { address, target }
    }
}

/// kube reads the files again by the system's clock.
#[tokio::test]
#[ignore = "takes a minute; CI runs it"]
async fn a_new_ca_and_a_new_own_token_of_the_api_server_take_effect_within_two_minutes() {
    let (old, new) = (Fixture::start().await, Fixture::start().await);
    assert_ne!(old.cluster.ca_pem(), new.cluster.ca_pem());
    let relay = Relay::to(old.cluster.address()).await;
    let volume = KeyVolume::new("");
    let replace = |fixture: &Fixture| {
        let own = fixture.cluster.token("kube-auth", "verifier").issue().unwrap();
        fixture.cluster.write_projected_volume(&volume.0, &own).unwrap();
    };
    replace(&old);
    let url = format!("https://{}", relay.address);
    let api = ApiServer::from_parts(&url, volume.0.join("ca.crt"), volume.0.join("token")).unwrap();
    let verifier = TokenReviewVerifier::new(api);
    let audiences = Audiences::new(["orders"]).unwrap();
    let accepts = async |fixture: &Fixture| {
        let token = fixture.token();
        let verdict = verifier.verify(BearerToken::parse(&token).unwrap(), &audiences).await;
        assert!(!matches!(verdict, Ok(Verdict::Reject(_))), "never a rejection");
        verdict.is_ok()
    };
    assert!(accepts(&old).await);

    relay.target.send_replace(new.cluster.address());
    assert!(!accepts(&new).await, "the CA of another server is not trusted");
    replace(&new);
    let accepted = async { while !accepts(&new).await {} };
    let in_time = tokio::time::timeout(Duration::from_secs(120), accepted).await;
    assert!(in_time.is_ok(), "the files are not read again");
}
