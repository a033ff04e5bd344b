//! The walls: which room may import which, and where an outside crate may appear.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rows of ARCHITECTURE.md, from the top: a room imports rooms of rows above its own only.
const ROWS: [&[&str]; 7] = [
    &[
        "clock",
        "token",
        "audience",
        "identity",
        "inspect",
        "error",
        "json",
        "counters",
        "sync_point",
        "catch_panic",
    ],
    &["verdict", "api_types"],
    &["api_server"],
    &["verifier", "cache", "client"],
    &["authenticator"],
    &["server"],
    &["testing"],
];

/// An outside crate, and the files or folders of `src` where it may be named.
const CRATES: [(&str, &[&str]); 14] = [
    ("kube", &["api_server.rs", "verifier/token_review", "verifier/jwks", "client", "testing"]),
    ("jsonwebtoken", &["verifier/jwks"]),
    ("arc_swap", &["verifier/jwks", "client"]),
    ("reqwest", &["verifier/jwks"]),
    ("moka", &["cache"]),
    ("papaya", &["cache"]),
    ("highway", &["cache"]),
    ("axum_core", &["server/extract.rs", "server/response.rs"]),
    ("tower_layer", &["server", "client"]),
    ("tower_service", &["server", "client"]),
    ("rustls_pki_types", &["verifier/jwks", "testing"]),
    ("rustls", &["verifier/jwks", "testing"]),
    ("tokio_rustls", &["testing"]),
    ("rcgen", &["testing"]),
];

#[test]
fn rooms_import_only_from_rows_above_their_own() {
    for (path, text) in sources() {
        let Some(row) = row_of(&path) else { continue };
        let own = room_of(&path);
        for import in imports(&text, "crate") {
            if import == own || ROWS.iter().take(row).any(|above| above.contains(&import.as_str()))
            {
                continue;
            }
            // The tests beside the code may use the help for tests.
            let is_test = text.contains("#[cfg(test)]")
                || path.iter().any(|part| part == "tests" || part == "tests.rs");
            let is_test_help = import == "testing" && is_test;
            assert!(
                is_test_help,
                "{} imports crate::{import}, which is not in a row above it",
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
fn every_room_has_a_row_and_no_room_is_a_drawer() {
    for (path, _) in sources() {
        assert!(
            path == Path::new("lib.rs") || row_of(&path).is_some(),
            "{} is in no row",
            path.display()
        );
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            !["util", "utils", "types", "common", "helpers", "misc"].contains(&name),
            "{}",
            path.display()
        );
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

fn room_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn row_of(path: &Path) -> Option<usize> {
    let room = room_of(path);
    ROWS.iter().position(|row| row.contains(&room.as_str()))
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
