//! The erased form of [`Verifier`].

use std::{any::Any, fmt, future::Future, pin::Pin, sync::Arc};

use super::verifier::Verifier;
use crate::{
    audience::Audiences, error::VerifyError, readiness::Need, token::BearerToken, verdict::Verdict,
};

/// A verifier of any type, for a service that chooses it at run time. Cheap to clone.
///
/// ```
/// use tower_kube_auth::{
///     ApiServer, Authenticator, DynVerifier, JwksVerifier, TokenReviewVerifier, testing::Cluster,
/// };
///
/// fn verifier(api: ApiServer, offline: bool) -> Result<DynVerifier, Box<dyn std::error::Error>> {
///     Ok(if offline {
///         DynVerifier::new(JwksVerifier::in_cluster(api).build()?)
///     } else {
///         DynVerifier::new(TokenReviewVerifier::new(api))
///     })
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = Cluster::start().await?;
/// let offline = std::env::var_os("OFFLINE").is_some();
/// let verifier = verifier(cluster.kube_client()?.into(), offline)?;
/// let auth = Authenticator::builder(verifier).audience("orders").build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct DynVerifier(Arc<dyn Erased>);

type Verification<'a> = Pin<Box<dyn Future<Output = Result<Verdict, VerifyError>> + Send + 'a>>;

type Deciding<'a> = Pin<Box<dyn Future<Output = Option<Verdict>> + Send + 'a>>;

type Checking<'a> = Pin<Box<dyn Future<Output = Vec<Need>> + Send + 'a>>;

trait Erased: Send + Sync {
    fn verify<'a>(&'a self, token: BearerToken<'a>, audiences: &'a Audiences) -> Verification<'a>;
    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict>;
    fn verify_when_saturated<'a>(
        &'a self,
        token: BearerToken<'a>,
        audiences: &'a Audiences,
    ) -> Deciding<'a>;
    fn warm_up(&self);
    fn stop_background_tasks(&self);
    fn accepts_opaque_tokens(&self) -> bool;
    fn supports_api_server_audience(&self) -> bool;
    fn check_needs(&self) -> Checking<'_>;
}

impl<V: Verifier> Erased for V {
    fn verify<'a>(&'a self, token: BearerToken<'a>, audiences: &'a Audiences) -> Verification<'a> {
        Box::pin(Verifier::verify(self, token, audiences))
    }

    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        Verifier::verify_now(self, token, audiences)
    }

    fn verify_when_saturated<'a>(
        &'a self,
        token: BearerToken<'a>,
        audiences: &'a Audiences,
    ) -> Deciding<'a> {
        Box::pin(Verifier::verify_when_saturated(self, token, audiences))
    }

    fn warm_up(&self) {
        Verifier::warm_up(self);
    }

    fn stop_background_tasks(&self) {
        Verifier::stop_background_tasks(self);
    }

    fn accepts_opaque_tokens(&self) -> bool {
        Verifier::accepts_opaque_tokens(self)
    }

    fn supports_api_server_audience(&self) -> bool {
        Verifier::supports_api_server_audience(self)
    }

    fn check_needs(&self) -> Checking<'_> {
        Box::pin(Verifier::check_needs(self))
    }
}

impl DynVerifier {
    /// Erases the type of `verifier`. Returns a `DynVerifier` as it is, without a second layer.
    pub fn new(verifier: impl Verifier) -> Self {
        match (&verifier as &dyn Any).downcast_ref::<Self>() {
            Some(erased) => erased.clone(),
            None => Self(Arc::new(verifier)),
        }
    }
}

impl Verifier for DynVerifier {
    async fn verify(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Result<Verdict, VerifyError> {
        self.0.verify(token, audiences).await
    }

    fn verify_now(&self, token: BearerToken<'_>, audiences: &Audiences) -> Option<Verdict> {
        self.0.verify_now(token, audiences)
    }

    async fn verify_when_saturated(
        &self,
        token: BearerToken<'_>,
        audiences: &Audiences,
    ) -> Option<Verdict> {
        self.0.verify_when_saturated(token, audiences).await
    }

    fn warm_up(&self) {
        self.0.warm_up();
    }

    fn stop_background_tasks(&self) {
        self.0.stop_background_tasks();
    }

    fn accepts_opaque_tokens(&self) -> bool {
        self.0.accepts_opaque_tokens()
    }

    fn supports_api_server_audience(&self) -> bool {
        self.0.supports_api_server_audience()
    }

    fn check_needs(&self) -> impl Future<Output = Vec<Need>> + Send {
        self.0.check_needs()
    }
}

impl fmt::Debug for DynVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynVerifier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::fake_verifier::{FakeVerifier, accept, audiences, token};

    #[tokio::test]
    async fn an_erased_verifier_decides_as_its_inner_one() {
        let verifier = FakeVerifier::accepting("sa").with_verify_now(Some(accept("now")));
        let erased = DynVerifier::new(verifier);
        let verdict = Verifier::verify(&erased, token(), &audiences()).await.unwrap();
        assert_eq!(verdict, accept("sa"));
        assert_eq!(Verifier::verify_now(&erased, token(), &audiences()), Some(accept("now")));
    }

    #[test]
    fn erasing_twice_adds_no_layer() {
        let erased = DynVerifier::new(FakeVerifier::accepting("sa"));
        assert!(Arc::ptr_eq(&DynVerifier::new(erased.clone()).0, &erased.0));
    }
}
