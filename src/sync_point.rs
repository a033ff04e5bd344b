//! Scheduling points for tests that explore thread interleavings; no-ops otherwise.

#[cfg(feature = "testing")]
static HOOK: std::sync::OnceLock<fn()> = std::sync::OnceLock::new();

/// Calls the hook of a test that explores schedules; otherwise does nothing.
#[inline]
pub(crate) fn sync_point() {
    #[cfg(feature = "testing")]
    if let Some(hook) = HOOK.get() {
        hook();
    }
}

/// Sets the function that every scheduling point calls, once for the process. For this crate's own
/// tests.
#[cfg(feature = "testing")]
pub fn set_sync_point_hook(hook: fn()) {
    HOOK.get_or_init(|| hook);
}
