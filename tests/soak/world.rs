//! What happens to the cluster while it is under load, and who has to know of it.

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
    modes::AUDIENCE,
    oracle::{End, Key, Oracle},
    population::{Mint, Population},
    scene::{Outcome, Scene},
};

const ACCOUNTS: usize = 8;
/// Longer than any server of ours is down by itself, so that it is noticed.
const DOWN_FOR: Duration = Duration::from_secs(1);

pub(crate) struct World {
    scene: Scene,
    population: Arc<Population>,
    oracle: Arc<Oracle>,
    stranger: SigningKey,
    state: Mutex<State>,
    events: Events,
}

/// What there is at the moment. The last key signs.
struct State {
    keys: Vec<Arc<Key>>,
    pods: Vec<(String, Arc<End>)>,
}

#[derive(Default)]
pub(crate) struct Events {
    renewals: AtomicU64,
    pods_deleted: AtomicU64,
    rotations: AtomicU64,
    removals: AtomicU64,
    ended: AtomicU64,
    killed: AtomicU64,
}

impl World {
    pub(crate) async fn new(cluster: Arc<TestCluster>) -> Outcome<Self> {
        let scene = Scene::new(cluster).await?;
        for account in 0..ACCOUNTS {
            scene.service_account(&name(account)).await?;
        }
        let key = Arc::new(Key { since: Instant::now(), removal: End::default() });
        let world = Self {
            scene,
            population: Arc::default(),
            oracle: Arc::default(),
            stranger: SigningKey::generate(Algorithm::RS256)?,
            state: Mutex::new(State { keys: vec![key], pods: Vec::new() }),
            events: Events::default(),
        };
        world.replace_pods().await?;
        world.renew_tokens().await?;
        Ok(world)
    }

    pub(crate) fn client(&self) -> Client {
        self.scene.admin()
    }

    pub(crate) fn population(&self) -> Arc<Population> {
        self.population.clone()
    }

    pub(crate) fn oracle(&self) -> Arc<Oracle> {
        self.oracle.clone()
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// A round a minute, but four at least: in each the Pods are replaced and the server is restarted, by turns with a new key
    /// and without the old ones, by turns gracefully and not.
    pub(crate) async fn live(&self, length: Duration) -> Outcome {
        let rounds = u32::try_from(length.as_secs() / 60).unwrap_or(u32::MAX).max(4);
        let (round_length, started) = (length / rounds, tokio::time::Instant::now());
        for round in 0..rounds {
            let begins = started + round_length * round;
            sleep_until(begins).await;
            if round > 0 {
                self.replace_pods().await?;
                self.renew_tokens().await?;
            }
            sleep_until(begins + round_length / 3).await;
            self.restart(round % 2 == 0, round % 4 < 2).await?;
            self.renew_tokens().await?;
        }
        sleep_until(started + length).await;
        Ok(())
    }

    /// Every other Pod's successor has its name, as a StatefulSet's would.
    async fn replace_pods(&self) -> Outcome {
        let old = std::mem::take(&mut self.state().pods);
        let generation = self.events.pods_deleted.load(Relaxed);
        for (pod, end) in &old {
            end.begin();
            self.scene.delete_pod(pod).await?;
            end.finish();
            self.events.pods_deleted.fetch_add(1, Relaxed);
        }
        let mut pods = Vec::new();
        for account in 0..ACCOUNTS {
            let pod = if account % 2 == 0 {
                name(account)
            } else {
                format!("{}-{generation}", name(account))
            };
            self.scene.pod(&pod, &name(account)).await?;
            pods.push((pod, Arc::new(End::default())));
        }
        self.state().pods = pods;
        Ok(())
    }

    /// New tokens for everybody, as kubelet would fetch them; the old ones stay in use.
    async fn renew_tokens(&self) -> Outcome {
        let signing = self.scene.cluster().signing_key().await;
        let (key, pods) = {
            let state = self.state();
            (state.keys.last().expect("a key").clone(), state.pods.clone())
        };
        let mut made = Vec::new();
        for (account, (pod, end)) in pods.iter().enumerate() {
            let username = self.scene.username(&name(account));
            let mint = Mint {
                key: &key,
                signing: &signing,
                stranger: &self.stranger,
                username: &username,
            };
            let plain = self.scene.token(&name(account), &[AUDIENCE]).await?;
            let bound = self.scene.bound_token(&name(account), &[AUDIENCE], "Pod", pod).await?;
            made.extend(mint.variants(&plain));
            // Good ones more than once: they are most of what a service sees.
            made.extend([mint.issued(plain, None), mint.issued(bound, Some(end.clone()))]);
            for audience in ["invoices", "billing"] {
                let both = self.scene.token(&name(account), &[AUDIENCE, audience]).await?;
                made.push(mint.issued(both, None));
            }
        }
        self.population.add(made);
        self.events.renewals.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn restart(&self, with_new_key: bool, gracefully: bool) -> Outcome {
        let cluster = self.scene.cluster();
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
             tokens renewed {renewals} times, the server ended {ended} and killed {killed} times"
        )
    }
}
