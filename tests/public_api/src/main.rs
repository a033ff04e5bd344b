//! Prints the public API that rustdoc's JSON describes, one item a line. Fails if an item names a
//! crate that is no part of the interface: a new major version of such a crate would be a breaking
//! change of this one.

use std::{collections::BTreeSet, error::Error, process::ExitCode};

/// Crates that every signature may name.
const ALLOWED: [&str; 14] = [
    "alloc",
    "axum_core",
    "bytes",
    "core",
    "http",
    "http_body",
    "serde",
    "serde_core",
    "serde_json",
    "std",
    "tower_kube_auth",
    "tower_layer",
    "tower_service",
    // Bounds of the `Unpin` implementations that the macro writes.
    "pin_project_lite",
];

/// Parts of the lines that may name kube: the conversion and the re-export, and the embedded
/// cluster's clients.
const ALLOWED_FOR_KUBE: [&str; 4] = [
    "core::convert::From<kube_client::",
    "tower_kube_auth::ApiServer::from(kube_client::",
    "pub use tower_kube_auth::kube",
    "tower_kube_auth::testing::",
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: public_api RUSTDOC_JSON")?;
    let api = public_api::Builder::from_rustdoc_json(path)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()?;
    let mut is_clean = true;
    for item in api.items() {
        let line = item.to_string();
        println!("{line}");
        for name in crates(&line) {
            let is_allowed = ALLOWED.contains(&name)
                || name.starts_with("kube")
                    && ALLOWED_FOR_KUBE.iter().any(|part| line.contains(part));
            if !is_allowed {
                eprintln!("names a type of {name}: {line}");
                is_clean = false;
            }
        }
    }
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The crates at the beginning of the paths in `line`.
fn crates(line: &str) -> BTreeSet<&str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter_map(|path| path.split_once("::"))
        .map(|(first, _)| first)
        .filter(|first| first.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}
