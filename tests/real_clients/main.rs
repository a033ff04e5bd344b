//! nginx and Prometheus in front of the examples, against the embedded cluster. A test whose program
//! is not installed is listed as ignored; `.ci/real-clients` installs them and lets none be ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a failed expectation fails the test"
)]

mod alerts;
mod dashboard;
mod nginx;
mod process;
mod prometheus;

#[allow(dead_code, missing_docs, reason = "its `main` is not used here")]
#[path = "../../examples/auth_request.rs"]
mod auth_request;
#[allow(dead_code, missing_docs, reason = "its `main` is not used here")]
#[path = "../../examples/operator_metrics.rs"]
mod operator_metrics;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let trials = [
        trial("nginx", "decides_by_the_answer_to_its_subrequest", nginx::decides),
        trial("nginx", "passes_the_verified_identity_and_no_forged_one", nginx::passes_identity),
        trial("nginx", "makes_a_503_of_an_undecided_request", nginx::undecided),
        trial("prometheus", "scrapes_with_a_role_and_not_without", prometheus::scrapes),
        trial("prometheus", "recovers_after_an_outage_of_the_api_server", prometheus::recovers),
        trial("prometheus", "alerts_of_a_flood", alerts::flood),
        trial("prometheus", "alerts_of_saturation", alerts::saturation),
        trial("prometheus", "alerts_of_an_outage", alerts::outage),
        trial("prometheus", "alerts_of_an_active_fallback", alerts::fallback),
        trial("prometheus", "alerts_of_a_missing_right", alerts::missing_rights),
        trial("prometheus", "alerts_of_missing_access_reviews", alerts::missing_access_reviews),
        trial("prometheus", "alerts_of_a_rejected_token", alerts::own_token_rejected),
        trial("prometheus", "alerts_of_stale_keys", alerts::stale_keys),
        trial("prometheus", "alerts_of_a_broken_watch", alerts::broken_watch),
        trial("prometheus", "alerts_of_a_stuck_key_rotation", alerts::stuck_rotation),
        trial("prometheus", "alerts_of_clock_skew", alerts::clock_skew),
        trial("prometheus", "alerts_of_an_expiring_token", alerts::expiring_token),
        trial("prometheus", "alerts_of_slowness", alerts::slowness),
        trial("prometheus", "answers_every_query_of_the_dashboard", dashboard::answers),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit()
}

fn trial<F>(program: &'static str, name: &str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    let run = move || {
        // On one thread, because a recorder of metrics is a thread's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
        Ok(())
    };
    Trial::test(format!("{program}::{name}"), run)
        .with_ignored_flag(!process::is_installed(program))
}
