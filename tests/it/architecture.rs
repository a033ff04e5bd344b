//! The layers of the crate: which module may import which, and where an outside crate may appear.

mod file_graph;
mod tokens;

use std::{
    fs,
    path::{Path, PathBuf},
};

use file_graph::FileGraph;
use tokens::SourceFile;

/// The layers of ARCHITECTURE.md, from the top: a module imports from layers above its own only.
const LAYERS: [&[&str]; 9] = [
    &[
        "clock",
        "token",
        "audience",
        "identity",
        "jws",
        "error",
        "json",
        "counters",
        "backoff",
        "lock",
        "catch_panic",
        "mounted_file",
        "sync_point",
    ],
    &["verdict", "api_types", "inspect", "readiness", "telemetry", "warn_limit"],
    &["api_server", "single_flight", "background_task"],
    &["live_objects"],
    &["cache"],
    &["verifier", "authorizer", "client"],
    &["authenticator"],
    &["server"],
    &["testing", "guide", "metrics_auth", "config"],
];

/// An outside crate, and the files or folders of `src` where it may be named.
const CRATES: [(&str, &[&str]); 16] = [
    ("kube", &["api_server", "lib.rs", "testing"]),
    ("serde_path_to_error", &["config"]),
    ("jsonwebtoken", &["verifier/jwks"]),
    ("arc_swap", &["verifier/jwks", "client"]),
    ("reqwest", &["verifier/jwks"]),
    ("moka", &["cache"]),
    ("papaya", &["cache"]),
    ("highway", &["cache"]),
    ("metrics", &["telemetry"]),
    ("axum_core", &["server/extract.rs", "server/response.rs"]),
    ("tower_layer", &["metrics_auth.rs", "server", "client"]),
    ("tower_service", &["api_server", "server", "client"]),
    ("rustls_pki_types", &["verifier/jwks", "testing"]),
    ("rustls", &["verifier/jwks", "testing"]),
    ("tokio_rustls", &["testing"]),
    ("rcgen", &["testing"]),
];

#[test]
fn modules_import_only_from_layers_above_their_own() {
    for (path, text) in sources() {
        let Some(layer) = layer_of(&path) else { continue };
        let own = module_of(&path);
        // Unit tests may use the embedded cluster.
        let is_test = path.iter().any(|part| part == "tests" || part == "tests.rs");
        for import in SourceFile::parse(&text).imports {
            let [root, module, ..] = &import.path[..] else { continue };
            let is_module = root == "crate" && module.starts_with(char::is_lowercase);
            let is_above = LAYERS.iter().take(layer).any(|above| above.contains(&module.as_str()));
            let is_allowed = *module == own || is_above || (is_test && module == "testing");
            assert!(
                !is_module || is_allowed,
                "{} imports crate::{module}, which is in no layer above its own",
                path.display()
            );
        }
    }
}

#[test]
fn no_files_import_each_other() {
    let graph = FileGraph::new(&sources());
    let circular = graph.circular_edges();
    assert!(circular.is_empty(), "files import each other: {circular:#?}");
}

#[test]
fn outside_crates_appear_only_where_they_may() {
    for (path, text) in sources() {
        let imports = SourceFile::parse(&text).imports;
        for (name, places) in CRATES {
            let is_named = imports.iter().any(|import| import.path[0] == name);
            let is_allowed =
                places.iter().any(|place| path.starts_with(place)) || path.ends_with("tests.rs");
            assert!(!is_named || is_allowed, "{} names {name}", path.display());
        }
    }
}

#[test]
fn every_module_has_a_layer_and_a_name_that_says_what_it_holds() {
    for (path, _) in sources() {
        let is_placed = path == Path::new("lib.rs") || layer_of(&path).is_some();
        assert!(is_placed, "{} is in no layer", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_vague = ["util", "utils", "types", "common", "helpers", "misc"].contains(&name);
        assert!(!is_vague, "{}", path.display());
    }
}

fn module_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn layer_of(path: &Path) -> Option<usize> {
    let module = module_of(path);
    LAYERS.iter().position(|layer| layer.contains(&module.as_str()))
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 20, "the sources were not found");
    files
}
