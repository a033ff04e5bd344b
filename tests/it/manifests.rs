//! The manifests in examples/kubernetes: Kubernetes' own types know each of their fields.

use std::{fs, path::Path};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Service, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[test]
fn every_manifest_is_parsed_without_loss() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kubernetes");
    let mut objects = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for document in fs::read_to_string(&path).unwrap().split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let kind = object["kind"].as_str().unwrap().to_owned();
            let read_back = match &*kind {
                "Namespace" => round_trip::<Namespace>(&object),
                "ServiceAccount" => round_trip::<ServiceAccount>(&object),
                "Pod" => round_trip::<Pod>(&object),
                "Service" => round_trip::<Service>(&object),
                "Deployment" => round_trip::<Deployment>(&object),
                "ClusterRole" => round_trip::<ClusterRole>(&object),
                "ClusterRoleBinding" => round_trip::<ClusterRoleBinding>(&object),
                "Role" => round_trip::<Role>(&object),
                "RoleBinding" => round_trip::<RoleBinding>(&object),
                other => panic!("{} has a {other}: add it here", path.display()),
            };
            assert_eq!(object, read_back, "a field of the {kind} in {} is unknown", path.display());
            objects += 1;
        }
    }
    assert!(objects >= 7, "{objects} objects");
}

fn round_trip<T: Serialize + DeserializeOwned>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
}
