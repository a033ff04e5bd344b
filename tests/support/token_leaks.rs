//! A log subscriber that ends the test run when a token is logged: it captures every line at TRACE.

use std::{
    io::{self, Write},
    sync::{Mutex, Once},
};

use tracing_subscriber::fmt::MakeWriter;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Installs the subscriber. Every fixture calls it.
pub fn watch() {
    static START: Once = Once::new();
    START.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(Watcher)
            .with_ansi(false)
            .init();
    });
}

pub fn logged(text: &str) -> bool {
    String::from_utf8_lossy(&LOG.lock().unwrap()).contains(text)
}

/// Finds a JWT: a part that begins like the base64url of `{"`, and a second part behind a dot.
fn find_token(text: &str) -> Option<&str> {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.split(|character: char| !character.is_ascii() || !is_token_byte(character as u8))
        .find(|word| word.starts_with("eyJ") && word.len() > 40 && word.contains('.'))
}

struct Watcher;

impl Write for Watcher {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        // The second is the signature of `support::token`.
        if find_token(&text).is_some() || text.contains("c2lnbmF0dXJl") {
            // Not by `eprintln!`, which the test harness captures and the exit discards.
            let _ = writeln!(io::stderr(), "a token was logged; the line begins: {text:.80}");
            std::process::exit(101);
        }
        LOG.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Watcher {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        Self
    }
}

#[test]
fn the_watcher_recognizes_a_token() {
    let token = super::token("a");
    assert!(find_token(&format!("Authorization: Bearer {token}")).is_some());
    assert!(find_token(&format!("{{\"token\":\"{token}\"}}")).is_some());
    assert!(find_token("BearerToken(1165 bytes, redacted) eyJ eyJhbGciOi").is_none());
}
