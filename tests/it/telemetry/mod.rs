//! The metrics that a service records: names, labels, and that each outcome counts as itself.

mod attempts;
mod calls;
mod cardinality;
mod gauges;

use std::collections::BTreeMap;

const ATTEMPTS: &str = "authentication_attempts_total";
const AUTHORIZATIONS: &str = "authorization_attempts_total";

fn once(label: &str) -> BTreeMap<String, f64> {
    [(label.to_owned(), 1.0)].into()
}
