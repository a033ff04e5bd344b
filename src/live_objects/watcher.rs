//! The task of one scope: lists, watches, and begins again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    api_object::{Event, Metadata, Page},
    scope::{Scope, SeenObject},
    watch_state::WatchPhase,
};
use crate::{
    api_server::{
        ApiClient, ApiServer, ApiServerError, ApiServerErrorKind, ResponseBody, TooLarge,
    },
    backoff::{Backoff, jittered},
    clock::Clock,
    warn_limit::WarnLimit,
};

/// Most objects a page, as in client-go and kube.
const PAGE: u32 = 500;
/// Upper bound for an event, in bytes, with room for the largest object. etcd stores up to 1.5 MiB
/// of it, for which Go's JSON has up to seven times as many bytes, 10.5 MiB: six for each `<`
/// (`\u003c`), some more for many short owner references.
const EVENT_LIMIT: usize = 16 * 1024 * 1024;
/// Upper bound for a page, in bytes. With `managedFields`, metadata has some kilobytes, but one
/// object may be as large as an event.
const PAGE_LIMIT: usize = EVENT_LIMIT;
/// Time limit for the head of a response, and for the rest of a page.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A watch without a byte for so long may be half-open. kube-apiserver sends a bookmark about once
/// a minute.
pub(super) const SILENCE: Duration = Duration::from_secs(75);
/// For how long a watch asks, before the jitter. Shorter than kube's read timeout of 295 s.
const WATCH: Duration = Duration::from_secs(270);
/// A watch that ends earlier than it asked for by more than this was broken.
const EARLY: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    growth: 2.0,
    longest: Duration::from_secs(30),
    jitter: 0.5..1.5,
};
/// Upper bound for a `Retry-After` that is waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

const FORGETFUL: &str = "the API server forgets versions (410) before all objects are listed and \
                         watched from there";

/// Metadata only, without the rest of the objects.
const AS_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const AS_OBJECT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Keeps the objects of one scope current.
///
/// A watch goes on from the version that it has reached only if the API server ended it when its
/// time was over. After everything else (a broken or a silent connection, an expired version, a
/// failure), all objects are listed again: the API server may have been restored from a backup
/// meanwhile, and a watch from a version that the restored store has not reached yet would miss all
/// changes up to there without an error.
pub(super) struct Watcher {
    scope: Arc<Scope>,
    client: ApiClient,
    clock: Clock,
    /// Shared by all scopes: they tend to fail together.
    warn_limit: Arc<WarnLimit>,
}

/// Why a list or a watch ended.
enum End {
    /// No byte for too long.
    Silent,
    /// The API server has forgotten the version (410).
    Expired,
    Failed {
        message: String,
        is_forbidden: bool,
        retry_after: Option<Duration>,
    },
}

/// The classes of failures that a series has warned of. A missing right is a class of its own: the
/// warning names the remedy.
#[derive(Default)]
struct Warned {
    of_a_right: bool,
    of_others: bool,
}

impl End {
    /// Returns why all objects are listed again, for metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Silent => "silence",
            Self::Expired => "expired",
            Self::Failed { .. } => "failure",
        }
    }
}

impl Watcher {
    pub(super) fn new(
        scope: Arc<Scope>,
        server: ApiServer,
        clock: Clock,
        warn_limit: Arc<WarnLimit>,
    ) -> Self {
        let mut client = ApiClient::new(server, TIMEOUT, scope.kind.purpose());
        client.clock = clock.clone();
        Self { scope, client, clock, warn_limit }
    }

    pub(super) async fn run(self) {
        let (mut failures, mut reason) = (0_u32, "start");
        let mut warned = Warned::default();
        loop {
            let (end, watched) = self.list_and_watch(failures, reason).await;
            // A watch that held for a while ends a series of failures.
            failures = if watched > BACKOFF.longest { 1 } else { failures.saturating_add(1) };
            if failures == 1 {
                warned = Warned::default();
            }
            let is_again = failures > 1 && reason == end.reason();
            reason = end.reason();
            let end = match end {
                End::Expired if is_again => self.failed(FORGETFUL),
                end => end,
            };
            let pause = BACKOFF.pause(failures);
            let pause = match end {
                End::Silent | End::Expired => {
                    self.scope.enter(WatchPhase::Listing);
                    pause
                }
                End::Failed { message, is_forbidden, retry_after } => {
                    // One failure is common: a server restarts, a proxy closes an idle connection.
                    if is_forbidden && !warned.of_a_right {
                        warned.of_a_right = true;
                        self.warn(self.scope.kind.purpose().when_forbidden, &message);
                    } else if !is_forbidden && failures > 1 && !warned.of_others {
                        warned.of_others = true;
                        self.warn(self.scope.kind.resource(), &message);
                    }
                    self.scope.fail(message);
                    let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
                    pause.max(asked)
                }
            };
            self.clock.sleep(pause).await;
        }
    }

    /// Returns why that ended, and how long the watch held.
    async fn list_and_watch(&self, failures: u32, reason: &'static str) -> (End, Duration) {
        let mut version = match self.list(reason).await {
            Ok(version) => version,
            Err(end) => return (end, Duration::ZERO),
        };
        if failures >= 2 {
            let resource = self.scope.kind.resource();
            tracing::info!(resource, namespace = self.scope.namespace, "listed again");
        }
        let listed = self.clock.monotonic();
        loop {
            match self.watch(version).await {
                Ok(reached) => version = reached,
                Err(end) => {
                    return (end, self.clock.monotonic().saturating_duration_since(listed));
                }
            }
        }
    }

    /// Lists all objects, and returns the version of the list.
    ///
    /// Whoever creates objects chooses their size. So a page that is too large is requested again
    /// with half as many objects, until it fits. Pages grow again if the next one is likely to fit.
    async fn list(&self, reason: &'static str) -> Result<u64, End> {
        let requested = self.clock.monotonic();
        self.scope.begin_listing();
        let (mut continue_token, mut limit) = (String::new(), PAGE);
        loop {
            let Some(page) = self.page(&continue_token, limit).await? else {
                limit /= 2;
                continue;
            };
            if page.len() <= PAGE_LIMIT / 2 {
                limit = PAGE.min(limit * 2);
            }
            let page = serde_json::from_slice::<Page<'_>>(&page).ok();
            // A proxy may send something else, which must not count as a list of no objects.
            let page = page.filter(|page| page.kind.ends_with("List"));
            let page = page.ok_or_else(|| self.failed("it sent no list"))?;
            let items = page.items.as_deref().unwrap_or_default();
            let objects = items.iter().map(|item| self.object(&item.metadata));
            self.scope.insert(objects.collect::<Result<Vec<_>, _>>()?);
            if page.metadata.continue_token.is_empty() {
                let version = self.version(&page.metadata.resource_version)?;
                self.scope.end_listing(requested, reason);
                return Ok(version);
            }
            if page.metadata.continue_token == continue_token {
                return Err(self.failed("it sent a page that continues with itself"));
            }
            continue_token = page.metadata.continue_token.into_owned();
        }
    }

    /// Returns a page of up to `limit` objects, or `None` if it is too large and fewer objects may
    /// fit.
    async fn page(&self, continue_token: &str, limit: u32) -> Result<Option<Bytes>, End> {
        let mut query = format!("limit={limit}");
        if !continue_token.is_empty() {
            query = format!("{query}&continue={}", percent_encoded(continue_token));
        }
        let body = self.open(&query, AS_LIST).await?;
        let page = self.clock.timeout(TIMEOUT, body.read(PAGE_LIMIT)).await;
        match page.ok_or_else(|| self.failed("the list did not arrive in time"))? {
            Ok(page) => Ok(Some(page)),
            Err(error) if !error.is::<TooLarge>() => Err(self.failed(&error.to_string())),
            Err(_) if limit > 1 => Ok(None),
            Err(_) => {
                let problem = format!("a page of one object has more than {PAGE_LIMIT} bytes");
                Err(self.failed(&problem))
            }
        }
    }

    /// Watches from a version until the API server ends the watch at its time, and returns the
    /// version that was reached.
    async fn watch(&self, mut version: u64) -> Result<u64, End> {
        let requested = self.clock.monotonic();
        let lasts = jittered(WATCH, 0.85..1.0).as_secs();
        let query = format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={lasts}&resourceVersion={version}"
        );
        let mut body = self.open(&query, AS_OBJECT).await?;
        self.scope.enter(WatchPhase::Watching);
        let silence = jittered(SILENCE, 0.95..1.05);
        loop {
            let line = self.clock.timeout(silence, body.next_line(EVENT_LIMIT)).await;
            let line = line.ok_or(End::Silent)?.map_err(|error| self.failed(&error.to_string()))?;
            let Some(line) = line else { break };
            version = self.apply(&line, version)?;
        }
        let lasted = self.clock.monotonic().saturating_duration_since(requested);
        if lasted + EARLY < Duration::from_secs(lasts) {
            return Err(self.failed("the connection was closed"));
        }
        Ok(version)
    }

    /// Applies an event, and returns the version that it leads to.
    fn apply(&self, line: &[u8], before: u64) -> Result<u64, End> {
        let event: Event<'_> =
            serde_json::from_slice(line).map_err(|_| self.failed("it sent no event"))?;
        let metadata = &event.object.metadata;
        let kind = &*event.kind;
        if kind == "ERROR" {
            return Err(match event.object.code {
                // Gone; and what a proxy of the API server makes of it.
                Some(410) => End::Expired,
                code => self.failed(&format!("the watch ended with code {}", code.unwrap_or(0))),
            });
        }
        let version = self.version(&metadata.resource_version)?;
        if version < before {
            return Err(self.failed("resource versions went back"));
        }
        match kind {
            "ADDED" | "MODIFIED" => self.scope.insert([self.object(metadata)?]),
            "DELETED" => self.scope.remove(metadata),
            // Bookmarks, and whatever comes in later versions.
            _ => {}
        }
        self.scope.event(kind == "BOOKMARK");
        Ok(version)
    }

    async fn open(&self, query: &str, accept: &str) -> Result<ResponseBody, End> {
        let resource = self.scope.kind.resource();
        let path = match &self.scope.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/{resource}?{query}"),
            None => format!("/api/v1/{resource}?{query}"),
        };
        self.client.open(&path, accept).await.map_err(|error| match error.status() {
            Some(http::StatusCode::GONE) => End::Expired,
            _ => End::from(error),
        })
    }

    fn object<'a>(&self, metadata: &'a Metadata<'a>) -> Result<SeenObject<'a>, End> {
        let deleting = metadata
            .deletion_timestamp()
            .map_err(|_| self.failed("a deletionTimestamp is no time"))?;
        let pod = self.scope.keeps_pods().then(|| metadata.pod_metadata());
        let pod = pod.transpose().map_err(|_| self.failed("a Pod's labels are no labels"))?;
        Ok(SeenObject { metadata, deleting, pod })
    }

    /// Resource versions are decimal numbers that grow (KEP-5504).
    fn version(&self, text: &str) -> Result<u64, End> {
        text.parse().map_err(|_| self.failed("a resourceVersion is no number"))
    }

    fn failed(&self, problem: &str) -> End {
        let message = format!("{}: {problem}", self.scope.kind.purpose().call);
        End::Failed { message, is_forbidden: false, retry_after: None }
    }

    /// Each `class` of failures has its own limit.
    fn warn(&self, class: &'static str, error: &str) {
        let resource = self.scope.kind.resource();
        if let Some(suppressed) = self.warn_limit.admit(class, self.clock.monotonic()) {
            let namespace = self.scope.namespace.as_deref();
            tracing::warn!(resource, namespace, error, suppressed, "watching objects fails");
        }
    }
}

impl From<ApiServerError> for End {
    fn from(error: ApiServerError) -> Self {
        Self::Failed {
            message: error.to_string(),
            is_forbidden: error.kind() == ApiServerErrorKind::Forbidden,
            retry_after: error.retry_after(),
        }
    }
}

/// The API server's tokens need no encoding, but it does not promise that.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn a_continue_token_is_one_value_of_the_query() {
        assert_eq!(percent_encoded("aZ09-_.~"), "aZ09-_.~");
        assert_eq!(percent_encoded("a+b/c=&d\u{e4}"), "a%2Bb%2Fc%3D%26d%C3%A4");
    }
}
