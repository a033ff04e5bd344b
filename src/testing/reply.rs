//! Response body: complete, streamed, or truncated by a fault.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::calls::InFlight;

pub(super) struct Reply {
    content: Content,
    cut: Cut,
    /// Counts a stream as a request in progress.
    in_flight: Option<InFlight>,
}

enum Content {
    Whole { announced: u64, left: Bytes },
    Stream(mpsc::Receiver<Bytes>),
}

#[derive(PartialEq)]
enum Cut {
    Never,
    /// After the remaining bytes or the next chunk, once hyper can send them.
    Soon,
    Now,
}

impl Reply {
    pub(super) fn whole(body: Bytes) -> Self {
        let content = Content::Whole { announced: body.len() as u64, left: body };
        Self { content, cut: Cut::Never, in_flight: None }
    }

    /// Sends each chunk as it arrives.
    pub(super) fn stream(chunks: mpsc::Receiver<Bytes>) -> Self {
        Self { content: Content::Stream(chunks), cut: Cut::Never, in_flight: None }
    }

    /// Truncates to half of the body under the full `Content-Length`, or to the first chunk of a
    /// stream, then ends the connection.
    pub(super) fn cut(mut self) -> Self {
        if let Content::Whole { left, .. } = &mut self.content {
            left.truncate(left.len() / 2);
        }
        Self { cut: Cut::Soon, ..self }
    }

    /// Keeps the request in progress until a stream ends. Other requests end here.
    pub(super) fn hold(&mut self, in_flight: InFlight) {
        self.in_flight = matches!(self.content, Content::Stream(_)).then_some(in_flight);
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.content {
            Content::Whole { left, .. } if left.is_empty() => Poll::Ready(None),
            Content::Whole { left, .. } => Poll::Ready(Some(std::mem::take(left))),
            Content::Stream(chunks) => {
                let chunk = ready!(chunks.poll_recv(cx));
                if self.cut == Cut::Soon {
                    self.content = Content::Whole { announced: 0, left: Bytes::new() };
                }
                Poll::Ready(chunk)
            }
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.cut == Cut::Now {
            return Poll::Ready(Some(Err(io::Error::other("cut on purpose"))));
        }
        if let Some(data) = ready!(self.poll_content(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if self.cut == Cut::Never {
            return Poll::Ready(None);
        }
        // hyper flushes its buffer while a body is pending, and discards it on an error.
        self.cut = Cut::Now;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let is_sent = matches!(&self.content, Content::Whole { left, .. } if left.is_empty());
        is_sent && self.cut == Cut::Never
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Stream(_) => SizeHint::default(),
            Content::Whole { left, .. } if self.cut == Cut::Never => {
                SizeHint::with_exact(left.len() as u64)
            }
            Content::Whole { announced, .. } => SizeHint::with_exact(*announced),
        }
    }
}
