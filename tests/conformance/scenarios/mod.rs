//! The scenarios. Each is one function for all clusters; what differs between versions it says by version.

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
mod lost_store;
mod restarts;
mod rights;
mod rotations;
mod signing;
mod token_bindings;
mod token_sources;
mod whitespace;

use std::pin::Pin;

use tower_kube_auth::testing::Algorithm;

use crate::{
    cluster::Options,
    scene::{Outcome, Scene},
};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: fn(Scene) -> Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

/// What kind of cluster a scenario takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Needs {
    /// Any; it is left as it was.
    Shared,
    /// One whose signing key or static tokens we know; it is left as it was.
    SharedOfOurs,
    /// One of its own, to do with as it likes.
    Own(Options),
}

/// The issuer of another time, which some scenarios' clusters still accept.
const SECOND_ISSUER: &str = "https://previous-issuer.example";

macro_rules! scenarios {
    ($($needs:expr => $room:ident::{$($name:ident),+ $(,)?}),+ $(,)?) => {
        vec![$($(Scenario {
            name: concat!(stringify!($room), "::", stringify!($name)),
            needs: $needs,
            run: |scene| Box::pin($room::$name(scene)),
        }),+),+]
    };
}

/// All scenarios. Those that start a server come first, because they take longest.
pub(crate) fn all() -> Vec<Scenario> {
    let own = Needs::Own(Options::default());
    let es256 = Needs::Own(Options { algorithm: Algorithm::ES256, ..Options::default() });
    let second_issuer =
        Needs::Own(Options { second_issuer: Some(SECOND_ISSUER), ..Options::default() });
    scenarios![
        own => restarts::{only_503s_and_recovery_without_help},
        own => token_sources::{an_outage_is_sat_out},
        own => combinations::{in_an_outage_the_fallback_decides_and_says_so},
        own => lost_store::{what_cannot_be_looked_up_is_undecided},
        own => rotations::{old_and_new_tokens_are_accepted_without_a_restart_on_our_side},
        own => rights::{without_discovery_rights_the_role_is_named},
        es256 => signing::{es256_tokens_are_verified},
        second_issuer => signing::{a_second_issuer_is_accepted},
        Needs::Shared => combinations::{
            junk_stays_at_the_screen,
            a_deletion_is_seen_behind_a_screen,
            an_invalidation_is_faster_than_the_cache,
        },
        Needs::Shared => deletions::{
            a_token_ends_with_its_pod,
            a_token_ends_with_its_secret,
            a_recreated_service_account_is_another_one,
        },
        Needs::Shared => audiences::{
            both_verifiers_accept_and_agree,
            another_audience_is_refused,
            two_audiences_in_the_token,
            the_api_servers_own_audience,
        },
        Needs::Shared => bound_tokens::{a_pod_arrives_with_its_uid, a_secret_does_not_arrive},
        Needs::SharedOfOurs => bound_tokens::{the_node_arrives_from_1_30_on},
        Needs::Shared => forged_tokens::{
            garbage_is_refused,
            another_keys_signature_is_refused,
            unsigned_tokens_are_refused,
            a_swapped_payload_is_refused,
            respelled_signatures_are_refused,
            json_serialisation_is_refused,
        },
        Needs::SharedOfOurs => forged_tokens::{hs256_with_the_public_key_is_refused},
        Needs::SharedOfOurs => forged_claims::{
            expiry_is_kept,
            times_to_come_are_not_valid_yet,
            claims_that_are_not_a_service_accounts,
        },
        Needs::SharedOfOurs => legacy_tokens::{a_secrets_token_is_for_the_api_server_only},
        Needs::Shared => bearers::{without_a_credential, anonymous_verifiers_are_forbidden},
        Needs::SharedOfOurs => bearers::{a_user_is_not_a_service_account},
        Needs::Shared => whitespace::{tokens_with_whitespace_never_reach_the_api_server},
        Needs::Shared => rights::{without_auth_delegator_the_role_is_named},
        Needs::Shared => api_answers::{
            a_token_request_says_when_the_token_ends,
            token_requests_are_refused_as_documented,
            a_bad_token_is_told_from_a_bad_caller,
        },
        Needs::Shared => issuer_documents::{discovery, keys},
        Needs::Shared => in_cluster::{a_projected_volume_is_all_it_takes},
        Needs::Shared => token_sources::{
            who_we_are_is_in_our_own_token_and_the_manifests_rights_are_enough,
            all_requested_audiences_are_in_the_token_and_none_means_the_api_servers,
            the_life_is_that_of_the_status,
            the_trap_of_3607_seconds,
            the_limits_of_the_life_are_the_servers,
            a_service_account_that_is_not_there_is_named,
            a_refused_token_is_replaced,
            a_projected_token_is_sent_as_it_is_in_the_file,
        },
        Needs::Shared => token_bindings::{
            a_token_can_be_bound_to_a_pod_a_secret_and_our_own_pod,
            what_cannot_be_bound_to_is_refused_with_the_reason,
        },
        Needs::SharedOfOurs => token_bindings::{a_node_from_the_version_on_that_can},
    ]
}
