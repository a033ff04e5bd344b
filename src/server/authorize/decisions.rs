//! What becomes of a decision: the request goes on, or it is rejected. Logs and counts.

use std::sync::Arc;

use http::Request;

use crate::{
    authorizer::{AuthorizeError, Decision, RequestHead},
    clock::Clock,
    counters::Counter,
    identity::ServiceAccountIdentity,
    server::{rejection::Rejection, rejection_log, service::Anonymous},
    telemetry::{self, Hits, Stage},
    warn_limit::WarnLimit,
};

#[derive(Clone, Debug, Default)]
pub(super) struct Decisions {
    pub(super) report_only: bool,
    logged: Arc<Logged>,
}

/// Shared by the services of a layer, so that no line comes at the rate of requests.
#[derive(Debug)]
struct Logged {
    warn_limit: WarnLimit,
    let_through: Counter,
    report_limit: WarnLimit,
    allowed: Hits,
}

impl Default for Logged {
    fn default() -> Self {
        Self {
            warn_limit: WarnLimit::default(),
            let_through: Counter::default(),
            report_limit: WarnLimit::default(),
            allowed: Hits::new(Stage::Authorization, &Clock::system()),
        }
    }
}

impl Decisions {
    pub(super) fn let_through(&self) -> u64 {
        self.logged.let_through.get()
    }

    /// Counts a request that is allowed.
    #[inline]
    pub(super) fn allow(&self) {
        self.logged.allowed.increment();
        self.logged.allowed.publish_if_due(&Clock::system());
    }

    /// Returns the rejection that `decision` leads to; none if the request goes on.
    pub(super) fn rejection(
        &self,
        decision: Result<Decision, AuthorizeError>,
        caller: &ServiceAccountIdentity,
        head: RequestHead<'_>,
    ) -> Option<Rejection> {
        let rejection = match decision {
            Ok(Decision::Allow) => {
                self.allow();
                return None;
            }
            Ok(Decision::Deny(reason)) => Rejection::Forbidden(reason),
            Err(error) => Rejection::AuthorizationUnavailable(error),
        };
        telemetry::attempt(Stage::Authorization, rejection.reason());
        if self.report_only {
            self.report(&rejection, Some(caller), head);
            return None;
        }
        rejection_log::log_authorization(&rejection, caller, head, &self.logged.warn_limit);
        Some(rejection)
    }

    /// Returns the rejection of a request without an identity; none if it goes on.
    #[cold]
    pub(super) fn without_identity<B>(&self, request: &Request<B>) -> Option<Rejection> {
        let rejection = if request.extensions().get::<Anonymous>().is_some() {
            Rejection::MissingToken
        } else {
            let rejection = Rejection::MissingAuthenticateLayer;
            let now = Clock::system().monotonic();
            if let Some(suppressed) = self.logged.warn_limit.admit("missing_layer", now) {
                tracing::error!(
                    suppressed,
                    "{rejection}: add Authenticator::layer() outside of it"
                );
            }
            rejection
        };
        if self.report_only {
            self.report(&rejection, None, RequestHead::from(request));
            return None;
        }
        Some(rejection)
    }

    fn report(
        &self,
        rejection: &Rejection,
        caller: Option<&ServiceAccountIdentity>,
        head: RequestHead<'_>,
    ) {
        self.logged.let_through.increment();
        rejection_log::report_authorization(rejection, caller, head, &self.logged.report_limit);
    }
}
