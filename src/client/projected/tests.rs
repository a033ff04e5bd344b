//! Token files: when they are read again, with a counting file system and an injected clock.

use std::{
    io::{self, ErrorKind},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::SystemTime,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::*;
use crate::clock::manual::ManualClock;

const MINUTE: Duration = Duration::from_secs(60);

/// A file system of one file that counts its reads.
struct Disk {
    content: Mutex<Result<String, ErrorKind>>,
    reads: AtomicU32,
}

impl Disk {
    fn with(content: &str) -> Arc<Self> {
        Arc::new(Self { content: Mutex::new(Ok(content.to_owned())), reads: AtomicU32::new(0) })
    }

    fn write(&self, content: impl Into<String>) {
        *self.content.lock().unwrap() = Ok(content.into());
    }

    fn break_with(&self, error: ErrorKind) {
        *self.content.lock().unwrap() = Err(error);
    }

    fn reads(&self) -> u32 {
        self.reads.load(Ordering::SeqCst)
    }

    fn source(self: &Arc<Self>, clock: Clock) -> ProjectedToken {
        let disk = Arc::clone(self);
        let read = move |path: &Path| {
            assert_eq!(path, Path::new("/mount/token"));
            disk.reads.fetch_add(1, Ordering::SeqCst);
            disk.content.lock().unwrap().clone().map(Zeroizing::new).map_err(io::Error::from)
        };
        ProjectedToken::with("/mount/token".into(), clock, Arc::new(read))
    }
}

/// A token that ends at `expiry`.
fn jwt(name: &str, expiry: SystemTime) -> String {
    let expiry = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{expiry},"jti":"{name}"}}"#));
    format!("{}.{claims}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#))
}

async fn secret(source: &ProjectedToken) -> String {
    source.token().await.unwrap().expose_secret().to_owned()
}

/// Moves the clock and lets the background task read, on its other thread, as often as it has
/// reason to: tokio's paused time does not move while a thread is reading or a task can run.
async fn advance(clock: &ManualClock, duration: Duration, disk: &Disk, reads: u32) {
    clock.advance(duration);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(disk.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn a_token_file_is_re_read_every_minute_and_not_once_a_request() {
    let clock = ManualClock::new();
    let end = clock.clock().wall() + MINUTE * 60;
    let disk = Disk::with(&jwt("first", end));
    let source = disk.source(clock.clock());
    for minute in 0..5 {
        for _ in 0..10_000 {
            secret(&source).await;
        }
        assert_eq!(disk.reads(), minute + 1, "zero I/O between refreshes");
        disk.write(jwt(&format!("after-{minute}"), end));
        advance(&clock, MINUTE, &disk, minute + 2).await;
        assert_eq!(secret(&source).await, jwt(&format!("after-{minute}"), end));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_file_is_re_read_on_half_of_the_remaining_life() {
    let clock = ManualClock::new();
    let disk = Disk::with(&jwt("short", clock.clock().wall() + Duration::from_secs(41)));
    let source = disk.source(clock.clock());
    secret(&source).await;
    advance(&clock, Duration::from_secs(18), &disk, 1).await;
    advance(&clock, Duration::from_secs(3), &disk, 2).await;
    drop(source);
}

#[tokio::test(start_paused = true)]
async fn the_token_in_the_file_is_trimmed() {
    let clock = Clock::system();
    let token = jwt("t", clock.wall() + MINUTE);
    for padded in [format!("{token}\n"), format!("\r\n \t{token}  \r\n")] {
        assert_eq!(secret(&Disk::with(&padded).source(clock.clone())).await, token);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_or_non_jwt_file_is_an_error_that_names_the_file() {
    let cases = [
        ("", "empty"),
        (" \n", "empty"),
        ("hello", "not a ServiceAccount token"),
        ("a.b.c", "base64"),
        ("e30.e30.two words", "token68"),
        ("{\"kind\":\"ExecCredential\"}", "three parts"),
    ];
    for (content, expected) in cases {
        let error = Disk::with(content).source(Clock::system()).token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Malformed, "{content:?}");
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("/mount/token"), "{text}");
        assert!(
            content.trim().is_empty() || !format!("{error:?}").contains(content.trim()),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_is_an_error_that_says_what_to_do() {
    let disk = Disk::with("");
    for (problem, hint) in [
        (ErrorKind::NotFound, "projected volume"),
        (ErrorKind::PermissionDenied, "fsGroup"),
        (ErrorKind::Other, "mounted"),
    ] {
        disk.break_with(problem);
        let error = disk.source(Clock::system()).token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Unreadable);
        assert!(
            error.to_string().contains(hint) && error.to_string().contains("/mount/token"),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_re_read_keeps_the_last_token_until_it_expires() {
    for bad in [Err(ErrorKind::NotFound), Ok(""), Ok("junk")] {
        let clock = ManualClock::new();
        let token = jwt("good", clock.clock().wall() + MINUTE * 3);
        let disk = Disk::with(&token);
        let source = disk.source(clock.clock());
        secret(&source).await;
        match bad {
            Err(error) => disk.break_with(error),
            Ok(content) => disk.write(content),
        }
        advance(&clock, MINUTE, &disk, 2).await;
        assert_eq!(secret(&source).await, token);
        advance(&clock, MINUTE, &disk, 3).await;
        assert_eq!(secret(&source).await, token);
        advance(&clock, MINUTE + Duration::from_secs(1), &disk, 4).await;
        let error = source.token().await.unwrap_err();
        assert!(
            matches!(error.kind(), TokenErrorKind::Unreadable | TokenErrorKind::Malformed),
            "{error}"
        );

        disk.write(jwt("new", clock.clock().wall() + MINUTE * 3));
        advance(&clock, MINUTE, &disk, 5).await;
        assert_eq!(secret(&source).await, *disk.content.lock().unwrap().as_ref().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_with_an_expired_token_is_an_error_and_the_token_is_not_handed_out() {
    let clock = ManualClock::new();
    let disk = Disk::with(&jwt("old", clock.clock().wall()));
    let error = disk.source(clock.clock()).token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Expired);
    assert!(error.to_string().contains("/mount/token"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_401_makes_the_file_be_read_again() {
    let clock = ManualClock::new();
    let end = clock.clock().wall() + MINUTE * 60;
    let disk = Disk::with(&jwt("first", end));
    let source = disk.source(clock.clock());
    let first = source.token().await.unwrap();
    disk.write(jwt("second", end));
    assert_eq!(secret(&source).await, jwt("first", end));
    source.invalidate(&first);
    assert_eq!(secret(&source).await, jwt("second", end));
    assert_eq!(disk.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_without_expiry_is_re_read_every_minute_too() {
    let clock = ManualClock::new();
    let disk = Disk::with("e30.e30.c2ln");
    let source = disk.source(clock.clock());
    assert_eq!(source.token().await.unwrap().expires_at(), None);
    advance(&clock, MINUTE, &disk, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_beyond_the_size_limit_is_not_read_into_memory() {
    let path = std::env::temp_dir().join(format!("tower-kube-auth-long-{}", std::process::id()));
    std::fs::write(&path, "x".repeat(1_000_000)).unwrap();
    let error = ProjectedToken::new(&path).token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Malformed);
    assert!(error.to_string().contains("longer than"), "{error}");
    std::fs::remove_file(path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_runtime_is_not_blocked_by_a_file_system_that_hangs() {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let read = move |_: &Path| {
        let _ = gate.lock().unwrap().recv();
        Ok(Zeroizing::new("e30.e30.c2ln".to_owned()))
    };
    let source = ProjectedToken::with("/mount/token".into(), Clock::system(), Arc::new(read));
    // On a runtime with one thread: if reading blocked it, nothing could open the gate.
    let (token, ()) = tokio::join!(source.token(), async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        open.send(()).unwrap();
    });
    assert_eq!(token.unwrap().expose_secret(), "e30.e30.c2ln");
}
