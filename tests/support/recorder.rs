//! The metrics that a test's thread records.

use std::collections::BTreeMap;

use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

/// A recorder, read in Prometheus' text format.
pub struct Recorder(PrometheusRecorder);

impl Recorder {
    pub fn new() -> Self {
        Self(PrometheusBuilder::new().build_recorder())
    }

    /// Records what this thread, and with it a test's runtime, does until the guard is dropped.
    pub fn install(&self) -> LocalRecorderGuard<'_> {
        metrics::set_default_local_recorder(&self.0)
    }

    pub fn text(&self) -> String {
        self.0.handle().render()
    }

    /// Returns the value of each series, without the crate's prefix: `jwks_keys`,
    /// `jwks_fetches_total{result="success"}`.
    pub fn series(&self) -> BTreeMap<String, f64> {
        let text = self.text();
        let samples = text.lines().filter_map(|line| line.strip_prefix("tower_kube_auth_"));
        samples
            .map(|sample| {
                let (series, value) = sample.rsplit_once(' ').unwrap();
                (series.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    /// Returns the value of a series; 0 if there is none.
    pub fn value(&self, series: &str) -> f64 {
        self.series().get(series).copied().unwrap_or_default()
    }

    /// Returns the series of one metric that differ from 0, by the value of their label.
    pub fn by_label(&self, metric: &str) -> BTreeMap<String, f64> {
        let values = self.series().into_iter().filter(|(_, value)| *value != 0.0);
        values
            .filter_map(|(series, value)| {
                let (name, label) = series.split_once('{')?;
                let label = label.split('"').nth(1)?.to_owned();
                (name == metric).then_some((label, value))
            })
            .collect()
    }
}
