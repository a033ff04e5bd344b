//! What a service needs in order to answer, and which of it is there.

use std::fmt;

use serde::Serialize;

/// The result of a self-check: every need of a service, with its state and the remedy.
///
/// `Display` writes one line for each need. Nothing in it is a token or a part of one.
///
/// ```
/// use tower_kube_auth::readiness::{Need, Readiness};
///
/// let readiness = Readiness::new(vec![
///     Need::met("keys", "2 keys, loaded 12 s ago"),
///     Need::missing("create tokenreviews", "not allowed", "bind system:auth-delegator"),
/// ]);
/// assert!(!readiness.all_met());
/// assert_eq!(
///     readiness.to_string(),
///     "[+] keys: 2 keys, loaded 12 s ago\n\
///      [-] create tokenreviews: not allowed; bind system:auth-delegator\n"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Readiness {
    /// The needs, in the order of the verifiers that reported them.
    pub needs: Vec<Need>,
}

/// One need of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Need {
    /// A short name, the same in each check.
    pub name: String,
    /// Whether the need is met.
    pub state: NeedState,
    /// What was seen.
    pub detail: String,
    /// What an operator does about it. Empty if the need is met.
    pub remedy: String,
}

/// Whether a [`Need`] is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NeedState {
    /// The need is met.
    Met,
    /// The need is not met, and the service answers without it.
    Degraded,
    /// It could not be determined: a server is unreachable, or did not answer in time.
    Unknown,
    /// The need is known not to be met, and no request can be decided without it.
    Missing,
}

impl Readiness {
    /// Collects needs.
    #[must_use]
    pub fn new(needs: Vec<Need>) -> Self {
        Self { needs }
    }

    /// Returns whether every need is met.
    #[must_use]
    pub fn all_met(&self) -> bool {
        self.has_only(|state| state == NeedState::Met)
    }

    /// Returns whether a service that has `been_ready` may get requests.
    ///
    /// A need that is missing makes a service unready. One that could not be determined does so
    /// only until the first time that the service is ready: an outage of the API server must not
    /// take every replica out of service, because the caches and a fallback still answer.
    #[must_use]
    pub fn is_ready(&self, been_ready: bool) -> bool {
        self.has_only(|state| match state {
            NeedState::Met | NeedState::Degraded => true,
            NeedState::Unknown => been_ready,
            NeedState::Missing => false,
        })
    }

    fn has_only(&self, accepts: impl Fn(NeedState) -> bool) -> bool {
        self.needs.iter().all(|need| accepts(need.state))
    }
}

impl Need {
    /// A need that is met.
    #[must_use]
    pub fn met(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(NeedState::Met, name, detail, "")
    }

    /// A need that is not met, without which the service still answers.
    #[must_use]
    pub fn degraded(
        name: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(NeedState::Degraded, name, detail, remedy)
    }

    /// A need that could not be determined.
    #[must_use]
    pub fn unknown(
        name: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(NeedState::Unknown, name, detail, remedy)
    }

    /// A need that is known not to be met.
    #[must_use]
    pub fn missing(
        name: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(NeedState::Missing, name, detail, remedy)
    }

    fn new(
        state: NeedState,
        name: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), state, detail: detail.into(), remedy: remedy.into() }
    }

    /// Returns the need of a service that answers without it.
    pub(crate) fn dispensable(mut self) -> Self {
        if self.state != NeedState::Met {
            self.state = NeedState::Degraded;
        }
        self
    }
}

impl NeedState {
    /// Returns the mark of a line, as `/readyz` of Kubernetes has it: `+` for what is met, `-` for
    /// what is missing, `!` for what the service answers without, `?` for what is not known.
    pub(crate) fn mark(self) -> char {
        match self {
            Self::Met => '+',
            Self::Degraded => '!',
            Self::Unknown => '?',
            Self::Missing => '-',
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}: {}", self.state.mark(), self.name, self.detail)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.needs.iter().try_for_each(|need| writeln!(f, "{need}"))
    }
}
