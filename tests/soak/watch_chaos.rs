//! The faults of the watches, by turns, with Pods that are deleted meanwhile.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use crate::{chaos::Chaos, fixture::Outcome};

/// Long enough for the watches to fail again and to back off.
const CUT_FOR: Duration = Duration::from_secs(1);
/// Longer than `LocalReviewVerifier::max_staleness`.
const CUT_OFF_FOR: Duration = Duration::from_secs(130);

/// Upper bound for the wait until the watches are open, so that there is something to stall.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum WatchEvent {
    /// All connections break.
    Cut,
    /// All connections break, and there is none until the watch is stale.
    CutOff,
    /// The bytes of the open connections stop.
    Stalled,
    /// The store is compacted between a list and the watch from its version.
    Compacted,
}

#[derive(Default)]
pub(crate) struct WatchEvents {
    cut: AtomicU64,
    cut_off: AtomicU64,
    stalled: AtomicU64,
    compacted: AtomicU64,
}

impl WatchEvent {
    /// A stall takes 75 s to be noticed, and a watch that breaks again within 30 s pauses longer
    /// each time. So there are rounds without an event.
    pub(crate) fn of_round(round: u32) -> Option<Self> {
        match round % 10 {
            0 | 4 => Some(Self::Compacted),
            1 | 9 => Some(Self::Cut),
            2 => Some(Self::Stalled),
            5 => Some(Self::CutOff),
            _ => None,
        }
    }
}

impl Chaos {
    /// Deletes Pods and compacts the store after the watches' lists and before they watch on. The
    /// restart that follows forgets the watch cache of kube-apiserver too.
    pub(crate) async fn begin_compaction(&self) -> Outcome {
        let events = &self.events().watches;
        // A watch that is down for long may not have come so far.
        if self.watch_faults().hold().await {
            events.compacted.fetch_add(1, Relaxed);
        }
        self.replace_pods().await?;
        self.renew_tokens().await?;
        self.fixture.cluster().compact().await
    }

    pub(crate) async fn disturb_watches(&self, event: Option<WatchEvent>) -> Outcome {
        let (events, faults) = (&self.events().watches, self.watch_faults());
        if event == Some(WatchEvent::Stalled) && !self.are_watches_open().await {
            return Ok(());
        }
        let counter = match event {
            None | Some(WatchEvent::Compacted) => return Ok(()),
            Some(WatchEvent::Cut) => &events.cut,
            Some(WatchEvent::CutOff) => &events.cut_off,
            Some(WatchEvent::Stalled) => &events.stalled,
        };
        counter.fetch_add(1, Relaxed);
        match event {
            Some(WatchEvent::Stalled) => faults.stall(),
            _ => faults.cut(),
        }
        self.replace_pods().await?;
        self.renew_tokens().await?;
        let faults = faults.clone();
        match event {
            Some(WatchEvent::Cut) => {
                sleep(CUT_FOR).await;
                faults.restore();
            }
            Some(WatchEvent::CutOff) => {
                tokio::spawn(async move {
                    sleep(CUT_OFF_FOR).await;
                    faults.restore();
                });
            }
            _ => {}
        }
        Ok(())
    }

    async fn are_watches_open(&self) -> bool {
        let oracle = self.oracle();
        let opening = async {
            while !oracle.watches.is_open() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(OPEN_WITHIN, opening).await.is_ok()
    }
}

impl fmt::Display for WatchEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cut, cut_off, stalled, compacted] =
            [&self.cut, &self.cut_off, &self.stalled, &self.compacted]
                .map(|counter| counter.load(Relaxed));
        write!(
            f,
            "the watches cut {cut} times, cut off for {CUT_OFF_FOR:?} {cut_off} times, stalled \
             {stalled} times and compacted {compacted} times"
        )
    }
}
