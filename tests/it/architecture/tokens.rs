//! Reads the imports of a source file, by tokens: enough of Rust's grammar for this crate's
//! sources.

/// What a source file imports, outside of its test code.
pub struct SourceFile {
    pub imports: Vec<Import>,
    /// Child modules that are compiled for tests only.
    pub test_modules: Vec<String>,
    /// The file has nothing but `mod` and `use` declarations.
    pub only_declares: bool,
}

pub struct Import {
    pub path: Vec<String>,
    /// The name in scope, `*` for a glob.
    pub name: String,
    /// A re-export.
    pub is_public: bool,
}

impl SourceFile {
    pub fn parse(text: &str) -> Self {
        let (tokens, test_modules) = without_test_code(tokens(text));
        let (mut imports, mut only_declares) = (Vec::new(), true);
        let mut position = 0;
        while position < tokens.len() {
            let rest = &tokens[position..];
            let is_path_start = position == 0 || tokens[position - 1] != "::";
            let length = match rest[0].as_str() {
                "use" if rest.get(1).is_some_and(|next| next != "<") => {
                    let is_public = is_public(&tokens[..position]);
                    let length = until(rest, ";");
                    use_tree(&rest[1..length - 1], &[], is_public, &mut imports);
                    length
                }
                "mod" => until(rest, ";"),
                "#" => attribute_length(rest),
                "pub" if rest.get(1).is_some_and(|next| next == "(") => until(rest, ")"),
                "pub" => 1,
                word if is_path_start && is_word(word) => {
                    only_declares = false;
                    let path = path(rest);
                    let length = path.len() * 2 - 1;
                    // A lone word is a name in scope.
                    if length > 1 {
                        imports.push(Import { path, name: String::new(), is_public: false });
                    }
                    length
                }
                _ => {
                    only_declares = false;
                    1
                }
            };
            position += length;
        }
        Self { imports, test_modules, only_declares }
    }
}

/// Words, `::` and single signs; comments, strings and character literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word =
            rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
            3 + rest[3..].find(end).unwrap_or(rest.len() - 3) + end.len()
        } else if first == '"' {
            string_length(rest)
        } else if first == '\'' && rest.chars().nth(1) == Some('\\') {
            3 + rest[3..].find('\'').unwrap_or(0) + 1
        } else if first == '\'' && rest.chars().nth(2) == Some('\'') {
            rest.chars().take(3).map(char::len_utf8).sum()
        } else if word > 0 {
            found.push(rest[..word].to_owned());
            word
        } else if rest.starts_with("::") {
            found.push("::".into());
            2
        } else {
            if !first.is_whitespace() {
                found.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    found
}

fn string_length(text: &str) -> usize {
    let mut escaped = true;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Removes items behind `#[cfg(test)]`, and returns the names of modules among them.
fn without_test_code(tokens: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut modules, mut rest) = (Vec::new(), Vec::new(), &tokens[..]);
    while !rest.is_empty() {
        if rest[..rest.len().min(7)].concat() != "#[cfg(test)]" {
            kept.push(rest[0].clone());
            rest = &rest[1..];
            continue;
        }
        while rest.first().is_some_and(|token| token == "#") {
            rest = &rest[attribute_length(rest)..];
        }
        // A field, a variant or a match arm ends with a comma; items have commas of their own.
        let is_item = ["pub", "use", "mod", "fn", "async", "impl", "struct", "const", "static"]
            .contains(&rest[0].as_str());
        let (mut depth, mut length) = (0, 0);
        for token in rest {
            length += 1;
            match token.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            let ends = token == ";" || token == "}" || (token == "," && !is_item);
            if depth == 0 && ends {
                break;
            }
        }
        if let Some(at) = rest[..length].iter().position(|token| token == "mod") {
            modules.push(rest[at + 1].clone());
        }
        rest = &rest[length..];
    }
    (kept, modules)
}

/// Adds what `use tree;` imports.
fn use_tree(tree: &[String], prefix: &[String], is_public: bool, imports: &mut Vec<Import>) {
    let mut depth = 0;
    let branches = tree.split(|token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        token == "," && depth == 0
    });
    for branch in branches.filter(|branch| !branch.is_empty()) {
        if let Some(open) = branch.iter().position(|token| token == "{") {
            let prefix = [prefix, &words(&branch[..open])].concat();
            use_tree(&branch[open + 1..branch.len() - 1], &prefix, is_public, imports);
            continue;
        }
        let alias = branch.iter().position(|token| token == "as");
        let mut path = [prefix, &words(&branch[..alias.unwrap_or(branch.len())])].concat();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = alias.map_or(path.last(), |_| branch.last()).cloned().unwrap_or_default();
        imports.push(Import { path, name, is_public });
    }
}

fn words(tokens: &[String]) -> Vec<String> {
    tokens.iter().filter(|token| *token != "::").cloned().collect()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The words of the path that `tokens` begin with.
fn path(tokens: &[String]) -> Vec<String> {
    let mut path = vec![tokens[0].clone()];
    for pair in tokens[1..].chunks_exact(2) {
        if pair[0] != "::" || !is_word(&pair[1]) {
            break;
        }
        path.push(pair[1].clone());
    }
    path
}

fn is_public(before: &[String]) -> bool {
    match before.last().map(String::as_str) {
        Some("pub") => true,
        Some(")") => {
            let open = before.iter().rposition(|token| token == "(").unwrap_or_default();
            open > 0 && before[open - 1] == "pub"
        }
        _ => false,
    }
}

fn until(tokens: &[String], end: &str) -> usize {
    tokens
        .iter()
        .position(|token| token == end || (end == ";" && token == "{" && tokens[0] == "mod"))
        .map_or(tokens.len(), |at| at + 1)
}

fn attribute_length(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if token == "]" && depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}
