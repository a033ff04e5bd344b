//! The scenarios. Each is one function for all clusters and versions.

mod access_reviews;
mod api_answers;
mod audiences;
mod bearers;
mod bound_tokens;
mod combinations;
mod deletions;
mod forged_claims;
mod forged_tokens;
mod in_cluster;
mod issuer_documents;
mod legacy_tokens;
mod live_objects;
mod local_reviews;
mod lost_store;
mod restarts;
mod rights;
mod rotations;
mod self_checks;
mod signing;
mod token_bindings;
mod token_sources;
mod watches;
mod whitespace;

use std::pin::Pin;

use tower_kube_auth::testing::Algorithm;

use crate::{
    cluster::Options,
    fixture::{Fixture, Outcome},
};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: fn(Fixture) -> Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

/// The kind of cluster that a scenario needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Needs {
    /// Any cluster, which the scenario leaves unchanged.
    Shared,
    /// One whose signing key and static tokens are known, which the scenario leaves unchanged.
    SharedWithKeys,
    /// A cluster for this scenario alone.
    Own(Options),
}

/// A former issuer that some clusters still accept.
const SECOND_ISSUER: &str = "https://previous-issuer.example";

macro_rules! scenarios {
    ($($needs:expr => $module:ident::{$($name:ident),+ $(,)?}),+ $(,)?) => {
        vec![$($(Scenario {
            name: concat!(stringify!($module), "::", stringify!($name)),
            needs: $needs,
            run: |fixture| Box::pin($module::$name(fixture)),
        }),+),+]
    };
}

/// Returns all scenarios, first those that start a server, because they take longest.
pub(crate) fn all() -> Vec<Scenario> {
    let own = Needs::Own(Options::default());
    let es256 = Needs::Own(Options { algorithm: Algorithm::ES256, ..Options::default() });
    let second_issuer =
        Needs::Own(Options { second_issuer: Some(SECOND_ISSUER), ..Options::default() });
    scenarios![
        own => restarts::{a_restart_causes_only_503s_and_needs_no_help},
        own => token_sources::{a_token_source_survives_an_outage},
        own => combinations::{in_an_outage_the_fallback_decides_and_marks_the_identity},
        own => lost_store::{an_account_that_cannot_be_looked_up_is_undecided},
        own => watches::{an_expired_version_is_an_error_event},
        own => rotations::{old_and_new_tokens_are_accepted_without_a_restart_of_the_service},
        own => rights::{without_discovery_rights_the_error_names_the_role},
        own => self_checks::{keys_that_cannot_be_loaded_are_reported},
        es256 => signing::{es256_tokens_are_verified},
        second_issuer => signing::{a_second_issuer_is_accepted},
        Needs::Shared => combinations::{
            forged_tokens_are_rejected_by_the_screen_without_a_review,
            a_deletion_is_noticed_behind_a_screen,
            an_invalidation_takes_effect_before_the_cache_ttl_ends,
        },
        Needs::Shared => deletions::{
            a_token_ends_with_its_pod,
            a_token_ends_with_its_secret,
            a_recreated_service_account_is_another_one,
        },
        Needs::Shared => audiences::{
            both_verifiers_accept_and_return_the_same_identity,
            another_audience_is_rejected,
            a_token_with_two_audiences_is_accepted_for_each,
            a_token_for_the_api_server_is_for_no_other_audience,
            the_api_servers_audience_is_accepted_on_purpose_only,
        },
        Needs::Shared => bound_tokens::{
            a_bound_pod_is_in_the_identity_with_its_uid,
            a_bound_secret_is_not_in_the_identity,
        },
        Needs::SharedWithKeys => bound_tokens::{the_node_is_in_the_identity_since_1_30},
        Needs::Shared => forged_tokens::{
            garbage_is_rejected,
            the_signature_of_another_key_is_rejected,
            unsigned_tokens_are_rejected,
            a_swapped_payload_is_rejected,
            other_spellings_of_a_signature_are_rejected,
            the_json_serialization_is_rejected,
        },
        Needs::SharedWithKeys => forged_tokens::{hs256_with_the_public_key_is_rejected},
        Needs::SharedWithKeys => forged_claims::{
            exp_is_enforced,
            nbf_and_iat_in_the_future_are_not_valid_yet,
            claims_of_anything_but_a_service_account_are_rejected,
        },
        Needs::SharedWithKeys => legacy_tokens::{the_token_of_a_secret_is_for_the_api_server_only},
        Needs::Shared => bearers::{
            a_request_without_a_credential_is_401_with_a_bare_challenge,
            anonymous_verifiers_are_forbidden,
        },
        Needs::SharedWithKeys => bearers::{a_user_is_not_a_service_account},
        Needs::Shared => whitespace::{tokens_with_whitespace_never_reach_the_api_server},
        Needs::Shared => rights::{without_auth_delegator_the_error_names_the_role},
        Needs::Shared => access_reviews::{
            a_rule_for_paths_decides_about_path_and_method,
            a_rule_for_resources_decides_about_each_attribute,
            a_binding_to_a_group_counts_for_its_members,
            without_auth_delegator_nothing_is_decided,
        },
        Needs::Shared => self_checks::{
            a_service_with_all_its_rights_meets_all_needs,
            a_missing_right_is_reported_alone,
            an_own_token_for_another_audience_and_a_skewed_clock_are_reported,
            a_self_review_answers_for_the_caller,
        },
        Needs::Shared => local_reviews::{
            the_identity_is_that_of_token_review,
            a_deletion_rejects_also_what_token_review_still_accepts,
        },
        Needs::Shared => api_answers::{
            a_token_request_returns_the_expiry_of_the_token,
            invalid_token_requests_fail_with_the_documented_status,
            an_invalid_token_is_distinguished_from_an_invalid_caller,
        },
        Needs::Shared => watches::{
            the_pages_of_a_list_have_one_version,
            a_watch_delivers_additions_marks_and_deletions,
            a_watch_without_a_version_starts_with_the_objects,
            a_watch_ends_at_its_timeout_after_a_bookmark,
            listing_and_watching_need_rights,
        },
        Needs::Shared => live_objects::{
            deletions_are_seen_without_a_review,
            labels_and_owners_of_pods_are_kept,
            the_missing_right_on_one_kind_is_named,
        },
        Needs::Shared => issuer_documents::{
            the_discovery_document_is_as_expected,
            the_key_set_is_as_expected,
        },
        Needs::Shared => in_cluster::{a_projected_volume_is_sufficient},
        Needs::Shared => token_sources::{
            the_own_token_names_the_account_and_the_manifest_grants_enough,
            requested_audiences_are_in_the_token_and_none_means_the_api_server,
            the_lifetime_is_that_of_the_status,
            the_expiry_is_that_of_the_status_even_if_exp_is_a_year_later,
            the_limits_of_the_lifetime_are_those_of_the_server,
            the_error_names_a_missing_service_account,
            a_rejected_token_is_replaced,
            a_projected_token_is_sent_without_its_line_end,
        },
        Needs::Shared => token_bindings::{
            a_token_can_be_bound_to_a_pod_a_secret_and_the_own_pod,
            a_failed_binding_is_an_error_with_the_reason,
        },
        Needs::SharedWithKeys => token_bindings::{
            a_token_can_be_bound_to_a_node_if_the_version_supports_it,
        },
    ]
}
