use serde_json::json;
use tokio::net::TcpStream;

use super::{super::*, *};

#[tokio::test]
async fn discovery_matches_kubernetes() {
    let cluster = with(Cluster::builder().signing_algorithm(Algorithm::ES256)).await;
    let client = cluster.kube_client().unwrap();
    let document: Value = client.request(get("/.well-known/openid-configuration")).await.unwrap();
    assert_eq!(
        document,
        json!({
            "issuer": "https://kubernetes.default.svc.cluster.local",
            "jwks_uri": format!("{}/openid/v1/jwks", cluster.url()),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    );
    let request = http::Request::get("/openid/v1/jwks").body(kube::client::Body::empty()).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/jwk-set+json");
    assert_eq!(response.headers()["cache-control"], "public, max-age=3600");
    cluster.publish_jwks(Some("{\"keys\":[]}".to_owned()));
    let keys: Value = client.request(get("/openid/v1/jwks")).await.unwrap();
    assert_eq!(keys, json!({"keys": []}));
}

#[tokio::test]
async fn a_stopped_server_restarts_on_the_same_port() {
    let cluster = cluster().await;
    let client = cluster.kube_client().unwrap();
    client.apiserver_version().await.unwrap();
    for _ in 0..3 {
        cluster.go_down().await.unwrap();
        let error = TcpStream::connect(cluster.address()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        cluster.come_up().await.unwrap();
        client.apiserver_version().await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_rejected() {
    let cluster = cluster().await;
    let client = cluster.kube_client().unwrap();
    cluster.other_ca().await.unwrap();
    assert!(client.apiserver_version().await.is_err());
    cluster.come_up().await.unwrap();
    client.apiserver_version().await.unwrap();
}

#[tokio::test]
async fn dropping_the_cluster_stops_the_server() {
    let cluster = cluster().await;
    let (address, client) = (cluster.address(), cluster.kube_client().unwrap());
    client.apiserver_version().await.unwrap();
    drop(cluster);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(client.apiserver_version().await.is_err(), "its connection is closed too");
}

#[test]
fn a_cluster_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Cluster>();
    shared::<SigningKey>();
}

#[tokio::test]
async fn clusters_do_not_accept_tokens_of_each_other() {
    let (one, other) = (cluster().await, cluster().await);
    let token = one.token("team-a", "robot").audience("x").issue().unwrap();
    assert!(is_accepted(&one, &token) && !is_accepted(&other, &token));
}

#[cfg(unix)]
#[tokio::test]
async fn a_projected_volume_is_swapped_atomically() {
    let cluster = cluster().await;
    let folder = std::env::temp_dir()
        .join(format!("tower-kube-auth-{}", super::super::objects::random_uuid()));
    let token = || cluster.token("team-a", "robot").issue().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (first, second) = (token(), token());
    cluster.write_projected_volume(&folder, &first).unwrap();
    let before = std::fs::read_link(folder.join("..data")).unwrap();
    assert_eq!((read("token"), read("namespace")), (first, "team-a".to_owned()));
    assert_eq!(read("ca.crt"), cluster.ca_pem());
    let open = std::fs::File::open(folder.join("token")).unwrap();
    cluster.write_projected_volume(&folder, &second).unwrap();
    assert_eq!(read("token"), second);
    assert_ne!(std::fs::read_link(folder.join("..data")).unwrap(), before);
    assert!(!folder.join(before).exists(), "the old folder is removed");
    drop(open);
    assert_eq!(
        std::fs::read_link(folder.join("token")).unwrap(),
        std::path::Path::new("..data/token")
    );

    let client = kube::Client::try_from(cluster.kube_config_in_pod(&folder)).unwrap();
    client.request_text(get("/openid/v1/jwks")).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
