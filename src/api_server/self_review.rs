//! What this service may do at the API server (SelfSubjectAccessReview), and whether their clocks
//! agree.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::json;

use super::{
    api_client::ApiClient,
    clock_skew::clock_skew,
    error::{ApiServerError, ApiServerErrorKind, Purpose},
};
use crate::{json::Object, readiness::Need};

const PATH: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const PURPOSE: Purpose = Purpose {
    call: "SelfSubjectAccessReview",
    when_forbidden: "bind the ClusterRole `system:basic-user` to the group `system:authenticated`, as \
                     Kubernetes does by default",
    stage: None,
};
const CLOCK: &str = "clock";
/// The skew that Kubernetes tolerates (`go-jose`'s default leeway is one minute).
const LEEWAY: Duration = Duration::from_secs(60);

/// A right to create a resource.
pub(crate) struct Right {
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) remedy: &'static str,
}

#[derive(Deserialize)]
struct Review {
    status: Object<Status>,
}

#[derive(Deserialize)]
struct Status {
    allowed: bool,
}

impl ApiClient {
    /// Asks whether this service has `right`, and compares the clocks on the way.
    pub(crate) async fn check_right(&self, right: &Right) -> Vec<Need> {
        let client = self.with_purpose(PURPOSE);
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": "create", "group": right.group, "resource": right.resource,
            }},
        });
        let sent = self.clock.wall();
        let response = match client.post_for_response(PATH, review.to_string().into()).await {
            Ok(response) => response,
            Err(error) => return vec![need_of(right.name, &error)],
        };
        let received = self.clock.wall();
        let need = match serde_json::from_slice::<Object<Review>>(response.body()) {
            Ok(Object(Review { status: Object(Status { allowed: true }) })) => {
                Need::met(right.name, "allowed")
            }
            Ok(_) => Need::missing(right.name, "not allowed", right.remedy),
            Err(_) => Need::unknown(
                right.name,
                "the API server's answer is not a SelfSubjectAccessReview with a status",
                "look for a proxy between this service and the API server",
            ),
        };
        [Some(need), clock_skew(response.headers(), sent, received).map(clock_need)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Returns the state of a need whose check failed.
fn need_of(name: &str, error: &ApiServerError) -> Need {
    // Not the text of a transport's error: it may be that of a user's service.
    let remedy = "see the log of the API server";
    match error.kind() {
        ApiServerErrorKind::Unauthenticated => Need::missing(
            name,
            "the API server does not accept this service's own credential (401)",
            "look at the token that the client sends: it is expired, or for another audience or \
             cluster",
        ),
        // The right may be there all the same: other services need not be able to ask.
        ApiServerErrorKind::Forbidden => {
            Need::degraded(name, "this service may not ask (403)", PURPOSE.when_forbidden)
        }
        ApiServerErrorKind::Unavailable => Need::unknown(
            name,
            "the API server cannot be reached, or failed itself",
            "look at the address, the CA and the network policies of this service",
        ),
        ApiServerErrorKind::Timeout => Need::unknown(
            name,
            "no answer from the API server in time",
            "look at the network policies of this service and at the API server's load",
        ),
        ApiServerErrorKind::RateLimited => {
            Need::unknown(name, "the API server asks for a pause (429)", remedy)
        }
        ApiServerErrorKind::InvalidRequest | ApiServerErrorKind::InvalidResponse => {
            Need::unknown(name, "the API server's answer has an unexpected status", remedy)
        }
    }
}

/// Judges the skew between the two clocks. It is no reason to take a service out: if the API server's
/// clock is wrong, that would hit all replicas.
fn clock_need(skew: SignedDuration) -> Need {
    if skew.unsigned_abs() <= LEEWAY {
        return Need::met(CLOCK, "agrees with the API server's");
    }
    let direction = if skew.is_negative() { "ahead of" } else { "behind" };
    let detail = format!("{} s {direction} the API server's", skew.unsigned_abs().as_secs());
    Need::degraded(CLOCK, detail, "synchronise the clocks of the nodes (NTP)")
}
