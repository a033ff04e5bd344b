//! The body of a response: read whole or line by line, and never beyond a limit.

use std::{error::Error, fmt, io};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a response of the API server. Nothing of it is read in advance.
pub(crate) struct ResponseBody {
    body: UnsyncBoxBody<Bytes, BoxError>,
    /// What has arrived and belongs to no line that was returned.
    pending: BytesMut,
    /// How many of these bytes were searched for the end of a line.
    searched: usize,
}

impl ResponseBody {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let body = body.map_err(Into::into).boxed_unsync();
        Self { body, pending: BytesMut::new(), searched: 0 }
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// If the connection breaks, or the body has more than `limit` bytes ([`TooLarge`]).
    pub(crate) async fn read(mut self, limit: usize) -> Result<Bytes, BoxError> {
        // Not by `Limited`: its bound on the error of a boxed body keeps the future from being
        // `Send` (rust-lang/rust#102211).
        loop {
            if self.pending.len() > limit {
                return Err(TooLarge { what: "the response", limit }.into());
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.append(frame),
                Some(Err(error)) => return Err(error),
                None => return Ok(self.pending.freeze()),
            }
        }
    }

    /// Returns the next line without its end, or `None` at the end of the body. Losing the future
    /// loses no byte.
    ///
    /// # Errors
    /// If the connection breaks, also in the middle of a line, or the line has more than `limit`
    /// bytes ([`TooLarge`]).
    #[cfg_attr(not(feature = "watch"), allow(dead_code, reason = "only a watch reads lines"))]
    pub(crate) async fn next_line(&mut self, limit: usize) -> Result<Option<Bytes>, BoxError> {
        loop {
            let unsearched = self.pending.get(self.searched..).unwrap_or_default();
            if let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') {
                let mut line = self.pending.split_to(self.searched + end + 1);
                self.searched = 0;
                line.truncate(line.len() - 1);
                return Ok(Some(line.freeze()));
            }
            self.searched = self.pending.len();
            if self.pending.len() > limit {
                return Err(TooLarge { what: "a line of the response", limit }.into());
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.append(frame),
                Some(Err(error)) => return Err(error),
                None if self.pending.is_empty() => return Ok(None),
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        }
    }

    /// Not by `extend`, which copies the bytes of a `Bytes` one by one.
    fn append(&mut self, frame: Frame<Bytes>) {
        // Trailers are not data.
        self.pending.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
}

/// A response, or a line of it, has more bytes than the limit of the one who reads it.
#[derive(Debug)]
pub(crate) struct TooLarge {
    what: &'static str,
    limit: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit } = self;
        write!(f, "{what} has more than {limit} bytes")
    }
}

impl Error for TooLarge {}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use http_body_util::Full;

    use super::*;

    /// A body of the chunks that are sent to it.
    struct Chunks(tokio::sync::mpsc::UnboundedReceiver<Result<&'static str, io::Error>>);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk?.into()))))
        }
    }

    fn body(
        chunks: impl IntoIterator<Item = Result<&'static str, io::Error>>,
    ) -> (tokio::sync::mpsc::UnboundedSender<Result<&'static str, io::Error>>, ResponseBody) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        for chunk in chunks {
            sender.send(chunk).unwrap();
        }
        (sender, ResponseBody::new(Chunks(receiver)))
    }

    async fn lines(mut body: ResponseBody) -> (Vec<Bytes>, Option<BoxError>) {
        let mut lines = Vec::new();
        loop {
            match body.next_line(8).await {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error)),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_independent_of_chunks() {
        for chunks in [&["one\ntwo\n\n"][..], &["o", "ne\nt", "wo", "\n", "\n"]] {
            let (sender, body) = body(chunks.iter().map(|chunk| Ok(*chunk)));
            drop(sender);
            let (lines, error) = lines(body).await;
            assert_eq!(lines, ["one", "two", ""]);
            assert!(error.is_none());
        }
    }

    #[tokio::test]
    async fn a_line_is_returned_before_the_body_ends() {
        let (_open, mut body) = body([Ok("one\ntw")]);
        assert_eq!(body.next_line(8).await.unwrap().unwrap(), "one");
    }

    #[tokio::test]
    async fn a_lost_future_loses_no_byte() {
        let (sender, mut body) = body([Ok("on")]);
        tokio::select! {
            biased;
            _ = body.next_line(8) => panic!("there is no line yet"),
            () = std::future::ready(()) => {}
        }
        sender.send(Ok("e\n")).unwrap();
        assert_eq!(body.next_line(8).await.unwrap().unwrap(), "one");
    }

    #[tokio::test]
    async fn a_line_beyond_the_limit_is_an_error() {
        let (_open, body) = body([Ok("12345678\n"), Ok("1234"), Ok("56789")]);
        let (lines, error) = lines(body).await;
        assert_eq!(lines, ["12345678"]);
        let error = error.unwrap();
        assert!(error.is::<TooLarge>() && error.to_string().contains("8 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_ends_within_a_line_is_an_error() {
        let (sender, truncated) = body([Ok("one\ntw")]);
        drop(sender);
        assert!(lines(truncated).await.1.is_some());
        let (_open, broken) = body([Ok("one\n"), Err(io::ErrorKind::ConnectionReset.into())]);
        let (lines, error) = lines(broken).await;
        assert_eq!(lines, ["one"]);
        assert!(error.is_some());
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_not_read() {
        let whole = || ResponseBody::new(Full::<Bytes>::from("12345678"));
        assert_eq!(whole().read(8).await.unwrap(), "12345678");
        assert!(whole().read(7).await.unwrap_err().is::<TooLarge>());
    }
}
