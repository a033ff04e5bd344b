//! Response body that a fault can cut off.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A response body that may end before its time.
pub(super) struct Reply {
    announced: u64,
    left: Bytes,
    cut: Cut,
}

#[derive(PartialEq)]
enum Cut {
    Never,
    /// After what is left, once that had a chance to be sent.
    Soon,
    Now,
}

impl Reply {
    pub(super) fn whole(body: Bytes) -> Self {
        Self { announced: body.len() as u64, left: body, cut: Cut::Never }
    }

    /// Half of the body under a `Content-Length` for all of it, then the end of the connection.
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
                // hyper sends what it has while a body is pending, and would throw it away on an error.
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
