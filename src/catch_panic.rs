//! Converts panics in user-supplied code into values.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// The code panicked. The panic hook has printed where.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Calls `function` and catches a panic.
pub(crate) fn call_caught<T>(function: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(function)).map_err(|_| Panicked)
}

/// Polls `future` and catches a panic, after which it must not be polled again.
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
