//! TokenReviews of valid tokens without this crate: shows whether the server itself rejects one.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use kube::Client;
use tokio::task::JoinHandle;

use crate::{
    fixture::Outcome,
    raw_review::raw_review,
    services::{AUDIENCE, LEEWAY},
    token_pool::TokenPool,
};

/// Short enough to hit a server that starts or stops, long enough to add no load.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct BaselineProbe {
    over: Arc<AtomicBool>,
    watching: JoinHandle<Baseline>,
}

/// The answers to TokenReviews of valid tokens.
#[derive(Default)]
pub(crate) struct Baseline {
    accepted: u64,
    /// Counts by `status.error`.
    rejected: BTreeMap<String, u64>,
    unanswered: u64,
}

impl BaselineProbe {
    pub(crate) fn start(client: Client, pool: Arc<TokenPool>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let watching = tokio::spawn(async move {
            let mut baseline = Baseline::default();
            for number in 0_u64.. {
                if ended.load(SeqCst) {
                    break;
                }
                baseline.review(&client, &pool, number).await;
                tokio::time::sleep(PAUSE).await;
            }
            baseline
        });
        Self { over, watching }
    }

    pub(crate) async fn end(self) -> Outcome<Baseline> {
        self.over.store(true, SeqCst);
        Ok(self.watching.await?)
    }
}

impl Baseline {
    async fn review(&mut self, client: &Client, pool: &TokenPool, number: u64) {
        let token = pool.pick();
        // A new audience each time, so that the server does not answer from its cache.
        let status =
            raw_review(client.clone(), &token.text(), &[AUDIENCE, &format!("nobody-{number}")])
                .await;
        if !token.facts.certainly_valid(LEEWAY, Instant::now()) {
            return;
        }
        match status {
            Err(_) => self.unanswered += 1,
            Ok(status) if status["authenticated"] == true => self.accepted += 1,
            Ok(status) => {
                *self
                    .rejected
                    .entry(status["error"].as_str().unwrap_or_default().to_owned())
                    .or_default() += 1
            }
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rejected: u64 = self.rejected.values().sum();
        let Self { accepted, unanswered, .. } = self;
        write!(
            f,
            "TokenReviews of valid tokens without this crate: {accepted} accepted, {rejected} rejected, {unanswered} unanswered"
        )?;
        self.rejected
            .iter()
            .try_for_each(|(error, times)| write!(f, "\n  {times} times: {error:?}"))
    }
}
