//! What this Pod's own mount says about its ServiceAccount.

use std::io;

use zeroize::Zeroizing;

use super::*;
use crate::client::projected::Read;

/// Returns a mount that holds these files and no others.
fn mount(files: &[(&'static str, String)]) -> Arc<Read> {
    let files = files.to_vec();
    Arc::new(move |path: &Path| {
        let found = files.iter().find(|(name, _)| path == Path::new("/own").join(name));
        found
            .map(|(_, text)| Zeroizing::new(text.clone()))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

fn own_token(kubernetes: &Value) -> String {
    let claims = json!({ "kubernetes.io": kubernetes });
    format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test(start_paused = true)]
async fn namespace_and_name_default_to_those_of_the_own_token() {
    let own = own_token(&json!({
        "namespace": "shop",
        "serviceaccount": { "name": "checkout", "uid": "s" },
        "pod": { "name": "checkout-7d9f", "uid": "p" },
    }));
    let fake = TokenIssuer::new(&Clock::system());
    let files = mount(&[("token", own), ("namespace", "elsewhere".to_owned())]);
    let builder = || fake.builder().audience("orders").own_mount("/own").read(files.clone());
    secret(&builder().build().unwrap()).await;
    secret(&builder().service_account("other").build().unwrap()).await;
    secret(&builder().bound_to_own_pod().build().unwrap()).await;
    let seen = fake.seen();
    assert_eq!(seen[0].0, "/api/v1/namespaces/shop/serviceaccounts/checkout/token");
    assert_eq!(seen[1].0, "/api/v1/namespaces/shop/serviceaccounts/other/token");
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "name": "checkout-7d9f", "uid": "p" });
    assert_eq!(seen[2].1["spec"]["boundObjectRef"], pod);
    assert_eq!(seen[0].1["spec"].get("boundObjectRef"), None);
}

#[tokio::test(start_paused = true)]
async fn the_namespace_file_is_the_fallback() {
    let fake = TokenIssuer::new(&Clock::system());
    for files in [
        mount(&[("namespace", "shop\n".to_owned())]),
        mount(&[("namespace", "shop".to_owned()), ("token", own_token(&json!({})))]),
    ] {
        let builder = fake
            .builder()
            .audience("orders")
            .own_mount("/own")
            .service_account("checkout")
            .read(files);
        secret(&builder.build().unwrap()).await;
    }
    for (path, _) in fake.seen() {
        assert_eq!(path, "/api/v1/namespaces/shop/serviceaccounts/checkout/token");
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_account_must_be_known_or_configured() {
    let fake = TokenIssuer::new(&Clock::system());
    let evil = own_token(&json!({ "namespace": "../x", "serviceaccount": { "name": "a/b" } }));
    for (files, hint) in [
        (mount(&[]), "/own/token"),
        (mount(&[("namespace", "shop".to_owned())]), "service_account("),
        (mount(&[("token", own_token(&json!({})))]), "service_account("),
        (mount(&[("token", "junk".to_owned())]), "three parts"),
        (mount(&[("token", evil)]), "service_account("),
    ] {
        let source =
            fake.builder().audience("orders").own_mount("/own").read(files).build().unwrap();
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnknownServiceAccount, "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
    let no_pod = mount(&[(
        "token",
        own_token(&json!({ "namespace": "n", "serviceaccount": { "name": "s" } })),
    )]);
    let source = fake
        .builder()
        .audience("orders")
        .own_mount("/own")
        .read(no_pod)
        .bound_to_own_pod()
        .build()
        .unwrap();
    assert!(source.token().await.unwrap_err().to_string().contains("bound_to("));
    assert_eq!(fake.calls(), 0);
}
