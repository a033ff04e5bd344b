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

/// Implements the constructors, accessors and traits of a public error around [`ErrorDetails`].
macro_rules! error_with_details {
    ($error:ident, $kind:ident) => {
        impl $error {
            /// Creates an error of `kind`. The message is for the operator: it says what failed and
            /// what to do, and never contains a token.
            pub fn new(kind: $kind, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
                Self($crate::error::ErrorDetails::new(kind, message.into()))
            }

            /// Adds the error that caused this one.
            #[must_use]
            pub fn with_source(
                self,
                source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
            ) -> Self {
                Self(self.0.with_source(source.into()))
            }

            /// Adds how long to wait before a retry. A response has it as `Retry-After`, which
            /// defaults to 1 s.
            #[must_use]
            pub fn with_retry_after(self, pause: std::time::Duration) -> Self {
                Self(self.0.with_retry_after(pause))
            }

            /// Returns the kind of failure.
            #[must_use]
            pub fn kind(&self) -> $kind {
                self.0.kind()
            }

            /// Returns how long to wait before a retry, if the backend said so.
            #[must_use]
            pub fn retry_after(&self) -> Option<std::time::Duration> {
                self.0.retry_after()
            }
        }

        impl std::fmt::Display for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.debug(stringify!($error), f)
            }
        }

        impl std::error::Error for $error {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                self.0.source()
            }
        }
    };
}

pub(crate) use error_with_details;
