//! The keys that the API server publishes.

use std::time::Duration;

use super::discovery::{read_discovery, read_keys};
use crate::{
    api_server::{ApiClient, ApiServer, Purpose},
    clock::Clock,
    error::VerifyError,
    verifier::jwks::{algorithm::Algorithm, key_snapshot::LoadedKeys},
};

const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
const KEYS_PATH: &str = "/openid/v1/jwks";
const PURPOSE: Purpose = Purpose {
    call: "issuer discovery",
    when_forbidden: "bind the ClusterRole `system:service-account-issuer-discovery` to this \
                     service's own ServiceAccount: kubectl create clusterrolebinding NAME \
                     --clusterrole=system:service-account-issuer-discovery \
                     --serviceaccount=NAMESPACE:NAME",
    stage: None,
};

/// The advertised `jwks_uri` is not followed: a Pod often cannot reach it, and this service's own
/// token must not be sent there.
#[derive(Debug)]
pub(in crate::verifier::jwks) struct ClusterSource {
    api_client: ApiClient,
    learn_issuer: bool,
}

impl ClusterSource {
    pub(in crate::verifier::jwks) fn new(
        api_server: ApiServer,
        limit: Duration,
        clock: Clock,
        learn_issuer: bool,
    ) -> Self {
        let mut api_client = ApiClient::new(api_server, limit, PURPOSE);
        api_client.clock = clock;
        Self { api_client, learn_issuer }
    }

    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<LoadedKeys, VerifyError> {
        let issuer = if self.learn_issuer {
            Some(read_discovery(&self.api_client.get(DISCOVERY_PATH).await?)?.issuer)
        } else {
            None
        };
        let keys = read_keys(&self.api_client.get(KEYS_PATH).await?, algorithms)?;
        Ok(LoadedKeys { keys, issuer })
    }
}
