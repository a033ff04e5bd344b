//! The inner part of the crate's error types.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

/// Kind, message, pause and cause of an error. Cheap to clone, because every caller that waited for
/// the same attempt receives it.
#[derive(Clone)]
pub(crate) struct ErrorDetails<K>(Arc<Inner<K>>);

#[derive(Clone)]
struct Inner<K> {
    kind: K,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl<K: Copy + fmt::Debug> ErrorDetails<K> {
    pub(crate) fn new(kind: K, message: Cow<'static, str>) -> Self {
        Self(Arc::new(Inner { kind, message, retry_after: None, source: None }))
    }

    pub(crate) fn with_source(mut self, source: Box<dyn Error + Send + Sync>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::from(source));
        self
    }

    pub(crate) fn with_retry_after(mut self, pause: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(pause);
        self
    }

    pub(crate) fn kind(&self) -> K {
        self.0.kind
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    pub(crate) fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }

    /// Formats the error as the struct `name`.
    pub(crate) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, retry_after, source } = &*self.0;
        f.debug_struct(name)
            .field("kind", kind)
            .field("message", message)
            .field("retry_after", retry_after)
            .field("source", &source.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl<K> fmt::Display for ErrorDetails<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}
