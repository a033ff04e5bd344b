use std::time::Duration;

use serde_json::json;

use super::{super::*, *};

async fn send_review(cluster: &Cluster) -> Result<Value, kube::Error> {
    let review = post(TOKEN_REVIEWS, &json!({"spec": {"token": "x"}}));
    cluster.kube_client().unwrap().request::<Value>(review).await
}

#[tokio::test]
async fn a_status_fault_answers_with_its_status() {
    let cluster = cluster().await;
    for code in [401, 403, 404, 410, 500] {
        cluster.set_fault(Endpoint::TokenReview, Fault::Status { code, retry_after: None });
        match send_review(&cluster).await {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, code),
            other => panic!("{code}: {other:?}"),
        }
    }
    cluster.set_fault(Endpoint::TokenReview, Fault::Status { code: 429, retry_after: Some(7) });
    let response = raw(&cluster).await;
    assert!(response.starts_with("HTTP/1.1 429"), "{response}");
    assert!(response.contains("retry-after: 7\r\n"), "{response}");
    cluster.clear_faults();
    assert!(send_review(&cluster).await.is_ok());
}

#[tokio::test]
async fn a_malformed_body_is_an_error() {
    let cluster = cluster().await;
    for fault in
        [Fault::BrokenJson, Fault::EmptyBody, Fault::CutConnection, Fault::Body("[".to_owned())]
    {
        cluster.set_fault(Endpoint::TokenReview, fault.clone());
        assert!(send_review(&cluster).await.is_err(), "{fault:?}");
    }
    cluster.set_fault(
        Endpoint::TokenReview,
        Fault::Body(r#"{"status":{"authenticated":true}}"#.to_owned()),
    );
    assert_eq!(send_review(&cluster).await.unwrap()["status"]["authenticated"], true);
    cluster.set_fault(Endpoint::TokenReview, Fault::HugeBody);
    assert_eq!(send_review(&cluster).await.unwrap()["padding"].as_str().unwrap().len(), 10_000_000);
}

#[tokio::test]
async fn a_cut_connection_ends_half_way_through_the_body() {
    let cluster = cluster().await;
    cluster.set_fault(Endpoint::All, Fault::CutConnection);
    let response = raw(&cluster).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap() / 2, "{response}");
}

#[tokio::test]
async fn a_delay_follows_the_injected_clock() {
    let time = ManualClock::new();
    let cluster = std::sync::Arc::new(with(Cluster::builder().clock(time.clock())).await);
    cluster.set_fault(Endpoint::TokenReview, Fault::Delay(Duration::from_secs(5)));
    let request = tokio::spawn({
        let cluster = cluster.clone();
        async move { send_review(&cluster).await }
    });
    cluster.wait_for_calls(Endpoint::TokenReview, 1).await;
    assert!(!request.is_finished());
    time.advance(Duration::from_secs(5));
    // The clock may have moved before the request read it.
    while !request.is_finished() {
        time.advance(Duration::from_secs(5));
        tokio::task::yield_now().await;
    }
    request.await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_are_counted_in_total_and_in_flight() {
    let cluster = std::sync::Arc::new(cluster().await);
    cluster.set_fault(Endpoint::TokenReview, Fault::Hang);
    let hanging: Vec<_> = (0..3)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move { send_review(&cluster).await })
        })
        .collect();
    cluster.wait_for_calls(Endpoint::TokenReview, 3).await;
    assert_eq!(cluster.in_flight(Endpoint::TokenReview), 3);
    for call in &hanging {
        call.abort();
    }
    while cluster.in_flight(Endpoint::TokenReview) > 0 {
        tokio::task::yield_now().await;
    }
    cluster.clear_faults();
    send_review(&cluster).await.unwrap();
    assert_eq!(
        (cluster.calls(Endpoint::TokenReview), cluster.max_in_flight(Endpoint::TokenReview)),
        (4, 3)
    );
    assert_eq!(cluster.calls(Endpoint::Jwks), 0);
    assert_eq!(cluster.calls(Endpoint::All), 4);
}

/// Returns the bytes of the response to an anonymous request.
async fn raw(cluster: &Cluster) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut roots = rustls::RootCertStore::empty();
    roots.add(cluster.authority.der.clone().into()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(cluster.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let request = format!(
        "POST {TOKEN_REVIEWS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // A cut connection ends without `close_notify`, which rustls reports as an error.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(answer).unwrap()
}
