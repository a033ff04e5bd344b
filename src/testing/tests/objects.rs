use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use kube::{Api, api::DeleteParams};
use serde_json::json;

use super::*;

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason),
        other => panic!("not an error of the API: {other:?}"),
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn typed_clients_create_get_list_and_delete() {
    let cluster = cluster().await;
    let client = cluster.admin_client().unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "team-a");
    let new = || object::<ServiceAccount>(json!({"metadata": {"name": "new"}}));
    assert_eq!(code(accounts.get("new").await), (404, "NotFound".to_owned()));
    let created = accounts.create(&Default::default(), &new()).await.unwrap();
    assert_eq!(created.metadata.namespace.as_deref(), Some("team-a"));
    assert_eq!(created.metadata.uid, Some(cluster.create_service_account("team-a", "new")));
    assert_eq!(
        code(accounts.create(&Default::default(), &new()).await),
        (409, "AlreadyExists".to_owned())
    );
    assert_eq!(accounts.list(&Default::default()).await.unwrap().items.len(), 2);
    accounts.delete("new", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(accounts.get("new").await).0, 404);

    let pods: Api<Pod> = Api::namespaced(client.clone(), "team-a");
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&Default::default(), &object(pod)).await.unwrap();
    let other = kube::api::Preconditions { uid: Some("other".to_owned()), ..Default::default() };
    let precondition = DeleteParams { preconditions: Some(other), ..Default::default() };
    assert_eq!(code(pods.delete("p", &precondition).await), (409, "Conflict".to_owned()));
    pods.delete("p", &DeleteParams::default()).await.unwrap();

    let secrets: Api<Secret> = Api::namespaced(client.clone(), "team-a");
    let generated = object::<Secret>(json!({"metadata": {"generateName": "s-"}}));
    let secret = secrets.create(&Default::default(), &generated).await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    let deleted =
        secrets.delete(&secret.metadata.name.unwrap(), &DeleteParams::default()).await.unwrap();
    assert!(deleted.right().unwrap().is_success());
}

#[tokio::test]
async fn a_namespace_must_exist_and_deleting_it_deletes_its_objects() {
    let cluster = cluster().await;
    let client = cluster.admin_client().unwrap();
    let there: Api<ServiceAccount> = Api::namespaced(client.clone(), "nowhere");
    let account = object(json!({"metadata": {"name": "x"}}));
    assert_eq!(code(there.create(&Default::default(), &account).await).0, 404);
    let namespaces: Api<Namespace> = Api::all(client);
    namespaces
        .create(&Default::default(), &object(json!({"metadata": {"name": "nowhere"}})))
        .await
        .unwrap();
    there.create(&Default::default(), &account).await.unwrap();
    namespaces.delete("nowhere", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(there.get("x").await).0, 404);
}

#[tokio::test]
async fn invalid_requests_get_the_status_codes_of_kubernetes() {
    let cluster = cluster().await;
    let client = cluster.admin_client().unwrap();
    let path = "/api/v1/namespaces/team-a/serviceaccounts";
    for (body, expected) in [
        (json!({"metadata": {}}), 422),
        (json!({"metadata": {"name": "Not_A_Name"}}), 422),
        (json!({"metadata": {"name": "x", "namespace": "other"}}), 400),
        (json!({"kind": "Pod", "metadata": {"name": "x"}}), 400),
        (json!([]), 400),
    ] {
        assert_eq!(api_error(&client, post(path, &body)).await.code, expected, "{body}");
    }
    assert_eq!(api_error(&client, get("/api/v1/nothings")).await.code, 404);
    assert_eq!(api_error(&client, get(TOKEN_REVIEWS)).await.code, 405);
}
