//! The layers of the crate: which module may import which, and where an outside crate may appear.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers of ARCHITECTURE.md, from the top: a module imports from layers above its own only.
const LAYERS: [&[&str]; 7] = [
    &[
        "clock",
        "token",
        "audience",
        "identity",
        "jws",
        "inspect",
        "error",
        "json",
        "counters",
        "backoff",
        "catch_panic",
        "sync_point",
    ],
    &["verdict", "api_types"],
    &["api_server", "single_flight", "refresher"],
    &["verifier", "cache", "client"],
    &["authenticator"],
    &["server"],
    &["testing", "guide"],
];

/// An outside crate, and the files or folders of `src` where it may be named.
const CRATES: [(&str, &[&str]); 14] = [
    ("kube", &["api_server", "testing"]),
    ("jsonwebtoken", &["verifier/jwks"]),
    ("arc_swap", &["verifier/jwks", "client"]),
    ("reqwest", &["verifier/jwks"]),
    ("moka", &["cache"]),
    ("papaya", &["cache"]),
    ("highway", &["cache"]),
    ("axum_core", &["server/extract.rs", "server/response.rs"]),
    ("tower_layer", &["server", "client"]),
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
        for import in imports(&text, "crate") {
            let is_above = LAYERS.iter().take(layer).any(|above| above.contains(&import.as_str()));
            if import == own || is_above {
                continue;
            }
            // Unit tests may use the embedded cluster.
            let is_test = text.contains("#[cfg(test)]")
                || path.iter().any(|part| part == "tests" || part == "tests.rs");
            assert!(
                import == "testing" && is_test,
                "{} imports crate::{import}, which is in no layer above its own",
                path.display()
            );
        }
    }
}

#[test]
fn outside_crates_appear_only_where_they_may() {
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
        for (name, places) in CRATES {
            let named = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .any(|line| names(line, name));
            let allowed =
                places.iter().any(|place| path.starts_with(place)) || path.ends_with("tests.rs");
            assert!(!named || allowed, "{} names {name}", path.display());
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

fn names(line: &str, name: &str) -> bool {
    line.match_indices(&format!("{name}::")).any(|(at, _)| {
        !line[..at].ends_with(|before: char| {
            before.is_alphanumeric() || before == '_' || before == ':' || before == '"'
        })
    })
}

/// The first segments behind `root::`, also those within braces: `crate::{a, b::c}`.
fn imports(text: &str, root: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    for (at, _) in code.match_indices(&format!("{root}::")) {
        let rest = &code[at + root.len() + 2..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut word)),
                    _ if depth == 0 => word.push(character),
                    _ => {}
                }
            }
            found.push(word);
        } else {
            found.push(rest.to_owned());
        }
    }
    let first = |path: &String| {
        path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned()
    };
    found
        .iter()
        .map(first)
        .filter(|segment| !segment.is_empty() && segment.starts_with(char::is_lowercase))
        .collect()
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
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
