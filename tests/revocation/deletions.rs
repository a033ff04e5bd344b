//! From the API server's answer to a deletion to the first rejection of the caller.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    callers::{self, Caller},
    fixture::{Fixture, Outcome},
    latencies::Latencies,
    modes::Mode,
    service::{Answer, Service},
};

/// Requests after the first rejection. None of them may be accepted.
const FURTHER_REQUESTS: usize = 5;

/// How the deletions follow each other.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) name: &'static str,
    /// Callers that are cached before the first of them loses its object. So few that their entries
    /// are far from the end of their TTL.
    batch: usize,
    at_once: usize,
    poll_every: Duration,
    /// Upper bound for a rejection, for a run that is about to fail.
    patience: Duration,
}

impl Pace {
    /// The patience is shorter than the TTL of the cache, whose end rejects too.
    pub(crate) const ONE_BY_ONE: Self = Self {
        name: "one by one",
        batch: 50,
        at_once: 1,
        poll_every: Duration::from_millis(2),
        patience: Duration::from_secs(20),
    };
    /// As when the Pods of a namespace are replaced.
    pub(crate) const IN_BURSTS: Self = Self {
        name: "50 at once",
        at_once: 50,
        // Callers that poll more often take the CPU from each other.
        poll_every: Duration::from_millis(10),
        ..Self::ONE_BY_ONE
    };
    /// For what takes a minute.
    pub(crate) const ALL_AT_ONCE: Self = Self {
        name: "all at once",
        batch: usize::MAX,
        at_once: usize::MAX,
        poll_every: Duration::from_millis(100),
        patience: Duration::from_secs(180),
    };
}

/// A service, and how many requests it has accepted.
struct Measured {
    fixture: Arc<Fixture>,
    service: Service,
    accepted: AtomicUsize,
    pace: Pace,
}

/// Deletes the objects of so many cached callers.
pub(crate) async fn measure(
    fixture: &Arc<Fixture>,
    mode: Mode,
    times: usize,
    pace: Pace,
) -> Outcome<Latencies> {
    callers::make_owner(fixture).await?;
    let measured = Arc::new(Measured {
        fixture: fixture.clone(),
        service: mode.service(fixture.admin().into()).await?,
        accepted: AtomicUsize::new(0),
        pace,
    });
    let (mut latencies, mut revoked) = (Vec::new(), Vec::new());
    while revoked.len() < times {
        let end = times.min(revoked.len().saturating_add(pace.batch));
        let batch = callers::with_objects(fixture, revoked.len()..end).await?;
        measured.cache(&batch).await?;
        let mut waiting = batch.into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < pace.at_once
                && let Some(caller) = waiting.next()
            {
                running.spawn(measured.clone().revoke(caller));
            }
            let Some(done) = running.join_next().await else { break };
            let (latency, token) = done??;
            latencies.push(latency);
            revoked.push(token);
        }
    }

    for token in &revoked {
        assert_eq!(measured.ask(token).await?, Answer::InvalidToken, "accepted again at the end");
    }
    assert_eq!(measured.service.reached(), measured.accepted.load(SeqCst), "rejected and handled");
    assert_eq!(latencies.len(), times);
    Ok(Latencies::new(latencies))
}

impl Measured {
    async fn ask(&self, token: &str) -> Outcome<Answer> {
        let answer = self.service.ask(token).await?;
        if answer == Answer::Accepted {
            self.accepted.fetch_add(1, SeqCst);
        }
        Ok(answer)
    }

    /// Calls twice with each token: the second answer is from the cache.
    async fn cache(&self, callers: &[Caller]) -> Outcome {
        for is_cached in [false, true] {
            let before = self.service.verifications();
            for caller in callers {
                assert_eq!(self.ask(&caller.token).await?, Answer::Accepted, "before the deletion");
            }
            if is_cached {
                assert_eq!(self.service.verifications(), before, "the callers are not cached");
            }
        }
        Ok(())
    }

    /// Deletes the object of a caller. Returns the time to its first rejection, and its token.
    async fn revoke(self: Arc<Self>, caller: Caller) -> Outcome<(Duration, String)> {
        caller.delete_object(&self.fixture).await?;
        let deleted = Instant::now();
        let latency = loop {
            let answer = self.ask(&caller.token).await?;
            let latency = deleted.elapsed();
            if answer == Answer::InvalidToken {
                break latency;
            }
            assert!(latency < self.pace.patience, "accepted {latency:?} after the deletion");
            sleep(self.pace.poll_every).await;
        };
        for _ in 0..FURTHER_REQUESTS {
            assert_eq!(self.ask(&caller.token).await?, Answer::InvalidToken, "accepted again");
        }
        Ok((latency, caller.token))
    }
}
