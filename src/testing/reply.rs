//! Response body that a fault can truncate.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A response body, complete or truncated.
pub(super) struct Reply {
    announced: u64,
    left: Bytes,
    cut: Cut,
}

#[derive(PartialEq)]
enum Cut {
    Never,
    /// After the remaining bytes, once hyper can send them.
    Soon,
    Now,
}

impl Reply {
    pub(super) fn whole(body: Bytes) -> Self {
        Self { announced: body.len() as u64, left: body, cut: Cut::Never }
    }

    /// Truncates to half of the body under the full `Content-Length`, then ends the connection.
    pub(super) fn cut(self) -> Self {
        Self { left: self.left.slice(..self.left.len() / 2), cut: Cut::Soon, ..self }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.left.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.left)))));
        }
        match self.cut {
            Cut::Never => Poll::Ready(None),
            Cut::Soon => {
                // hyper flushes its buffer while a body is pending, and discards it on an error.
                self.cut = Cut::Now;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Cut::Now => Poll::Ready(Some(Err(io::Error::other("cut on purpose")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.cut == Cut::Never
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(if self.cut == Cut::Never {
            self.left.len() as u64
        } else {
            self.announced
        })
    }
}
