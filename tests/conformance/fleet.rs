//! The clusters of all columns, and the scenarios as libtest-mimic trials.

use std::{
    env,
    error::Error,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use libtest_mimic::{Failed, Trial};
use tokio::{
    runtime::Runtime,
    sync::{OnceCell, Semaphore},
};
use tower_kube_auth::testing::Release;

use crate::{
    cluster::{Column, Options, TestCluster},
    fixture::Fixture,
    scenarios::{self, Needs, Scenario},
};

/// A folder with `kube-apiserver` and `etcd`, as envtest names it.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// Not `KUBECONFIG`, so that the suite does not create namespaces in a cluster by accident.
const KUBECONFIG: &str = "TOWER_KUBE_AUTH_CONFORMANCE_KUBECONFIG";
/// Servers for single scenarios that run concurrently.
const OWN_AT_A_TIME: usize = 2;

pub(crate) struct Fleet {
    // Declared before the runtime, so that it is dropped while the runtime lives.
    columns: Vec<Arc<Ships>>,
    runtime: Arc<Runtime>,
}

/// One column's clusters.
struct Ships {
    name: &'static str,
    /// `None` if there is no such cluster here.
    column: Option<Column>,
    shared: OnceCell<Arc<TestCluster>>,
    own: Semaphore,
    failed: Mutex<Option<String>>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let ships = |name, column| {
            let own = Semaphore::new(OWN_AT_A_TIME);
            Arc::new(Ships { name, column, shared: OnceCell::new(), own, failed: Mutex::new(None) })
        };
        let columns = vec![
            ships("embedded", Some(Column::Embedded(Release::default()))),
            ships("embedded_1_20", Some(Column::Embedded(Release::V1_20))),
            ships("kube_apiserver", real_column()),
        ];
        Self { columns, runtime: Arc::new(runtime) }
    }

    /// Returns each scenario once for each column.
    pub(crate) fn trials(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        for ships in &self.columns {
            for scenario in scenarios::all() {
                let (ships, runtime) = (ships.clone(), self.runtime.clone());
                let ignored = !ships.can_run(&scenario);
                let trial = Trial::test(format!("{}::{}", ships.name, scenario.name), move || {
                    runtime
                        .block_on(ships.run(scenario))
                        .map_err(|error| Failed::from(error.to_string()))
                });
                trials.push(trial.with_ignored_flag(ignored));
            }
        }
        trials
    }
}

impl Ships {
    fn can_run(&self, scenario: &Scenario) -> bool {
        match self.column {
            None => false,
            Some(Column::Kubeconfig(_)) => scenario.needs == Needs::Shared,
            Some(_) => true,
        }
    }

    async fn run(&self, scenario: Scenario) -> Result<(), Box<dyn Error + Send + Sync>> {
        let column = self
            .column
            .as_ref()
            .ok_or_else(|| format!("neither {ASSETS} nor {KUBECONFIG} is set"))?;
        let (cluster, _permit) = match scenario.needs {
            Needs::Shared | Needs::SharedWithKeys => (self.shared(column).await?, None),
            Needs::Own(options) => {
                let permit = self.own.acquire().await?;
                (Arc::new(TestCluster::start(column, options).await?), Some(permit))
            }
        };
        let fixture = Fixture::new(cluster).await?;
        let namespace = fixture.namespace().to_owned();
        let cluster = fixture.cluster().clone();
        // Runs in its own task, so that a panic does not skip the cleanup.
        let outcome = tokio::spawn((scenario.run)(fixture)).await;
        if matches!(column, Column::Kubeconfig(_)) {
            crate::fixture::clean_up(&cluster, &namespace).await;
        }
        match outcome {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Returns the cluster that scenarios share. A failed start is not repeated for each scenario.
    async fn shared(
        &self,
        column: &Column,
    ) -> Result<Arc<TestCluster>, Box<dyn Error + Send + Sync>> {
        let start = || async {
            if let Some(reason) = self.failed.lock().expect("no panic").clone() {
                return Err(reason.into());
            }
            let started = TestCluster::start(column, Options::default()).await;
            started.map(Arc::new).inspect_err(|error| {
                *self.failed.lock().expect("no panic") = Some(error.to_string())
            })
        };
        self.shared.get_or_try_init(start).await.cloned()
    }
}

fn real_column() -> Option<Column> {
    let named =
        |variable| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    named(KUBECONFIG).map(Column::Kubeconfig).or_else(|| named(ASSETS).map(Column::Assets))
}
