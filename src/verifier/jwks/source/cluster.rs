//! Keys from the API server itself.

use std::time::Duration;

use super::{read_discovery, read_keys};
use crate::{
    api_server::{ApiServer, Purpose},
    clock::Clock,
    error::VerifyError,
    verifier::jwks::{algorithm::Algorithm, loader::Loaded},
};

const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
const KEYS_PATH: &str = "/openid/v1/jwks";
const PURPOSE: Purpose = Purpose {
    call: "issuer discovery",
    when_forbidden: "bind the ClusterRole `system:service-account-issuer-discovery` to this service's own ServiceAccount: \
                     kubectl create clusterrolebinding NAME --clusterrole=system:service-account-issuer-discovery \
                     --serviceaccount=NAMESPACE:NAME",
};

/// The advertised `jwks_uri` is not followed: a Pod often cannot reach it, and our own token must not go there.
#[derive(Debug)]
pub(in crate::verifier::jwks) struct ClusterSource {
    api_server: ApiServer,
    learn_issuer: bool,
}

impl ClusterSource {
    pub(in crate::verifier::jwks) fn new(
        client: kube::Client,
        limit: Duration,
        clock: Clock,
        learn_issuer: bool,
    ) -> Self {
        let mut api_server = ApiServer::new(client, limit, PURPOSE);
        api_server.clock = clock;
        Self { api_server, learn_issuer }
    }

    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<Loaded, VerifyError> {
        let issuer = if self.learn_issuer {
            Some(read_discovery(&self.api_server.get(DISCOVERY_PATH).await?)?.issuer)
        } else {
            None
        };
        let keys = read_keys(&self.api_server.get(KEYS_PATH).await?, algorithms)?;
        Ok(Loaded { keys, issuer })
    }
}
