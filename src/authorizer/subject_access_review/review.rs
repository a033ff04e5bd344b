//! One SubjectAccessReview: its cache key, the call, and the reading of its response.

use super::attributes::{AccessAttributes, RequestAttributes};
use crate::{
    api_server::ApiClient,
    api_types::{SubjectAccessReviewRequest, SubjectAccessReviewResponse},
    authorizer::{AuthorizeErrorKind, DenyReason},
    cache::{DigestWriter, Load},
    error::{VerifyError, VerifyErrorKind},
    identity::ServiceAccountIdentity,
    json::{Object, ReadError},
    telemetry::Stage,
    verdict::{Acceptance, Outcome, RejectReason, Verdict},
};

const PATH: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
/// Upper bound for a message of the API server, in characters.
const LONGEST_MESSAGE: usize = 300;

/// Asks the API server. The cache knows its decisions as verdicts about the caller: an acceptance
/// allows, a rejection denies.
pub(super) struct Reviewer {
    pub(super) api_client: ApiClient,
}

/// What a review asks: who, and what.
pub(super) struct Review {
    pub(super) caller: ServiceAccountIdentity,
    pub(super) attributes: AccessAttributes,
}

impl Load for Reviewer {
    type Input = Review;

    const NAME: &'static str = "the SubjectAccessReview";
    const STAGE: Stage = Stage::Authorization;

    fn result(outcome: &Outcome) -> &'static str {
        match outcome {
            Ok(Verdict::Accept(_)) => "allowed",
            Ok(Verdict::Reject(_)) => DenyReason::AccessReview.as_str(),
            Err(error) => AuthorizeErrorKind::of_review(error.kind()).as_str(),
        }
    }

    fn caller(review: &Review) -> Option<&str> {
        Some(review.caller.uid())
    }

    async fn load(&self, review: &Review) -> Outcome {
        let Review { caller, attributes } = review;
        let document = serde_json::to_vec(&SubjectAccessReviewRequest::new(
            caller,
            match attributes {
                AccessAttributes::Resource(resource) => Some(resource),
                AccessAttributes::NonResource(_) => None,
            },
            match attributes {
                AccessAttributes::Resource(_) => None,
                AccessAttributes::NonResource(path) => Some(path),
            },
        ))
        .map_err(|error| {
            VerifyError::new(VerifyErrorKind::Aborted, "SubjectAccessReview: not serialised")
                .with_source(error)
        })?;
        let answer = self.api_client.post(PATH, document.into()).await?;
        let Object(review): Object<SubjectAccessReviewResponse> =
            serde_json::from_slice(&answer).map_err(ReadError::from).map_err(|error| {
                let message = "SubjectAccessReview: the API server's answer is not a \
                               SubjectAccessReview with a status";
                VerifyError::new(VerifyErrorKind::InvalidResponse, message).with_source(error)
            })?;
        let Object(status) = review.status;
        // As in k8s.io/apiserver's webhook authorizer: `denied` overrides `allowed`, and neither is
        // no opinion, which nobody after this authorizer could turn into a right.
        if status.allowed && !status.denied {
            return Ok(Verdict::Accept(Acceptance::new(caller.clone())));
        }
        let (reason, error) = (printable(&status.reason), printable(&status.evaluation_error));
        tracing::debug!(caller = caller.username(), reason, error, "the API server denies access");
        Ok(Verdict::Reject(RejectReason::Denied))
    }

    fn load_now(&self, _: &Review) -> Option<Outcome> {
        None
    }
}

/// Writes what [`Review`] sends, unambiguously: every list with its length, every text with its
/// own.
pub(super) fn write_key(
    caller: &ServiceAccountIdentity,
    attributes: &RequestAttributes<'_>,
    writer: &mut DigestWriter,
) {
    writer.part(caller.username().as_bytes());
    writer.part(caller.uid().as_bytes());
    let groups = caller.groups();
    writer.length(groups.len());
    groups.for_each(|group| writer.part(group.as_bytes()));
    let extra = caller.extra();
    writer.length(extra.len());
    for (key, values) in extra {
        writer.part(key.as_bytes());
        writer.length(values.len());
        values.for_each(|value| writer.part(value.as_bytes()));
    }
    attributes.write_to(writer);
}

/// Returns a message for a log line: without control characters, and cut.
fn printable(message: &str) -> String {
    message.chars().filter(|character| !character.is_control()).take(LONGEST_MESSAGE).collect()
}
