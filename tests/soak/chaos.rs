//! The events of the cluster under load: renewed tokens, deleted Pods, key rotations, restarts, and
//! faults of the watches.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use kube::Client;
use tokio::time::{sleep, sleep_until};
use tower_kube_auth::testing::{Algorithm, SigningKey};

use crate::{
    cluster::TestCluster,
    facts::{End, Key, Pod},
    fixture::{Fixture, Outcome},
    oracle::Oracle,
    services::AUDIENCE,
    token_pool::{Mint, TokenPool},
    watch_chaos::{WatchEvent, WatchEvents},
    watch_faults::WatchFaults,
};

const ACCOUNTS: usize = 8;
/// Long enough for every service to notice.
const DOWN_FOR: Duration = Duration::from_secs(1);

pub(crate) struct Chaos {
    pub(crate) fixture: Fixture,
    pool: Arc<TokenPool>,
    oracle: Arc<Oracle>,
    watch_faults: WatchFaults,
    stranger: SigningKey,
    state: Mutex<State>,
    events: Events,
}

/// The current keys, of which the last signs, and the current Pods.
struct State {
    keys: Vec<Arc<Key>>,
    pods: Vec<(String, Arc<Pod>)>,
}

#[derive(Default)]
pub(crate) struct Events {
    renewals: AtomicU64,
    pods_deleted: AtomicU64,
    rotations: AtomicU64,
    removals: AtomicU64,
    ended: AtomicU64,
    killed: AtomicU64,
    pub(crate) watches: WatchEvents,
}

impl Chaos {
    pub(crate) async fn new(cluster: Arc<TestCluster>) -> Outcome<Self> {
        let fixture = Fixture::new(cluster).await?;
        for account in 0..ACCOUNTS {
            fixture.service_account(&name(account)).await?;
        }
        let key = Arc::new(Key { since: Instant::now(), removal: End::default() });
        let oracle = Arc::<Oracle>::default();
        let chaos = Self {
            fixture,
            pool: Arc::default(),
            watch_faults: WatchFaults::new(oracle.watches.clone()),
            oracle,
            stranger: SigningKey::generate(Algorithm::RS256)?,
            state: Mutex::new(State { keys: vec![key], pods: Vec::new() }),
            events: Events::default(),
        };
        chaos.replace_pods().await?;
        chaos.renew_tokens().await?;
        Ok(chaos)
    }

    pub(crate) fn client(&self) -> Client {
        self.fixture.admin()
    }

    pub(crate) fn pool(&self) -> Arc<TokenPool> {
        self.pool.clone()
    }

    pub(crate) fn oracle(&self) -> Arc<Oracle> {
        self.oracle.clone()
    }

    pub(crate) fn watch_faults(&self) -> &WatchFaults {
        &self.watch_faults
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Runs a round a minute, at least four. Each replaces the Pods and restarts the server, in
    /// turn with a new key and without the old ones, in turn gracefully and by a kill. Most have a
    /// fault of the watches, during which the Pods are replaced once more.
    pub(crate) async fn run(&self, length: Duration) -> Outcome {
        let rounds = u32::try_from(length.as_secs() / 60).unwrap_or(u32::MAX).max(4);
        let (round_length, started) = (length / rounds, tokio::time::Instant::now());
        for round in 0..rounds {
            let begins = started + round_length * round;
            sleep_until(begins).await;
            if round > 0 {
                self.replace_pods().await?;
                self.renew_tokens().await?;
            }
            let fault = WatchEvent::of_round(round);
            sleep_until(begins + round_length / 3).await;
            if fault == Some(WatchEvent::Compacted) {
                self.begin_compaction().await?;
            }
            self.restart(round % 2 == 0, round % 4 < 2).await?;
            self.watch_faults.release();
            self.renew_tokens().await?;
            sleep_until(begins + round_length / 3 * 2).await;
            self.disturb_watches(fault).await?;
        }
        sleep_until(started + length).await;
        Ok(())
    }

    /// Replaces every Pod. Every other successor reuses the name, as in a StatefulSet.
    pub(crate) async fn replace_pods(&self) -> Outcome {
        let old = std::mem::take(&mut self.state().pods);
        let generation = self.events.pods_deleted.load(Relaxed);
        for (name, pod) in &old {
            pod.removal.begin();
            self.fixture.delete_pod(name).await?;
            pod.removal.finish();
            self.events.pods_deleted.fetch_add(1, Relaxed);
        }
        let mut pods = Vec::new();
        for account in 0..ACCOUNTS {
            let pod = if account % 2 == 0 {
                name(account)
            } else {
                format!("{}-{generation}", name(account))
            };
            self.fixture.pod(&pod, &name(account)).await?;
            let created = Instant::now();
            pods.push((pod, Arc::new(Pod { created, removal: End::default() })));
        }
        self.state().pods = pods;
        Ok(())
    }

    /// Adds new tokens for all accounts, as kubelet would. The old ones stay in use.
    pub(crate) async fn renew_tokens(&self) -> Outcome {
        let signing = self.fixture.cluster().signing_key().await;
        let (key, pods) = {
            let state = self.state();
            (state.keys.last().expect("a key").clone(), state.pods.clone())
        };
        let mut made = Vec::new();
        for (account, (name_of_pod, pod)) in pods.iter().enumerate() {
            let username = self.fixture.username(&name(account));
            let mint = Mint {
                key: &key,
                signing: &signing,
                stranger: &self.stranger,
                username: &username,
            };
            let plain = self.fixture.token(&name(account), &[AUDIENCE]).await?;
            let bound =
                self.fixture.bound_token(&name(account), &[AUDIENCE], "Pod", name_of_pod).await?;
            made.extend(mint.variants(&plain));
            // More valid tokens than invalid ones, as a service receives them.
            made.extend([mint.issued(plain, None), mint.issued(bound, Some(pod.clone()))]);
            for audience in ["invoices", "billing"] {
                let both = self.fixture.token(&name(account), &[AUDIENCE, audience]).await?;
                made.push(mint.issued(both, None));
            }
        }
        self.pool.add(made);
        self.events.renewals.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn restart(&self, with_new_key: bool, gracefully: bool) -> Outcome {
        let cluster = self.fixture.cluster();
        let old = self.state().keys.clone();
        let removed = || if with_new_key { &[] } else { &old[..old.len() - 1] }.iter();
        removed().for_each(|key| key.removal.begin());
        self.oracle.outage_begins();
        if gracefully {
            cluster.shut_down().await?
        } else {
            cluster.go_down().await?
        }
        sleep(DOWN_FOR).await;
        if with_new_key {
            cluster.restart_with_new_key().await?
        } else {
            cluster.restart_without_old_keys().await?
        }
        self.oracle.outage_ends();
        removed().for_each(|key| key.removal.finish());

        if with_new_key {
            self.state()
                .keys
                .push(Arc::new(Key { since: Instant::now(), removal: End::default() }));
        } else {
            self.state().keys.drain(..old.len() - 1);
        }
        let count = |counter: &AtomicU64| counter.fetch_add(1, Relaxed);
        count(if with_new_key { &self.events.rotations } else { &self.events.removals });
        count(if gracefully { &self.events.ended } else { &self.events.killed });
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }
}

fn name(account: usize) -> String {
    format!("robot-{account}")
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [renewals, deleted, rotations, removals, ended, killed] = [
            &self.renewals,
            &self.pods_deleted,
            &self.rotations,
            &self.removals,
            &self.ended,
            &self.killed,
        ]
        .map(|counter| counter.load(Relaxed));
        write!(
            f,
            "{rotations} keys added, old keys removed {removals} times, {deleted} Pods deleted, \
             tokens renewed {renewals} times, the server ended {ended} and killed {killed} times; {}",
            self.watches
        )
    }
}
