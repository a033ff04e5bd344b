//! A panic in somebody else's code becomes a value, so that it ends nothing but itself.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// It panicked; a future must not be polled again. The panic hook has printed where.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Calls `function`, and catches its panic.
pub(crate) fn call_caught<T>(function: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(function)).map_err(|_| Panicked)
}

/// Polls `future`, and catches its panic.
pub(crate) fn poll_caught<F>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Panicked>>
where
    F: Future + ?Sized,
{
    match call_caught(|| future.poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    }
}
