//! A panic in somebody else's future becomes a value, so that it ends nothing but itself.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// The future panicked, and must not be polled again. The panic hook has printed where.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Polls `future`, and catches its panic.
pub(crate) fn poll_caught<F>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<F::Output, Panicked>>
where
    F: Future + ?Sized,
{
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    }
}
