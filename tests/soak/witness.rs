//! What the server itself says about good tokens, with nothing of this crate in between: whether it ever refuses one.

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
    modes::{AUDIENCE, LEEWAY},
    population::Population,
    raw_review::raw_review,
    scene::Outcome,
};

/// Often enough to meet a server that is just starting or ending, and no load of its own.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct Witness {
    over: Arc<AtomicBool>,
    watching: JoinHandle<Testimony>,
}

/// What was answered to TokenReviews for good tokens.
#[derive(Default)]
pub(crate) struct Testimony {
    accepted: u64,
    /// By the `status.error`.
    refused: BTreeMap<String, u64>,
    unanswered: u64,
}

impl Witness {
    pub(crate) fn start(client: Client, population: Arc<Population>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let watching = tokio::spawn(async move {
            let mut testimony = Testimony::default();
            for number in 0_u64.. {
                if ended.load(SeqCst) {
                    break;
                }
                testimony.hear(&client, &population, number).await;
                tokio::time::sleep(PAUSE).await;
            }
            testimony
        });
        Self { over, watching }
    }

    pub(crate) async fn end(self) -> Outcome<Testimony> {
        self.over.store(true, SeqCst);
        Ok(self.watching.await?)
    }
}

impl Testimony {
    async fn hear(&mut self, client: &Client, population: &Population, number: u64) {
        let token = population.pick();
        // Another audience each time, lest the server answers from its cache.
        let review =
            raw_review(client.clone(), &token.text(), &[AUDIENCE, &format!("nobody-{number}")])
                .await;
        if !token.facts.surely_good(LEEWAY, Instant::now()) {
            return;
        }
        match review {
            Err(_) => self.unanswered += 1,
            Ok(status) if status["authenticated"] == true => self.accepted += 1,
            Ok(status) => {
                *self
                    .refused
                    .entry(status["error"].as_str().unwrap_or_default().to_owned())
                    .or_default() += 1
            }
        }
    }
}

impl fmt::Display for Testimony {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().sum();
        let Self { accepted, unanswered, .. } = self;
        write!(
            f,
            "the server's own word on good tokens: {accepted} accepted, {refused} refused, {unanswered} unanswered"
        )?;
        self.refused.iter().try_for_each(|(error, times)| write!(f, "\n  {times} times: {error:?}"))
    }
}
